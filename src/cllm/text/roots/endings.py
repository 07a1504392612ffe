"""Endings as chains of suffixes: found by Morfessor first, then drawn from a fixed inventory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from cllm.text.roots.baseline import Baseline
from cllm.text.roots.letters import Letters

LONGEST_SUFFIX = 9
# Many words take one ending for one reason: their number's root tells how much it weighs.
_DAMPING = 0.5
_RETRAIN_ROUNDS = (3, 10)


class FreeEndings:
    """Any string may be an ending; Morfessor cuts those in use into suffixes."""

    def __init__(self, names: Sequence[str], letters: Letters, last_round: int) -> None:
        self._names = names
        self._rounds = (*_RETRAIN_ROUNDS, last_round)
        # That there is an ending at all costs a nat.
        self._log_probabilities = np.array([letters.log_probability(name) - 1 for name in names])
        self._baseline: Baseline | None = None
        self._known: dict[str, tuple[list[str], float]] = {}

    def update(self, round_: int, weights: Float[np.ndarray, " E"]) -> None:
        """Cut the endings of a word or more anew, in three of the rounds."""
        if round_ not in self._rounds:
            return
        used = zip(self._names, weights.tolist(), strict=True)
        counts = {name: max(1, round(w**_DAMPING)) for name, w in used if name and w >= 1}
        self._baseline = Baseline(counts, weight=1.0, max_epochs=6) if counts else None
        self._known = {}
        self._log_probabilities = np.array([-self._cut(name)[1] for name in self._names])

    def log_probabilities(self) -> Float[np.ndarray, " E"]:
        """By Morfessor's cost, or by the letters before it was trained."""
        return self._log_probabilities

    def suffixes(self, ending: str) -> list[str]:
        """The suffixes of an ending."""
        return self._cut(ending)[0]

    def _cut(self, ending: str) -> tuple[list[str], float]:
        if not ending or self._baseline is None:
            return ([ending] if ending else []), 0.0
        if ending not in self._known:
            self._known[ending] = self._baseline.cut(ending)
        return self._known[ending]


class SuffixChain:
    """Suffixes that follow each other independently; `costs` are −log P of each.

    An ending is cut into the likeliest chain; what can't be cut is no ending.
    """

    def __init__(self, costs: Mapping[str, float]) -> None:
        self.costs = dict(costs)
        self._known: dict[str, tuple[tuple[str, ...], float]] = {"": ((), 0.0)}

    @classmethod
    def of_counts(cls, counts: Mapping[str, float]) -> SuffixChain:
        """With probabilities in proportion to the counts."""
        total = sum(counts.values())
        return cls({suffix: math.log(total / count) for suffix, count in sorted(counts.items())})

    def suffixes(self, ending: str) -> tuple[str, ...]:
        """The suffixes of an ending; none where it can't be cut."""
        return self._cut(ending)[0]

    def cost(self, ending: str) -> float:
        """−log P of an ending, infinite where it can't be cut."""
        return self._cut(ending)[1]

    def _cut(self, ending: str) -> tuple[tuple[str, ...], float]:
        """Viterbi over places; each ending is remembered."""
        if ending in self._known:
            return self._known[ending]
        size = len(ending)
        best = [0.0] + [math.inf] * size
        back = [0] * (size + 1)
        for end in range(1, size + 1):
            for start in range(max(0, end - LONGEST_SUFFIX), end):
                cost = best[start] + self.costs.get(ending[start:end], math.inf)
                if cost < best[end]:
                    best[end], back[end] = cost, start
        parts: list[str] = []
        place = size if best[size] < math.inf else 0
        while place:
            parts.append(ending[back[place] : place])
            place = back[place]
        self._known[ending] = tuple(reversed(parts)), best[size]
        return self._known[ending]


class ChainedEndings:
    """Endings from a fixed inventory of suffixes, whose probabilities follow their use."""

    def __init__(self, names: Sequence[str], chain: SuffixChain) -> None:
        self._names = names
        self.chain = chain
        self._log_probabilities = self._evaluate()

    def update(self, round_: int, weights: Float[np.ndarray, " E"]) -> None:
        """Count the suffixes anew in every third round."""
        if round_ % 3 != 2:
            return
        # No suffix of the inventory ever becomes impossible.
        counts = Counter(dict.fromkeys(self.chain.costs, 0.01))
        for name, weight in zip(self._names, weights.tolist(), strict=True):
            if weight > 0.01:
                for suffix in self.chain.suffixes(name):
                    counts[suffix] += weight**_DAMPING
        if counts:
            self.chain = SuffixChain.of_counts(counts)
            self._log_probabilities = self._evaluate()

    def log_probabilities(self) -> Float[np.ndarray, " E"]:
        """Of the likeliest chain of each ending."""
        return self._log_probabilities

    def _evaluate(self) -> Float[np.ndarray, " E"]:
        return np.array([-self.chain.cost(name) for name in self._names])
