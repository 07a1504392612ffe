"""Text by which a model is quantised, and other text by which the result is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Int32
from numpy.typing import NDArray

from cllm.config import GenerateSettings, TextSettings
from cllm.errors import InputError, IntegrityError, NoTextError
from cllm.infer.decoder import Decoder
from cllm.jobs.memorisation import open_training_corpus
from cllm.text.batches import Tokens
from cllm.text.intake import SkipFile, read_source
from cllm.text.sources import find_sources

if TYPE_CHECKING:
    from cllm.jobs.opening import OpenModel
    from cllm.text.tokenizers import Tokenizer

# Text is spread over so many windows at most; more changes the moments by little.
_MOST_TOKENS, _MEASURED_TOKENS = 49_152, 24_576
# Of one text, so much is kept to measure on.
_HELD_OUT = 8
_OWN_TEXTS = 32
_MOST_CHARACTERS = 8_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Windows [B, T] to calibrate on and others to measure on, and where they come from."""

    windows: Int32[np.ndarray, "B T"]
    measured: Int32[np.ndarray, "M T"]
    source: str
    measured_source: str


def calibration_text(places: Sequence[str | Path], folder: Path, opened: OpenModel) -> Calibration:
    """The text of `places`, else the training text, else what the model writes itself.

    It is measured on the held-out part of the training text where that is still there, else on
    every eighth window of the text itself. Raises: NoTextError, InputError, NotFoundError.
    """
    context = opened.spec.context
    found = _read(places, opened.tokenizer) if places else None
    try:
        corpus = open_training_corpus(folder)
        held_out = _windows(corpus.tokens("val"), context, _MEASURED_TOKENS)
        if corpus.tokenizer.vocab_size != opened.tokenizer.vocab_size or not len(held_out):
            raise InputError("the training text has other tokens, or none held out")
    except (InputError, IntegrityError):
        if found is None:
            ids, source = _own_texts(opened), "texts that the model wrote itself"
        else:
            ids, source = found, ", ".join(map(str, places))
        windows = _windows(_Ids(ids), context, _MOST_TOKENS)
        is_kept = np.arange(len(windows)) % _HELD_OUT == _HELD_OUT - 1
        if not is_kept.any():
            raise NoTextError(
                f"{len(ids):,} tokens are too few to calibrate and to measure on",
                hint=f"Give at least {_HELD_OUT * context:,} tokens of text.",
            ) from None
        kept = windows[is_kept][: max(1, _MEASURED_TOKENS // context)]
        return Calibration(windows[~is_kept], kept, source, f"held-out windows of {source}")
    if found is None:
        windows = _windows(corpus.tokens("train"), context, _MOST_TOKENS)
        source = "the training text"
    else:
        windows, source = _windows(_Ids(found), context, _MOST_TOKENS), ", ".join(map(str, places))
    if not len(windows):
        message = f"there are not even {context} tokens to calibrate on"
        raise NoTextError(message, where=source)
    return Calibration(windows, held_out, source, "the held-out part of the training text")


def second_moments(
    decoder: Decoder, windows: Int32[np.ndarray, "B T"]
) -> dict[str, Float64[np.ndarray, "K K"]]:
    """XᵀX of what each matrix reads, over all windows."""
    moments: dict[str, Float64[np.ndarray, "K K"]] = {}
    for row in windows:
        for name, inputs in decoder.observe(row).inputs.items():
            product = (inputs.T @ inputs).astype(np.float64)
            moments[name] = moments[name] + product if name in moments else product
    return moments


class _Ids:
    """Ids in memory, as `Tokens`."""

    def __init__(self, ids: NDArray[np.uint32]) -> None:
        self._ids = ids

    def __len__(self) -> int:
        return len(self._ids)

    def read(self, start: int, length: int) -> NDArray[np.uint32]:
        """The ids from `start` on."""
        return self._ids[start : start + length]


def _windows(tokens: Tokens, context: int, most_tokens: int) -> Int32[np.ndarray, "B T"]:
    """Windows of the whole context, evenly spread, at most `most_tokens` together."""
    available = len(tokens) // context
    count = min(available, max(1, most_tokens // context))
    starts = [number * available // count * context for number in range(count)]
    rows = [tokens.read(start, context).astype(np.int32) for start in starts]
    return np.stack(rows) if rows else np.empty((0, context), np.int32)


def _read(places: Sequence[str | Path], tokenizer: Tokenizer) -> NDArray[np.uint32]:
    """The tokens of files, an end of text after each document. Raises: NoTextError."""
    settings = TextSettings()
    sources, _ = find_sources(places, settings)
    end = np.array([tokenizer.eos_id], np.uint32)
    pieces, length = [], 0
    for source in sources:
        try:
            for document in read_source(source, settings):
                pieces += [tokenizer.encode(document.text), end]
                length += len(document.text)
                if length >= _MOST_CHARACTERS:
                    return np.concatenate(pieces)
        except SkipFile:
            continue
    if not pieces:
        raise NoTextError("there is nothing to read in it", where=", ".join(map(str, places)))
    return np.concatenate(pieces)


def _own_texts(opened: OpenModel) -> NDArray[np.uint32]:
    """What the model writes after an end of text, each text as long as the context."""
    from cllm.infer.batch import write_all
    from cllm.infer.passage import Passage

    end = opened.tokenizer.eos_id
    settings = GenerateSettings(max_tokens=opened.spec.context, temperature=1.0)
    pieces = []
    for number in range(_OWN_TEXTS):
        passage = Passage(opened.decoder, opened.tokenizer, [end], settings, sample=number)
        for _ in write_all(opened.slots, [passage]):
            pass
        pieces += [np.array([*passage.ids, end], np.uint32)]
    return np.concatenate(pieces)
