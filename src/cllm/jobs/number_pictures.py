"""Pictures of spirals and triples to hang on a wall: PNG files, light or dark, without axes."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cllm.errors import InputError
from cllm.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches and dots an inch: 2,000 × 2,300 dots, sharp at the size of a sheet of paper.
_WIDTH, _HEIGHT, _DPI = 8.0, 9.2, 250
_MARGIN = 0.6
_ART_POINTS = (_WIDTH - 2 * _MARGIN) * 72
# A face that matplotlib brings along, so that pictures look alike everywhere.
_FONT = "STIXGeneral"
MOST_POINTS = 4_000_000
MOST_DIAGONAL = 500_000


@dataclass(frozen=True, slots=True)
class Palette:
    """Paper, ink, what stays in the background, and a run of colours from quiet to loud."""

    paper: str
    ink: str
    quiet: str
    colours: tuple[str, ...]


LIGHT = Palette(
    paper="#f8f3e8",
    ink="#22273a",
    quiet="#ddd3bf",
    colours=("#9fb0b8", "#5d7f91", "#2c4f6b", "#7a3b3f", "#c0492f"),
)
DARK = Palette(
    paper="#0c1020",
    ink="#efe6d0",
    quiet="#252c46",
    colours=("#3a5a78", "#4f8fa3", "#8fc1a9", "#f0d38a", "#ffb454"),
)


def check_picture_path(path: Path) -> None:
    """Refuse, before any work, a path that no PNG can be written to. Raises: InputError."""
    if path.suffix.lower() != ".png":
        raise InputError("pictures are PNG files", where=path, hint="Let the name end in .png.")
    if path.is_dir():
        raise InputError("this is a folder", where=path, hint="Name a file in it.")


def save(path: Path, figure: Figure) -> None:
    """Write the figure as PNG: the whole file or none. Raises: StorageError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    write_atomic(path, buffer.getvalue())


def poster(palette: Palette, title: str, caption: str) -> tuple[Figure, Axes]:
    """A sheet with a square for the picture and two lines of type below it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=_DPI, facecolor=palette.paper)
    side_x, side_y = (_WIDTH - 2 * _MARGIN) / _WIDTH, (_WIDTH - 2 * _MARGIN) / _HEIGHT
    bottom = 1 - _MARGIN / _HEIGHT - side_y
    axes = figure.add_axes((_MARGIN / _WIDTH, bottom, side_x, side_y))
    axes.set_axis_off()
    axes.set_aspect("equal")
    type_: dict[str, Any] = {"fontfamily": _FONT, "color": palette.ink, "ha": "center"}
    spaced = "\u2009".join(title.upper())
    figure.text(0.5, 0.088, spaced, fontsize=19, va="center", **type_)
    figure.text(
        0.5, 0.049, caption, fontsize=11.5, va="center", style="italic", alpha=0.75, **type_
    )
    return figure, axes


def ramp(palette: Palette) -> Any:
    """The palette's run of colours as a colour map."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("palette", palette.colours)


def dot_area(spacing: float, share: float) -> float:
    """The area in points² of a dot that fills `share` of its place; `spacing` in widths."""
    return (spacing * share * _ART_POINTS) ** 2


def show_square(axes: Axes, half: float) -> None:
    """Let the picture reach from −half to half in both directions."""
    axes.set_xlim(-half, half)
    axes.set_ylim(-half, half)


def draw_ulam(path: Path, points: int, *, dark: bool = False) -> None:
    """The primes on Ulam's spiral; the more primes its diagonal has, the louder a dot.

    Raises: InputError, StorageError.
    """
    import numpy as np

    from cllm.numbers.primes import primes_up_to
    from cllm.numbers.spirals import diagonal_counts, ulam_points

    _check_points(points)
    palette = DARK if dark else LIGHT
    places = ulam_points(primes_up_to(points))
    radius = max(int(np.abs(places).max(initial=1)), 1)
    counts = diagonal_counts(radius)
    # On short diagonals at the corners a few primes are a large share: a prior evens them out.
    prior = len(places) / max(points, 1)
    shares = (counts[:, 2:] + 20 * prior) / (counts[:, 1:2] + 20)
    x, y = places.T
    richest = np.maximum(shares[y - x + 2 * radius, 0], shares[y + x + 2 * radius, 1])
    loudness = richest.argsort().argsort() / max(len(richest) - 1, 1)
    side = 2 * radius + 1
    caption = f"{len(places):,} primes among {points:,} numbers"
    figure, axes = poster(palette, "Ulam’s spiral", caption)
    order = loudness.argsort()
    axes.scatter(
        x[order],
        y[order],
        s=dot_area(1 / side, 0.95) * (0.45 + 0.55 * loudness[order] ** 2),
        c=loudness[order] ** 1.5,
        cmap=ramp(palette),
        linewidths=0,
    )
    show_square(axes, radius + 0.5)
    save(path, figure)


