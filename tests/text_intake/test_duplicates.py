"""Duplicates: exact ones, near ones against the true Jaccard similarity, and unlike texts."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm.config import TextSettings
from cllm.text.duplicates import DuplicateFilter, fingerprint

RANDOM = random.Random(7)
WORDS = [
    "".join(RANDOM.choices(string.ascii_lowercase, k=RANDOM.randint(2, 9))) for _ in range(4000)
]


def _text(num_words: int, seed: int) -> list[str]:
    return random.Random(seed).choices(WORDS, k=num_words)


def _variant(words: list[str], share: float, seed: int) -> list[str]:
    """The same words with one stretch of them replaced."""
    length = int(share * len(words))
    start = random.Random(seed).randrange(len(words) - length)
    return words[:start] + _text(length, seed + 1) + words[start + length :]


def _jaccard(one: str, two: str) -> float:
    shingles = [{text[at : at + 16] for at in range(len(text) - 15)} for text in (one, two)]
    return len(shingles[0] & shingles[1]) / len(shingles[0] | shingles[1])


@pytest.mark.parametrize("num_words", [120, 800, 10_000, 30_000])
def test_near_copies_are_found_and_others_are_not(num_words: int) -> None:
    found = {True: 0, False: 0}
    rounds = 12 if num_words < 5000 else 3
    for seed in range(rounds):
        words = _text(num_words, 100 * seed)
        for share in (0.02, 0.4):
            original, variant = " ".join(words), " ".join(_variant(words, share, 100 * seed + 7))
            is_near = _jaccard(original, variant) >= 0.8
            assert is_near == (share == 0.02)
            duplicates = DuplicateFilter(TextSettings())
            assert duplicates.seen(fingerprint(original)) is None
            found[is_near] += duplicates.seen(fingerprint(variant)) == "near"
    assert found[True] >= rounds - 1
    assert found[False] == 0


def test_the_threshold_is_the_persons() -> None:
    words = _text(2000, 1)
    original, variant = " ".join(words), " ".join(_variant(words, 0.3, 2))
    assert 0.45 < _jaccard(original, variant) < 0.65
    for threshold, expected in ((0.3, "near"), (0.9, None)):
        duplicates = DuplicateFilter(TextSettings(near_threshold=threshold))
        duplicates.seen(fingerprint(original))
        assert duplicates.seen(fingerprint(variant)) == expected


def test_exact_copies_and_what_is_switched_off() -> None:
    text = " ".join(_text(300, 3))
    both = DuplicateFilter(TextSettings())
    assert [both.seen(fingerprint(copy)) for copy in (text, text, text + "\n")] == [
        None,
        "exact",
        "exact",
    ]
    near = DuplicateFilter(TextSettings(exact_duplicates=False))
    assert [near.seen(fingerprint(text)) for _ in range(2)] == [None, "near"]
    neither = DuplicateFilter(TextSettings(exact_duplicates=False, near_duplicates=False))
    assert [neither.seen(fingerprint(text)) for _ in range(2)] == [None, None]


def test_short_texts_are_compared_exactly() -> None:
    duplicates = DuplicateFilter(TextSettings())
    lines = ["Hello, how are you?", "Hello, how are you!", "Hello, how are you?"]
    assert [duplicates.seen(fingerprint(line)) for line in lines] == [None, None, "exact"]


@given(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=400), st.sampled_from([1, 2, 40])
)
def test_any_text_has_a_fingerprint_that_depends_on_it_alone(text: str, times: int) -> None:
    one, two = fingerprint(text * times), fingerprint("".join([text] * times))
    assert one == two
    assert len(one.sketch) <= 256


def test_repetitive_texts_and_many_documents() -> None:
    duplicates = DuplicateFilter(TextSettings())
    verse, other = (" ".join(_text(80, seed)) + "\n" for seed in (1, 2))
    assert duplicates.seen(fingerprint(verse * 2000)) is None
    assert duplicates.seen(fingerprint(verse * 2001)) == "near"
    assert duplicates.seen(fingerprint(other * 2000)) is None
    assert duplicates.seen(fingerprint("ha " * 100_000)) is None
    assert duplicates.seen(fingerprint("ha " * 100_001)) is None
    assert duplicates.seen(fingerprint("ha " * 100_001)) == "exact"
    for seed in range(1500):
        assert duplicates.seen(fingerprint(" ".join(_text(60, 10_000 + seed)))) is None


def test_many_hashes_are_remembered_across_runs() -> None:
    duplicates = DuplicateFilter(TextSettings(near_duplicates=False))
    prints = [fingerprint(f"document {number}") for number in range(70_000)]
    assert all(duplicates.seen(one) is None for one in prints)
    assert all(duplicates.seen(one) == "exact" for one in prints[::997])
