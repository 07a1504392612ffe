"""Learn byte-pair merges from counted pieces.

Source: Sennrich et al. 2016 (arXiv:1508.07909), with a heap of pairs and a list of the
places of each, so that every symbol is touched about once. The commonest pair comes first,
of equals the one of least ids, so the same text always gives the same merges.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cllm.text.tokenizers.alphabet import BYTE_CHARACTERS, SORTED_CHARACTERS
from cllm.text.tokenizers.piece_counts import PieceCounts

_SHIFT = 32
_LOW = (1 << _SHIFT) - 1


@dataclass(frozen=True, slots=True)
class LearnedMerges:
    """The merges in order, and how the pieces they were learnt from are cut by them.

    A symbol's number is its place in the vocabulary: the alphabet, then what the merges
    make. `symbols` holds those of all pieces in a row, `num_symbols` how many each has. They
    are what encoding the piece gives, unless `is_ambiguous`: two merges made one token.
    """

    pairs: list[tuple[str, str]]
    symbols: npt.NDArray[np.int64]
    num_symbols: npt.NDArray[np.int64]
    is_ambiguous: bool


def learn_merges(
    counts: PieceCounts, num_merges: int, *, continuation: str | None = None
) -> LearnedMerges:
    """The first `num_merges` merges, fewer when no pair occurs twice.

    With `continuation` a symbol that does not begin its piece carries that mark. A merge
    whose result exists already takes no entry and is not counted in `num_merges`.
    """
    spellings = list(SORTED_CHARACTERS)
    if continuation is not None:
        spellings += [continuation + character for character in SORTED_CHARACTERS]
    symbols = _Symbols(counts, has_continuation=continuation is not None)
    numbers = {spelling: number for number, spelling in enumerate(spellings)}
    merges: dict[tuple[str, str], None] = {}
    is_ambiguous = False
    goal = len(spellings) + num_merges
    while len(spellings) < goal:
        pair = symbols.commonest_pair()
        if pair is None:
            break
        left, right = spellings[pair[0]], spellings[pair[1]]
        merged = left + (right.removeprefix(continuation) if continuation else right)
        number = numbers.setdefault(merged, len(spellings))
        if number == len(spellings):
            spellings.append(merged)
        else:
            is_ambiguous = True
        merges.setdefault((left, right))
        symbols.merge(*pair, number)
    return LearnedMerges(list(merges), *symbols.result(), is_ambiguous)


class _Symbols:
    """All distinct pieces as linked lists of symbols, with the places of each pair."""

    def __init__(self, counts: PieceCounts, *, has_continuation: bool) -> None:
        pieces = counts.pieces
        lengths = np.array([len(piece) for piece in pieces], np.int64)
        raw = np.frombuffer(b"".join(pieces), np.uint8)
        symbols = _NUMBER_OF_BYTE[raw]
        ends = np.cumsum(lengths)
        is_first = np.zeros(len(raw), bool)
        is_first[(ends - lengths)] = True
        if has_continuation:
            symbols[~is_first] += 256
        places = np.arange(len(raw))
        after = places + 1
        after[ends - 1] = -1
        before = np.where(is_first, -1, places - 1)
        weights = np.repeat(counts.counts, lengths)
        self._lengths = lengths
        self._pairs: dict[int, list[int]] = {}
        self._counts: dict[int, int] = {}
        self._count_pairs(symbols, after, weights)
        self._symbols: list[int] = symbols.tolist()
        self._after: list[int] = after.tolist()
        self._before: list[int] = before.tolist()
        self._weights: list[int] = weights.tolist()

    def _count_pairs(
        self,
        symbols: npt.NDArray[np.int64],
        after: npt.NDArray[np.int64],
        weights: npt.NDArray[np.int64],
    ) -> None:
        places = np.flatnonzero(after >= 0)
        keys = (symbols[places] << _SHIFT) | symbols[places + 1]
        order = np.argsort(keys, kind="stable")
        keys, places = keys[order], places[order]
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        sums = np.add.reduceat(weights[places], first) if len(first) else np.zeros(0, np.int64)
        groups = np.split(places, first[1:])
        for key, total, group in zip(keys[first].tolist(), sums.tolist(), groups, strict=False):
            self._counts[key] = total
            self._pairs[key] = group.tolist()
        self._heap = [(-total, key) for key, total in self._counts.items()]
        heapq.heapify(self._heap)

    def commonest_pair(self) -> tuple[int, int] | None:
        """The commonest pair that occurs at least twice; of equals the one of least ids."""
        heap, counts = self._heap, self._counts
        while heap:
            total, key = heap[0]
            now = counts[key]
            if now == -total:
                return (key >> _SHIFT, key & _LOW) if now > 1 else None
            # The count has fallen since: put it where it belongs now.
            if now > 1:
                heapq.heapreplace(heap, (-now, key))
            else:
                heapq.heappop(heap)
        return None

    def result(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The symbols of all pieces in a row, and how many each piece has."""
        symbols = np.array(self._symbols, np.int64)
        is_alive = symbols >= 0
        starts = np.cumsum(self._lengths) - self._lengths
        num_symbols = np.add.reduceat(is_alive, starts, dtype=np.int64) if len(starts) else starts
        return symbols[is_alive], num_symbols

    def merge(self, left: int, right: int, merged: int) -> None:
        """Replace each `left` `right` by `merged`, from the left."""
        symbols, after, before, weights = self._symbols, self._after, self._before, self._weights
        key = (left << _SHIFT) | right
        changes: defaultdict[int, int] = defaultdict(int)
        fresh: defaultdict[int, list[int]] = defaultdict(list)
        for place in sorted(self._pairs.pop(key)):
            second = after[place]
            # An earlier merge may have taken one of the two.
            if second < 0 or symbols[place] != left or symbols[second] != right:
                continue
            weight = weights[place]
            previous, following = before[place], after[second]
            symbols[place], symbols[second] = merged, -1
            after[place] = following
            if previous >= 0:
                other = symbols[previous]
                changes[(other << _SHIFT) | left] -= weight
                joined = (other << _SHIFT) | merged
                changes[joined] += weight
                fresh[joined].append(previous)
            if following >= 0:
                before[following] = place
                other = symbols[following]
                changes[(right << _SHIFT) | other] -= weight
                joined = (merged << _SHIFT) | other
                changes[joined] += weight
                fresh[joined].append(place)
        self._apply(key, changes, fresh)

    def _apply(self, merged_key: int, changes: dict[int, int], fresh: dict[int, list[int]]) -> None:
        counts, pairs = self._counts, self._pairs
        counts[merged_key] = 0
        for key, change in changes.items():
            if key == merged_key:
                continue
            total = counts[key] = counts.get(key, 0) + change
            if key in fresh:
                pairs.setdefault(key, []).extend(fresh[key])
                if total > 1:
                    heapq.heappush(self._heap, (-total, key))


_NUMBER_OF_BYTE = np.array(
    [SORTED_CHARACTERS.index(character) for character in BYTE_CHARACTERS], np.int64
)
