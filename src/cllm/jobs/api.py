"""CLLM from Python: train a model, load one, let it write, measure it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cllm.config import GenerateSettings, Settings, resolve
from cllm.workspace.workspace import Workspace

if TYPE_CHECKING:
    from cllm.infer.completion import Completion
    from cllm.training.events import Observe, TrainResult


class Model:
    """A model on this machine, loaded when it is first used.

    `result` tells how its training went when it has just been trained, else None.
    """

    def __init__(self, name: str, folder: Path, result: TrainResult | None = None) -> None:
        self.name, self.folder, self.result = name, folder, result
        self._loaded: Any = None

    def __repr__(self) -> str:
        return f"<cllm.Model {self.name!r} in {self.folder}>"

    def generate(self, prompt: str = "", **settings: Any) -> str:
        """Continue a prompt; returns the continuation alone.

        `settings` are those of `GenerateSettings`: max_tokens, temperature, top_k, top_p,
        min_p, repetition_penalty, frequency_penalty, presence_penalty, stop, seed.
        Raises: SettingsError, IntegrityError.
        """
        return "".join(self.stream(prompt, **settings))

    def stream(self, prompt: str = "", **settings: Any) -> Iterator[str]:
        """Continue a prompt piece by piece. Raises: SettingsError, IntegrityError."""
        return iter(self._complete(prompt, resolve(GenerateSettings, settings)))

    def bits_per_byte(self, text: str, *, stride: int | None = None) -> float:
        """Bits this model needs to write one byte of `text` (UTF-8) down; lower is better.

        Every token is scored once, in windows that overlap by half unless `stride` says
        otherwise. NaN for an empty text.
        """
        from cllm.training.scoring import ArrayTokens, bits_per_byte, score_tokens

        transformer, tokenizer = self._load()
        score = score_tokens(
            transformer,
            ArrayTokens(tokenizer.encode(text)),
            eos_id=tokenizer.eos_id,
            unk_id=tokenizer.unk_id,
            stride=stride or max(1, transformer.spec.context // 2),
        )
        return bits_per_byte(
            score,
            num_scored=score.num_tokens,
            num_bytes=len(text.encode()),
            charged_bytes=tokenizer.unknown_bytes(text),
        )

    def _complete(self, prompt: str, settings: GenerateSettings) -> Completion:
        from cllm.infer.completion import Completion, prompt_tokens
        from cllm.infer.torch_runner import TorchRunner

        transformer, tokenizer = self._load()
        ids = prompt_tokens(tokenizer, prompt)
        return Completion(TorchRunner(transformer), tokenizer, ids, settings)

    def _load(self) -> Any:
        if self._loaded is None:
            from cllm.files import check_manifest
            from cllm.model import load_model
            from cllm.text.tokenizers import Tokenizer

            check_manifest(self.folder)
            self._loaded = (load_model(self.folder), Tokenizer.load(self.folder))
        return self._loaded


def train(
    places: str | Path | Sequence[str | Path],
    *,
    name: str | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    settings: Settings | Mapping[str, Any] | None = None,
    overwrite: bool = False,
    observe: Observe | None = None,
    home: Path | None = None,
) -> Model:
    """Train a model on files, folders or globs, for some minutes or steps, and save it.

    `settings` are dotted names (`{"model.width": 96}`) or a whole `Settings`. Without a name
    the model is called after the first place. `observe` is told what happens. `home` is where
    models are kept (default: CLLM_HOME).
    Raises: CllmError; InterruptedRunError on Ctrl-C, with the state saved.
    """
    from cllm.jobs.train import train as run_training

    began = time.monotonic()
    workspace = Workspace(home)
    sources = [places] if isinstance(places, str | Path) else list(places)
    if not isinstance(settings, Settings):
        overrides = {**(settings or {}), "train.minutes": minutes, "train.steps": steps}
        settings = resolve(Settings, overrides)
    chosen = name or workspace.models.free_name(Path(sources[0]).stem or "model")
    result = run_training(
        sources,
        name=chosen,
        settings=settings,
        workspace=workspace,
        observe=observe or _ignore,
        overwrite=overwrite,
        began=began,
    )
    return Model(chosen, workspace.models.path(chosen), result)


def _ignore(event: object) -> None:
    del event


def load(name: str, *, home: Path | None = None) -> Model:
    """The model of that name. Raises: NotFoundError with the nearest names."""
    return Model(name, Workspace(home).models.path(name))
