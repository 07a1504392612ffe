"""The curve in the terminal: inside its box, falling where the values fall."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from cllm.cli.curve import Series, draw_curve

_values = st.floats(0.01, 1e4)
_lines = st.lists(st.tuples(st.integers(0, 10_000), _values), min_size=2, max_size=50)


def _drawn(points: list[tuple[float, float]], width: int = 60, height: int = 10) -> list[str]:
    return [
        line.plain for line in draw_curve([Series("a", points, "")], width=width, height=height)
    ]


@given(_lines, st.integers(40, 120), st.integers(6, 20))
def test_the_drawing_stays_inside_its_box(
    points: list[tuple[int, float]], width: int, height: int
) -> None:
    lines = _drawn([(float(x), y) for x, y in sorted(points)], width, height)
    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= width


def _first_dot_row(lines: list[str], column: int) -> int:
    return next(
        row for row, line in enumerate(lines) if column < len(line) and line[column] > "\u2800"
    )


def test_a_halving_value_falls_in_a_straight_line() -> None:
    lines = _drawn([(float(step), 8.0 * 0.5**step) for step in range(9)], width=60, height=18)
    left = lines[0].index("┤") + 1
    plot = lines[:-2]
    rows = [_first_dot_row(plot, left + offset) for offset in (0, 26, 50)]
    assert rows[0] == 0
    assert rows[-1] >= len(plot) - 2
    assert abs(rows[1] - len(plot) / 2) <= 1.5


def test_the_axis_names_the_range() -> None:
    text = "\n".join(_drawn([(0.0, 9.0), (500.0, 1.0)]))
    assert "9.00" in text
    assert "1.00" in text
    assert "3.00" in text  # the geometric middle of 1 and 9
    assert "500 steps" in text


def test_too_few_or_unusable_points_draw_nothing() -> None:
    assert _drawn([]) == []
    assert _drawn([(0.0, 1.0)]) == []
    assert _drawn([(0.0, math.nan), (1.0, math.inf), (2.0, 0.0), (3.0, 1.0)]) == []


def test_a_flat_line_is_drawn() -> None:
    assert len(_drawn([(0.0, 2.0), (1.0, 2.0)])) > 3
