"""Number the distinct pieces of a text: a hash table in arrays, looked up all at once.

A piece of up to 15 bytes is two 64-bit words (its bytes, and its length in the last), so
equality is exact; longer pieces, about one in a hundred, go through a dictionary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cllm.text.tokenizers.pieces import END, CharacterClasses, PiecePattern, piece_starts

_SHORT = 15
_MIX_LOW = np.uint64(0x9E3779B97F4A7C15)
_MIX_HIGH = np.uint64(0xC2B2AE3D27D4EB4F)
_LOW_MASKS = np.array([(1 << 8 * min(n, 8)) - 1 for n in range(_SHORT + 2)], np.uint64)
_HIGH_MASKS = np.array([(1 << 8 * min(max(n - 8, 0), 7)) - 1 for n in range(_SHORT + 2)], np.uint64)
_LENGTHS = np.array([n << 56 for n in range(_SHORT + 2)], np.uint64)


class PieceTable:
    """Numbers pieces in the order in which they are met; number 0 is the end of a text."""

    def __init__(self, pattern: PiecePattern, classes: CharacterClasses | None = None) -> None:
        self.pieces: list[bytes] = [b""]
        self.pattern: PiecePattern = pattern
        self._classes = classes or CharacterClasses(pattern)
        self._long: dict[bytes, int] = {}
        self._allocate(1 << 14)
        self._insert(np.zeros(1, np.uint64), np.zeros(1, np.uint64), np.zeros(1, np.int32))

    def number(self, data: bytes, ends: npt.NDArray[np.intp]) -> npt.NDArray[np.int32]:
        """The number of each piece of `data`, with 0 for each end of a text.

        `data` is UTF-8 with one zero byte after each text; `ends` are the places of these.
        New pieces are appended to `pieces`. Cost: about 20 ns a byte.
        """
        starts = self._starts(data, ends)
        lengths = np.diff(starts, append=len(data))
        lengths[np.searchsorted(starts, ends)] = 0
        return self._number(data, starts, lengths)

    def add(self, pieces: Sequence[bytes]) -> None:
        """Number pieces that are not in the table, in their order; none may come twice."""
        if pieces:
            lengths = np.array([len(piece) for piece in pieces], np.intp)
            first = len(self.pieces)
            numbers = np.arange(first, first + len(pieces), dtype=np.int32)
            self.pieces += pieces
            capped = np.minimum(lengths, _SHORT + 1)
            low, high = _keys(b"".join(pieces), np.cumsum(lengths) - lengths, capped)
            short = capped <= _SHORT
            self._insert(low[short], high[short], numbers[short])
            for number in numbers[~short].tolist():
                self._long[self.pieces[number]] = number

    def _number(
        self, data: bytes, starts: npt.NDArray[np.intp], lengths: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.int32]:
        capped = np.minimum(lengths, _SHORT + 1)
        low, high = _keys(data, starts, capped)
        numbers = self._look_up(low, high, capped, data, starts)
        for place in np.flatnonzero(capped > _SHORT).tolist():
            start = starts[place]
            piece = data[start : start + lengths[place]]
            number = self._long.get(piece)
            if number is None:
                number = self._long[piece] = len(self.pieces)
                self.pieces.append(piece)
            numbers[place] = number
        return numbers

    def _starts(self, data: bytes, ends: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        if data.isascii():
            classes = self._classes.of_ascii(data)
            classes[ends] = END
            return piece_starts(self.pattern, classes, np.frombuffer(data, np.uint8))
        points = np.frombuffer(data.decode().encode("utf-32-le"), np.uint32)
        widths = np.ones(len(points), np.uint8)
        for limit in (0x80, 0x800, 0x10000):
            widths += points >= limit
        offsets = np.cumsum(widths, dtype=np.intp) - widths
        classes = self._classes.of_points(points)
        classes[np.searchsorted(offsets, ends)] = END
        return offsets[piece_starts(self.pattern, classes, points)]

    def _look_up(
        self,
        low: npt.NDArray[np.uint64],
        high: npt.NDArray[np.uint64],
        capped: npt.NDArray[np.intp],
        data: bytes,
        starts: npt.NDArray[np.intp],
    ) -> npt.NDArray[np.int32]:
        """Numbers of the pieces of up to 15 bytes; other places hold anything."""
        numbers, missing = self._find(low, high)
        missing = missing[capped[missing] <= _SHORT]
        if not len(missing):
            return numbers
        fresh: dict[bytes, int] = {}
        places = []
        next_number = len(self.pieces)
        for place, start, length in zip(
            missing.tolist(), starts[missing].tolist(), capped[missing].tolist(), strict=True
        ):
            piece = data[start : start + length]
            number = fresh.get(piece)
            if number is None:
                number = fresh[piece] = next_number + len(fresh)
                places.append(place)
            numbers[place] = number
        self.pieces += fresh
        new_numbers = np.arange(next_number, next_number + len(fresh), dtype=np.int32)
        self._insert(low[places], high[places], new_numbers)
        return numbers

    def _find(
        self, low: npt.NDArray[np.uint64], high: npt.NDArray[np.uint64]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.intp]]:
        """Numbers of the pieces that are known, and the places of those that are not."""
        slots = self._slots(low, high)
        numbers = self._numbers[slots]
        differ = self._low[slots] != low
        differ |= self._high[slots] != high
        rest = np.flatnonzero(differ)
        missing = [rest[numbers[rest] < 0]]
        rest = rest[numbers[rest] >= 0]
        while len(rest):
            slots[rest] = (slots[rest] + 1) & (self._size - 1)
            at = slots[rest]
            numbers[rest] = self._numbers[at]
            missing.append(rest[numbers[rest] < 0])
            differ = (self._low[at] != low[rest]) | (self._high[at] != high[rest])
            rest = rest[differ & (numbers[rest] >= 0)]
        return numbers, np.sort(np.concatenate(missing))

    def _slots(
        self, low: npt.NDArray[np.uint64], high: npt.NDArray[np.uint64]
    ) -> npt.NDArray[np.intp]:
        mixed = (low ^ (high * _MIX_HIGH)) * _MIX_LOW
        return (mixed >> self._shift).astype(np.intp)

    def _allocate(self, size: int) -> None:
        self._size, self._used = size, 0
        self._shift = np.uint64(64 - (size.bit_length() - 1))
        self._low = np.zeros(size, np.uint64)
        self._high = np.zeros(size, np.uint64)
        # Empty slots hold a number below 0; their keys must not equal the END's zeros.
        self._high[:] = ~np.uint64(0)
        self._numbers = np.full(size, -1, np.int32)

    def _insert(
        self,
        low: npt.NDArray[np.uint64],
        high: npt.NDArray[np.uint64],
        numbers: npt.NDArray[np.int32],
    ) -> None:
        """Put distinct new pieces into the table, which stays at most a quarter full."""
        if (self._used + len(low)) * 4 > self._size:
            kept = self._numbers >= 0
            old = self._low[kept], self._high[kept], self._numbers[kept]
            self._allocate(1 << ((self._used + len(low)) * 8).bit_length())
            self._insert(*old)
        self._used += len(low)
        slots = self._slots(low, high)
        while len(low):
            # Of several pieces that want one empty slot, the last written gets it.
            free = self._numbers[slots] < 0
            self._numbers[slots[free]] = numbers[free]
            placed = self._numbers[slots] == numbers
            at = slots[placed]
            self._low[at], self._high[at] = low[placed], high[placed]
            low, high, numbers = low[~placed], high[~placed], numbers[~placed]
            slots = (slots[~placed] + 1) & (self._size - 1)


def _keys(
    data: bytes, starts: npt.NDArray[np.intp], capped: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """The bytes of each piece (at most 15) and its length, as two 64-bit words."""
    padded = data + bytes(16)
    eights = np.ndarray((len(data) + 9,), "<u8", padded, strides=(1,))
    low = eights[starts]
    low &= _LOW_MASKS[capped]
    high = eights[starts + 8]
    high &= _HIGH_MASKS[capped]
    high |= _LENGTHS[capped]
    return low, high
