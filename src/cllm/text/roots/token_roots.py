"""Roots, affixes and primes of a vocabulary's tokens."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int32, Int64

from cllm.text.roots.primes import code_of
from cllm.text.roots.segmenter import Segmenter, Split


@dataclass(frozen=True, slots=True, eq=False)
class TokenRoots:
    """Facts by token id.

    `roots` [V] numbers each token's root from 0; what is no word has a root of its own.
    `affixes` [V, A_MAX] lists affixes from 1 on and is filled up with 0. `root_primes` [R] and
    `affix_primes` [A + 1] (the first is 1: no affix) are their primes, `root_names` and
    `affix_names` how they read. `words` is the word of each token, empty where it is none.
    """

    roots: Int32[np.ndarray, " V"]
    affixes: Int32[np.ndarray, "V A"]
    root_primes: Int64[np.ndarray, " R"]
    affix_primes: Int64[np.ndarray, " N"]
    root_names: tuple[str, ...]
    affix_names: tuple[str, ...]
    words: tuple[str, ...]
    segmenter: Segmenter

    def tokens_of(self, word: str) -> list[int]:
        """The ids of the tokens that spell a word (as `word_of` writes it)."""
        return [token for token, other in enumerate(self.words) if other == word]

    def code(self, token: int) -> tuple[int, ...]:
        """The prime factors of a token's code, in order."""
        affixes = self.affix_primes[self.affixes[token]]
        factors = [int(self.root_primes[self.roots[token]]), *affixes[affixes > 1].tolist()]
        return tuple(sorted(factors))

    def code_of_split(self, split: Split) -> tuple[int, ...]:
        """The code of any word; a root no token has gets the prime after all others."""
        root, numbers = self._numbers(split)
        return code_of(root, numbers, self.root_primes, self.affix_primes)

    def log_gcd(self, split: Split) -> Float64[np.ndarray, " V"]:
        """How near each token is to a word: log gcd of their codes, the shared primes' logarithms.

        Cost: V times the number of affixes; no number is multiplied out.
        """
        root, numbers = self._numbers(split)
        total = np.zeros(len(self.roots))
        if root is not None:
            total[self.roots == root] += math.log(self.root_primes[root])
        for number, times in Counter(numbers).items():
            shared = np.minimum(times, (self.affixes == number).sum(1))
            total += shared * math.log(self.affix_primes[number])
        return total

    def _numbers(self, split: Split) -> tuple[int | None, list[int]]:
        """The root's number, and those of the affixes that the vocabulary has."""
        # A word's root is found by its name among words: signs may read alike.
        tokens = [token for token, word in enumerate(self.words) if word]
        roots = {self.root_names[self.roots[token]]: int(self.roots[token]) for token in tokens}
        affixes = {name: number for number, name in enumerate(self.affix_names)}
        found = [affixes[affix] for affix in split.affixes if affix in affixes]
        return roots.get(split.root), found
