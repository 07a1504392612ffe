"""The whole-array splitter gives what the pattern gives in the tokenizers library."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from cllm.text.tokenizers.piece_table import PieceTable
from cllm.text.tokenizers.pieces import END, PATTERNS, CharacterClasses, piece_starts

CLASSES = {pattern: CharacterClasses(pattern) for pattern in PATTERNS}
REFERENCE = {
    pattern: pre_tokenizers.Split(Regex(regex), "isolated") for pattern, regex in PATTERNS.items()
}
# Characters that the patterns treat apart: blanks, line ends, apostrophes and what follows
# them, signs, digits of two scripts, letters with and without case, marks, separators.
AWKWARD = [
    *" \n\r\t'sSlLeErRvVdDmMtT!-1a_",
    "٣", "é", "\u0301", "中", "\u00a0", "\u2028", "\x85", "\x1c", "\0", "ſ", "😀", "\u200d",
]  # fmt: skip
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
AWKWARD_TEXT = st.text(st.sampled_from(AWKWARD), max_size=24)


def cut(pattern, texts):
    """The pieces of several texts that are cut in one go."""
    points = np.array([ord(c) for text in texts for c in text + "\0"], np.uint32)
    ends = np.cumsum([len(text) + 1 for text in texts]) - 1
    classes = CLASSES[pattern].of_points(points)
    classes[ends] = END
    starts = piece_starts(pattern, classes, points)
    text = "".join(text + "\0" for text in texts)
    found, rest = [], set(ends.tolist())
    current: list[str] = []
    for first, last in itertools.pairwise([*starts.tolist(), len(text)]):
        if first in rest:
            found.append(current)
            current = []
        else:
            current.append(text[first:last])
    return found


@pytest.mark.parametrize("pattern", list(PATTERNS))
@given(st.lists(st.one_of(AWKWARD_TEXT, ANY_TEXT), min_size=1, max_size=4))
@example(["'s", "'ll ", "'", "s"])
@example(["a!\n\n  b", "\n \n\t", " "])
def test_pieces_are_those_of_the_pattern(pattern, texts):
    expected = [[piece for piece, _ in REFERENCE[pattern].pre_tokenize_str(t)] for t in texts]
    assert cut(pattern, texts) == expected


@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_every_short_text_of_the_awkward_ascii_characters(pattern):
    texts = ["".join(c) for n in (1, 2, 3) for c in itertools.product(" \n\t'sle!1", repeat=n)]
    expected = [[piece for piece, _ in REFERENCE[pattern].pre_tokenize_str(t)] for t in texts]
    assert cut(pattern, texts) == expected


@pytest.mark.long
@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_every_character_has_the_class_of_the_library(pattern):
    every = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    for first in range(0, len(every), 50_000):
        text = " a".join(every[first : first + 50_000])
        expected = [piece for piece, _ in REFERENCE[pattern].pre_tokenize_str(text)]
        assert cut(pattern, [text]) == [expected]


@given(st.lists(ANY_TEXT, min_size=1, max_size=5), st.sampled_from(list(PATTERNS)))
def test_the_table_numbers_equal_pieces_alike(texts, pattern):
    table = PieceTable(pattern)
    for _ in range(2):
        encoded = [text.encode() for text in texts]
        data = b"\0".join([*encoded, b""])
        ends = np.cumsum([len(text) + 1 for text in encoded]) - 1
        numbers = table.number(data, ends).tolist()
        assert b"".join(table.pieces[n] if n else b"\0" for n in numbers) == data
        assert numbers.count(0) == len(texts)
    assert len(set(table.pieces)) == len(table.pieces)


def test_the_table_holds_many_pieces_of_every_length():
    words = [f"{n:x}".translate(str.maketrans("0123456789", "ghijklmnop")) for n in range(30_000)]
    words += ["a" * n for n in range(1, 40)]
    table = PieceTable("byte-level")
    data = " ".join(words).encode() + b"\0"
    first = table.number(data, np.array([len(data) - 1]))
    again = table.number(data, np.array([len(data) - 1]))
    assert (first == again).all()
    assert b"".join(table.pieces[n] for n in first.tolist()) + b"\0" == data