def draw_golden(path: Path, points: int, *, dark: bool = False) -> None:
    """All points of the golden spiral, the primes among them large and coloured by their arm.

    Raises: InputError, StorageError.
    """
    import numpy as np

    from cllm.numbers.spirals import golden_points, prime_mask

    _check_points(points)
    palette = DARK if dark else LIGHT
    places, is_prime = golden_points(points), prime_mask(points)
    numbers = np.arange(1, points + 1)
    arms = _arms(points)
    tones = (numbers * pow(_step(arms), -1, arms) % arms) / arms
    spacing = (np.pi / points) ** 0.5 / 2.06
    num_primes = int(is_prime.sum())
    caption = f"{num_primes:,} primes among {points:,} seeds, each a golden angle after the last"
    figure, axes = poster(palette, "Primes in the sunflower", caption)
    others = places[~is_prime]
    axes.scatter(
        others[:, 0], others[:, 1], s=dot_area(spacing, 0.32), c=palette.quiet, linewidths=0
    )
    axes.scatter(
        places[is_prime, 0],
        places[is_prime, 1],
        s=dot_area(spacing, 0.98),
        c=0.5 - 0.5 * np.cos(2 * np.pi * tones[is_prime]),
        cmap=ramp(palette),
        linewidths=0,
    )
    show_square(axes, 1.03)
    save(path, figure)


def draw_triples(path: Path, limit: int, *, dark: bool = False) -> None:
    """All primitive triples with diagonal up to `limit` as points, and the tablet's fifteen.

    A triple (a, b, c) stands at (±a, ±b) and (±b, ±a). Raises: InputError, StorageError.
    """
    import numpy as np

    from cllm.numbers.plimpton import primitive_triples, tablet_rows

    if not 5 <= limit <= MOST_DIAGONAL:
        hint = f"From 5 to {MOST_DIAGONAL:,}."
        raise InputError(f"triples up to {limit:,} are no picture to look at", hint=hint)
    palette = DARK if dark else LIGHT
    triples = primitive_triples(limit)
    corners = np.concatenate([triples[:, :2], triples[:, 1::-1]]) / limit
    signs = np.array([(1, 1), (1, -1), (-1, 1), (-1, -1)])
    places = (corners[None] * signs[:, None]).reshape(-1, 2)
    caption = f"{len(triples):,} primitive triples up to {limit:,}; the rays are Plimpton 322"
    figure, axes = poster(palette, "Pythagorean triples", caption)
    # The share of the shorter side: 1 on the diagonal, 0 on the axes.
    tone = np.abs(places).min(axis=1) / np.abs(places).max(axis=1)
    density = len(places) / 3.1416
    axes.scatter(
        places[:, 0],
        places[:, 1],
        s=min(max(dot_area(0.5 / density**0.5, 0.62), 0.35), 14),
        c=tone,
        cmap=ramp(palette),
        linewidths=0,
    )
    for row in tablet_rows():
        short, long = (float(part) for part in row.direction)
        ends = np.array([(short, long), (long, short)])
        for end in (ends[None] * signs[:, None]).reshape(-1, 2):
            axes.plot(*zip(end * 1.008, end * 1.05, strict=True), color=palette.ink, linewidth=0.7)
    show_square(axes, 1.06)
    save(path, figure)


def _check_points(points: int) -> None:
    if not 1 <= points <= MOST_POINTS:
        hint = f"From 1 to {MOST_POINTS:,}."
        raise InputError(f"a picture of {points:,} points can't be seen", hint=hint)


def _arms(points: int) -> int:
    """The Fibonacci number of the arms that the eye sees near the rim: about √(5·points)/1.6."""
    arms, following = 8, 13
    while following * following < 2 * points:
        arms, following = following, arms + following
    return arms


def _step(arms: int) -> int:
    """The Fibonacci number before `arms`: neighbouring arms differ by it."""
    before, last = 1, 1
    while last < arms:
        before, last = last, before + last
    return before
