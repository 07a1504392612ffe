"""Whole numbers as people type them: 1_000_000, 1,000,000, 1e12, 10**12, 2^61 − 1."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated

from cyclopts import Parameter

from cllm.errors import InputError

# Enough for every command; Python itself refuses to read more than 4,300 digits.
_MOST_DIGITS = 4000
_TERM = re.compile(r"(\d+)(?:(?:\*\*|\^)(\d+)|(?:\.(\d+))?e\+?(\d+))?", re.ASCII | re.IGNORECASE)

WholeNumber = Annotated[
    str,
    Parameter(
        allow_leading_hyphen=True, help="A whole number: 97, 1_000_000, 1e12, 10**12, 2^61-1."
    ),
]


def parse_whole(text: str, name: str) -> int:
    """The number that `text` stands for: sums and differences of digits, powers and 1e12.

    Raises: InputError for anything else, or for more than 4,000 digits.
    """
    plain = re.sub(r"[\s_,]", "", text).replace("−", "-")
    parts = re.split(r"(?<=[\d])([+-])(?=\d)", _hide_exponent_signs(plain))
    total, sign = 0, 1
    for place, part in enumerate(parts):
        if place % 2:
            sign = -1 if part == "-" else 1
        else:
            total += sign * _read_term(part, text, name)
    return total


def _hide_exponent_signs(text: str) -> str:
    # The plus of 1e+12 joins no two numbers.
    return re.sub(r"(?<=\d)e\+(?=\d)", "e", text, flags=re.IGNORECASE)


def _read_term(term: str, text: str, name: str) -> int:
    sign, digits = (-1, term[1:]) if term.startswith("-") else (1, term)
    match = _TERM.fullmatch(digits)
    if match is None:
        hint = "Write it as 97, 1_000_000, 1e12, 10**12 or 2^61-1."
        raise InputError(f"{_shorten(text)!r} is no whole number", where=name, hint=hint)
    base, power, places, exponent = match.groups()
    raised = power or exponent or "1"
    is_too_long = len(base) > _MOST_DIGITS or len(raised) > 5
    if is_too_long or len(base) * (1 if exponent else int(raised)) > _MOST_DIGITS:
        raise _too_long(text, name)
    if exponent is None:
        whole: int = int(base) ** int(raised)
        return sign * whole
    shift = int(exponent) - len(places or "")
    if shift > _MOST_DIGITS:
        raise _too_long(text, name)
    value = Fraction(int(base + (places or ""))) * Fraction(10) ** shift
    if value.denominator != 1:
        raise InputError(f"{_shorten(text)!r} is not whole", where=name)
    return sign * value.numerator


def _too_long(text: str, name: str) -> InputError:
    hint = f"Numbers may have up to {_MOST_DIGITS:,} digits."
    return InputError(f"{_shorten(text)!r} is too long", where=name, hint=hint)


def _shorten(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}…"
