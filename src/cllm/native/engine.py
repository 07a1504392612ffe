"""A plain model's training and scoring in compiled code, without torch."""

from __future__ import annotations

import ctypes
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cllm.native.library import Library

# Rows (tokens) that one thread takes through the model at once; memory grows with them.
_TAPE_BYTES = 200 << 20
PHASES = ("products", "attention", "elementwise", "head", "packing", "optimiser", "waiting")


class Shape(Protocol):
    """The numbers that decide a plain model (`cllm.model.ModelSpec` has them)."""

    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    mlp_width: int
    context: int
    rope_base: float
    norm_epsilon: float
    tied: bool


class _Shape(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in (
            "vocab_size", "width", "layers", "heads", "kv_heads", "head_width", "mlp_width",
            "context",
        )),
        ("rope_base", ctypes.c_double),
        ("norm_epsilon", ctypes.c_double),
        ("is_tied", ctypes.c_int64),
    )


class Update(ctypes.Structure):
    """One optimiser step: AdamW's settings, and Muon's where `matrix_rate` is above 0."""

    _fields_ = (
        ("step", ctypes.c_int64),
        *((name, ctypes.c_double) for name in (
            "rate", "matrix_rate", "beta1", "beta2", "epsilon", "weight_decay", "clip",
            "momentum",
        )),
    )


def _row_bytes(shape: Shape, item: int) -> int:
    """Bytes that one row of a batch needs until its gradient is known."""
    q, kv = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    layer = 2 * shape.width + 3 * q + 3 * kv + 2 * shape.mlp_width
    layer += shape.heads * (shape.context + 31)
    return item * (shape.layers * layer + shape.width + q) + 8 * shape.width


class Engine:
    """Parameters in one row of float32, and what compiled code does with them.

    `parameters` is shared: whoever changes it calls `changed`. `threads` and `is_bfloat16`
    decide the last bits of every sum; equal ones give equal results. `learns` gives it
    gradients and moments. Raises: MemoryError.
    """

    def __init__(
        self,
        library: Library,
        shape: Shape,
        *,
        threads: int,
        is_bfloat16: bool,
        learns: bool = True,
        parameters: NDArray[np.float32] | None = None,
    ) -> None:
        self._functions = library.functions
        self._shape = _Shape(**{
            name: getattr(shape, "tied" if name == "is_tied" else name)
            for name, _ in _Shape._fields_
        })
        size = self._functions.cllm_num_parameters(ctypes.byref(self._shape))
        self.parameters = np.zeros(size, np.float32) if parameters is None else parameters
        assert self.parameters.shape == (size,) and self.parameters.dtype == np.float32
        kept = [np.zeros(size if learns else 0, np.float32) for _ in range(3)]
        self.gradients, self.first_moments, self.second_moments = kept
        self.context, self.vocab_size = shape.context, shape.vocab_size
        rows = _TAPE_BYTES // threads // _row_bytes(shape, 2 if is_bfloat16 else 4)
        places = [array.ctypes.data if learns else None for array in kept]
        self._engine = self._functions.cllm_create(
            ctypes.byref(self._shape), self.parameters.ctypes.data, *places,
            threads, max(rows, shape.context), int(is_bfloat16),
        )
        if not self._engine:
            raise MemoryError("not enough memory for this model's training")

    def __del__(self) -> None:
        if getattr(self, "_engine", None):
            self._functions.cllm_destroy(self._engine)
            self._engine = None

    def changed(self) -> None:
        """Say that `parameters` were written from outside."""
        self._functions.cllm_changed(self._engine)

    def gradient(
        self,
        ids: NDArray[np.int32],
        targets: NDArray[np.int32],
        *,
        weight: float,
        is_first: bool = True,
        dropout: float = 0.0,
        seed: int = 0,
    ) -> float:
        """Summed nats over targets ≥ 0; `gradients` becomes `weight` times their gradient.

        Both are [B, T] with T at most the context. Without `is_first` the gradient is added
        to that of the calls before.
        """
        rows, length = self._check(ids, targets)
        nats: float = self._functions.cllm_gradient(
            self._engine, ids.ctypes.data, targets.ctypes.data, rows, length,
            weight, int(is_first), dropout, seed,
        )
        return nats

    def update(self, settings: Update, divide_by: float = 1.0) -> float:
        """One optimiser step; returns the gradient's norm. Not finite: nothing is changed."""
        norm: float = self._functions.cllm_update(
            self._engine, ctypes.byref(settings), divide_by
        )
        return norm

    def score(self, ids: NDArray[np.int32], targets: NDArray[np.int32]) -> float:
        """Summed nats over targets ≥ 0."""
        rows, length = self._check(ids, targets)
        nats: float = self._functions.cllm_score(
            self._engine, ids.ctypes.data, targets.ctypes.data, rows, length
        )
        return nats

    def last_logits(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Logits [V] of the token after `ids` [T]."""
        row = np.ascontiguousarray(ids, np.int32)
        assert row.ndim == 1 and 0 < len(row) <= self.context
        logits = np.empty(self.vocab_size, np.float32)
        self._functions.cllm_last_logits(
            self._engine, row.ctypes.data, len(row), logits.ctypes.data
        )
        return logits

    def spent_s(self) -> dict[str, float]:
        """Seconds that the first thread spent in each phase so far."""
        seconds = (ctypes.c_double * len(PHASES))()
        self._functions.cllm_spent(self._engine, seconds)
        return dict(zip(PHASES, seconds, strict=True))

    def _check(self, ids: NDArray[np.int32], targets: NDArray[np.int32]) -> tuple[int, int]:
        for array in (ids, targets):
            assert array.dtype == np.int32 and array.flags.c_contiguous and array.ndim == 2
        assert ids.shape == targets.shape and 0 < ids.shape[1] <= self.context
        assert 0 <= int(ids.min()) and int(max(ids.max(), targets.max())) < self.vocab_size
        return ids.shape


