"""Pictures of a study, readable on a light page and on a dark one."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cllm.files import write_atomic
from cllm.study.results import Row

# Middle tones on no background.
_TEXT, _ARM, _PLACEBO, _PLAIN = "#808080", "#3d85c6", "#e08e2b", "#808080"
_COLOURS = {"plain": _PLAIN, "arm": _ARM, "placebo": _PLACEBO}
_NAMES = {"plain": "plain", "arm": "with", "placebo": "placebo"}

Interval = tuple[float | None, float | None, float | None]


def plot_gains(
    path: Path, bars: Sequence[tuple[str, Interval, Interval]], *, margin: float | None
) -> None:
    """Write `path`.svg and .png: for each arm (mean, low, high) of its gain and its placebo's.

    The band of ± `margin` is what chance reaches.
    """
    figure = _figure(7.5, 1.2 + 0.34 * len(bars))
    axes = figure.add_subplot()
    floor = _floor(bars)
    for place, (_, arm, placebo) in enumerate(reversed(bars)):
        _draw(axes, arm, place + 0.13, _ARM, floor, filled=True)
        _draw(axes, placebo, place - 0.13, _PLACEBO, floor, filled=False)
    if margin is not None:
        axes.axvspan(-margin, margin, color=_TEXT, alpha=0.15, linewidth=0)
    axes.axvline(0, color=_TEXT, linewidth=1)
    axes.set_yticks(range(len(bars)), [name for name, _, _ in reversed(bars)])
    axes.set_ylim(-0.7, len(bars) - 0.3)
    axes.set_xlabel("gain over the plain model, % fewer bits per byte")
    for label, colour, face in (("mechanism", _ARM, _ARM), ("placebo", _PLACEBO, "none")):
        axes.plot([], [], "o", color=colour, markerfacecolor=face, label=label)
    axes.legend(frameon=False, labelcolor=_TEXT, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    _finish(axes)
    _write(path, figure)


def _floor(bars: Sequence[tuple[str, Interval, Interval]]) -> float:
    """Losses beyond it are shown at it as arrows, so that the gains can be told apart."""
    means = [interval[0] for _, *pair in bars for interval in pair if interval[0] is not None]
    return -max(5.0, 2 * max(means, default=0.0))


def _draw(
    axes: Any, interval: Interval, place: float, colour: str, floor: float, *, filled: bool
) -> None:
    mean, low, high = interval
    if mean is None:
        return
    if mean < floor:
        axes.plot([floor], [place], "<", color=colour, markerfacecolor=colour, markersize=6)
        return
    if low is not None and high is not None:
        axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
    face = colour if filled else "none"
    axes.plot([mean], [place], "o", color=colour, markerfacecolor=face, markersize=6)


def plot_curves(path: Path, rows: Sequence[Row]) -> None:
    """Write `path`.svg and .png: held-out bits per byte along each run, a panel a comparison."""
    panels = sorted({(row["budget"], row["text"]) for row in rows}, reverse=True)
    figure = _figure(4.2 * max(1, len(panels)), 3.6)
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1)
        by_time, seen = panel[0] == "time", set()
        for row in rows:
            if (row["budget"], row["text"]) != panel or not row.get("curve"):
                continue
            points = [(point[1] if by_time else point[0], point[2]) for point in row["curve"]]
            role = row["role"]
            label = None if role in seen else _NAMES[role]
            seen.add(role)
            axes.plot(
                *zip(*points, strict=True),
                color=_COLOURS[role],
                linewidth=1,
                alpha=0.7,
                label=label,
            )
        axes.set_title(f"{panel[1]}, equal {panel[0]}", color=_TEXT, fontsize=10)
        axes.set_xlabel("seconds of training" if by_time else "steps")
        axes.set_ylabel("held-out bits per byte")
        _zoom(axes, [point[2] for row in rows for point in row.get("curve") or ()])
        if seen:
            axes.legend(frameon=False, labelcolor=_TEXT)
        _finish(axes)
    _write(path, figure)


def _zoom(axes: Any, values: Sequence[float]) -> None:
    """Leave the first steps, which tower above the rest, mostly out of the picture."""
    ordered = sorted(values)
    if ordered:
        top = ordered[int(len(ordered) * 0.85)]
        room = max(0.05 * (top - ordered[0]), 0.01)
        axes.set_ylim(ordered[0] - room, top + room)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def _finish(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_TEXT)
    axes.tick_params(colors=_TEXT)
    axes.xaxis.label.set_color(_TEXT)
    axes.yaxis.label.set_color(_TEXT)
    axes.grid(alpha=0.25, color=_TEXT)


def _write(path: Path, figure: Any) -> None:
    from matplotlib import rc_context

    for kind, metadata in (("svg", {"Date": None}), ("png", None)):
        buffer = io.BytesIO()
        # The same figures give the same file.
        with rc_context({"svg.hashsalt": "cllm"}):
            figure.savefig(buffer, format=kind, transparent=True, metadata=metadata)
        write_atomic(path.with_suffix(f".{kind}"), buffer.getvalue())
