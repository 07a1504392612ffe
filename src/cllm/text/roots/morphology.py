"""The morphology of a word list: each word's root and affixes, and its code of primes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cllm.errors import InputError
from cllm.text.roots.learning import learn_segmenter, ranked_words
from cllm.text.roots.primes import Primes, code_of, number_parts, shared_factors
from cllm.text.roots.segmenter import Segmenter, Split
from cllm.text.roots.spelling import word_of


@dataclass(frozen=True, slots=True, eq=False)
class Morphology:
    """Roots, affixes and primes of a word list.

    A word's code is p · ∏ q, p the prime of its root and q those of its affixes. It is kept
    as its prime factors, never multiplied out. Two codes have a common divisor above 1
    exactly where the words share a root or an affix.
    """

    segmenter: Segmenter
    primes: Primes[str]

    @property
    def roots(self) -> list[str]:
        """The roots; their primes are `primes.of_roots`."""
        return list(self.primes.roots)

    @property
    def affixes(self) -> list[str]:
        """The affixes (`un-`, `-ing`), the commonest first; numbers begin at 1."""
        return list(self.primes.affixes)

    def split(self, word: str) -> Split:
        """Prefixes, root and suffixes of a word, known or not. Raises: InputError."""
        return self.segmenter.split(_required(word))

    def code(self, word: str) -> tuple[int, ...]:
        """The prime factors of a word's code, in order.

        A root that no word of the list has gets the prime after all others.
        Raises: InputError when it is no word.
        """
        split = self.split(word)
        root, affixes = self.primes.roots.get(split.root), self.primes.affixes
        known = [affixes[affix] for affix in split.affixes if affix in affixes]
        return code_of(root, known, self.primes.of_roots, self.primes.of_affixes)

    def related(self, word: str, other: str) -> tuple[int, ...]:
        """The primes that two words share; none where they are coprime. Raises: InputError."""
        return shared_factors(self.code(word), self.code(other))


def learn_morphology(counts: Mapping[str, int]) -> Morphology:
    """Learn the morphology of a word list with counts; of these only the order matters.

    Raises: InputError when the list holds no words. Cost: that of `learn_segmenter`.
    """
    segmenter = learn_segmenter(counts)
    splits = [segmenter.split(word) for word in ranked_words(counts)]
    return Morphology(segmenter, number_parts((split.root, split.affixes) for split in splits))


def _required(text: str) -> str:
    word = word_of(text)
    if word is None:
        raise InputError(f"{text!r} is not one word", hint="Give a single word made of letters.")
    return word
