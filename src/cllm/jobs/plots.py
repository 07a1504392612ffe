"""The loss curve of a run as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from cllm.files import write_atomic

History = Sequence[tuple[int, float | None, float | None]]


def plot_loss(path: Path, history: History, *, title: str) -> None:
    """Write a PNG with bits per byte over steps: training faint, held-out strong."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    train = [(step, value) for step, value, _ in history if value is not None]
    held_out = [(step, value) for step, _, value in history if value is not None]
    if train:
        axes.plot(*zip(*train, strict=True), color="#9bb4d0", linewidth=1, label="training")
    if held_out:
        axes.plot(
            *zip(*held_out, strict=True),
            color="#1f4e8c",
            linewidth=2,
            marker="o",
            markersize=3,
            label="held out",
        )
    values = sorted(value for _, value in train + held_out)
    if values:
        # The first steps tower above the rest; leave most of them out of the picture.
        top = values[min(len(values) - 1, int(len(values) * 0.97))]
        axes.set_ylim(values[0] - 0.1, max(top, values[0] + 0.2) + 0.1)
    axes.set_xlabel("step")
    axes.set_ylabel("bits per byte")
    axes.set_title(title)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if train or held_out:
        axes.legend(frameon=False)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    write_atomic(path, buffer.getvalue())


def thin(history: History, *, points: int = 200) -> list[tuple[int, float | None, float | None]]:
    """About `points` rows: training values averaged over equal stretches, held-out ones kept."""
    train = [(step, value) for step, value, _ in history if value is not None]
    stretch = max(1, len(train) // points)
    rows: list[tuple[int, float | None, float | None]] = []
    for first in range(0, len(train), stretch):
        part = train[first : first + stretch]
        rows.append((part[-1][0], sum(value for _, value in part) / len(part), None))
    rows += [(step, None, value) for step, _, value in history if value is not None]
    return sorted(rows, key=lambda row: row[0])
