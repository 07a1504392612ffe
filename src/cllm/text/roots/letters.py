"""How likely a string of letters is by itself, and how many words begin and end with it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

# A stem of fewer letters is a chance beginning more often than a stem.
_USUAL_STEM = 4


class Letters:
    """Independent letters with the frequencies of a word list.

    `frequency` [letter] are natural logarithms; a letter never met counts as seen half a time.
    """

    def __init__(self, frequency: Mapping[str, float]) -> None:
        self.frequency = dict(frequency)
        self._unseen = min(self.frequency.values(), default=0.0) - math.log(2)

    @classmethod
    def of_words(cls, words: Sequence[str]) -> Letters:
        """The letters of a word list, each word counted once."""
        counts = Counter(char for word in words for char in word)
        total = sum(counts.values())
        return cls({char: math.log(count / total) for char, count in sorted(counts.items())})

    def log_probability(self, text: str) -> float:
        """Natural logarithm of the probability of a string of this length."""
        return math.fsum(self.frequency.get(char, self._unseen) for char in text)

    def stem(self, text: str) -> float:
        """The same for a stem: two letters are half as believable as three, and so on down."""
        return self.log_probability(text) - max(0, _USUAL_STEM - len(text)) ** 2


def count_beginnings(words: Sequence[str]) -> Counter[str]:
    """How many words begin with each string, the word itself included."""
    return Counter(word[:end] for word in words for end in range(1, len(word) + 1))


def count_endings(words: Sequence[str]) -> Counter[str]:
    """How many words end in each string shorter than the word."""
    return Counter(word[start:] for word in words for start in range(1, len(word)))
