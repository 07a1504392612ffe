"""One text that is being written: what the token loop reads of it, and what it writes to it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, final

import numpy as np
from jaxtyping import Float32, Float64, Int32, UInt32

from cllm.native.drafts import Drafts
from cllm.native.library import Library

# Stuck: no token may come next, or the model's logits are not finite.
Finish = Literal["eos", "length", "stuck"]
_FINISHES: tuple[Finish | None, ...] = (None, "eos", "length", "stuck")
# Tokens that one call may write to a stream; with alternatives, which take more room.
_ROOM, _ROOM_WITH_ALTERNATIVES = 4096, 256
# Of source/decode/drafts.h: two to four tokens that repeat themselves; eight classes of shares.
_FIRST_RATES = (0.4, 0.6, 0.8, *((kind + 0.5) / 8 for kind in range(8)))
_MOST_DRAFTED = 16
# Tokens behind these are not guessed from.
_MOST_TEXT = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How the next token is chosen; the defaults draw from the model's own distribution.

    `bias` is added to the logits of some tokens; −∞ rules one out.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    bias: Mapping[int, float] = field(default_factory=dict)


@dataclass(slots=True, eq=False, kw_only=True)
class Stream:
    """A text in a slot of a decoder.

    `pending` (never empty) are the tokens that are fed before the next one is chosen; `seen`
    and `written` count the tokens of prompt and text and of the text alone; token i is drawn
    with `uniforms[i]`. `mask` holds a bit for each token that may come next; it is given anew
    for each token. What is written is appended to `ids`, without the `eos_id` that ends it
    (then nothing is pending); with `num_alternatives` each token's log-probability under the
    model (before the choice's settings) and those of the likeliest tokens are, too, and last
    those at the `eos_id`.

    At most `most_drafted` tokens (up to 16) are guessed ahead and verified together: from the
    text, which is `before` (what the slot held at first), what is fed, and what is written; and
    from `drafts`. `draft_cost` is the time of one more row in a pass, as a part of a single
    row's; guesses are fed as far as they are worth it. `num_drafted` and `num_accepted` count.
    """

    slot: int
    pending: list[int]
    max_tokens: int
    choice: Choice
    uniforms: Float64[np.ndarray, " N"]
    seen: Int32[np.ndarray, " V"]
    written: Int32[np.ndarray, " V"]
    eos_id: int | None = None
    mask: UInt32[np.ndarray, " W"] | None = None
    num_alternatives: int | None = None
    most_drafted: int = 0
    before: Sequence[int] = ()
    drafts: Drafts | None = None
    draft_cost: float = 0.2
    ids: list[int] = field(default_factory=list)
    finish: Finish | None = None
    logprobs: list[float] = field(default_factory=list)
    alternatives: list[tuple[Int32[np.ndarray, " A"], Float32[np.ndarray, " A"]]] = field(
        default_factory=list
    )
    num_drafted: int = 0
    num_accepted: int = 0
    _native: _NativeStream | None = field(default=None, init=False, repr=False)


@dataclass(frozen=True, slots=True)
class Feed:
    """Tokens that follow those which a slot holds."""

    slot: int
    ids: Sequence[int] | Int32[np.ndarray, " T"]


@final
class ChoiceStruct(ctypes.Structure):
    """`Choice` of source/decode/sampling.h; the arrays of biases must outlive it."""

    _fields_ = (
        ("temperature", ctypes.c_double),
        ("top_k", ctypes.c_int64),
        ("top_p", ctypes.c_double),
        ("min_p", ctypes.c_double),
        ("typical_p", ctypes.c_double),
        ("repetition_penalty", ctypes.c_double),
        ("frequency_penalty", ctypes.c_double),
        ("presence_penalty", ctypes.c_double),
        ("bias_ids", ctypes.c_void_p),
        ("biases", ctypes.c_void_p),
        ("num_biases", ctypes.c_int64),
    )


def choice_struct(choice: Choice, vocab_size: int) -> tuple[ChoiceStruct, list[np.ndarray]]:
    """A choice as compiled code reads it, and the arrays that it points to.

    Raises: ValueError for what has no meaning.
    """
    if not choice.temperature >= 0:
        raise ValueError(f"a temperature of {choice.temperature}")
    if choice.top_k is not None and choice.top_k < 1:
        raise ValueError(f"the {choice.top_k} likeliest tokens leave none")
    struct = ChoiceStruct(
        choice.temperature,
        min(choice.top_k or 0, vocab_size),
        1.0 if choice.top_p is None else choice.top_p,
        choice.min_p or 0.0,
        1.0 if choice.typical_p is None else choice.typical_p,
        choice.repetition_penalty,
        choice.frequency_penalty,
        choice.presence_penalty,
    )
    if not choice.bias:
        return struct, []
    ids = np.array(list(choice.bias), np.int32)
    biases = np.array(list(choice.bias.values()), np.float64)
    if not (int(ids.min()) >= 0 and int(ids.max()) < vocab_size):
        raise ValueError(f"a bias is of a token outside the vocabulary of {vocab_size}")
    if not np.all(biases < np.inf):
        raise ValueError("a bias must be below ∞")
    struct.bias_ids, struct.biases, struct.num_biases = (
        ids.ctypes.data,
        biases.ctypes.data,
        len(ids),
    )
    return struct, [ids, biases]


class _Drafting(ctypes.Structure):
    """`Drafting` of source/decode/drafts.h."""

    _fields_ = (
        ("text", ctypes.c_void_p),
        ("num_tokens", ctypes.c_int64),
        ("num_indexed", ctypes.c_int64),
        ("capacity", ctypes.c_int64),
        ("places", ctypes.c_void_p),
        ("place_bits", ctypes.c_int64),
        ("rates", ctypes.c_void_p),
        ("table", ctypes.c_void_p),
        ("cost", ctypes.c_double),
        ("most", ctypes.c_int64),
        ("num_drafted", ctypes.c_int64),
        ("num_accepted", ctypes.c_int64),
    )


class _State(ctypes.Structure):
    """`Stream` of source/decode/writing.h."""

    _fields_ = (
        ("slot", ctypes.c_int64),
        ("pending", ctypes.c_void_p),
        ("first", ctypes.c_int64),
        ("last", ctypes.c_int64),
        ("choice", ChoiceStruct),
        ("uniforms", ctypes.c_void_p),
        ("seen", ctypes.c_void_p),
        ("written", ctypes.c_void_p),
        ("mask", ctypes.c_void_p),
        ("eos_id", ctypes.c_int64),
        ("left", ctypes.c_int64),
        ("room", ctypes.c_int64),
        ("ids", ctypes.c_void_p),
        ("num_ids", ctypes.c_int64),
        ("num_alternatives", ctypes.c_int64),
        ("logprobs", ctypes.c_void_p),
        ("alternative_ids", ctypes.c_void_p),
        ("alternative_logprobs", ctypes.c_void_p),
        ("drafting", _Drafting),
        ("finish", ctypes.c_int64),
    )


@final
class _NativeStream:
    """What compiled code has of a stream, kept from call to call."""

    def __init__(self, stream: Stream, vocab_size: int) -> None:
        # All that `_State` points to; what may be replaced is checked again at each call.
        self._vocab_size = vocab_size
        self._alternatives = stream.num_alternatives
        self._room = min(
            stream.max_tokens, _ROOM_WITH_ALTERNATIVES if self._alternatives else _ROOM
        )
        self._ids = (ctypes.c_int32 * self._room)()
        self._choice: Choice | None = None
        self.state = _State(ids=ctypes.addressof(self._ids), num_alternatives=-1)
        if self._alternatives is not None:
            self._take_alternatives(self._alternatives)
        self.address = ctypes.addressof(self.state)
        self._drafting: _Drafting = self.state.drafting
        self._take_room(max(1, len(stream.pending)))
        if stream.most_drafted:
            self._begin_drafting(stream)

    def _take_room(self, count: int) -> None:
        self._pending = (ctypes.c_int32 * count)()
        self.state.pending = ctypes.addressof(self._pending)

    def _take_alternatives(self, count: int) -> None:
        if not 0 <= count <= self._vocab_size:
            raise ValueError(f"{count} alternatives of {self._vocab_size} tokens")
        state, shape = self.state, (self._room, count)
        self._logprobs = (ctypes.c_double * self._room)()
        self._alternative_ids = np.zeros(shape, np.int32)
        self._alternative_logprobs = np.zeros(shape, np.float32)
        state.num_alternatives, state.logprobs = count, ctypes.addressof(self._logprobs)
        state.alternative_ids = self._alternative_ids.ctypes.data
        state.alternative_logprobs = self._alternative_logprobs.ctypes.data

    def _begin_drafting(self, stream: Stream) -> None:
        """Room for the whole text, and a table of its places."""
        # Guesses are tokens of the text, and fed unseen.
        before = np.asarray(stream.before[-_MOST_TEXT:], np.int32)
        if before.size and not (int(before.min()) >= 0 and int(before.max()) < self._vocab_size):
            raise ValueError(f"ids before must be from 0 to {self._vocab_size - 1}")
        size = len(before) + min(len(stream.pending) + stream.max_tokens, _MOST_TEXT)
        self._text = np.zeros(size, np.int32)
        self._text[: len(before)] = before
        bits = min(max(8, (3 * size).bit_length()), 18)
        self._places = np.zeros(1 << bits, np.int32)
        self._rates = np.array(_FIRST_RATES, np.float32)
        drafting = self._drafting
        drafting.text, drafting.capacity = self._text.ctypes.data, size
        drafting.num_tokens = len(before)
        drafting.places, drafting.place_bits = self._places.ctypes.data, bits
        drafting.rates = self._rates.ctypes.data
        if stream.drafts is not None:
            if stream.drafts.vocab_size != self._vocab_size:
                raise ValueError("the drafts are of another vocabulary")
            self._drafts, self._table = stream.drafts, stream.drafts.table()
            drafting.table = ctypes.addressof(self._table)

    def begin(self, stream: Stream) -> None:
        """Bring what Python may have changed into `state`. Raises: ValueError."""
        state, pending, done = self.state, stream.pending, len(stream.ids)
        if not pending or done >= stream.max_tokens:
            raise ValueError("a stream needs something pending and room for a token")
        if (
            stream.choice is not self._choice
            or stream.uniforms is not self._uniforms
            or stream.seen is not self._seen
            or stream.written is not self._written
        ):
            self._take(stream)
        count = len(pending)
        if count > len(self._pending):
            self._take_room(count)
        if min(pending) < 0 or max(pending) >= self._vocab_size:
            raise ValueError(f"pending ids must be from 0 to {self._vocab_size - 1}")
        self._pending[:count] = pending  # type: ignore[assignment]
        state.first, state.last = 0, count
        state.slot, state.finish, state.num_ids = stream.slot, 0, 0
        state.eos_id = -1 if stream.eos_id is None else stream.eos_id
        state.left = left = stream.max_tokens - done
        state.room = min(left, self._room)
        state.uniforms = self._uniforms_at + 8 * done
        state.mask = None if stream.mask is None else self._mask_at(stream.mask)
        drafting = self._drafting
        drafting.most = min(stream.most_drafted, _MOST_DRAFTED) if drafting.capacity else 0
        drafting.cost = stream.draft_cost

    def _take(self, stream: Stream) -> None:
        """Point to arrays that a stream was given; their sizes protect memory."""
        size, state = self._vocab_size, self.state
        for counts in (stream.seen, stream.written):
            if counts.shape != (size,) or not counts.flags.c_contiguous:
                raise ValueError(f"seen and written must be whole rows of {size}")
        uniforms = stream.uniforms
        if stream.choice.temperature > 0 and len(uniforms) < stream.max_tokens:
            raise ValueError(f"{len(uniforms)} uniforms are not enough for {stream.max_tokens}")
        if not uniforms.flags.c_contiguous:
            raise ValueError("uniforms must be a whole row")
        state.choice, self._biases = choice_struct(stream.choice, size)
        self._choice, self._uniforms = stream.choice, uniforms
        self._seen, self._written = stream.seen, stream.written
        self._uniforms_at = int(uniforms.ctypes.data)
        state.seen, state.written = stream.seen.ctypes.data, stream.written.ctypes.data

    def _mask_at(self, mask: UInt32[np.ndarray, " W"]) -> int:
        if 32 * len(mask) < self._vocab_size or not mask.flags.c_contiguous:
            raise ValueError(f"a mask needs a bit for each of {self._vocab_size} tokens")
        return int(mask.ctypes.data)

    def collect(self, stream: Stream) -> None:
        """Append what was written."""
        state, count = self.state, self.state.num_ids
        stream.pending = self._pending[state.first : state.last]
        stream.ids += self._ids[:count]
        stream.finish = _FINISHES[state.finish]
        if self._alternatives is not None:
            scored = count + (stream.finish == "eos")
            stream.logprobs += self._logprobs[:scored]
            ids, logprobs = self._alternative_ids, self._alternative_logprobs
            stream.alternatives += [(ids[i].copy(), logprobs[i].copy()) for i in range(scored)]
        stream.num_drafted = self._drafting.num_drafted
        stream.num_accepted = self._drafting.num_accepted


def write_streams(
    write: Callable[..., int],
    streams: Sequence[Stream],
    vocab_size: int,
    num_slots: int,
    *,
    max_seconds: float,
    cancelled: Int32[np.ndarray, " 1"] | None = None,
) -> int:
    """`Decoder.write` by compiled code: `write(streams, count, seconds, cancelled)`.

    Streams that have finished are passed over. About 10 µs a stream.
    Raises: ValueError.
    """
    going = [stream for stream in streams if stream.finish is None]
    if not going:
        return 0
    slots = {stream.slot for stream in going}
    if len(slots) < len(going) or min(slots) < 0 or max(slots) >= num_slots:
        raise ValueError(f"streams need a slot each, of 0 to {num_slots - 1}")
    states = []
    for stream in going:
        if stream._native is None:
            stream._native = _NativeStream(stream, vocab_size)
        stream._native.begin(stream)
        states.append(stream._native)
    pointers = (ctypes.c_void_p * len(states))(*[one.address for one in states])
    flag = None if cancelled is None else cancelled.ctypes.data
    steps = write(pointers, len(states), max_seconds, flag)
    for stream, state in zip(going, states, strict=True):
        state.collect(stream)
    return steps


def choose_tokens(
    library: Library,
    logits: Float32[np.ndarray, " V"],
    choice: Choice,
    uniforms: Float64[np.ndarray, " N"],
    *,
    seen: Int32[np.ndarray, " V"],
    written: Int32[np.ndarray, " V"],
    mask: UInt32[np.ndarray, " W"] | None = None,
) -> Int32[np.ndarray, " N"]:
    """The token that each number chooses, as `write` does; −1 where none may come.

    Raises: ValueError, MemoryError.
    """
    struct, _biases = choice_struct(choice, len(logits))
    if len(seen) != len(logits) or len(written) != len(logits):
        raise ValueError("seen and written count every token")
    if mask is not None and 32 * len(mask) < len(logits):
        raise ValueError("a mask needs a bit for each token")
    given = [np.ascontiguousarray(array) for array in (logits, seen, written, uniforms)]
    bits = None if mask is None else np.ascontiguousarray(mask)
    chosen = np.empty(len(uniforms), np.int32)
    is_done = library.functions.cllm_choose(
        given[0].ctypes.data,
        len(logits),
        ctypes.byref(struct),
        given[1].ctypes.data,
        given[2].ctypes.data,
        None if bits is None else bits.ctypes.data,
        given[3].ctypes.data,
        len(uniforms),
        chosen.ctypes.data,
    )
    if not is_done:
        raise MemoryError("no memory for a choice")
    return chosen
