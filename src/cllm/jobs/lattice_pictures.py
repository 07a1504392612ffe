"""Pictures of lattices: their kissing configurations, and slices coloured by distance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cllm.jobs.number_pictures import DARK, LIGHT, Palette, poster, ramp, save, show_square

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool, Float64
    from matplotlib.axes import Axes

# Dots of a slice's edge, by lattice: the Leech lattice's decoder takes 3 µs a point.
_SLICE_DOTS = {"A2": 1000, "D4": 1000, "E8": 1200, "Leech": 700}
# How far a slice reaches, in minimal distances: enough to see how it goes on.
_REACH = {"A2": 3.2, "D4": 2.9, "E8": 5.0, "Leech": 4.0}


def draw_kissing(path: Path, name: str, *, dark: bool = False) -> None:
    """The minimal vectors in the plane in which the lattice has its greatest symmetry.

    Raises: InputError for an unknown lattice, StorageError.
    """
    import numpy as np

    from cllm.numbers.lattices import coxeter_projection, minimal_points, named_lattice

    lattice = named_lattice(name)
    palette = DARK if dark else LIGHT
    vectors, places = minimal_points(lattice.name), coxeter_projection(lattice.name)
    caption = _kissing_caption(lattice.kissing_number, lattice.dimension)
    figure, axes = poster(palette, f"{lattice.name} kissing", caption)
    reach = float(np.abs(places).max()) * 1.04
    if lattice.dimension == 2:
        reach += lattice.packing_radius
        _draw_circles(axes, places, palette, lattice.packing_radius)
    elif len(vectors) > 1000:
        _draw_cloud(axes, places, palette)
    else:
        _draw_edges(axes, vectors, places, palette)
    show_square(axes, reach)
    save(path, figure)


def draw_slice(path: Path, name: str, *, dark: bool = False) -> None:
    """A plane through the lattice, each point coloured by how far the nearest lattice point is.

    The plane is that of the greatest symmetry. Raises: InputError for an unknown lattice,
    StorageError. Cost: seconds.
    """
    import numpy as np

    from cllm.numbers.lattices import (
        coxeter_projection,
        minimal_points,
        named_lattice,
        nearest_point,
    )

    lattice = named_lattice(name)
    # Two orthonormal axes: the projection is a linear map of the minimal points.
    axes_of_plane = np.linalg.lstsq(
        minimal_points(lattice.name), coxeter_projection(lattice.name), rcond=None
    )[0]
    palette = DARK if dark else LIGHT
    dots = _SLICE_DOTS[lattice.name]
    reach = _REACH[lattice.name] * lattice.minimal_norm**0.5
    line = (np.arange(dots) + 0.5) / dots * 2 - 1
    x, y = np.meshgrid(line * reach, line * reach)
    points = np.stack([x.ravel(), y.ravel()], axis=1) @ axes_of_plane.T
    distances = np.sqrt(((points - nearest_point(lattice.name, points)) ** 2).sum(axis=1)).reshape(
        dots, dots
    )
    dimensions = f"{lattice.dimension} dimensions"
    caption = f"by the distance to the nearest point of the lattice in {dimensions}"
    figure, axes = poster(palette, f"A slice of {lattice.name}", caption)
    axes.imshow(
        _evened_out(distances, np.hypot(x, y) < reach),
        extent=(-reach, reach, -reach, reach),
        cmap=_from_paper(palette),
        interpolation="bicubic",
    )
    _clip_to_disc(axes, reach)
    save(path, figure)


def _draw_edges(
    axes: Axes,
    vectors: Float64[np.ndarray, "N n"],
    places: Float64[np.ndarray, "N 2"],
    palette: Palette,
) -> None:
    """Points, and a line between any two that touch: the nearest pairs of minimal vectors."""
    import numpy as np
    from matplotlib.collections import LineCollection

    inner = vectors @ vectors.T
    norm = float(inner[0, 0])
    first, second = np.nonzero(np.triu(np.abs(inner - norm / 2) < 1e-6, 1))
    lines = np.stack([places[first], places[second]], axis=1)
    lengths = np.hypot(*(lines[:, 0] - lines[:, 1]).T)
    # Long lines first and faint, so that short ones lie on top.
    order = np.argsort(-lengths)
    span = max(float(np.ptp(lengths)), 1e-9)
    loudness = (lengths.max() - lengths[order]) / span
    strength = min(1.0, 25 / len(lines) ** 0.5)
    axes.add_collection(
        LineCollection(
            lines[order].tolist(),
            array=loudness,
            cmap=ramp(palette),
            clim=(0, 1),
            linewidths=0.35 + 1.4 * strength,
            alpha=0.25 + 0.6 * strength,
        )
    )
    dots: dict[str, Any] = {"s": 22 + 30 * strength, "c": palette.ink, "edgecolors": palette.paper}
    axes.scatter(places[:, 0], places[:, 1], linewidths=0.8, zorder=3, **dots)


def _draw_cloud(axes: Axes, places: Float64[np.ndarray, "N 2"], palette: Palette) -> None:
    """So many points that no line has room: the farther out, the larger and louder."""
    import numpy as np

    radii = np.hypot(*places.T)
    loudness = radii / radii.max()
    axes.scatter(
        places[:, 0],
        places[:, 1],
        s=0.22 + 7.0 * loudness**4,
        c=loudness**1.3,
        cmap=ramp(palette),
        linewidths=0,
    )


def _draw_circles(
    axes: Axes, vectors: Float64[np.ndarray, "N 2"], palette: Palette, radius: float
) -> None:
    """The circles of the plane as they are, the one that all touch in the middle."""
    from matplotlib.patches import Circle

    for place, colour in [((0.0, 0.0), -1), *((row, 2) for row in vectors.tolist())]:
        axes.add_patch(Circle(place, radius, facecolor=palette.colours[colour], linewidth=0))


def _kissing_caption(number: int, dimension: int) -> str:
    balls = "circles" if dimension == 2 else "spheres"
    return f"{number:,} {balls} touch one in {dimension} dimensions"


def _evened_out(
    distances: Float64[np.ndarray, "N N"], is_shown: Bool[np.ndarray, "N N"]
) -> Float64[np.ndarray, "N N"]:
    """1 at the lattice, 0 farthest away, half by distance and half by rank among those shown.

    In high dimensions nearly all points are nearly as far as can be; ranks part them again.
    """
    import numpy as np

    ranks = np.searchsorted(np.sort(distances[is_shown]), distances) / is_shown.sum()
    loudness: Float64[np.ndarray, "N N"] = 1.0 - 0.5 * (ranks + distances / distances.max())
    return loudness


def _from_paper(palette: Palette) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("paper", [palette.paper, *palette.colours])


def _clip_to_disc(axes: Axes, reach: float) -> None:
    from matplotlib.patches import Circle

    disc = Circle((0, 0), reach * 0.995, transform=axes.transData)
    for image in axes.images:
        image.set_clip_path(disc)
