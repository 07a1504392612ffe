"""A learnt segmenter: cuts known words as learnt, and any other word with the same parts."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Any

from cllm.text.roots.cuts import Cut, list_cuts
from cllm.text.roots.endings import SuffixChain
from cllm.text.roots.estimate import COVER_FLOOR, new_stems
from cllm.text.roots.letters import Letters


@dataclass(frozen=True, slots=True)
class Split:
    """A word as prefixes, stem and suffixes, as they are written in it.

    `root` is the stem, or the root it is a form of: `mak` of `making` has the root `make`.
    """

    prefixes: tuple[str, ...]
    stem: str
    suffixes: tuple[str, ...]
    root: str

    @property
    def morphs(self) -> tuple[str, ...]:
        """All parts in a row; joined they are the word."""
        return (*self.prefixes, self.stem, *self.suffixes)

    @property
    def affixes(self) -> tuple[str, ...]:
        """Prefixes with a hyphen behind, suffixes with one before: `un-`, `-ing`."""
        return (*(f"{text}-" for text in self.prefixes), *(f"-{text}" for text in self.suffixes))


@dataclass(frozen=True)
class Segmenter:
    """What was learnt of a word list.

    `cuts` gives the best cut of each word of the list; `stems`, `endings` and `prefixes` are
    log-scores, `suffix_costs` −log P; `kin` names the root of a stem that is a form of it.
    """

    cuts: dict[str, Cut]
    stems: dict[str, float]
    endings: dict[str, float]
    prefixes: dict[str, float]
    suffix_costs: dict[str, float]
    letters: dict[str, float]
    kin: dict[str, str]

    def split(self, word: str) -> Split:
        """Cut a word (as `word_of` writes it), known or not.

        A stem that is itself a word of the list is cut as that word is.
        """
        prefix, stem, ending = self.cuts.get(word) or self._likeliest(word)
        prefixes: tuple[str, ...] = (prefix,) if prefix else ()
        suffixes = self._chain.suffixes(ending)
        if stem != word and stem in self.cuts:
            inner = self.split(stem)
            prefixes, stem = (*prefixes, *inner.prefixes), inner.stem
            suffixes = (*inner.suffixes, *suffixes)
        return Split(prefixes, stem, suffixes, self.kin.get(stem, stem))

    def with_kin(self, kin: dict[str, str]) -> Segmenter:
        """The same with these forms of roots."""
        return dataclasses.replace(self, kin=kin)

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Segmenter:
        """Read back what `to_json` gave. Raises: KeyError, TypeError, ValueError."""
        cuts = {word: (cut[0], cut[1], cut[2]) for word, cut in value["cuts"].items()}
        names = ("stems", "endings", "prefixes", "suffix_costs", "letters")
        tables = {name: {key: float(x) for key, x in value[name].items()} for name in names}
        kin = {str(stem): str(root) for stem, root in value["kin"].items()}
        return cls(cuts=cuts, kin=kin, **tables)

    @functools.cached_property
    def _chain(self) -> SuffixChain:
        return SuffixChain(self.suffix_costs)

    @functools.cached_property
    def _letters(self) -> Letters:
        return Letters(self.letters)

    @functools.cached_property
    def _rarest_ending(self) -> float:
        return min(self.endings.values())

    def _likeliest(self, word: str) -> Cut:
        cuts = list_cuts([word], self.prefixes, lambda ending: self._chain.cost(ending) < math.inf)
        scored = [(self._score(cuts.name(row), word), row) for row in range(len(cuts.word))]
        return cuts.name(max(scored, key=lambda pair: (pair[0], -pair[1]))[1])

    def _score(self, cut: Cut, word: str) -> float:
        prefix, stem, ending = cut
        new = math.log(new_stems(len(self.cuts))) + self._letters.stem(stem)
        if stem == word:
            score = max(self.stems.get(stem, -math.inf), new)
        else:
            score = self.stems.get(stem, new + math.log(COVER_FLOOR))
        rare = self._rarest_ending - self._chain.cost(ending)
        return score + self.prefixes[prefix] + self.endings.get(ending, rare)
