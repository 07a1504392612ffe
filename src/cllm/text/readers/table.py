"""CSV and TSV: one document a row, the text in a column."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator

from cllm.config import TextSettings
from cllm.text.content import Content
from cllm.text.document import SkipFile
from cllm.text.encodings import find_encoding
from cllm.text.lines import MAX_LINE_BYTES, text_lines
from cllm.text.readers.raw import BadRecords, RawText

_DELIMITERS = (",", "\t", ";", "|")
_SNIFF_LINES = 50
_OTHER_COLUMNS = ("content", "body")
_DEFAULT_COLUMN = TextSettings.model_fields["field"].default


def read(content: Content, settings: TextSettings) -> Iterator[RawText | BadRecords]:
    """Yield the text of each row, then one note about the rows that have none.

    Raises: SkipFile when the column is missing; it names the columns there are.
    """
    encoding = find_encoding(content, settings.encoding)
    csv.field_size_limit(MAX_LINE_BYTES)
    bad: Counter[str] = Counter()
    sample = _first_lines(text_lines(content, encoding))
    delimiter = sniff_delimiter(sample, content.name)
    lines = (line + "\n" for line in text_lines(content, encoding) if line is not None)
    rows = csv.reader(lines, delimiter=delimiter)
    column = find_column(_next_row(rows) or [], settings.field)
    num_good, number = 0, 0
    while (row := _next_row(rows)) is not None:
        if row == []:
            continue
        number += 1
        if row == _BROKEN:
            bad["malformed"] += 1
        elif len(row) <= column:
            bad["too short"] += 1
        elif not row[column].strip():
            bad["empty"] += 1
        else:
            num_good += 1
            yield RawText.of(row[column].removesuffix("\n"), f"#{number}")
    if not num_good:
        raise SkipFile(f"no row has text in column {settings.field!r}", "csv")
    if bad.total():
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in bad.most_common())
        yield BadRecords(f"{bad.total():,} of {number:,} rows left out: {reasons}")


_BROKEN = ["\0broken"]


def _next_row(rows: Iterator[list[str]]) -> list[str] | None:
    try:
        return next(rows, None)
    except csv.Error:
        return _BROKEN


def _first_lines(lines: Iterator[str | None]) -> list[str]:
    return [line + "\n" for _, line in zip(range(_SNIFF_LINES), lines, strict=False) if line]


def sniff_delimiter(sample: list[str], name: str = "") -> str:
    """The delimiter that cuts the first rows into the most columns, evenly."""
    if name.lower().endswith((".tsv", ".tab")) and any("\t" in line for line in sample):
        return "\t"
    best, best_score = ",", 0.0
    for delimiter in _DELIMITERS:
        try:
            widths = [len(row) for row in csv.reader(sample, delimiter=delimiter) if row]
        except csv.Error:
            continue
        if not widths or widths[0] < 2:
            continue
        # The header decides the number of columns; the share of rows that agree, the rest.
        score = sum(width == widths[0] for width in widths) / len(widths) + widths[0] / 1000
        if score > best_score:
            best, best_score = delimiter, score
    return best


def find_column(header: list[str], wanted: str) -> int:
    """Index of the column `wanted`. Raises: SkipFile naming the columns there are."""
    names = [name.strip() for name in header]
    folded = [name.casefold() for name in names]
    others = _OTHER_COLUMNS if wanted == _DEFAULT_COLUMN else ()
    for name in (wanted, *others):
        if name in names:
            return names.index(name)
        if name.casefold() in folded:
            return folded.index(name.casefold())
    there = ", ".join(repr(name[:40]) for name in names[:20])
    raise SkipFile(f"no column {wanted!r}; columns: {there}. Choose one with --text.field", "csv")
