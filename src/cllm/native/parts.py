"""What a model has beyond the plain one, in plain numbers, as the engine is told of it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from cllm.errors import SettingsError

# The name of the input memory's table.
TABLE = "mechanisms.ngram.table"
_MOST_LAG = 512
_MOST_ROWS = 2**31


@dataclass(frozen=True, slots=True)
class NgramPart:
    """The input memory: `heads` tables for each of `orders`, those of one order together.

    Table i has `moduli[i]` rows of `row_width`; its row is (z · `multipliers[i]` mod 2⁶⁴) mod
    `moduli[i]` for z = Σ x_(t−k)·Vᵏ over k below its order. Without multipliers they are 1.
    """

    orders: tuple[int, ...]
    heads: int
    moduli: tuple[int, ...]
    row_width: int
    multipliers: tuple[int, ...] | None = None

    @property
    def num_rows(self) -> int:
        """Of all tables."""
        return sum(self.moduli)


# Each is equal to itself alone, and hashed so: arrays are not hashed.
@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The mechanisms of a model; a plain one has none.

    `lags` are dampening's: how many tokens back each tap reads. `decays` [H] are those of the
    static schumann. `eos_id` is the last token of a document, which neither the memory nor a
    tap looks behind; without one, a window is one document, and there can be no memory.
    `gamma_noise` and `forget_noise` make controls: at place j of a document, the gates read row
    j mod N (j mod M) instead of what attention reads.
    """

    ngram: NgramPart | None = None
    lags: tuple[int, ...] = ()
    has_gamma: bool = False
    schumann: Literal["static", "forget"] | None = None
    decays: tuple[float, ...] = ()
    eos_id: int | None = None
    gamma_noise: Float32[np.ndarray, "N C"] | None = None
    forget_noise: Float32[np.ndarray, "M C"] | None = None


@final
class PartsStruct(ctypes.Structure):
    """`Parts` of source/shape.h; it holds what its pointers point to."""

    _fields_ = (
        ("eos_id", ctypes.c_int64),
        ("num_tables", ctypes.c_int64),
        ("row_width", ctypes.c_int64),
        ("orders", ctypes.c_void_p),
        ("moduli", ctypes.c_void_p),
        ("multipliers", ctypes.c_void_p),
        ("table", ctypes.c_void_p),
        ("row_squares", ctypes.c_void_p),
        ("num_lags", ctypes.c_int64),
        ("lags", ctypes.c_void_p),
        ("has_gamma", ctypes.c_int64),
        ("schumann", ctypes.c_int64),
        ("decays", ctypes.c_void_p),
        ("gamma_noise", ctypes.c_void_p),
        ("num_gamma_noise", ctypes.c_int64),
        ("forget_noise", ctypes.c_void_p),
        ("num_forget_noise", ctypes.c_int64),
    )

    def __init__(
        self,
        parts: Parts,
        table: Float32[np.ndarray, "R W"],
        row_squares: Float32[np.ndarray, " N"],
    ) -> None:
        super().__init__()
        self._arrays: list[NDArray[Any]] = [table, row_squares]
        self.eos_id = -1 if parts.eos_id is None else parts.eos_id
        if ngram := parts.ngram:
            self.num_tables, self.row_width = len(ngram.moduli), ngram.row_width
            self.orders = self._kept(np.repeat(ngram.orders, ngram.heads), np.int64)
            self.moduli = self._kept(ngram.moduli, np.uint64)
            multipliers = ngram.multipliers or (1,) * len(ngram.moduli)
            self.multipliers = self._kept(multipliers, np.uint64)
            self.table, self.row_squares = table.ctypes.data, row_squares.ctypes.data
        self.num_lags, self.lags = len(parts.lags), self._kept(parts.lags, np.int64)
        self.has_gamma = int(parts.has_gamma)
        self.schumann = (None, "static", "forget").index(parts.schumann)
        self.decays = self._kept(parts.decays, np.float64)
        if (noise := parts.gamma_noise) is not None:
            self.gamma_noise, self.num_gamma_noise = self._kept(noise, np.float32), len(noise)
        if (noise := parts.forget_noise) is not None:
            self.forget_noise, self.num_forget_noise = self._kept(noise, np.float32), len(noise)

    def _kept(self, numbers: object, dtype: type) -> int:
        array: NDArray[Any] = np.ascontiguousarray(numbers, dtype)
        self._arrays.append(array)
        address: int = array.ctypes.data
        return address


def check_parts(parts: Parts, *, vocab_size: int, width: int, heads: int) -> None:
    """Raises: SettingsError when the parts don't fit a model of this vocabulary and these sizes."""
    if parts.ngram:
        _check_ngram(parts.ngram, vocab_size)
        if parts.eos_id is None:
            raise SettingsError("there is no token that ends a document", where="mechanisms.ngram")
    if parts.eos_id is not None and not 0 <= parts.eos_id < vocab_size:
        message = f"the token {parts.eos_id} is not among the {vocab_size:,} of the vocabulary"
        raise SettingsError(message, where="mechanisms.eos-id")
    if any(not 1 <= lag <= _MOST_LAG for lag in parts.lags):
        message = f"the lags {list(parts.lags)} are not all from 1 to {_MOST_LAG}"
        raise SettingsError(message, where="mechanisms.dampening.lags")
    if parts.schumann == "static" and len(parts.decays) != heads:
        message = f"{len(parts.decays)} decays for {heads} heads"
        raise SettingsError(message, where="mechanisms.schumann.decays")
    _check_noise(parts.gamma_noise, parts.has_gamma, width, "mechanisms.gamma")
    _check_noise(parts.forget_noise, parts.schumann == "forget", width, "mechanisms.schumann")


def _check_noise(
    noise: Float32[np.ndarray, "N C"] | None, has_gates: bool, width: int, where: str
) -> None:
    if noise is None:
        return
    if not has_gates:
        raise SettingsError("there is noise, but no gate that reads it", where=where)
    if not len(noise) or noise.shape[1] != width:
        message = f"noise of {' x '.join(map(str, noise.shape))} for a model {width} wide"
        raise SettingsError(message, where=where)


def _check_ngram(ngram: NgramPart, vocab_size: int) -> None:
    where = "mechanisms.ngram"
    for order in ngram.orders:
        if order < 1 or vocab_size**order > 2**64:
            message = f"{order} tokens of {vocab_size:,} have no number of 64 bits"
            raise SettingsError(message, where=f"{where}.orders")
    if not ngram.orders or ngram.heads < 1 or ngram.row_width < 1:
        raise SettingsError("needs an order, a head and a row width", where=where)
    num_tables = len(ngram.orders) * ngram.heads
    for name, numbers in (("moduli", ngram.moduli), ("multipliers", ngram.multipliers)):
        if numbers is None:
            continue
        if len(numbers) != num_tables:
            message = f"{len(numbers)} for {num_tables} tables"
            raise SettingsError(message, where=f"{where}.{name}")
        if not all(1 <= number < 2**64 for number in numbers):
            raise SettingsError("must be from 1 to 2^64 - 1", where=f"{where}.{name}")
    if ngram.num_rows >= _MOST_ROWS:
        message = f"{ngram.num_rows:,} rows are more than the {_MOST_ROWS - 1:,} it can number"
        raise SettingsError(message, where=f"{where}.moduli")
