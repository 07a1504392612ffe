"""The lattices A2, D4, E8 and Leech as a person asks for them: facts, and nearest points."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from cllm.errors import InputError


@dataclasses.dataclass(frozen=True, slots=True)
class LatticeFacts:
    """What is known of a lattice; lengths in its own scale, `basis` times `scale` is in it.

    `density` is the share of space that the spheres of the packing fill; `shells` counts the
    vectors of each norm.
    """

    name: str
    dimension: int
    minimal_norm: int
    kissing_number: int
    cell_volume: float
    packing_radius: float
    covering_radius: float
    density: float
    shells: dict[int, int]
    scale: float
    basis: tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class NearestPoint:
    """A point, the lattice point nearest to it, and the distance between them."""

    lattice: str
    point: list[float]
    nearest: list[float]
    distance: float


def lattice_facts(name: str) -> LatticeFacts:
    """The facts of a lattice. Raises: InputError for an unknown name, with the nearest."""
    from cllm.numbers.lattices import named_lattice
    from cllm.numbers.theta import theta_series

    lattice = named_lattice(name)
    half = lattice.dimension / 2
    ball = math.pi**half / math.gamma(half + 1) * lattice.packing_radius**lattice.dimension
    counts = theta_series(lattice.name, 7)
    return LatticeFacts(
        name=lattice.name,
        dimension=lattice.dimension,
        minimal_norm=lattice.minimal_norm,
        kissing_number=lattice.kissing_number,
        cell_volume=lattice.cell_volume,
        packing_radius=lattice.packing_radius,
        covering_radius=lattice.covering_radius,
        density=ball / lattice.cell_volume,
        shells={2 * m: number for m, number in enumerate(counts) if m and number},
        scale=lattice.scale,
        basis=lattice.basis,
    )


def nearest_point(name: str, point: Sequence[float]) -> NearestPoint:
    """The lattice point nearest to a point given in the lattice's own scale.

    Raises: InputError for an unknown name, or a point that does not fit.
    """
    import numpy as np

    from cllm.numbers import lattices

    lattice = lattices.named_lattice(name)
    if len(point) != lattice.dimension:
        message = f"{len(point)} coordinates, where {lattice.name} has {lattice.dimension}"
        raise InputError(message, hint='Part them by commas, such as "0.1,0.2,0.3".')
    row = np.array([point], np.float64)
    nearest = lattices.nearest_point(lattice.name, row, threads=1)
    distance = float(np.linalg.norm(row - nearest))
    return NearestPoint(lattice.name, list(map(float, point)), nearest[0].tolist(), distance)


def read_point(text: str) -> list[float]:
    """Numbers parted by commas or spaces. Raises: InputError."""
    try:
        return [float(word) for word in text.replace(",", " ").split()]
    except ValueError as error:
        hint = 'Part numbers by commas, such as "0.1,0.2,0.3".'
        raise InputError(f"{text[:60]!r} is no point", hint=hint) from error
