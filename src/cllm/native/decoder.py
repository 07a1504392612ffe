"""A model that writes, in compiled code: tokens go in at slots, logits come out."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, Protocol, final, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int32
from numpy.typing import NDArray

from cllm.native.engine import ShapeStruct
from cllm.native.layout import Shape, check_shape
from cllm.native.library import Library
from cllm.native.observation import EVERYTHING, Kept, Observation
from cllm.native.parts import TABLE, Parts, PartsStruct, check_parts
from cllm.native.stream import Feed, Stream, write_streams

Cache = Literal["float32", "bfloat16", "int8"]
CACHES: tuple[Cache, ...] = ("float32", "bfloat16", "int8")

# Tokens of one pass. More gain nothing, and what a pass computes leaves the second cache.
_MOST_ROWS = 256
_FORMATS = {"float32": 0, "bfloat16": 1, "int8": 2, "int4": 3, "e8": 4}
_NO_STAGES: tuple[tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None, int], ...] = ()


@runtime_checkable
class Quantised(Protocol):
    """A matrix in few bits, as `cllm.model.packed.Packed` describes it."""

    @property
    def kind(self) -> str:
        """The format: int8, int4 or e8."""

    @property
    def shape(self) -> tuple[int, int]:
        """[N, K]."""

    @property
    def codes(self) -> tuple[NDArray[Any], ...]:
        """The codes, an array a stage."""

    @property
    def scales(self) -> NDArray[Any]:
        """Of each group of 32 columns, or of each row."""

    @property
    def signs(self) -> NDArray[np.int8] | None:
        """Of the rotation."""

    def stages(self) -> Sequence[tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None, int]]:
        """Of e8: codes, table [256, 8], which rows need an odd number of signs, ratio."""


Weight = NDArray[np.float32] | Quantised


class _Stage(ctypes.Structure):
    """`Stage` of source/decode/codebook.h."""

    _fields_ = (
        ("codes", ctypes.c_void_p),
        ("table", ctypes.c_void_p),
        ("odd", ctypes.c_void_p),
        ("ratio", ctypes.c_int64),
    )


class _Source(ctypes.Structure):
    """`Source` of source/decode/matrix.h."""

    _fields_ = (
        ("format", ctypes.c_int64),
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("codes", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("signs", ctypes.c_void_p),
        ("block", ctypes.c_int64),
        ("num_stages", ctypes.c_int64),
        ("stages", _Stage * 2),
    )


_VECTORS = (
    "attention_norm",
    "q_norm",
    "k_norm",
    "feed_forward_norm",
    "taps",
    "offset",
    "strength",
)
_MATRICES = ("qkv", "out", "gate_up", "down", "gamma", "forget")


class _Layer(ctypes.Structure):
    """`LayerSource` of source/decode/decoder.h."""

    _fields_ = (
        *((name, _Source) for name in _MATRICES),
        *((name, ctypes.c_void_p) for name in _VECTORS),
    )


class _Model(ctypes.Structure):
    """`ModelSource` of source/decode/decoder.h."""

    _fields_ = (
        ("embedding", _Source),
        ("head", _Source),
        ("up", _Source),
        ("norm", ctypes.c_void_p),
        ("layers", ctypes.POINTER(_Layer)),
    )


class _Segment(ctypes.Structure):
    """`Segment` of source/decode/decoder.h."""

    _fields_ = (
        ("slot", ctypes.c_int64),
        ("ids", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("first_logits", ctypes.c_int64),
    )


class _Observed(ctypes.Structure):
    """`Observed` of source/decode/attend.h."""

    _fields_ = (
        ("hidden", ctypes.c_void_p),
        ("attention", ctypes.c_void_p),
        ("inputs", ctypes.c_void_p * 4),
        ("head_input", ctypes.c_void_p),
        ("total", ctypes.c_int64),
    )


# Our names of what a layer has, and those of mechanisms.
_LAYER_NAMES = {
    "qkv": "blocks.{}.attention.qkv.weight",
    "out": "blocks.{}.attention.out.weight",
    "gate_up": "blocks.{}.feed_forward.gate_up.weight",
    "down": "blocks.{}.feed_forward.down.weight",
    "gamma": "mechanisms.gamma.{}.weight",
    "forget": "mechanisms.schumann.{}.gate",
    "attention_norm": "blocks.{}.attention_norm.weight",
    "q_norm": "blocks.{}.attention.q_norm.weight",
    "k_norm": "blocks.{}.attention.k_norm.weight",
    "feed_forward_norm": "blocks.{}.feed_forward_norm.weight",
    "taps": "mechanisms.dampening.{}.taps",
    "offset": "mechanisms.schumann.{}.offset",
    "strength": "mechanisms.schumann.{}.strength",
}


class _Sources:
    """The structs that compiled code reads, and the arrays that they point to.

    Those in `packed` it has copied once the decoder is made.
    """

    def __init__(
        self, weights: Mapping[str, Weight], layers: int, precision: Literal["float32", "bfloat16"]
    ) -> None:
        self._weights, self._precision = weights, precision
        self.kept: list[Any] = []
        self.packed: list[Any] = []
        self.layers = (_Layer * layers)()
        for number, layer in enumerate(self.layers):
            for name in _MATRICES:
                plain = name in ("gamma", "forget")
                setattr(layer, name, self._matrix(_LAYER_NAMES[name].format(number), plain))
            for name in _VECTORS:
                setattr(layer, name, self._vector(_LAYER_NAMES[name].format(number)))
        self.model = _Model(
            # Its rows are looked up where they are.
            self._matrix("embedding.weight", into=self.kept),
            self._matrix("head.weight"),
            self._matrix("mechanisms.ngram.up", True),
            self._vector("norm.weight"),
            self.layers,
        )

    def _vector(self, name: str) -> int | None:
        value = self._weights.get(name)
        return None if value is None else self._keep(value, np.float32)

    def _keep(self, value: object, dtype: type, into: list[Any] | None = None) -> int:
        array: NDArray[Any] = np.ascontiguousarray(value, dtype)
        (self.kept if into is None else into).append(array)
        address: int = array.ctypes.data
        return address

    def _matrix(
        self, name: str, is_plain: bool = False, *, into: list[Any] | None = None
    ) -> _Source:
        value, into = self._weights.get(name), self.packed if into is None else into
        if value is None:
            return _Source()
        if isinstance(value, np.ndarray):
            kind = "float32" if is_plain else self._precision
            return _Source(_FORMATS[kind], *value.shape, self._keep(value, np.float32, into))
        source = _Source(_FORMATS[value.kind], *value.shape)
        if value.signs is not None:
            # Every product reads them.
            source.signs = self._keep(value.signs, np.int8)
            source.block = value.shape[1] & -value.shape[1]
        if value.kind != "e8":
            source.codes = self._keep(value.codes[0].view(np.uint8), np.uint8, into)
            source.scales = self._keep(value.scales.view(np.uint16), np.uint16, into)
            return source
        source.scales = self._keep(value.scales, np.float32, into)
        for number, (codes, table, odd, ratio) in enumerate(value.stages()):
            stage = source.stages[number]
            stage.codes = self._keep(codes, np.uint8 if odd is None else np.uint16, into)
            stage.table, stage.ratio = self._keep(table, np.int8, into), ratio
            stage.odd = None if odd is None else self._keep(odd, np.uint8, into)
            source.num_stages = number + 1
        return source

    def let_go(self) -> None:
        """Keep only what compiled code still reads."""
        self.packed.clear()
        self._weights = {}


@final
class Decoder:
    """A model with slots, each of which remembers a text.

    `weights` are the model's by name (`parameter_places`), matrices in float32 or quantised; those
    in float32 are kept as `precision`, and none of what was given is held on to but small arrays
    and the embedding; the input memory's table is `TABLE`. `cache` is the format of the keys and
    values that it remembers. One Python thread at a time may use it.

    A logit is the same to the last bit whatever is computed together with it, however the text
    was fed, and on any number of threads. A slot holds `context` tokens: beyond, the first four
    and the latest. Raises: SettingsError when shape and parts do not fit together; MemoryError.
    """

    def __init__(
        self,
        library: Library,
        shape: Shape,
        parts: Parts | None,
        weights: Mapping[str, Weight],
        *,
        threads: int = 1,
        num_slots: int = 1,
        cache: Cache = "float32",
        precision: Literal["float32", "bfloat16"] = "float32",
    ) -> None:
        parts = parts or Parts()
        check_shape(shape)
        check_parts(parts, vocab_size=shape.vocab_size, width=shape.width, heads=shape.heads)
        if threads < 1 or num_slots < 1:
            raise ValueError(f"{threads} threads, {num_slots} slots")
        self.context, self.vocab_size, self.num_slots = shape.context, shape.vocab_size, num_slots
        self._shape, self._layers = shape, shape.layers
        self._functions = library.functions
        table = np.ascontiguousarray(weights.get(TABLE, np.zeros((0, 0))), np.float32)
        self._parts = PartsStruct(parts, table, np.zeros(0, np.float32))
        self._sources = _Sources(weights, shape.layers, precision)
        self._most_rows = min(_MOST_ROWS, shape.context)
        self._decoder = self._functions.cllm_decoder_create(
            ctypes.byref(ShapeStruct.of(shape)),
            ctypes.byref(self._parts),
            ctypes.byref(self._sources.model),
            threads,
            num_slots + 1,  # the last is for looking at texts
            max(self._most_rows, num_slots),
            CACHES.index(cache),
        )
        if not self._decoder:
            raise MemoryError(f"no memory for {num_slots} texts of {shape.context:,} tokens")
        self._sources.let_go()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Give its memory back, whoever still holds it; every later call raises ValueError."""
        if getattr(self, "_decoder", None):
            self._functions.cllm_decoder_destroy(self._decoder)
            self._decoder = None
            del self._sources, self._parts

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return not self._decoder

    @property
    def _open(self) -> int:
        # Compiled code would read what is no more.
        if self.is_closed:
            raise ValueError("the decoder is closed")
        at: int = self._decoder
        return at

    @property
    def weight_bytes(self) -> int:
        """What one token reads of the weights."""
        size: int = self._functions.cllm_decoder_weight_bytes(self._open)
        return size

    def use_one_thread(self, is_wanted: bool) -> None:
        """Whether passes use one thread alone, from the next one on; from any thread.

        Else they use as many as turn out fastest. No result changes.
        """
        self._functions.cllm_decoder_use_one_thread(self._open, is_wanted)

    def feed(self, feeds: Sequence[Feed], *, every: bool = False) -> Float32[np.ndarray, "R V"]:
        """Logits after the last token of each feed, or after every token of each, in order.

        Raises: ValueError.
        """
        texts = [self._checked(feed.slot, feed.ids) for feed in feeds]
        if len({feed.slot for feed in feeds}) < len(feeds):
            raise ValueError("two feeds of one slot")
        if all(len(text) == 1 for text in texts) and feeds:
            return self._feed_together([feed.slot for feed in feeds], texts)
        counts = [len(text) if every else 1 for text in texts]
        logits = _empty(sum(counts), self.vocab_size)
        starts = np.cumsum([0, *counts])
        for feed, text, start in zip(feeds, texts, starts, strict=False):
            self._feed_slot(feed.slot, text, logits[start:], every=every)
        return logits

    def length(self, slot: int) -> int:
        """How many tokens a slot was fed."""
        length: int = self._functions.cllm_decoder_length(self._open, self._slot(slot))
        return length

    def truncate(self, slot: int, length: int) -> bool:
        """Forget a slot's tokens from `length` on; False (all forgotten) if it can't go back."""
        if length < 0:
            raise ValueError(f"{length} tokens")
        return bool(self._functions.cllm_decoder_truncate(self._open, self._slot(slot), length))

    def copy(self, source: int, target: int, length: int) -> bool:
        """Let `target` remember the first `length` tokens of `source`; False if it can't."""
        if length < 0:
            raise ValueError(f"{length} tokens")
        if source == target:
            return self.truncate(source, length)
        slots = self._slot(source), self._slot(target)
        return bool(self._functions.cllm_decoder_copy(self._open, *slots, length))

    def write(
        self,
        streams: Sequence[Stream],
        *,
        max_seconds: float,
        cancelled: Int32[np.ndarray, " 1"] | None = None,
    ) -> int:
        """Choose token after token for all streams, until one ends or the time is over.

        Each step feeds what is pending and appends a token to each stream whose pending tokens
        have all been fed; at least one step is done. A non-zero number in `cancelled`, which
        another thread may write, ends it within a token. Returns the number of steps.
        A stream for which no token may come next is stuck. Raises: ValueError.
        """
        return write_streams(
            lambda *rest: self._functions.cllm_decoder_write(self._open, *rest),
            streams,
            self.vocab_size,
            self.num_slots,
            max_seconds=max_seconds,
            cancelled=cancelled,
        )

    def observe(
        self, ids: Int32[np.ndarray, " T"], *, keep: Collection[Kept] = EVERYTHING
    ) -> Observation:
        """What the model computes from a text that stands alone; T is at most the context.

        Only what is to be kept takes memory. Raises: ValueError.
        """
        text = self._checked(0, ids)
        if len(text) > self.context:
            raise ValueError(f"{len(text)} tokens do not fit the context of {self.context}")
        shape, T = self._shape, len(text)
        C, L, H, M = shape.width, shape.layers, shape.heads, shape.mlp_width
        rows = {kind: T if kind in keep else 0 for kind in EVERYTHING}
        hidden = _empty(L + 1, rows["hidden"], C)
        attention = np.zeros((L, H, rows["attention"], rows["attention"]), np.float32)
        columns = {"qkv": C, "out": H * shape.head_width, "gate_up": C, "down": M}
        inputs = [_empty(L, rows["inputs"], width) for width in columns.values()]
        head = _empty(rows["inputs"], C)
        # What the head reads is made where it is read: for every token, or for the last alone.
        is_every = bool(rows["logits"] or rows["inputs"])
        logits = _empty(T if is_every else 1, self.vocab_size)
        observed = _Observed(
            _address(hidden),
            _address(attention),
            (ctypes.c_void_p * 4)(*map(_address, inputs)),
            _address(head),
            T,
        )
        self._functions.cllm_decoder_truncate(self._open, self.num_slots, 0)
        self._functions.cllm_decoder_observe(self._open, ctypes.byref(observed))
        try:
            self._feed_slot(self.num_slots, text, logits, every=is_every)
        finally:
            self._functions.cllm_decoder_observe(self._open, None)
        named = {
            _LAYER_NAMES[name].format(layer): array[layer]
            for name, array in zip(columns, inputs, strict=True)
            for layer in range(L)
        }
        named["embedding.weight" if shape.tied else "head.weight"] = head
        kept = named if rows["inputs"] else {}
        return Observation(hidden, attention, logits[: rows["logits"]], kept)

    def _feed_together(
        self, slots: Sequence[int], texts: Sequence[Int32[np.ndarray, " 1"]]
    ) -> Float32[np.ndarray, "R V"]:
        logits = _empty(len(slots), self.vocab_size)
        segments = (_Segment * len(slots))(
            *(
                _Segment(slot, text.ctypes.data, 1, 0)
                for slot, text in zip(slots, texts, strict=True)
            )
        )
        self._functions.cllm_decoder_feed(self._open, segments, len(slots), logits.ctypes.data)
        return logits

    def _feed_slot(
        self, slot: int, ids: Int32[np.ndarray, " T"], logits: NDArray[np.float32], *, every: bool
    ) -> None:
        done = 0
        while done < len(ids):
            # A slot that holds its context takes one token at a time.
            room = self.context - self._functions.cllm_decoder_length(self._open, slot)
            count = min(self._most_rows, len(ids) - done, max(room, 1))
            part = np.ascontiguousarray(ids[done : done + count])
            done += count
            first = 0 if every else count - 1 if done == len(ids) else count
            segment = _Segment(slot, part.ctypes.data, count, first)
            place = logits[done - count :] if every else logits
            self._functions.cllm_decoder_feed(
                self._open, ctypes.byref(segment), 1, place.ctypes.data
            )

    def _slot(self, slot: int) -> int:
        if not 0 <= slot < self.num_slots:
            raise ValueError(f"slot {slot} of {self.num_slots}")
        return slot

    def _checked(
        self, slot: int, ids: Sequence[int] | Int32[np.ndarray, " T"]
    ) -> Int32[np.ndarray, " T"]:
        # Compiled code trusts what it gets: it would read out of bounds.
        self._slot(slot)
        text = np.ascontiguousarray(ids, np.int32)
        if text.ndim != 1 or not text.size:
            raise ValueError("no tokens")
        if int(text.min()) < 0 or int(text.max()) >= self.vocab_size:
            raise ValueError(f"ids must be from 0 to {self.vocab_size - 1:,}")
        return text


def _empty(*shape: int) -> NDArray[np.float32]:
    return np.empty(shape, np.float32)


def _address(array: NDArray[np.float32]) -> int | None:
    """Of its numbers; None where there are none, and compiled code leaves them out."""
    return array.ctypes.data if array.size else None
