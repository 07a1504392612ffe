"""Documents that came before: exact copies, and near ones by how many shingles they share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from cllm.config import TextSettings

# A shingle is 16 bytes: a few words, long enough that unrelated texts share hardly any.
_SHINGLE_BYTES = 16
_SKETCH_SIZE = 64
# Fewer than this, from a text that repeats itself, tell too little for any judgement.
_MIN_SKETCH = 8
# Shorter texts differ in too few shingles to tell a variant from another text.
_MIN_CHARACTERS = 200
_BLOCK_BYTES = 1 << 14
_MANY = 4096
# A text that has not shown enough different shingles in so many hardly has them.
_MAX_SEARCHED = 1 << 17
_FACTORS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
_HASHES = 1 << 64
# With 6 bands, 4 rows find 96% of the pairs at a similarity of 0.8 and 99.9% at 0.9; lower
# thresholds take fewer rows. Each candidate is then checked by its sketch.
_BANDS, _MAX_ROWS = 6, 4
_MIN_RECALL = 0.95
_MAX_CANDIDATES = 64
# About 800 bytes each: the index stays below 400 MB, later documents are only looked up.
_MAX_INDEXED = 400_000
_RUN_SIZE = 1 << 16

_U64 = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells a text from others: a hash of all of it, and a sample of its shingles.

    `sketch` holds 32 bits of each of the smallest shingle hashes (little-endian); it is
    empty for short and for very repetitive texts. `num_shingles` estimates how many distinct
    ones there are.
    """

    exact: int
    sketch: bytes
    num_shingles: float


def fingerprint(text: str) -> Fingerprint:
    """Fingerprint `text`; white space around it does not count.

    Source: bottom-k sketches, Cohen and Kaplan 2007. Cost: about 300 MB/s for long texts.
    """
    data = text.strip().encode("utf-8", "surrogatepass")
    exact = int.from_bytes(hashlib.sha256(data).digest()[:8], "little")
    if len(text) < _MIN_CHARACTERS or len(data) < 2 * _SHINGLE_BYTES:
        return Fingerprint(exact, b"", 0.0)
    smallest, share = _smallest_hashes(data)
    if len(smallest) < _MIN_SKETCH:
        return Fingerprint(exact, b"", 0.0)
    if len(smallest) >= _SKETCH_SIZE:
        smallest = smallest[:_SKETCH_SIZE]
        num_shingles = (_SKETCH_SIZE - 1) * (_HASHES / (float(smallest[-1]) + 1.0))
    else:
        num_shingles = len(smallest) / share
    return Fingerprint(exact, smallest.astype("<u4").tobytes(), num_shingles)


def _smallest_hashes(data: bytes) -> tuple[_U64, float]:
    """The smallest distinct shingle hashes in order, and the share of all that was searched."""
    num_shingles = len(data) - _SHINGLE_BYTES + 1
    # Four times what is needed, as repeated shingles count once; more if it repeats a lot.
    share = min(1.0, 4 * _SKETCH_SIZE / num_shingles)
    while True:
        limit = np.uint64(min(_HASHES - 1, int(share * _HASHES)))
        found = np.sort(np.concatenate(list(_hashes_below(data, limit))))
        is_new = np.ones(len(found), np.bool_)
        np.not_equal(found[1:], found[:-1], out=is_new[1:])
        found = found[is_new]
        is_enough = len(found) >= _SKETCH_SIZE or share * num_shingles >= _MAX_SEARCHED
        if is_enough or share == 1.0:
            return found, share
        share = min(1.0, share * 32)


