"""What a caller's number must be, and whether its result fits into memory."""

from __future__ import annotations

import operator
from typing import SupportsIndex

import psutil

from cllm.errors import InputError


def whole_number(
    value: SupportsIndex, name: str, least: int | None = None, most: int | None = None
) -> int:
    """`value` as a Python integer of any size.

    Raises: InputError where it is no integer (a float, a text, a truth value), is below `least`
    or above `most`; `name` is the argument that it was given for.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise InputError(f"{value!r} is no whole number", where=name, hint="Give an integer.")
    number = operator.index(value)
    if least is not None and number < least:
        raise InputError(f"{short_text(number)} is less than {least}", where=name)
    if most is not None and number > most:
        raise InputError(f"{short_text(number)} is more than can be reached, {most:,}", where=name)
    return number


def require_memory(num_bytes: int, what: str) -> None:
    """Refuse what would not fit into the memory that is free now, before any work is done.

    Raises: InputError with the bytes that are needed and that there are.
    """
    free_bytes = int(psutil.virtual_memory().available)
    if num_bytes > free_bytes:
        raise InputError(
            f"{what} would need {short_text(num_bytes)} bytes of memory; {free_bytes:,} are free",
            hint="Ask for less, or use a machine with more memory.",
        )


def short_text(number: int) -> str:
    """`number` with its thousands apart, or its size in bits where that fills more than a line."""
    # Python refuses to print integers of more than 4,300 digits.
    return f"{number:,}" if abs(number) < 10**60 else f"a number of {number.bit_length():,} bits"
