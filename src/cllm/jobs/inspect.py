"""Look inside a model: what it expects at each token of a text, and how it comes to expect it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from cllm.errors import InputError, SettingsError
from cllm.jobs.inspect_lens import Head, Lens, look_through, open_head, summarise
from cllm.native.observation import Observation
from cllm.text.clean import clean_text
from cllm.workspace.workspace import Workspace

if TYPE_CHECKING:
    from cllm.jobs.opening import OpenModel
    from cllm.text.tokenizers import Tokenizer

NUM_ALTERNATIVES = 5
# Each token is shown by itself; longer texts are measured by `evaluate`.
MOST_TOKENS = 50_000


@runtime_checkable
class Observes(Protocol):
    """What of a model is needed to look inside it: a decoder, or a model that is open."""

    @property
    def context(self) -> int:
        """Most tokens that it sees at once."""

    def observe(self, ids: Int32[np.ndarray, " T"]) -> Observation:
        """What it computes from a text that stands alone."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What the model computed in one window, at each of its T positions.

    Position t has read `inputs[t]` and expects the text's token `first + t`; what it has read
    is the token before that, or the end-of-text token where the text begins. `attention`
    [L, H, T, T] is the weight of each key (last axis) for each query, `hidden` [L + 1, T, C]
    the residual stream before each block and after the last, `norms` [L + 1, T] its root mean
    square, `logits` [T, V].
    """

    first: int
    inputs: Int32[np.ndarray, " T"]
    attention: Float32[np.ndarray, "L H T T"]
    hidden: Float32[np.ndarray, "L1 T C"]
    norms: Float64[np.ndarray, "L1 T"]
    logits: Float32[np.ndarray, "T V"]
    lens: Lens


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """How a model reads a text of N tokens.

    `bits` [N] is the surprise of each token, −log₂ of its probability (NaN for an unknown
    one), `entropy` [N] what was expected of it, in bits; `ranks` [N] begin with 1 for the
    likeliest token. `alternative_ids` and `alternative_probabilities` [N + 1, A] are the
    likeliest tokens, likeliest first; the last row tells what would come after the text.
    `tokens[i]` is how token i reads; a token that completes no character is "·".
    `window` is the one of `num_windows` that is laid open.
    """

    model: str
    text: str
    ids: Int32[np.ndarray, " N"]
    tokens: list[str]
    bits: Float64[np.ndarray, " N"]
    entropy: Float64[np.ndarray, " N"]
    ranks: Int64[np.ndarray, " N"]
    alternative_ids: Int64[np.ndarray, "N1 A"]
    alternative_probabilities: Float64[np.ndarray, "N1 A"]
    num_bytes: int
    charged_bytes: int
    context: int
    num_windows: int
    window_number: int
    window: Window
    spellings: list[bytes]

    @property
    def probabilities(self) -> Float64[np.ndarray, " N"]:
        """The probability of each token."""
        return np.asarray(np.exp2(-self.bits))

    @property
    def total_bits(self) -> float:
        """Bits to write the text down; 8 for each byte that no token spells."""
        return float(np.nansum(self.bits)) + 8.0 * self.charged_bytes

    @property
    def bits_per_byte(self) -> float:
        """`total_bits` by the byte, as `cllm eval` measures it."""
        return self.total_bits / self.num_bytes

    def spelled(self, token_id: int) -> str:
        """How a token of the vocabulary reads by itself; bytes that are no text as ⟨e2⟩."""
        spelling = self.spellings[token_id]
        if not spelling:
            return "⟨end of text⟩"
        try:
            return spelling.decode()
        except UnicodeDecodeError:
            return f"⟨{spelling.hex(' ')}⟩"

    def to_json(self, *, layer: int | None = None, head: int | None = None) -> dict[str, Any]:
        """Plain values; the attention of one head (counted from 1), or the mean over heads."""
        value: dict[str, Any] = {
            "model": self.model,
            "bits_per_byte": self.bits_per_byte,
            "total_bits": self.total_bits,
            "bytes": self.num_bytes,
            "charged_bytes": self.charged_bytes,
            "context": self.context,
            "windows": self.num_windows,
            "window": self.window_number,
            "tokens": [self._token_json(i) for i in range(len(self.ids))],
            "next": self._alternatives_json(len(self.ids)),
            "lens": [
                [self.spelled(int(token)) for token in row] for row in self.window.lens.ids[..., 0]
            ],
            "hidden_norms": self.window.norms.tolist(),
        }
        if layer is not None or head is not None:
            value["attention"] = {
                "layer": layer,
                "head": head,
                "first": self.window.first,
                "weights": self.attention(layer, head).tolist(),
            }
        return value

    def attention(
        self, layer: int | None = None, head: int | None = None
    ) -> Float32[np.ndarray, "T T"]:
        """The window's attention in a layer and head counted from 1; the mean over all of None.

        Raises: SettingsError.
        """
        maps = self.window.attention
        for name, number, there in (("layer", layer, len(maps)), ("head", head, maps.shape[1])):
            if number is not None and not 1 <= number <= there:
                message = f"there is no {name} {number}: the model has {there}"
                raise SettingsError(message, where=f"--{name}", hint="They count from 1.")
        layers = slice(None) if layer is None else slice(layer - 1, layer)
        heads = slice(None) if head is None else slice(head - 1, head)
        mean: Float32[np.ndarray, "T T"] = maps[layers, heads].mean(axis=(0, 1))
        return mean

    def _token_json(self, place: int) -> dict[str, Any]:
        return {
            "id": int(self.ids[place]),
            "text": self.tokens[place],
            "probability": float(self.probabilities[place]),
            "bits": float(self.bits[place]),
            "entropy_bits": float(self.entropy[place]),
            "rank": int(self.ranks[place]),
            "alternatives": self._alternatives_json(place),
        }

    def _alternatives_json(self, place: int) -> list[dict[str, Any]]:
        pairs = zip(self.alternative_ids[place], self.alternative_probabilities[place], strict=True)
        return [
            {"id": int(i), "text": self.spelled(int(i)), "probability": float(p)} for i, p in pairs
        ]


def inspect(
    model: str, text: str, *, workspace: Workspace, window: int = 1, threads: int | None = None
) -> tuple[Inspection, str | None]:
    """What a model makes of a text, and a line to say where it runs slower than it might.

    `window` chooses which part of a text longer than the context is laid open, from 1.
    Raises: NotFoundError, IntegrityError, InputError, SettingsError.
    """
    from cllm.jobs.opening import open_model

    folder = workspace.models.path(model)
    opened = open_model(folder, workspace.home, threads=threads)
    return inspect_open(model, opened, folder, text, window=window), opened.notice


def inspect_open(
    name: str, opened: OpenModel, folder: Path, text: str, *, window: int = 1
) -> Inspection:
    """What a model that is open already makes of a text; `folder` is where it was read.

    Others may let it write meanwhile: each window is read in between. Raises: as `inspect_text`,
    IntegrityError.
    """
    head = open_head(folder, opened.spec, opened.decoder)
    return inspect_text(name, opened, opened.tokenizer, head, text, window=window)


def inspect_text(
    name: str,
    decoder: Observes,
    tokenizer: Tokenizer,
    head: Head,
    text: str,
    *,
    window: int = 1,
) -> Inspection:
    """What an opened model makes of a text; `head` gives logits of a hidden state.

    The text is cleaned as training text is. Windows overlap by half, as in `evaluate`.
    Raises: InputError, SettingsError.
    """
    cleaned = clean_text(text)
    if not cleaned:
        raise InputError("there is no text to look at", hint="Such as: --text 'Once upon a time'")
    ids = tokenizer.encode(cleaned).astype(np.int32)
    if len(ids) > MOST_TOKENS:
        message = f"the text has {len(ids):,} tokens, and {MOST_TOKENS:,} can be looked at"
        raise InputError(message, hint="Take a part of it; `cllm eval` measures long texts.")
    windows = _windows(len(ids), decoder.context)
    if not 1 <= window <= len(windows):
        message = f"there is no window {window}: the text fills {len(windows)}"
        raise SettingsError(message, where="--window", hint="They count from 1.")
    shown = _lay_open(decoder, head, tokenizer.eos_id, ids, *windows[window - 1][::2])
    figures = [
        _figures(decoder, tokenizer.eos_id, ids, place, shown if number == window else None)
        for number, place in enumerate(windows, 1)
    ]
    bits, entropy, ranks, alternatives, probabilities = (
        np.concatenate(parts) for parts in zip(*figures, strict=True)
    )
    if tokenizer.unk_id is not None:
        bits = np.where(ids == tokenizer.unk_id, np.nan, bits)
    num_bytes = len(text.encode("utf-8", "surrogatepass"))
    lost = max(0, num_bytes - len(cleaned.encode()))
    return Inspection(
        model=name,
        text=cleaned,
        ids=ids,
        tokens=_pieces(tokenizer, ids),
        bits=bits,
        entropy=entropy,
        ranks=ranks,
        alternative_ids=alternatives,
        alternative_probabilities=probabilities,
        num_bytes=num_bytes,
        charged_bytes=tokenizer.unknown_bytes(cleaned) + lost,
        context=decoder.context,
        num_windows=len(windows),
        window_number=window,
        window=shown,
        spellings=tokenizer.spellings,
    )


_Ids = Int32[np.ndarray, " N"]
_Inputs = Int32[np.ndarray, " T"]
_Place = tuple[int, int, int]


def _windows(length: int, context: int) -> list[_Place]:
    """(first target, first one that no earlier window has, end) of each window."""
    stride = max(1, context // 2)
    found: list[_Place] = []
    done = 0
    while done < length:
        start = len(found) * stride
        end = min(start + context, length)
        found.append((start, done, end))
        done = end
    return found


def _inputs(eos_id: int, ids: _Ids, start: int, end: int, context: int) -> _Inputs:
    """What is read before each of the targets from `start` to `end`.

    Where there is room, the text's last token, too, before what would come after it.
    """
    before = np.concatenate((np.array([eos_id], np.int32), ids))
    if end == len(ids) and end - start < context:
        end += 1
    return np.ascontiguousarray(before[start:end])


def _lay_open(
    decoder: Observes, head: Head, eos_id: int, ids: _Ids, start: int, end: int
) -> Window:
    inputs = _inputs(eos_id, ids, start, end, decoder.context)
    seen = decoder.observe(inputs)
    targets = np.full(len(inputs), -1, np.int32)
    known = ids[start : start + len(inputs)]
    targets[: len(known)] = known
    squares = np.square(seen.hidden, dtype=np.float64)
    return Window(
        first=start,
        inputs=inputs,
        attention=seen.attention,
        hidden=seen.hidden,
        norms=np.sqrt(squares.mean(axis=-1)),
        logits=seen.logits,
        lens=look_through(head, seen, targets, NUM_ALTERNATIVES),
    )


def _figures(
    decoder: Observes, eos_id: int, ids: _Ids, place: _Place, shown: Window | None
) -> tuple[np.ndarray, ...]:
    """Bits, entropy, ranks of the targets that a window is the first to have; alternatives.

    The last window's alternatives have one row more: what would come after the text.
    """
    (start, first, end), context = place, decoder.context
    if shown is None:
        logits = _logits(decoder, _inputs(eos_id, ids, start, end, context))
    else:
        logits = shown.logits
    if end == len(ids) and len(logits) == end - start:
        # The window is full: what comes next is asked for by itself.
        last = _inputs(eos_id, ids, end + 1 - context, end, context)
        logits = np.concatenate((logits, _logits(decoder, last)[-1:]))
    rows = logits[first - start :]
    targets = np.full(len(rows), -1, np.int32)
    targets[: end - first] = ids[first:end]
    found = summarise(rows, targets, NUM_ALTERNATIVES)
    scored = slice(0, end - first)
    return (
        found.bits[scored],
        found.entropy[scored],
        found.ranks[scored],
        found.ids,
        found.probabilities,
    )


def _logits(decoder: Observes, inputs: _Inputs) -> Float32[np.ndarray, "T V"]:
    # Not by `feed`: the decoder's slots may hold texts of others.
    return decoder.observe(inputs).logits


def _pieces(tokenizer: Tokenizer, ids: _Ids) -> list[str]:
    """What each token adds to the text as it is read; "·" where a character isn't complete."""
    stream = tokenizer.stream()
    return [stream.push(int(token)) or "·" for token in ids]
