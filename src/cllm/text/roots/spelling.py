"""What counts as a word: letters alone, small, without the blank before it."""

from __future__ import annotations

import unicodedata


def word_of(token: str) -> str | None:
    """The word that a token spells, case folded; None where it spells none.

    One leading blank is dropped; digits, signs and blanks inside make it no word.
    """
    folded = unicodedata.normalize("NFC", token.removeprefix(" ")).casefold()
    # Folding turns the Turkish İ into i and a dot above.
    word = unicodedata.normalize("NFC", folded).replace("i\N{COMBINING DOT ABOVE}", "i")
    kinds = [unicodedata.category(char)[0] for char in word]
    return word if "L" in kinds and set(kinds) <= {"L", "M"} else None
