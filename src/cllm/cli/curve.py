"""A curve drawn in the terminal with braille dots: two by four dots in each character."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.text import Text

# The bit of each dot in a braille character, by row and column (Unicode, block 2800).
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BRAILLE = 0x2800


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one line, from left to right, with the style and label it is drawn in."""

    label: str
    points: Sequence[tuple[float, float]]
    style: str


def draw_curve(series: Sequence[Series], *, width: int, height: int, unit: str = "") -> list[Text]:
    """Lines of text that plot positive values on a logarithmic scale; [] without two points.

    `width` and `height` count characters, axis and labels included; at least 24 by 5.
    """
    shown = [line for line in map(_finite, series) if len(line.points) > 1]
    if not shown:
        return []
    xs = [x for line in shown for x, _ in line.points]
    ys = [y for line in shown for _, y in line.points]
    low, high = min(ys), max(ys)
    labels = [_tick(high), _tick(math.sqrt(low * high)), _tick(low)]
    margin = max(map(len, labels)) + 1
    columns, rows = max(width - margin - 1, 16), max(height - 2, 3)
    canvas = _Canvas(columns, rows)
    scale = _Scale(min(xs), max(xs), low, high, columns * 2 - 1, rows * 4 - 1)
    for line in shown:
        dots = [scale(x, y) for x, y in line.points]
        for start, end in pairwise(dots):
            canvas.line(start, end, line.style)
    named = {0: labels[0], rows // 2: labels[1], rows - 1: labels[2]}
    drawn = []
    for row in range(rows):
        text = Text(named.get(row, "").rjust(margin - 1) + " ", "label")
        text.append("┤" if row in named else "│", "label")
        drawn.append(text.append(canvas.row(row)))
    axis = Text(" " * margin + "└" + "─" * columns, "label")
    return [*drawn, axis, _legend(shown, margin, columns, min(xs), max(xs), unit)]


def _finite(line: Series) -> Series:
    points = [(x, y) for x, y in line.points if math.isfinite(y) and y > 0]
    return Series(line.label, points, line.style)


def _tick(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _legend(
    series: Sequence[Series], margin: int, columns: int, first: float, last: float, unit: str
) -> Text:
    names = Text()
    for line in series:
        names.append("  ━ ", line.style).append(line.label, "label")
    if len(unit) + 2 < columns - names.cell_len - 20:
        names.append(f"  {unit}", "label")
    left, right = f"{first:,.0f}", f"{last:,.0f} steps"
    gap = columns - len(left) - len(right) - names.cell_len
    legend = Text(" " * (margin + 1) + left, "label")
    legend.append(names if gap > 0 else "")
    return legend.append(" " * max(gap, 1)).append(right, "label")


@dataclass(frozen=True, slots=True)
class _Scale:
    first: float
    last: float
    low: float
    high: float
    right: int
    bottom: int

    def __call__(self, x: float, y: float) -> tuple[int, int]:
        across = (x - self.first) / (self.last - self.first or 1.0)
        down = math.log(self.high / y) / (math.log(self.high / self.low) or 1.0)
        return round(across * self.right), round(down * self.bottom)


class _Canvas:
    def __init__(self, columns: int, rows: int) -> None:
        self._bits = [[0] * columns for _ in range(rows)]
        self._styles = [[""] * columns for _ in range(rows)]

    def line(self, start: tuple[int, int], end: tuple[int, int], style: str) -> None:
        """Set every dot between two dots; a later line colours a shared character."""
        across, down = end[0] - start[0], end[1] - start[1]
        steps = max(abs(across), abs(down), 1)
        for step in range(steps + 1):
            x = start[0] + round(across * step / steps)
            y = start[1] + round(down * step / steps)
            self._bits[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
            self._styles[y // 4][x // 2] = style

    def row(self, number: int) -> Text:
        text = Text()
        for bits, style in zip(self._bits[number], self._styles[number], strict=True):
            text.append(chr(_BRAILLE + bits) if bits else " ", style)
        return text
