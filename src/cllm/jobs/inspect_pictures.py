"""An inspection as a picture: the surprise of each token, and where each head looks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cllm.jobs.inspect import Inspection
from cllm.jobs.number_pictures import DARK, LIGHT, Palette, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH, _DPI = 10.0, 150
# More tokens than these have no room for their names.
_MOST_NAMED, _MOST_NAMED_ON_MAP = 72, 56
_LONGEST_NAME = 14


def draw_inspection(
    path: Path,
    found: Inspection,
    *,
    layer: int | None = None,
    head: int | None = None,
    dark: bool = False,
) -> None:
    """Write a PNG: surprise along the window, below it a map for each layer and head, or one.

    Of a layer without a head, and the other way round, the mean is shown.
    Raises: SettingsError, StorageError.
    """
    from matplotlib.figure import Figure

    palette = DARK if dark else LIGHT
    is_one = layer is not None or head is not None
    chosen = found.attention(layer, head) if is_one else None
    num_layers, num_heads = found.window.attention.shape[:2]
    below = _WIDTH - 2.0 if is_one else (_WIDTH - 1.0) / num_heads * num_layers + 0.3
    height = 3.4 + below
    figure = Figure(
        figsize=(_WIDTH, height), dpi=_DPI, facecolor=palette.paper, layout="constrained"
    )
    engine: Any = figure.get_layout_engine()
    engine.set(w_pad=0.15, h_pad=0.15)
    parts: Any = figure.subfigures(2, 1, height_ratios=[3.4, below])
    strip, maps = parts
    for part in (strip, maps):
        part.set_facecolor(palette.paper)
    _draw_surprise(strip.subplots(), found, palette)
    if chosen is not None:
        _draw_map(maps.subplots(), found, chosen, palette, _map_name(layer, head))
    else:
        _draw_grid(maps, found, palette)
    save(path, figure)


def _draw_surprise(axes: Axes, found: Inspection, palette: Palette) -> None:
    window = found.window
    last = min(window.first + len(window.inputs), len(found.ids))
    shown = slice(window.first, last)
    bits = np.nan_to_num(found.bits[shown])
    places = np.arange(len(bits))
    highest = max(float(bits.max()), 1.0)
    colours = _ramp(palette)(0.15 + 0.85 * bits / highest)
    axes.bar(places, bits, width=0.86, color=colours, linewidth=0)
    axes.step(
        places, found.entropy[shown], where="mid", color=palette.ink, linewidth=0.9, alpha=0.6
    )
    axes.set_xlim(-0.6, len(bits) - 0.4)
    axes.set_ylim(0, highest * 1.08)
    _quieten(axes, palette)
    axes.set_ylabel("bits", color=palette.ink, fontsize=8)
    if len(bits) <= _MOST_NAMED:
        axes.set_xticks(places, [_name(token) for token in found.tokens[shown]], rotation=90)
    title = f"{found.model}: {found.bits_per_byte:.3f} bits per byte"
    axes.set_title(title, loc="left", color=palette.ink, fontsize=12, pad=14)
    part = "" if found.num_windows == 1 else f"window {found.window_number} of {found.num_windows}"
    axes.set_title(part, loc="right", color=palette.ink, fontsize=8, alpha=0.7)
    axes.text(
        1, 1.005, "bars: surprise of each token   line: what was expected (entropy)",
        transform=axes.transAxes, ha="right", va="bottom", fontsize=7, alpha=0.7,
        color=palette.ink,
    )  # fmt: skip


def _draw_grid(figure: Any, found: Inspection, palette: Palette) -> None:
    maps = found.window.attention
    num_layers, num_heads = maps.shape[:2]
    grid = figure.subplots(num_layers, num_heads, squeeze=False)
    for layer in range(num_layers):
        for head in range(num_heads):
            axes = grid[layer][head]
            _show(axes, maps[layer, head], palette)
            axes.set_xticks([])
            axes.set_yticks([])
            if layer == 0:
                axes.set_title(f"head {head + 1}", fontsize=8, color=palette.ink, alpha=0.8)
            if head == 0:
                axes.set_ylabel(f"layer {layer + 1}", fontsize=8, color=palette.ink, alpha=0.8)


def _draw_map(axes: Axes, found: Inspection, weights: Any, palette: Palette, name: str) -> None:
    window = found.window
    _show(axes, weights, palette)
    axes.set_title(name, loc="left", fontsize=10, color=palette.ink)
    axes.tick_params(colors=palette.ink, labelsize=7, length=0)
    names = [_name(name) for name in read_names(found)]
    if len(window.inputs) <= _MOST_NAMED_ON_MAP:
        places = np.arange(len(names))
        axes.set_xticks(places, names, rotation=90)
        axes.set_yticks(places, names)
    axes.set_xlabel("looked at", fontsize=8, color=palette.ink)
    axes.set_ylabel("having read", fontsize=8, color=palette.ink)


def _show(axes: Axes, weights: Any, palette: Palette) -> None:
    """A map; what a causal model can't see is left as paper."""
    hidden = np.triu(np.ones(weights.shape, bool), 1)
    # The square root shows weak weights, too: what matters is often spread thin.
    axes.imshow(
        np.ma.masked_array(np.sqrt(weights), hidden),
        cmap=_ramp(palette), vmin=0, vmax=1, interpolation="nearest", aspect="equal",
    )  # fmt: skip
    axes.set_facecolor(palette.paper)
    for spine in axes.spines.values():
        spine.set_visible(False)


def read_names(found: Inspection) -> list[str]:
    """What each position of the window has read."""
    window = found.window
    start = "⟨start⟩" if window.first == 0 else found.tokens[window.first - 1]
    return [start, *found.tokens[window.first : window.first + len(window.inputs) - 1]]


def _map_name(layer: int | None, head: int | None) -> str:
    parts = [
        "mean over layers" if layer is None else f"layer {layer}",
        "mean over heads" if head is None else f"head {head}",
    ]
    return ", ".join(parts)


def _name(token: str) -> str:
    """A token as a label: white space made visible, and what the face lacks left out."""
    blank = " " if token.strip() else "␣"
    shown = token.replace("\n", "⏎").replace("\t", "⇥").replace(" ", blank)
    # A dollar sign would begin a formula.
    return shown.strip(" ").replace("$", r"\$")[:_LONGEST_NAME]


def _quieten(axes: Axes, palette: Palette) -> None:
    axes.set_facecolor(palette.paper)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(palette.quiet)
    axes.tick_params(colors=palette.ink, labelsize=7, length=0)
    axes.grid(axis="y", color=palette.quiet, linewidth=0.6)
    axes.set_axisbelow(True)


def _ramp(palette: Palette) -> Any:
    """From a shade of the paper over the palette's colours: nothing is the colour of nothing."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    mixed = zip(to_rgb(palette.paper), to_rgb(palette.quiet), strict=True)
    least = [0.75 * paper + 0.25 * quiet for paper, quiet in mixed]
    colours = [least, *(list(to_rgb(colour)) for colour in palette.colours)]
    return LinearSegmentedColormap.from_list("attention", np.array(colours).tolist())
