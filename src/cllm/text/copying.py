"""How much of a text stands word for word in the training text: exact, for texts of any size.

The training text is streamed. A coarse screen (windows of 8 or 16 bytes at a stride, looked
up in a table of those of the sample) leaves the places that can hold a stretch of the length
sought; there every window is hashed, and what the hashes find is compared letter by letter.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cllm.text.corpus import Corpus

Buffer = bytes | memoryview
Texts = Callable[[], Iterable[Buffer]]

_BLOCK_BYTES = 1 << 20
_SLICE = 1 << 17  # windows looked at together, so that their hashes stay in the cache
_MOST_STRIDE = 512
# Odd multipliers: the golden ratio's (Knuth) and PCG's, which have inverses modulo 2⁶⁴.
_MULTIPLIERS = np.array([0x9E3779B97F4A7C15, 0x5851F42D4C957F2D], dtype=np.uint64)


@dataclass(frozen=True)
class Copying:
    """What of a sample stands verbatim in the training text.

    `share`: part of its characters within verbatim stretches of `min_characters` or more.
    """

    longest: str
    longest_characters: int
    share: float
    min_characters: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def measure_copying(sample: str, corpus: Corpus, *, min_characters: int = 40) -> Copying:
    """Compare a sample with the training text of a corpus; cost as `compare_with_texts`."""
    return compare_with_texts(sample, lambda: corpus.text("train"), min_characters=min_characters)


def compare_with_texts(sample: str, texts: Texts, *, min_characters: int = 40) -> Copying:
    """Compare a sample with texts in UTF-8; `texts` starts them anew for each pass.

    A stretch never reaches from one text into the next. Cost: about ten passes, each of
    milliseconds for 1 MB; memory: some MB, and some words for each character of the sample.
    """
    length = len(sample)
    copied = _find(sample, texts, min_characters)
    marks = np.zeros(length + min_characters + 1, dtype=np.int64)
    np.add.at(marks, copied, 1)
    np.add.at(marks, copied + min_characters, -1)
    covered = np.cumsum(marks)[:length] > 0
    start, longest, most = 0, 0, min(min_characters - 1, length)
    if copied.size:
        start, longest = int(copied[0]), min_characters
        # Windows that follow one another without a gap may belong to one longer stretch.
        breaks = np.flatnonzero(np.diff(copied) > 1)
        runs = np.diff(np.concatenate(([-1], breaks, [copied.size - 1])))
        most = int(runs.max()) + min_characters - 1
    while longest < most:
        middle = (longest + most + 1) // 2
        places = _find(sample, texts, middle, only_first=True)
        if places.size:
            start, longest = int(places[0]), middle
        else:
            most = middle - 1
    return Copying(
        longest=sample[start : start + longest],
        longest_characters=longest,
        share=float(covered.mean()) if length else 0.0,
        min_characters=min_characters,
    )


def _find(sample: str, texts: Texts, length: int, *, only_first: bool = False) -> NDArray[np.int64]:
    """Where in the sample the windows of `length` characters begin that occur in a text.

    With `only_first` it ends at the first block of text that has any.
    """
    if length > len(sample):
        return np.empty(0, dtype=np.int64)
    # A character that the sample lacks parts the pieces of text: no match goes across it.
    gap = next(chr(code) for code in range(0x10FFFF, 0, -1) if chr(code) not in sample)
    windows = _Windows(_codes(sample), length)
    for block in _blocks(sample, texts, length, gap.encode()):
        windows.look_in(_codes(block.decode("utf-8", errors="ignore")))
        if windows.is_complete or (only_first and windows.has_any):
            break
    return windows.found()


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", errors="replace"), dtype="<u4")


class _Windows:
    """The windows of one length of a sample, and which of them a text has been seen to hold."""

    def __init__(self, codes: NDArray[np.uint32], length: int) -> None:
        self._codes, self._length = codes, length
        step = max(_SLICE, length)
        parts = [
            _window_hashes(codes[start : start + step + length - 1], length)
            for start in range(0, len(codes) - length + 1, step)
        ]
        self._hashes, self._first, self._which = np.unique(
            np.concatenate(parts), return_index=True, return_inverse=True
        )
        self._is_found = np.zeros(len(self._hashes), dtype=bool)
        self._table = _Table(self._hashes)

    @property
    def is_complete(self) -> bool:
        """Whether there is nothing left to look for."""
        return bool(self._is_found.all())

    @property
    def has_any(self) -> bool:
        """Whether any window was found."""
        return bool(self._is_found.any())

    def found(self) -> NDArray[np.int64]:
        """Starts in the sample of the windows found, ascending."""
        return np.flatnonzero(self._is_found[self._which]).astype(np.int64)

    def look_in(self, text: NDArray[np.uint32]) -> None:
        """Mark the windows that `text` holds."""
        step = max(_SLICE, self._length)
        for start in range(0, len(text) - self._length + 1, step):
            part = text[start : start + step + self._length - 1]
            hashes = _window_hashes(part, self._length)
            places = self._table.candidates(hashes)
            slots = np.searchsorted(self._hashes, hashes[places])
            slots = np.minimum(slots, len(self._hashes) - 1)
            same = (self._hashes[slots] == hashes[places]) & ~self._is_found[slots]
            if same.any():
                self._confirm(part, places[same], slots[same])

    def _confirm(
        self, text: NDArray[np.uint32], places: NDArray[np.int64], slots: NDArray[np.int64]
    ) -> None:
        """Compare letter by letter, neighbours together, so that no hash can deceive."""
        slots_once, at = np.unique(slots, return_index=True)
        starts, places_once = self._first[slots_once], places[at]
        order = np.argsort(starts)
        starts, places_once, slots_once = starts[order], places_once[order], slots_once[order]
        is_edge = (np.diff(starts) != 1) | (np.diff(places_once) != 1)
        edges = [0, *(np.flatnonzero(is_edge) + 1).tolist(), len(starts)]
        for low, high in pairwise(edges):
            if self._equal(text, int(places_once[low]), int(starts[low]), high - low):
                self._is_found[slots_once[low:high]] = True
        if self._is_found[slots_once].all():
            return
        for place, slot in zip(places.tolist(), slots.tolist(), strict=True):
            if not self._is_found[slot]:
                self._is_found[slot] = self._equal(text, place, int(self._first[slot]), 1)

    def _equal(self, text: NDArray[np.uint32], place: int, start: int, count: int) -> bool:
        span = self._length + count - 1
        return np.array_equal(text[place : place + span], self._codes[start : start + span])


class _Table:
    """Says quickly of most hashes that they aren't among the given ones."""

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        bits = min(max(len(hashes).bit_length() + 8, 16), 26)
        self._shift = np.uint64(64 - bits)
        self._is_set = np.zeros(1 << bits, dtype=bool)
        self._is_set[hashes >> self._shift] = True

    def candidates(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Where `hashes` may be one of the given."""
        return np.flatnonzero(self._is_set[hashes >> self._shift])


@functools.lru_cache(maxsize=2)
def _powers(count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The multiplier's powers modulo 2⁶⁴, and their inverses."""
    base = int(_MULTIPLIERS[1])
    powers = np.full(count, base, dtype=np.uint64)
    inverses = np.full(count, pow(base, -1, 1 << 64), dtype=np.uint64)
    powers[0] = inverses[0] = 1
    return np.cumprod(powers), np.cumprod(inverses)


def _window_hashes(codes: NDArray[np.uint32], length: int) -> NDArray[np.uint64]:
    """A polynomial hash modulo 2⁶⁴ of each window (Karp, Rabin 1987), from prefix sums."""
    powers, inverses = _powers(2 * max(_SLICE, length))
    sums = np.zeros(len(codes) + 1, dtype=np.uint64)
    np.cumsum(codes * powers[: len(codes)], out=sums[1:])
    hashes: NDArray[np.uint64] = sums[length:] - sums[: len(sums) - length]
    hashes *= inverses[: len(hashes)]
    # Spreads short windows over the high bits, at which the table looks.
    hashes *= _MULTIPLIERS[0]
    return hashes


def _blocks(sample: str, texts: Texts, length: int, gap: bytes) -> Iterator[bytes]:
    """The text that can hold `length` characters of the sample, pieces joined by `gap`."""
    screen = _Screen(sample.encode("utf-8", errors="replace"), length)
    pieces: list[bytes] = []
    size = 0
    for text in texts():
        view = memoryview(text)
        for start, end in screen.places(view):
            # Long places are cut; four bytes hold any character, so no window is lost.
            for cut in range(start, end, _BLOCK_BYTES):
                piece = bytes(view[cut : min(end, cut + _BLOCK_BYTES + 4 * length)])
                pieces.append(piece)
                size += len(piece)
                if size >= _BLOCK_BYTES:
                    yield gap.join(pieces)
                    pieces, size = [], 0
    if pieces:
        yield gap.join(pieces)


class _Screen:
    """Finds the places of a text that can hold `length` characters of the sample.

    Of a stretch of n ≥ length bytes, at least one window of w bytes begins at a multiple of
    n − w + 1; only such windows are looked up.
    """

    def __init__(self, sample: bytes, length: int) -> None:
        self._width = 16 if length >= 24 else 8 if length >= 12 else 0
        self._stride = min(max(length - self._width + 1, 1), _MOST_STRIDE)
        if self._width:
            self._table = _Table(self._hashes(sample, 0, len(sample) - self._width + 1, 1))

    def _hashes(self, text: Buffer, start: int, count: int, stride: int) -> NDArray[np.uint64]:
        """Hashes of `count` windows, the first at `start`, at distances of `stride`."""

        def words(offset: int) -> NDArray[np.uint64]:
            return np.ndarray((count,), np.uint64, text, offset, (stride,))

        hashes: NDArray[np.uint64] = words(start) * _MULTIPLIERS[0]
        if self._width == 16:
            hashes ^= hashes >> np.uint64(32)
            hashes += words(start + 8)
            hashes *= _MULTIPLIERS[1]
        return hashes

    def places(self, text: memoryview) -> Iterator[tuple[int, int]]:
        """Byte ranges, ascending and apart."""
        if not self._width:
            yield 0, len(text)
            return
        pending: tuple[int, int] | None = None
        total = max(0, (len(text) - self._width) // self._stride + 1)
        reach = self._stride - 1
        for first in range(0, total, _SLICE):
            count = min(_SLICE, total - first)
            hashes = self._hashes(text, first * self._stride, count, self._stride)
            hits = (self._table.candidates(hashes) + first) * self._stride
            for low, high in _merged(hits, 2 * reach + self._width):
                start, end = max(0, low - reach), min(len(text), high + self._width + reach)
                if pending is not None and start <= pending[1]:
                    pending = (pending[0], end)
                    continue
                if pending is not None:
                    yield pending
                pending = (start, end)
        if pending is not None:
            yield pending


def _merged(hits: NDArray[np.int64], distance: int) -> Iterator[tuple[int, int]]:
    """First and last of each run of hits that are at most `distance` apart."""
    if hits.size:
        breaks = np.flatnonzero(np.diff(hits) > distance)
        lows = hits[np.concatenate(([0], breaks + 1))]
        highs = hits[np.concatenate((breaks, [hits.size - 1]))]
        yield from zip(lows.tolist(), highs.tolist(), strict=True)
