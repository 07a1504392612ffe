"""What computes a run: our compiled engine, or torch. The only place that chooses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from cllm.config import EngineKind, Precision, TrainSettings
from cllm.errors import NativeError, SettingsError
from cllm.infer.decoder import Decoder
from cllm.jobs.machine import remembered
from cllm.model.lexicon import Lexicon
from cllm.model.mechanisms.mechanism import Mechanism
from cllm.model.spec import ModelSpec
from cllm.model.weights import Weights
from cllm.training.learner import Learner
from cllm.training.plan import default_threads
from cllm.training.scoring import Scorer

if TYPE_CHECKING:
    from cllm.model.transformer import Transformer
    from cllm.native import Library


@runtime_checkable
class Compute(Protocol):
    """Makes what learns and what reads."""

    kind: EngineKind
    precision: Precision
    flops_per_s: float

    def learner(self, spec: ModelSpec, weights: Weights, settings: TrainSettings) -> Learner:
        """A model in training; `settings` are decided."""
        ...

    def reader(self, spec: ModelSpec, weights: Weights) -> Scorer:
        """The same weights in float32, for figures."""
        ...

    def decoder(self, spec: ModelSpec, weights: Weights) -> Decoder:
        """The same weights in float32, for texts."""
        ...

    def phases(self, learner: Learner) -> dict[str, float]:
        """Seconds by kind of work inside the steps so far, where they are known."""
        ...

    def peak_flops_per_s(self) -> float | None:
        """What products alone reach, measured now; None where that is not known."""
        ...


def choose_compute(
    home: Path,
    settings: TrainSettings,
    mechanisms: Sequence[Mechanism] = (),
    lexicon: Lexicon | None = None,
) -> tuple[Compute, str | None]:
    """The faster way that this machine has, and a line to say where it is the slower one.

    `lexicon` is what the mechanisms know of the vocabulary.

    What was measured once stays in `home`. Raises: SettingsError, StorageError; NativeError
    when the compiled engine was asked for by name and there is none.
    """
    if settings.device != "cpu" or settings.engine == "torch":
        if settings.engine == "compiled":
            message = f"the compiled engine runs on the CPU, not on {settings.device!r}"
            raise SettingsError(message, where="train.engine")
        return TorchCompute(settings, home, lexicon), None
    from cllm.native import load_library
    from cllm.training.compiled_parts import require_compiled

    try:
        require_compiled(mechanisms)
        library = load_library(home / "native")
    except NativeError as error:
        if settings.engine == "compiled":
            raise
        slower = f"Training is several times slower here: {error.message}"
        return TorchCompute(settings, home, lexicon), slower
    return CompiledCompute(library, settings, home), None


class CompiledCompute:
    """Our compiled engine, on the CPU; torch is not even imported."""

    kind: EngineKind = "compiled"

    def __init__(self, library: Library, settings: TrainSettings, home: Path) -> None:
        from cllm.training.precision import measure_precision

        self._library, self._threads = library, settings.threads or default_threads()
        if settings.precision == "auto":
            self.precision = remembered(
                home, f"precision | {library.identity}", lambda: measure_precision(library)
            )
        else:
            self.precision = settings.precision
        self.flops_per_s = _speed(self.learner, self.precision, home, library.identity, settings)

    def learner(self, spec: ModelSpec, weights: Weights, settings: TrainSettings) -> Learner:
        """A model in training; `settings` are decided."""
        from cllm.training.compiled_learner import CompiledLearner

        return CompiledLearner(self._library, spec, weights, settings)

    def reader(self, spec: ModelSpec, weights: Weights) -> Scorer:
        """The same weights in float32, for figures."""
        from cllm.training.compiled_learner import scoring_engine

        return scoring_engine(self._library, spec, weights, threads=self._threads)

    def decoder(self, spec: ModelSpec, weights: Weights) -> Decoder:
        """The same weights in float32, for texts."""
        from cllm.jobs.opening import compiled_decoder

        return compiled_decoder(self._library, spec, {**weights})

    def phases(self, learner: Learner) -> dict[str, float]:
        """Seconds by kind of work inside the steps so far."""
        from cllm.training.compiled_learner import CompiledLearner

        assert isinstance(learner, CompiledLearner)
        return learner.spent_s()

    def peak_flops_per_s(self) -> float | None:
        """What products alone reach, measured now."""
        from cllm.native import product_peak

        is_bfloat16 = self.precision == "bfloat16"
        return product_peak(self._library, is_bfloat16=is_bfloat16, threads=self._threads)


class TorchCompute:
    """Torch, on any of its devices."""

    kind: EngineKind = "torch"

    def __init__(self, settings: TrainSettings, home: Path, lexicon: Lexicon | None = None) -> None:
        import torch

        from cllm.training.torch_learner import torch_precision

        measured = torch_precision(settings.device)
        self.precision = measured if settings.precision == "auto" else settings.precision
        identity = f"torch {torch.__version__} on {settings.device}"
        self._lexicon = lexicon
        self.flops_per_s = _speed(self.learner, self.precision, home, identity, settings)

    def learner(self, spec: ModelSpec, weights: Weights, settings: TrainSettings) -> Learner:
        """A model in training; `settings` are decided."""
        from cllm.training.torch_learner import TorchLearner

        return TorchLearner(spec, weights, settings, self._lexicon)

    def reader(self, spec: ModelSpec, weights: Weights) -> Scorer:
        """The same weights in float32, for figures."""
        return self._model(spec, weights)

    def decoder(self, spec: ModelSpec, weights: Weights) -> Decoder:
        """The same weights in float32, for texts."""
        from cllm.infer.torch_decoder import TorchDecoder

        return TorchDecoder(self._model(spec, weights))

    def _model(self, spec: ModelSpec, weights: Weights) -> Transformer:
        from cllm.model.transformer import Transformer

        model = Transformer(spec, self._lexicon).eval()
        model.load_weights(weights)
        return model

    def phases(self, learner: Learner) -> dict[str, float]:
        """Nothing is known of the inside of torch's steps."""
        del learner
        return {}

    def peak_flops_per_s(self) -> float | None:
        """Not measured."""
        return None


def _speed(
    make: Callable[[ModelSpec, Weights, TrainSettings], Learner],
    precision: Precision,
    home: Path,
    identity: str,
    settings: TrainSettings,
) -> float:
    from cllm.training.speed import measure_speed

    threads = settings.threads or default_threads()
    decided = settings.model_copy(
        update={"precision": precision, "threads": threads, "dropout": 0.0}
    )
    return remembered(
        home,
        f"speed | {identity} | {precision} | {threads} threads",
        lambda: measure_speed(make, decided),
    )
