"""A model's training and scoring in compiled code, without torch."""

from __future__ import annotations

import ctypes
import math
from typing import final

import numpy as np
from jaxtyping import Float32, Int32

from cllm.errors import SettingsError
from cllm.native.layout import Shape, check_shape
from cllm.native.library import Library
from cllm.native.parts import Parts, PartsStruct, check_parts

# What all threads together keep of a forward pass. More rows at once gained nothing.
_TAPE_BYTES = 200 << 20
PHASES = ("products", "attention", "elementwise", "head", "packing", "optimiser", "waiting")


@final
class ShapeStruct(ctypes.Structure):
    """`Shape` of source/shape.h."""

    _fields_ = (
        ("vocab_size", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("layers", ctypes.c_int64),
        ("heads", ctypes.c_int64),
        ("kv_heads", ctypes.c_int64),
        ("head_width", ctypes.c_int64),
        ("mlp_width", ctypes.c_int64),
        ("context", ctypes.c_int64),
        ("rope_base", ctypes.c_double),
        ("norm_epsilon", ctypes.c_double),
        ("tied", ctypes.c_int64),
    )

    @classmethod
    def of(cls, shape: Shape) -> ShapeStruct:
        """The numbers of a model."""
        return cls(*(getattr(shape, name) for name, _ in cls._fields_))


@final
class Update(ctypes.Structure):
    """One optimiser step: AdamW's settings, and Muon's where `matrix_rate` is above 0.

    `step` counts from 1. `rate` is AdamW's; with Muon it is that of tables and gains alone.
    `clip` is the largest norm of the gradient, `weight_decay` decoupled and not for gains.
    `table_rate` is Adagrad's, of the input memory's table: neither clipped nor decayed.
    """

    _fields_ = (
        ("step", ctypes.c_int64),
        ("rate", ctypes.c_double),
        ("matrix_rate", ctypes.c_double),
        ("beta1", ctypes.c_double),
        ("beta2", ctypes.c_double),
        ("epsilon", ctypes.c_double),
        ("weight_decay", ctypes.c_double),
        ("clip", ctypes.c_double),
        ("momentum", ctypes.c_double),
        ("table_rate", ctypes.c_double),
    )


def _row_bytes(shape: Shape, parts: Parts, item: int) -> int:
    """Bytes that one row of a batch needs until its gradient is known."""
    q, kv = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    layer = 2 * shape.width + 3 * q + 3 * kv + 2 * shape.mlp_width
    layer += shape.heads * (shape.context + 31)
    if parts.lags:
        layer += shape.width
    per_row = 8 * shape.width
    if parts.has_gamma or parts.schumann == "forget":
        per_row += 4 * shape.layers * (shape.heads + 2 * shape.kv_heads)
    if parts.ngram:
        per_row += 4 * (len(parts.ngram.moduli) + parts.ngram.row_width)
    return item * (shape.layers * layer + shape.width + q) + per_row


@final
class Engine:
    """Parameters in one row of float32, and what compiled code does with them.

    `parameters` [N], `gradients`, `first_moments` and `second_moments` ([N], or empty unless it
    `learns`) are in the order of `parameter_places`, and shared with the compiled code: whoever
    writes to `parameters` calls `changed`. So is the input memory's `table` [R, W], with one
    float a row of optimiser's state, `row_squares` [R]; both are empty without one. `threads`
    and `is_bfloat16` (of the products; sums stay float32) decide the last bits of every result;
    equal ones give equal results. One Python thread at a time may use it.

    Raises: SettingsError when shape and parts do not fit together, or there are no products of
    bfloat16 here; ValueError for `parameters` or `table` of another size or kind; MemoryError.
    """

    def __init__(
        self,
        library: Library,
        shape: Shape,
        parts: Parts | None = None,
        *,
        threads: int,
        is_bfloat16: bool,
        learns: bool = True,
        parameters: Float32[np.ndarray, " N"] | None = None,
        table: Float32[np.ndarray, "R W"] | None = None,
    ) -> None:
        parts = parts or Parts()
        check_shape(shape)
        check_parts(parts, vocab_size=shape.vocab_size, width=shape.width, heads=shape.heads)
        if is_bfloat16 and not library.has_bfloat16:
            raise SettingsError(
                "this processor has no products of bfloat16, and the compiled engine none without",
                where="train.precision",
                hint="Use float32; here it is the faster one, too.",
            )
        if threads < 1:
            raise ValueError(f"{threads} threads")
        self._functions = library.functions
        self._shape = ShapeStruct.of(shape)
        rows, width = (parts.ngram.num_rows, parts.ngram.row_width) if parts.ngram else (0, 0)
        self.table = np.zeros((rows, width), np.float32) if table is None else table
        _check_floats("table", self.table, (rows, width), is_written=learns)
        self.row_squares = np.zeros(rows if learns else 0, np.float32)
        self._parts = PartsStruct(parts, self.table, self.row_squares)
        both = ctypes.byref(self._shape), ctypes.byref(self._parts)
        size = self._functions.cllm_num_parameters(*both)
        self.parameters = np.zeros(size, np.float32) if parameters is None else parameters
        _check_floats("parameters", self.parameters, (size,))
        kept = [np.zeros(size if learns else 0, np.float32) for _ in range(3)]
        self.gradients, self.first_moments, self.second_moments = kept
        self.context, self.vocab_size = shape.context, shape.vocab_size
        at_once = _TAPE_BYTES // threads // _row_bytes(shape, parts, 2 if is_bfloat16 else 4)
        self._engine = self._functions.cllm_create(
            *both,
            self.parameters.ctypes.data,
            *(array.ctypes.data if learns else None for array in kept),
            threads,
            max(at_once, shape.context),
            int(is_bfloat16),
        )
        if not self._engine:
            raise MemoryError(f"no memory for {size:,} parameters in {threads} threads")

    def __del__(self) -> None:
        if getattr(self, "_engine", None):
            self._functions.cllm_destroy(self._engine)
            self._engine = None

    def changed(self) -> None:
        """Say that `parameters` were written from outside."""
        self._functions.cllm_changed(self._engine)

    def gradient(
        self,
        ids: Int32[np.ndarray, "B T"],
        targets: Int32[np.ndarray, "B T"],
        *,
        weight: float,
        is_first: bool = True,
        dropout: float = 0.0,
        seed: int = 0,
    ) -> float:
        """Summed nats over targets ≥ 0; `gradients` becomes `weight` times their gradient.

        T is at most the context. Without `is_first` the gradient is added to that of the calls
        before. `dropout` is the share of each branch's output that is dropped, as a function of
        `seed` and place alone. The table's gradient is kept row by row for `update`.
        Raises: ValueError, MemoryError.
        """
        if not self.gradients.size:
            raise ValueError("this engine was made without gradients")
        if not (weight > 0 and 0 <= dropout < 1):
            raise ValueError(f"weight {weight} must be above 0, and dropout {dropout} in [0, 1)")
        ids, targets = self._checked(ids, targets)
        nats: float = self._functions.cllm_gradient(
            self._engine,
            ids.ctypes.data,
            targets.ctypes.data,
            *ids.shape,
            weight,
            int(is_first),
            dropout,
            seed,
        )
        if nats == -math.inf:
            raise MemoryError("no memory for what the tokens want of the table")
        return nats

    def table_gradient(self) -> Float32[np.ndarray, "R W"]:
        """The gradient of `table`, written out: an array of its size. Raises: ValueError."""
        if not self.row_squares.size:
            raise ValueError("this engine was made without a table to learn")
        whole = np.empty_like(self.table)
        self._functions.cllm_table_gradient(self._engine, whole.ctypes.data)
        return whole

    def update(self, settings: Update, divide_by: float = 1.0) -> float:
        """One optimiser step on `gradients` / `divide_by`; returns their norm before clipping.

        Where the norm is not finite, nothing is changed. Raises: ValueError, MemoryError.
        """
        if not self.gradients.size:
            raise ValueError("this engine was made without gradients")
        if settings.step < 1:
            raise ValueError(f"step {settings.step}: they count from 1")
        norm: float = self._functions.cllm_update(self._engine, ctypes.byref(settings), divide_by)
        if norm < 0:
            raise MemoryError("no memory for the optimiser")
        return norm

    def score(self, ids: Int32[np.ndarray, "B T"], targets: Int32[np.ndarray, "B T"]) -> float:
        """Summed nats over targets ≥ 0. T is at most the context. Raises: ValueError."""
        ids, targets = self._checked(ids, targets)
        nats: float = self._functions.cllm_score(
            self._engine, ids.ctypes.data, targets.ctypes.data, *ids.shape
        )
        return nats

    def spent_s(self) -> dict[str, float]:
        """Seconds that the first thread spent in each phase so far."""
        seconds = (ctypes.c_double * len(PHASES))()
        self._functions.cllm_spent(self._engine, seconds)
        return dict(zip(PHASES, seconds, strict=True))

    def _checked(
        self, ids: Int32[np.ndarray, "B T"], targets: Int32[np.ndarray, "B T"]
    ) -> tuple[Int32[np.ndarray, "B T"], Int32[np.ndarray, "B T"]]:
        # Compiled code trusts what it gets: it would read and write out of bounds.
        if ids.ndim != 2 or ids.shape != targets.shape or not ids.size:
            raise ValueError(f"ids {ids.shape} and targets {targets.shape} must be alike [B, T]")
        if ids.shape[1] > self.context:
            raise ValueError(f"{ids.shape[1]} tokens do not fit the context of {self.context}")
        if int(ids.min()) < 0 or int(max(ids.max(), targets.max())) >= self.vocab_size:
            raise ValueError(f"ids and targets must be below {self.vocab_size}, and ids at least 0")
        return np.ascontiguousarray(ids, np.int32), np.ascontiguousarray(targets, np.int32)


def _check_floats(
    name: str, array: np.ndarray, shape: tuple[int, ...], *, is_written: bool = True
) -> None:
    flags = array.flags
    if array.shape != shape or array.dtype != np.float32:
        raise ValueError(f"{name} must be {' x '.join(f'{n:,}' for n in shape)} of float32")
    if not (flags.c_contiguous and flags.aligned and (flags.writeable or not is_written)):
        raise ValueError(f"{name} must be one row in memory that can be written")


def product_peak(library: Library, *, is_bfloat16: bool, threads: int, rounds: int = 10) -> float:
    """Floating-point operations per second of matrix products alone, in the best round.

    About 5 ms a round. Raises: MemoryError.
    """
    speed: float = library.functions.cllm_product_peak(int(is_bfloat16), threads, rounds)
    if speed < 0:
        raise MemoryError("no memory to measure products")
    return speed


def orthogonalise(
    library: Library, matrix: Float32[np.ndarray, "N M"], *, is_bfloat16: bool = False
) -> Float32[np.ndarray, "N M"]:
    """Muon's nearest (semi-)orthogonal matrix, roughly: U S Vᵀ becomes about U Vᵀ.

    Source: Amsel 2025, arXiv:2505.16932. Raises: MemoryError.
    """
    source = np.ascontiguousarray(matrix, np.float32)
    result = np.empty_like(source)
    is_done = library.functions.cllm_orthogonalise(
        result.ctypes.data, source.ctypes.data, *source.shape, int(is_bfloat16)
    )
    if not is_done:
        raise MemoryError(f"no memory for a matrix of {source.shape}")
    return result
