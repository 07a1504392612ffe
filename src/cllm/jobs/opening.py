"""Opens a model to run it: our compiled decoder, or torch. The only place that chooses."""

from __future__ import annotations

import statistics
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32

from cllm.errors import NativeError, SettingsError, StorageError
from cllm.files import check_manifest
from cllm.infer.decoder import Decoder, Observation
from cllm.infer.passage import NO_DRAFTING, Drafting
from cllm.infer.slots import Slots
from cllm.jobs.machine import remembered
from cllm.model.files import load_lexicon, load_weights
from cllm.model.packed import MixedWeights, dequantised
from cllm.model.spec import ModelSpec
from cllm.native.drafts import DRAFTS, Drafts
from cllm.native.stream import Feed
from cllm.text.tokenizers import Tokenizer

if TYPE_CHECKING:
    from cllm.model.lexicon import Lexicon
    from cllm.native import Library

CacheKind = Literal["float32", "bfloat16", "int8"]
Speculate = Literal["auto", "on", "off"]

# Below, a second thread costs more than it brings.
_ONE_THREAD_PARAMETERS = 1_000_000
# Tokens guessed ahead at most; how many are worth it is seen while writing.
_MOST_DRAFTED = 8


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a model is run: threads (chosen by its size unless given), cache and guessing ahead."""

    threads: int | None = None
    cache: CacheKind = "float32"
    speculate: Speculate = "auto"

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            message = f"{self.threads} threads can't compute"
            raise SettingsError(message, where="--threads")


# As it is run unless a person chooses.
DEFAULT = Decoding()


@dataclass(frozen=True, slots=True, eq=False)
class OpenModel:
    """A model ready to run; `notice` is a line for the person where it runs the slower way.

    `drafts` are counted from its training text, where they are kept; `draft_cost` is the time of
    one more token in a pass, as a part of a single one's, None where nothing is guessed ahead.
    Whoever uses the decoder while texts may be written holds `slots.lock`, and `searching` while
    it follows several texts of its own.
    """

    decoder: Decoder
    tokenizer: Tokenizer
    spec: ModelSpec
    notice: str | None
    slots: Slots
    drafts: Drafts | None = None
    draft_cost: float | None = None
    searching: threading.Lock = field(default_factory=threading.Lock)

    @property
    def context(self) -> int:
        """Most tokens that it sees at once."""
        return self.decoder.context

    def observe(self, ids: Int32[np.ndarray, " T"]) -> Observation:
        """What the model computes from a text, in between the texts that it writes."""
        with self.slots.lock:
            return self.decoder.observe(ids)

    def use_one_thread(self, is_wanted: bool) -> None:
        """Whether it computes on one thread, from the next token on, or as it is fastest.

        Torch writes tokens on one thread anyhow, and reads prompts on all.
        """
        if isinstance(self.decoder, _Compiled):
            with self.slots.lock:
                self.decoder.use_one_thread(is_wanted)

    def close(self) -> None:
        """Give its memory back; no text is being written with it any more."""
        if isinstance(self.decoder, _Compiled):
            with self.slots.lock:
                self.decoder.close()


@runtime_checkable
class _Compiled(Protocol):
    """What our compiled decoder can beside writing."""

    def use_one_thread(self, is_wanted: bool) -> None: ...

    def close(self) -> None: ...


def open_model(
    folder: Path,
    home: Path,
    *,
    threads: int | None = None,
    cache: CacheKind = "float32",
    num_slots: int = 1,
    uses_one_thread: bool = False,
) -> OpenModel:
    """Open the model in `folder`; what is compiled stays in `home`.

    `uses_one_thread`: from the beginning (see `OpenModel.use_one_thread`).
    Torch is loaded only where the compiled decoder lacks something.
    Raises: IntegrityError naming the file that is damaged, SettingsError.
    """
    check_manifest(folder)
    tokenizer = Tokenizer.load(folder)
    spec, weights = load_weights(folder)
    decoder, notice = open_decoder(
        spec,
        weights,
        home,
        lexicon=load_lexicon(folder, spec),
        threads=threads,
        cache=cache,
        num_slots=num_slots,
    )
    opened = OpenModel(decoder, tokenizer, spec, notice, Slots(decoder))
    opened.use_one_thread(uses_one_thread)
    if notice is not None:
        return opened
    has_drafts = (folder / DRAFTS).is_file()
    return replace(
        opened,
        drafts=Drafts.load(folder, spec.vocab_size) if has_drafts else None,
        draft_cost=_draft_cost(
            opened, home, threads=1 if uses_one_thread else threads, cache=cache
        ),
    )


def drafting_of(opened: OpenModel, speculate: Speculate) -> Drafting:
    """How far an open model's tokens are guessed ahead; where it costs nothing to ask, always."""
    if opened.draft_cost is None or speculate == "off":
        return NO_DRAFTING
    cost = opened.draft_cost if speculate == "auto" else 0.0
    return Drafting(_MOST_DRAFTED, opened.drafts, cost)


