"""Every way to cut each word into prefix, stem and ending, as arrays."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Int64

_LONGEST_PREFIX = 6
_SHORTEST_STEM = 2

Cut = tuple[str, str, str]  # prefix, stem, ending


@dataclass(frozen=True, slots=True, eq=False)
class Cuts:
    """N cuts of the words: rows of numbers into the four lists. Those of one word follow in a row.

    `endings[0]` and `prefixes[0]` are the empty string.
    """

    words: list[str]
    prefixes: list[str]
    stems: list[str]
    endings: list[str]
    word: Int64[np.ndarray, " N"]
    prefix: Int64[np.ndarray, " N"]
    stem: Int64[np.ndarray, " N"]
    ending: Int64[np.ndarray, " N"]

    @property
    def is_whole(self) -> Bool[np.ndarray, " N"]:
        """Which cuts leave the word as it is."""
        whole: npt.NDArray[np.bool_] = (self.prefix == 0) & (self.ending == 0)
        return whole

    def name(self, row: int) -> Cut:
        """Prefix, stem and ending of one cut."""
        return (
            self.prefixes[self.prefix[row]],
            self.stems[self.stem[row]],
            self.endings[self.ending[row]],
        )

    def shares(self, scores: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        """The probability of each cut among its word's, from log-scores."""
        best = np.full(len(self.words), -np.inf)
        np.maximum.at(best, self.word, scores)
        raised = np.exp(scores - best[self.word])
        total = np.bincount(self.word, raised, minlength=len(self.words))
        shares: npt.NDArray[np.float64] = raised / total[self.word]
        return shares

    def best(self, scores: Float[np.ndarray, " N"]) -> dict[str, Cut]:
        """The cut of highest score of each word; the earlier one where scores are equal."""
        order = np.lexsort((np.arange(len(scores)), -scores, self.word))
        is_first = np.diff(self.word[order], prepend=-1) > 0
        return {self.words[self.word[row]]: self.name(row) for row in order[is_first].tolist()}


def list_cuts(
    words: Sequence[str], prefixes: Collection[str], is_ending: Callable[[str], bool]
) -> Cuts:
    """All cuts with a known prefix, a stem of two letters or more, and a possible ending."""
    numbers: tuple[dict[str, int], ...] = ({"": 0}, {}, {"": 0})
    rows: list[tuple[int, int, int, int]] = []
    for number, word in enumerate(words):
        for cut in _cuts_of(word, prefixes, is_ending):
            pairs = zip(numbers, cut, strict=True)
            ids = [table.setdefault(part, len(table)) for table, part in pairs]
            rows.append((number, ids[0], ids[1], ids[2]))
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    names = [list(table) for table in numbers]
    return Cuts(list(words), names[0], names[1], names[2], *np.ascontiguousarray(columns))


def _cuts_of(word: str, prefixes: Collection[str], is_ending: Callable[[str], bool]) -> list[Cut]:
    size = len(word)
    starts = range(max(1, min(_LONGEST_PREFIX, size - _SHORTEST_STEM) + 1))
    return [
        (word[:start], word[start:end], word[end:])
        for start in starts
        if start == 0 or word[:start] in prefixes
        for end in range(start + min(_SHORTEST_STEM, size - start), size + 1)
        if end == size or is_ending(word[end:])
    ]
