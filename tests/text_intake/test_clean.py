"""Cleaning: invariants over all of Unicode, and the cases written out by hand."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cllm.text.clean import clean_text, is_surely_clean

# Every code point, lone surrogates too, as a JSON escape can spell one.
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)
TRICKY = st.text(
    st.sampled_from(
        "a e\u0301\u0308\u212b\u1100\u1161\u11a8\uac00\u0374\ufeff\r\n\x85"
        "\x00\x7f\U0001d15e\ud800\udc00q\u0323\u0307"
    ),
    max_size=12,
)


@given(ANY_TEXT | TRICKY)
@example("e\x00\u0301")
@example("\ud83d\x00\ude00")
def test_cleaning_twice_is_cleaning_once(raw: str) -> None:
    once = clean_text(raw)
    assert clean_text(once) == once


@given(ANY_TEXT | TRICKY)
def test_result_is_nfc_encodable_and_without_controls(raw: str) -> None:
    text = clean_text(raw)
    assert unicodedata.is_normalized("NFC", text)
    assert "\ufeff" not in text
    text.encode("utf-8")
    assert all(unicodedata.category(letter) != "Cc" or letter in "\n\t" for letter in text)


@given(ANY_TEXT | TRICKY)
def test_the_quick_look_never_passes_what_cleaning_would_change(raw: str) -> None:
    if "\r" not in raw and is_surely_clean(raw):
        assert unicodedata.normalize("NFC", raw) == raw
        assert clean_text(raw) == raw


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=60))
def test_cleaning_of_text_without_controls_is_nfc_without_marks(raw: str) -> None:
    assert clean_text(raw) == unicodedata.normalize("NFC", raw.replace("\ufeff", ""))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("a\r\nb\rc\nd", "a\nb\nc\nd"),
        ("\ufeffab", "ab"),
        ("a\x00b\x07c\td", "abc\td"),
        ("caf\u0065\u0301", "café"),
        ("\u212b", "Å"),
        ("\u1112\u1161\u11ab", "한"),
        ("x\x85y\x9fz é", "xyz é"),
        ("\ud83d\ude00", "😀"),
        ("\ud800!", "\ufffd!"),
        ("“plain” — already clean…", "“plain” — already clean…"),
        ("", ""),
    ],
)
def test_cases_by_hand(raw: str, expected: str) -> None:
    assert clean_text(raw) == expected
