"""Make the basis of a lattice short: LLL for a matrix that a person gives as text."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from fractions import Fraction
from pathlib import Path

from cllm.errors import InputError


@dataclasses.dataclass(frozen=True, slots=True)
class Reduction:
    """A reduced basis and what it gained, with the squared length of the shortest row.

    A defect is log₂ of ∏‖bᵢ‖ over the volume: 0 for orthogonal rows, None for dependent ones.
    """

    basis: list[list[int | Fraction]]
    num_rows: int
    rank: int
    dimension: int
    delta: float
    squared_volume: int | Fraction
    squared_shortest_before: int | Fraction
    squared_shortest_after: int | Fraction
    defect_before_bits: float | None
    defect_after_bits: float


def read_file(name: str) -> str:
    """The text of a file, or of standard input for `-`. Raises: InputError."""
    try:
        # A byte-order mark, as some editors write it, is no part of the text.
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError("there is no such file", where=name) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the file can't be read: {error}", where=name) from error


def reduce_text(text: str, delta: float = 0.99) -> Reduction:
    """LLL of a matrix written as JSON, or as rows of numbers parted by spaces or commas.

    Raises: InputError naming the line that is no row of numbers.
    """
    from cllm.numbers.reduction import lll, squared_volume

    rows = read_matrix(text)
    reduced = [[_plain(value) for value in row] for row in lll(rows, delta)]
    volume = squared_volume(reduced)
    return Reduction(
        basis=reduced,
        num_rows=len(rows),
        rank=len(reduced),
        dimension=len(reduced[0]),
        delta=delta,
        squared_volume=_plain(volume),
        squared_shortest_before=_plain(min(filter(None, _squares(rows)))),
        squared_shortest_after=_plain(min(_squares(reduced))),
        defect_before_bits=_defect(rows, volume) if len(rows) == len(reduced) else None,
        defect_after_bits=_defect(reduced, volume),
    )


def read_matrix(text: str) -> list[list[int | Fraction]]:
    """Rows of integers and fractions (0.5, 1/3), from JSON or from lines. Raises: InputError."""
    if text.lstrip().startswith("["):
        try:
            # A decimal is read as it is written, not as the float near it.
            found = json.loads(text, parse_float=str)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"this is no JSON: {error}", hint="Such as [[1, 2], [3, 5]]."
            ) from error
        if not all(isinstance(row, list) for row in found):
            raise InputError("this JSON is no list of rows", hint="Such as [[1, 2], [3, 5]].")
        lines = list(enumerate(found, 1))
    else:
        words = [line.replace(",", " ").split() for line in text.splitlines()]
        lines = [(number, row) for number, row in enumerate(words, 1) if row and row[0][0] != "#"]
    if not lines:
        hint = "Give one vector a line, such as: 1 0 0 12345"
        raise InputError("there is no row of numbers", hint=hint)
    rows = [[_number(value, number) for value in row] for number, row in lines]
    for (number, _), row in zip(lines, rows, strict=True):
        if len(row) != len(rows[0]):
            message = f"{len(row)} numbers where the first row has {len(rows[0])}"
            raise InputError(message, where=f"row {number}")
    return rows


def _number(value: object, row: int) -> int | Fraction:
    try:
        if isinstance(value, str):
            return _plain(Fraction(value))
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    except (ValueError, ZeroDivisionError):
        pass
    raise InputError(
        f"{str(value)[:40]!r} is no number", where=f"row {row}", hint="Such as 17 or 1/3."
    )


def _plain(value: int | Fraction) -> int | Fraction:
    fraction = Fraction(value)
    return fraction.numerator if fraction.denominator == 1 else fraction


def _squares(rows: list[list[int | Fraction]]) -> list[Fraction]:
    return [sum((Fraction(value) ** 2 for value in row), Fraction(0)) for row in rows]


def _defect(rows: list[list[int | Fraction]], squared_volume: Fraction) -> float:
    return max(0.0, (sum(map(log2, _squares(rows))) - log2(squared_volume)) / 2)


def log2(value: int | Fraction) -> float:
    """The logarithm of a fraction of any size, where a float would overflow."""
    return math.log2(value.numerator) - math.log2(value.denominator)