def _hashes_below(data: bytes, limit: np.uint64) -> Iterator[_U64]:
    """A multiply-add hash of the 16 bytes from each byte on, where it is below `limit`."""
    num_shingles = len(data) - _SHINGLE_BYTES + 1
    columns = -(-min(num_shingles, _BLOCK_BYTES) // 8)
    # Reused, as fresh arrays would cost more in page faults than the arithmetic does.
    work: _U64 = np.empty((2, 8, columns), np.uint64)
    is_below = np.empty((8, columns), np.bool_)
    for start in range(0, num_shingles, _BLOCK_BYTES):
        count = min(_BLOCK_BYTES, num_shingles - start)
        block = data[start : start + count + _SHINGLE_BYTES - 1] + bytes(8)
        columns = -(-count // 8)
        hashes, products = work[0, :, :columns], work[1, :, :columns]
        # Row r, column c is the word that begins at byte 8c + r: every word, nothing copied.
        words: _U64 = np.ndarray((8, columns + 1), np.dtype("<u8"), block, strides=(1, 8))
        np.multiply(words[:, :-1], _FACTORS[0], out=hashes)
        np.multiply(words[:, 1:], _FACTORS[1], out=products)
        hashes += products
        hashes[count - 8 * (columns - 1) :, -1] = hashes[0, 0]
        chosen = hashes[np.less_equal(hashes, limit, out=is_below[:, :columns])]
        # What repeats within a block would otherwise pile up where a text repeats itself.
        yield chosen if len(chosen) < _MANY else np.unique(chosen)


def _band_rows(threshold: float) -> int:
    """The most rows a band may have and still find pairs at the threshold."""
    rows = range(_MAX_ROWS, 1, -1)
    return next((n for n in rows if 1 - (1 - threshold**n) ** _BANDS >= _MIN_RECALL), 1)


class DuplicateFilter:
    """Remembers fingerprints, and tells whether a document was there before.

    Memory: 8 bytes a document, and about 800 for each of the first 400,000 longer ones.
    """

    def __init__(self, settings: TextSettings) -> None:
        import rensa

        self._settings = settings
        self._exact = _HashSet()
        self._rensa = rensa
        self._num_hashes = _BANDS * _band_rows(settings.near_threshold)
        self._index = rensa.RMinHashLSH(settings.near_threshold, self._num_hashes, _BANDS)
        self._sketches = np.empty((1024, _SKETCH_SIZE), np.uint32)
        self._num_shingles: list[float] = []

    def seen(self, document: Fingerprint) -> Literal["exact", "near"] | None:
        """Whether the document equals ("exact") or nearly equals ("near") an earlier one.

        A document that does not is remembered. Source: banded MinHash (rensa), then the
        Jaccard similarity of shingles as the sketches estimate it.
        """
        if self._settings.exact_duplicates and document.exact in self._exact:
            return "exact"
        if self._settings.near_duplicates and document.sketch and self._is_near(document):
            return "near"
        if self._settings.exact_duplicates:
            self._exact.add(document.exact)
        return None

    def _is_near(self, document: Fingerprint) -> bool:
        """Whether an indexed document is near enough; if none is, index this one."""
        sketch = document.sketch
        minhash = self._rensa.RMinHash(self._num_hashes, 1)
        minhash.update([sketch[place : place + 4] for place in range(0, len(sketch), 4)])
        values = np.frombuffer(sketch, "<u4")
        for key in sorted(self._index.query(minhash), reverse=True)[:_MAX_CANDIDATES]:
            if (
                self._similarity(key, values, document.num_shingles)
                >= self._settings.near_threshold
            ):
                return True
        number = len(self._num_shingles)
        if number < _MAX_INDEXED:
            self._index.insert(number, minhash)
            self._remember(number, values, document.num_shingles)
        return False

    def _remember(self, number: int, values: npt.NDArray[np.uint32], num_shingles: float) -> None:
        if number == len(self._sketches):
            self._sketches = np.resize(self._sketches, (2 * number, _SKETCH_SIZE))
        # A short sketch is filled with its own values, which add nothing to what it shares.
        self._sketches[number] = np.resize(values, _SKETCH_SIZE)
        self._num_shingles.append(num_shingles)

    def _similarity(self, key: int, values: npt.NDArray[np.uint32], num_shingles: float) -> float:
        """Jaccard similarity of two documents' shingles, estimated from their sketches.

        Both sketches hold every hash below the lower of their two limits, so the share of
        common hashes among the larger document's is an unbiased estimate.
        """
        num_common = len(np.intersect1d(self._sketches[key], values))
        larger = max(num_shingles, self._num_shingles[key])
        smaller = min(num_shingles, self._num_shingles[key])
        size = min(len(values), len(np.unique(self._sketches[key])))
        common = min(smaller, larger * num_common / size)
        return common / (larger + smaller - common)


class _HashSet:
    """A set of 64-bit hashes at 8 bytes each: sorted runs, and a small set of recent ones."""

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._run: _U64 = np.empty(0, np.uint64)

    def __contains__(self, value: int) -> bool:
        if value in self._recent:
            return True
        place = int(np.searchsorted(self._run, np.uint64(value)))
        return place < len(self._run) and int(self._run[place]) == value

    def add(self, value: int) -> None:
        self._recent.add(value)
        if len(self._recent) == _RUN_SIZE:
            recent = np.fromiter(self._recent, np.uint64, len(self._recent))
            self._run = np.sort(np.concatenate([self._run, recent]), kind="stable")
            self._recent.clear()
