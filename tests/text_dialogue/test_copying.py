"""The copying meter against hand-made cases and against the plain definition."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm.text.copying import compare_with_texts


def measure(sample, texts, **options):
    return compare_with_texts(sample, lambda: [text.encode() for text in texts], **options)


def by_definition(sample, texts, min_characters):
    """Every stretch of the sample looked for in every text."""
    count = len(sample)
    stretches = [
        (start, end)
        for start in range(count)
        for end in range(start + 1, count + 1)
        if any(sample[start:end] in text for text in texts)
    ]
    longest = max((end - start for start, end in stretches), default=0)
    covered = {
        place
        for start, end in stretches
        if end - start >= min_characters
        for place in range(start, end)
    }
    return longest, len(covered) / count if count else 0.0


def agrees(sample, texts, min_characters):
    found = measure(sample, texts, min_characters=min_characters)
    longest, share = by_definition(sample, texts, min_characters)
    assert found.longest_characters == len(found.longest) == longest
    assert found.share == pytest.approx(share)
    assert longest == 0 or any(found.longest in text for text in texts)
    assert found.longest in sample


def test_a_case_made_by_hand():
    text = "It was the best of times, it was the worst of times, it was the age of wisdom."
    sample = "He said: it was the worst of times, it was the age of reason."
    found = measure(sample, ["Nothing here.", text, "Nor here."], min_characters=40)
    copied = " it was the worst of times, it was the age of "
    assert found.longest == copied
    assert found.longest_characters == 46
    assert found.share == pytest.approx(46 / len(sample))
    assert found.min_characters == 40


def test_too_short_stretches_have_a_length_but_no_share():
    found = measure("the quick brown fox", ["a quick brown cat"])
    assert (found.longest, found.share) == (" quick brown ", 0.0)


def test_characters_are_counted_not_bytes():
    # The Cyrillic stretch has more bytes, the Latin one more characters.
    text = "…щущущущущу… and abcdefghijklmno."
    found = measure("щущущущущу, abcdefghijklmno!", [text], min_characters=12)
    assert found.longest == " abcdefghijklmno"
    assert found.share == pytest.approx(16 / 28)


def test_stretches_do_not_reach_across_texts():
    assert measure("abcdef", ["abc", "def"]).longest_characters == 3


def test_nothing_and_everything():
    assert measure("", ["abc"]).longest_characters == 0
    assert measure("", ["abc"]).share == 0.0
    assert measure("xyz", []).longest_characters == 0
    assert measure("xyz", ["abc", ""]).longest == ""
    whole = "a sentence of more than forty characters, it is" * 3
    assert measure(whole, [f"before {whole} after"]).share == 1.0


few_letters = st.text(alphabet="abдЖ🙂", max_size=60)


@settings(max_examples=300)
@given(few_letters, st.lists(few_letters, max_size=3), st.integers(1, 12))
def test_it_agrees_with_the_definition_on_short_texts(sample, texts, min_characters):
    agrees(sample, texts, min_characters)


@settings(max_examples=150)
@given(st.data(), st.sampled_from([12, 24, 40]))
def test_it_agrees_with_the_definition_on_pasted_stretches(data, min_characters):
    alphabet = st.text(alphabet="ab cé漢", min_size=150, max_size=300)
    text = data.draw(alphabet)
    pieces = []
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text) - 1))
        pieces.append(text[start : start + data.draw(st.integers(1, 60))])
        pieces.append(data.draw(st.text(alphabet="ab xé漢", max_size=4)))
    agrees("".join(pieces), [text], min_characters)


@pytest.mark.parametrize("length", [11, 12, 23, 24, 39, 40, 41, 60, 700])
def test_a_stretch_is_found_at_every_place(length):
    """At each phase of the screen, at both ends, and where blocks are cut."""
    rng = np.random.default_rng(0)
    text = bytes(rng.integers(97, 123, 1 << 21, dtype=np.uint8)).decode()
    places = [0, 1, 7, len(text) - length, (1 << 20) - length // 2, (1 << 20) - 1, 1 << 20]
    for place in [*places, *range(5000, 5030)]:
        sample = f"0{text[place : place + length]}1"
        assert measure(sample, [text]).longest_characters == length


def test_repetitive_text_takes_no_longer():
    text = ("-" * 79 + "\n" + " " * 40 + "x\n") * 20_000
    start = time.perf_counter()
    found = measure(text[: 1 << 17] + "!", [text])
    assert found.longest_characters == 1 << 17
    assert time.perf_counter() - start < 20
