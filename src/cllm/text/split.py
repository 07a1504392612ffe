"""Choose what is held out, by the content alone.

With many documents, each is held out or not by its own hash, so that adding one moves no
other. With few, each is cut into blocks at places chosen by the text around them, and the
blocks of least hash are held out. Equal content always lands on one side.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

# From so many documents on, none of them dominating, whole ones are held out.
_MANY_DOCUMENTS = 40
# The held-out part is made of about this many blocks.
_VAL_BLOCKS = 8
_LEAST_BLOCK_BYTES, _MOST_BLOCK_BYTES = 256, 1 << 20
_SCAN_BYTES = 16 << 20
# A place is chosen by the hash of so many bytes before it.
_SEEN_BYTES = 16


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the text file that belongs to one document and one split."""

    document: int
    start: int
    end: int
    is_val: bool


def split_documents(
    path: Path,
    starts: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    hashes: npt.NDArray[np.uint64],
    val_fraction: float,
) -> list[Span]:
    """Spans of all documents, in their order; neighbours of one document and split joined.

    `starts`, `lengths` and `hashes` describe the documents in the text file at `path`.
    """
    total = int(lengths.sum())
    documents = np.arange(len(starts))
    ends = starts + lengths
    if val_fraction > 0.0:
        goal = total * val_fraction
        is_many = len(starts) >= _MANY_DOCUMENTS and lengths.max() <= goal / 2
        if is_many:
            is_val = _by_threshold(hashes, lengths, goal, val_fraction)
        else:
            documents, starts, ends, hashes = _cut_into_blocks(path, starts, ends, goal)
            is_val = _by_rank(hashes, ends - starts, goal)
    else:
        is_val = np.zeros(len(starts), bool)
    return _join(documents, starts, ends, is_val)


def _by_threshold(
    hashes: npt.NDArray[np.uint64], lengths: npt.NDArray[np.int64], goal: float, fraction: float
) -> npt.NDArray[np.bool_]:
    """Hold out the documents whose hash is below a threshold that knows no other document."""
    is_val = hashes < np.uint64(int(fraction * 2**64))
    share = float(lengths[is_val].sum()) / goal
    # Few documents can fall badly; then the order of the hashes decides.
    return is_val if 0.5 <= share <= 2.0 else _by_rank(hashes, lengths, goal)


def _by_rank(
    hashes: npt.NDArray[np.uint64], lengths: npt.NDArray[np.int64], goal: float
) -> npt.NDArray[np.bool_]:
    """Hold out the least hashes, so many that their bytes come nearest to `goal`.

    At least one and not all, where there are two different hashes.
    """
    distinct, inverse = np.unique(hashes, return_inverse=True)
    sizes = np.bincount(inverse, weights=lengths)
    sums = np.cumsum(sizes)
    count = int(np.argmin(np.abs(sums - goal))) + 1 if len(sums) else 0
    count = min(max(count, 1), len(distinct) - 1)
    chosen: npt.NDArray[np.bool_] = inverse < count
    return chosen


def _cut_into_blocks(
    path: Path, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], goal: float
) -> tuple[
    npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint64]
]:
    """Blocks of all documents: document, start, end, hash of the content."""
    # A power of two, so that a little more text leaves the blocks as they are.
    size = 1 << round(np.log2(max(goal / _VAL_BLOCKS, 1)))
    size = min(max(size, _LEAST_BLOCK_BYTES), _MOST_BLOCK_BYTES)
    documents: list[int] = []
    block_starts: list[int] = []
    block_ends: list[int] = []
    hashes: list[int] = []
    with path.open("rb") as file:
        for number, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            cuts = [*_cuts(file, start, end, size), end]
            for first, last in itertools.pairwise([start, *cuts]):
                documents.append(number)
                block_starts.append(first)
                block_ends.append(last)
                file.seek(first)
                hashes.append(content_hash(file.read(last - first)))
    return (
        np.array(documents, np.int64),
        np.array(block_starts, np.int64),
        np.array(block_ends, np.int64),
        np.array(hashes, np.uint64),
    )


def content_hash(text: bytes | memoryview) -> int:
    """64 bits of SHA-256."""
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")


def _cuts(file: BinaryIO, start: int, end: int, size: int) -> list[int]:
    """Where to cut a document into blocks of about `size` bytes, by the text alone.

    Places are ends of paragraphs, or of lines where paragraphs are rare; one is taken when
    the hash of the bytes before it is low, so a change elsewhere does not move it.
    """
    cuts: list[int] = []
    last = start
    for base in range(start, end, _SCAN_BYTES):
        offset = max(base - _SEEN_BYTES, start)
        file.seek(offset)
        data = file.read(min(base + _SCAN_BYTES, end) - offset)
        places, is_chosen = _candidates(data, size)
        places += offset
        is_new = (places > base) & (places <= end - size // 2)
        places, is_chosen = places[is_new], is_chosen[is_new]
        limit = int(places[-1]) + 1 if len(places) else base
        for chosen in [*places[is_chosen].tolist(), limit]:
            # Too long a block ends somewhere before the next chosen place.
            while chosen - last > 4 * size:
                forced = int(np.searchsorted(places, last + 3 * size))
                if forced == len(places) or places[forced] >= chosen:
                    break
                last = int(places[forced])
                cuts.append(last)
            if chosen < limit and chosen - last >= size // 2:
                last = chosen
                cuts.append(last)
    return cuts


def _candidates(data: bytes, size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Places where a block may end, and whether their hash chooses them."""
    raw = np.frombuffer(data, np.uint8)
    lines = np.flatnonzero(raw == ord("\n"))
    lines = lines[lines >= _SEEN_BYTES]
    paragraphs = lines[raw[lines - 1] == ord("\n")]
    places = paragraphs if len(paragraphs) * size >= 4 * len(data) else lines
    if len(places) * size < len(data):
        # Enormous lines: any ASCII byte or first byte of a character will do.
        places = np.flatnonzero((raw & 0xC0) != 0x80)
        places = places[places > _SEEN_BYTES] - 1
    eights = np.ndarray((max(len(data) - 7, 0),), "<u8", data, strides=(1,))
    mixed = eights[places - 7] * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= eights[places - 15] * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0x9E3779B97F4A7C15)
    # Of the places in one block's length about one is chosen; powers of two keep it stable.
    density = len(places) * size / max(len(data), 1)
    bits = max(0, round(np.log2(max(density, 1))))
    is_chosen = (mixed >> np.uint64(64 - bits)) == 0 if bits else np.ones(len(places), bool)
    return places + 1, is_chosen


def _join(
    documents: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    is_val: npt.NDArray[np.bool_],
) -> list[Span]:
    spans: list[Span] = []
    rows = zip(documents.tolist(), starts.tolist(), ends.tolist(), is_val.tolist(), strict=True)
    for document, start, end, val in rows:
        if spans and spans[-1].document == document and spans[-1].is_val == val:
            spans[-1] = Span(document, spans[-1].start, end, val)
        else:
            spans.append(Span(document, start, end, val))
    return spans
