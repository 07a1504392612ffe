"""The named lattices A2, D4, E8 and Leech behind one door.

Two scales: whole coordinates, integers as `Lattice.scale` says, and the lattice's own scale, in
which minimal vectors have norm 2 (Leech: 4). A2 has three whole coordinates of sum zero, and two
in its own plane.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int32, Shaped

from cllm.errors import InputError
from cllm.numbers import leech, root_lattices


@dataclass(frozen=True, slots=True)
class Lattice:
    """What is known of a lattice; norms, radii and the volume in its own scale.

    `basis` has whole coordinates: times `scale` they are the lattice's own. `cell_volume` is
    that of a fundamental cell, `covering_radius` how far a point can be from the lattice.
    """

    name: str
    dimension: int
    basis: tuple[tuple[int, ...], ...]
    scale: float
    minimal_norm: int
    kissing_number: int
    cell_volume: float
    covering_radius: float

    @property
    def packing_radius(self) -> float:
        """Half the distance between nearest points: noise below it can be taken away."""
        return 0.5 * math.sqrt(self.minimal_norm)


NAMES = ("A2", "D4", "E8", "Leech")


def known_name(name: str) -> str:
    """`name`, given in any case, as `NAMES` has it.

    Raises: InputError for another name, with the nearest.
    """
    by_lower = {known.lower(): known for known in NAMES}
    if name.lower() in by_lower:
        return by_lower[name.lower()]
    near = difflib.get_close_matches(name.lower(), by_lower, 1)
    hint = f"Did you mean {by_lower[near[0]]}?" if near else f"There are {', '.join(NAMES)}."
    raise InputError(f"no lattice is called {name!r}", hint=hint)


def named_lattice(name: str) -> Lattice:
    """The lattice called `name`, in any case. Raises: InputError for another name."""
    key = known_name(name)
    if key == "A2":
        simple = root_lattices.A2_SIMPLE
        return Lattice(key, 2, simple, 1.0, 2, 6, math.sqrt(3.0), math.sqrt(2.0 / 3.0))
    if key == "D4":
        return Lattice(key, 4, root_lattices.D4_SIMPLE, 1.0, 2, 24, 2.0, 1.0)
    if key == "E8":
        return Lattice(key, 8, root_lattices.E8_SIMPLE, 0.5, 2, 240, 1.0, 1.0)
    basis = leech.leech_basis()
    return Lattice(key, 24, basis, 1.0 / leech.SCALE, 4, 196_560, 1.0, math.sqrt(2.0))


def minimal_vectors(name: str) -> Int32[np.ndarray, "K n"]:
    """All minimal vectors in whole coordinates; read-only. Raises: InputError for another name.

    A2 [6, 3] and D4 [24, 4] as they are, E8 [240, 8] doubled, Leech [196560, 24] times √8.
    """
    vectors: dict[str, Callable[[], Int32[np.ndarray, "K n"]]] = {
        "A2": root_lattices.a2_roots,
        "D4": root_lattices.d4_roots,
        "E8": root_lattices.e8_roots,
        "Leech": leech.leech_minimal_vectors,
    }
    return vectors[known_name(name)]()


def minimal_points(name: str) -> Float64[np.ndarray, "K n"]:
    """All minimal vectors in the lattice's own scale, and A2's in its plane.

    Raises: InputError for another name.
    """
    vectors = minimal_vectors(name)
    if known_name(name) == "A2":
        return root_lattices.plane_of_a2(vectors)
    return vectors * named_lattice(name).scale


def nearest_point(
    name: str, points: Shaped[np.ndarray, "*shape"], threads: int | None = None
) -> Float[np.ndarray, "N n"]:
    """The lattice point nearest to each of `points` [N, dimension], in the lattice's own scale.

    Raises: InputError for another name, or points that do not fit (see `nearest_e8`).
    """
    # Not at the top: they load numba, which the facts of a lattice do without.
    from cllm.numbers.leech_decoder import nearest_leech
    from cllm.numbers.nearest_points import nearest_a2, nearest_d4, nearest_e8

    decoders = {"A2": nearest_a2, "D4": nearest_d4, "E8": nearest_e8, "Leech": nearest_leech}
    if points.ndim != 2:
        raise InputError(
            f"points of shape {list(points.shape)} are no list of points",
            hint="Give an array of shape [N, dimension], one point a row.",
        )
    return decoders[known_name(name)](points, threads)


def coxeter_projection(name: str) -> Float64[np.ndarray, "K 2"]:
    """The minimal points seen along a plane in which they are most symmetric, for a picture.

    A root lattice is seen on its Coxeter plane: E8 as eight rings of 30, D4 as rings of 6, A2 as
    it is. The Leech lattice has no roots: a symmetry of order 23 turns its plane by 2π/23.
    Orthogonal projection, so that lengths are never larger than in the lattice; turned so that a
    farthest point lies to the right. Raises: InputError for another name.
    """
    key = known_name(name)
    if key == "Leech":
        axes = leech.leech_plane()
    else:
        axes, _ = root_lattices.coxeter_plane(named_lattice(key).basis)
    flat = minimal_vectors(key) @ axes.T * named_lattice(key).scale
    lengths = np.round(np.hypot(flat[:, 0], flat[:, 1]), 9)
    x, y = flat[int(np.argmax(lengths))] / lengths.max()
    turned: Float64[np.ndarray, "K 2"] = flat @ np.array([[x, -y], [y, x]])
    return turned
