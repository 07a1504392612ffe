"""How one matrix is quantised: by which method, to how many bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Float, Float64

from cllm.model.packed import Kind, Packed
from cllm.model.spec import ModelSpec
from cllm.quantise.groups import nearest
from cllm.quantise.lattice import lattice
from cllm.quantise.nearest_plane import gptq, polish

Method: TypeAlias = Literal["nearest", "gptq", "lattice"]
Bits: TypeAlias = Literal[2, 3, 4, 8]
METHODS: tuple[Method, ...] = get_args(Method)
# What each method can do; the first is what a number of bits means unless a method is named.
ALLOWED: dict[Method, tuple[Bits, ...]] = {
    "nearest": (8, 4),
    "gptq": (8, 4),
    "lattice": (4, 3, 2),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """A method and its bits a weight, without scales."""

    method: Method
    bits: Bits


def default_recipe(bits: Bits) -> Recipe:
    """8: nearest; 4: GPTQ, which is nearest where a matrix's inputs are not known; else lattice."""
    methods: dict[Bits, Method] = {8: "nearest", 4: "gptq", 3: "lattice", 2: "lattice"}
    return Recipe(methods[bits], bits)


def quantised_names(spec: ModelSpec) -> list[str]:
    """The parameters that are quantised: every matrix and table of at least a group's width."""
    return [
        name
        for name, shape in spec.parameter_shapes().items()
        if len(shape) == 2 and min(shape) >= 32
    ]


def quantise_matrix(
    matrix: Float[np.ndarray, "N K"],
    recipe: Recipe,
    curvature: Float64[np.ndarray, "K K"] | None,
    seed: int,
) -> Packed:
    """`matrix` by the recipe; without `curvature` all of its inputs count alike."""
    kind: Kind = "int8" if recipe.bits == 8 else "int4"
    if recipe.method == "nearest":
        return nearest(matrix, kind, None if curvature is None else np.diag(curvature).copy())
    metric = np.eye(matrix.shape[1]) if curvature is None else curvature
    if recipe.method == "gptq":
        return polish(matrix, gptq(matrix, kind, metric), metric)
    assert recipe.bits != 8, "the caller has checked what the method allows"
    return lattice(matrix, recipe.bits, metric, seed)