def _draft_cost(
    opened: OpenModel, home: Path, *, threads: int | None, cache: CacheKind
) -> float | None:
    """Measured when a model of this shape and format is first opened here; some milliseconds."""
    spec, decoder = opened.spec, opened.decoder
    if spec.context <= _MOST_DRAFTED:
        return None
    weight_bytes = getattr(decoder, "weight_bytes", 0)
    shape = f"{spec.width} x {spec.layers}, {spec.vocab_size} tokens, {weight_bytes} bytes"
    key = (
        f"cost of a drafted token | {shape} | {threads or decoding_threads(spec)} threads, {cache}"
    )
    try:
        return remembered(home, key, lambda: measure_draft_cost(decoder))
    except (StorageError, OSError):
        # A home that can't be written to is no reason not to write a text.
        return measure_draft_cost(decoder)


def measure_draft_cost(decoder: Decoder) -> float:
    """The time of one more token in a pass, as a part of a single one's: the median of a few."""
    times: dict[int, list[float]] = {1: [], 1 + _MOST_DRAFTED: []}
    for _ in range(5):
        for count, found in times.items():
            start = perf_counter()
            decoder.feed([Feed(0, [0] * count)])
            found.append(perf_counter() - start)
            decoder.truncate(0, 0)
    one, many = (statistics.median(found) for found in times.values())
    return min(max((many / one - 1) / _MOST_DRAFTED, 0.02), 1.0)


def open_decoder(
    spec: ModelSpec,
    weights: MixedWeights,
    home: Path,
    *,
    lexicon: Lexicon | None = None,
    threads: int | None = None,
    cache: CacheKind = "float32",
    num_slots: int = 1,
) -> tuple[Decoder, str | None]:
    """A decoder over weights in memory, and a line where it is the slower one."""
    from cllm.training.compiled_parts import uncompiled

    others = uncompiled(spec.mechanisms)
    if others:
        reason = f"the compiled decoder does not have {' and '.join(others)}"
    else:
        try:
            from cllm.native import load_library

            library = load_library(home / "native")
            decoder = compiled_decoder(
                library, spec, weights, threads=threads, cache=cache, num_slots=num_slots
            )
            return decoder, None
        except NativeError as error:
            reason = error.message
    from cllm.infer.torch_decoder import TorchDecoder
    from cllm.model.transformer import Transformer

    model = Transformer(spec, lexicon).eval()
    model.load_weights(dequantised(weights))
    return TorchDecoder(model, num_slots), f"Writing is several times slower here: {reason}"


def compiled_decoder(
    library: Library,
    spec: ModelSpec,
    weights: MixedWeights,
    *,
    threads: int | None = None,
    cache: CacheKind = "float32",
    num_slots: int = 1,
) -> Decoder:
    """Our compiled decoder over weights in memory, all of whose mechanisms it has."""
    from cllm.native.decoder import Decoder as CompiledDecoder
    from cllm.training.compiled_parts import parts_of

    return CompiledDecoder(
        library,
        spec,
        parts_of(spec),
        weights,
        threads=threads or decoding_threads(spec),
        num_slots=num_slots,
        cache=cache,
    )


def decoding_threads(spec: ModelSpec) -> int:
    """One for the smallest models, else one a core."""
    if spec.num_parameters < _ONE_THREAD_PARAMETERS:
        return 1
    from cllm.training.plan import default_threads

    return default_threads()
