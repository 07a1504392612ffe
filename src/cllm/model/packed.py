"""A quantised matrix: small integers and scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeGuard, final

import numpy as np
from jaxtyping import Bool, Float32, Int8, UInt8
from numpy.typing import NDArray

from cllm.model.codebooks import direct_table, odd_rows, pair_table, pair_values
from cllm.model.rotation import rotate_back

Kind: TypeAlias = Literal["int8", "int4", "e8"]
KINDS: tuple[Kind, ...] = ("int8", "int4", "e8")
GROUP, BLOCK = 32, 8


@final
@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """A matrix [N, K] in few bits; K' is K rounded up to 32, and what stands there is not read.

    - "int8": `codes` (int8 [N, K'],), from −127; `scales` float16 [N, K'/32], one a group of 32
      columns; weight = scale·code.
    - "int4": `codes` (uint8 [N, K'/2],): byte j of a group's 16 holds column j in its low and
      column j + 16 in its high half, as value + 8; `scales` as above.
    - "e8": one array of codes a stage, either uint16 [N, K'/8] ("pairs": `pair_values`) or uint8
      [N, K'/8] ("direct": a row of `direct_table`), each eight columns; `ratios` r, an integer a
      stage; `scales` float32 [N]; weight = scale·Σ r·value, where the sum fits int8.

    With `signs` (int8 ±1 [K]) the rows are stored rotated (`cllm.model.rotation`): they are to
    be multiplied with rotated inputs, or turned back.
    """

    kind: Kind
    columns: int
    codes: tuple[NDArray[Any], ...]
    scales: NDArray[Any]
    ratios: tuple[int, ...] = (1,)
    signs: Int8[np.ndarray, " K"] | None = None

    @property
    def rows(self) -> int:
        """N."""
        return len(self.scales)

    @property
    def shape(self) -> tuple[int, int]:
        """[N, K]."""
        return self.rows, self.columns

    def integers(self) -> Int8[np.ndarray, "N K2"]:
        """The integers [N, K'] that the scales multiply."""
        if self.kind == "int8":
            return self.codes[0]
        if self.kind == "int4":
            return unpack_nibbles(self.codes[0])
        total = np.zeros((self.rows, padded(self.columns)), np.int8)
        for codes, ratio in zip(self.codes, self.ratios, strict=True):
            values = pair_values(codes) if codes.dtype == np.uint16 else direct_table()[codes]
            total += np.int8(ratio) * values.reshape(total.shape)
        return total

    def stages(
        self,
    ) -> list[tuple[NDArray[Any], Int8[np.ndarray, "256 8"], Bool[np.ndarray, " 256"] | None, int]]:
        """Of "e8", a stage each: codes, table, which rows need an odd number of minus signs, ratio.

        None in place of the rows where codes are rows of the table.
        """
        return [
            (codes, pair_table(), odd_rows(), ratio)
            if codes.dtype == np.uint16
            else (codes, direct_table(), None, ratio)
            for codes, ratio in zip(self.codes, self.ratios, strict=True)
        ]

    def stored(self) -> Float32[np.ndarray, "N K"]:
        """The weights as they are stored: rotated where there are `signs`."""
        scales = self.scales.astype(np.float32)
        scales = scales[:, None] if self.kind == "e8" else np.repeat(scales, GROUP, 1)
        weights: Float32[np.ndarray, "N K"] = (scales * self.integers())[:, : self.columns]
        return np.ascontiguousarray(weights)

    def dequantise(self) -> Float32[np.ndarray, "N K"]:
        """The weights."""
        return self.stored() if self.signs is None else rotate_back(self.stored(), self.signs)


# Parameters by name, some of them quantised.
MixedWeights: TypeAlias = dict[str, NDArray[np.float32] | Packed]


def dequantised(weights: Mapping[str, NDArray[np.float32] | Packed]) -> dict[str, Any]:
    """All as float32."""
    return {
        name: value.dequantise() if isinstance(value, Packed) else value
        for name, value in weights.items()
    }


def is_packed(value: NDArray[np.float32] | Packed) -> TypeGuard[Packed]:
    """Whether a parameter is quantised."""
    return isinstance(value, Packed)


def padded(columns: int) -> int:
    """K': `columns` rounded up to whole groups."""
    return -(-columns // GROUP) * GROUP


def pack_nibbles(values: Int8[np.ndarray, "N K2"]) -> UInt8[np.ndarray, "N K1"]:
    """Integers from −8 to 7 in "int4"'s order of halves of bytes."""
    groups = (values + np.int8(8)).astype(np.uint8).reshape(len(values), -1, 2, GROUP // 2)
    packed: UInt8[np.ndarray, "N K1"] = groups[:, :, 0] | groups[:, :, 1] << 4
    return packed.reshape(len(values), -1)


def unpack_nibbles(codes: UInt8[np.ndarray, "N K1"]) -> Int8[np.ndarray, "N K2"]:
    """The inverse of `pack_nibbles`."""
    groups = codes.reshape(len(codes), -1, GROUP // 2)
    both = np.stack((groups & 15, groups >> 4), 2)
    return both.astype(np.int8).reshape(len(codes), -1) - np.int8(8)
