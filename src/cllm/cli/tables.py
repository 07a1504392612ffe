"""Quiet tables: no boxes, dim heads, numbers to the right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.padding import Padding
from rich.table import Table
from rich.text import Text


def listing(
    columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, right: Iterable[str] = ()
) -> Padding:
    """A table of rows; the columns named in `right` hold numbers."""
    table = Table(box=None, header_style="label", padding=(0, 2, 0, 0), pad_edge=False)
    numbers = set(right)
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in numbers else "left",
            no_wrap=column in numbers,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*row)
    return Padding(table, (0, 0, 0, 2))


def facts(pairs: Iterable[tuple[str, str | Text]]) -> Padding:
    """A list of labelled values; pairs without a value are left out."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="label", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in pairs:
        if value not in ("", "–"):
            table.add_row(label, value)
    return Padding(table, (0, 0, 0, 2))


def remark(text: str | Text, style: str = "") -> Padding:
    """A line of its own in the margin that tables have; further lines stay in it."""
    shown = Text(text, style) if isinstance(text, str) else text
    return Padding(shown, (0, 0, 0, 2))


def heading(text: str) -> Text:
    """A heading with air above it."""
    return Text(f"\n{text}", "head")
