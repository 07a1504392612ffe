"""`reduction`: token vectors in fewer dimensions, in a reduced basis."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, final

import numpy as np
from jaxtyping import Float, Float64
from numpy.typing import NDArray
from pydantic import Field

from cllm.errors import SettingsError
from cllm.model.lexicon import Lexicon
from cllm.model.mechanisms.mechanism import (
    Mechanism,
    ModelSpec,
    Parameter,
    Tensor,
    Tensors,
    random_for,
)
from cllm.model.weights import EMBEDDING_RMS, SHARED_PART, Weights

# LLL is exact, so the basis is rounded to whole numbers first, of this many bits.
_BASIS_BITS = 30


@final
class Reduction(Mechanism):
    """The table of embeddings has a low rank: E = A · B, r coordinates a token.

    With `kind=scratch` A and B are trained instead of E. With `kind=svd` training is plain, and
    the finished model's table is the nearest one of rank r (singular value decomposition).
    Where other mechanisms make or change the table, theirs is added to A · B.

    With `bits` the finished model's coordinates are whole numbers: where b bits reach over each
    coordinate's range with steps of s, the rows of B⁺ = diag(s)·B generate a lattice, and each
    token is rounded to a point of it. Its basis is first LLL-reduced: U unimodular,
    A·diag(s)⁻¹·U⁻¹ the coordinates, U·B⁺ the basis, their product and the lattice unchanged.
    Rounding is off by √(Σ‖b_i‖²/12) a token, b_i the rows of the basis, so in the same lattice a
    basis of shorter rows finds a nearer point. Where LLL makes them no shorter, the basis stays:
    that of `svd`, whose rows are orthogonal, and a random one. Where rows have a part in common
    the error falls to a third or less. LLL itself never lowers a rank.

    Shapes: coordinates [V, r], basis [r, C]: r·(V + C) parameters instead of V·C with
    `scratch`. Cost in training: r·V·C multiplications a step; in a finished model none, as it
    has a whole table. Both `svd` and `bits` change what the model says. Placebo: every row of
    the basis but the first has a random direction, and only its length is trained (with `svd`,
    the table is projected to a random subspace); the basis is not reduced.

    Source: Eckart and Young 1936, Psychometrika 1; Lan 2020, arXiv:1909.11942 (ALBERT's
    factorised embeddings); Lenstra, Lenstra and Lovász 1982; Babai 1986, Combinatorica 6
    (rounding). Status: measured (docs/mechanisms.md).
    """

    name: ClassVar = "reduction"
    title: ClassVar = "token vectors in fewer dimensions, rounded in a reduced basis"
    cost: ClassVar = "none in a finished model; r·(V + C) parameters instead of V·C to train"
    control: ClassVar = "a random subspace, and no reduced basis"
    export: ClassVar = "folds"

    kind: Literal["scratch", "svd"] = Field(
        "scratch", description="Trained in few dimensions, or brought there at the end."
    )
    rank: int | None = Field(
        None, ge=2, description="Dimensions r; a quarter of the width unless given."
    )
    bits: int | None = Field(
        None, ge=2, le=16, description="Bits of a finished coordinate; not rounded unless given."
    )

    @property
    def replaces(self) -> bool:
        """Whether it is trained in few dimensions."""
        return self.kind == "scratch"

    @property
    def is_compiled(self) -> bool:
        """Whether it acts on the finished model alone."""
        return self.kind == "svd"

    def fitted(self, spec: ModelSpec, lexicon: Lexicon | None) -> Reduction:
        """With a rank that the width allows. Raises: SettingsError."""
        del lexicon
        most = min(spec.width, spec.vocab_size)
        if self.rank is not None and self.rank > most:
            raise SettingsError(
                f"a table of {spec.vocab_size:,} × {spec.width} has a rank of {most} at the most",
                where="reduction.rank",
                hint="Choose a smaller rank.",
            )
        return self.model_copy(update={"rank": self.rank or min(max(2, spec.width // 4), most)})

    def parameters(self, spec: ModelSpec) -> dict[str, Parameter | None]:
        """Coordinates and basis in place of the table."""
        if self.kind == "svd":
            return {}
        assert self.rank is not None
        deviation = EMBEDDING_RMS * ((1 - SHARED_PART**2) * spec.width / (self.rank - 1)) ** 0.5
        return {
            "embedding.weight": None,
            "mechanisms.reduction.coordinates": Parameter(
                (spec.vocab_size, self.rank), deviation=deviation, decays=True
            ),
            "mechanisms.reduction.basis": Parameter(
                (self.rank, spec.width), deviation=1.0, decays=True
            ),
        }

    def directions(self, width: int) -> Float64[np.ndarray, "D C"]:
        """The control's: random unit vectors."""
        assert self.rank is not None
        drawn = random_for("reduction.placebo").standard_normal((self.rank - 1, width))
        rows: NDArray[np.float64] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        return rows

    def fixed(self, spec: ModelSpec, lexicon: Lexicon | None) -> dict[str, NDArray[Any]]:
        """The control's directions."""
        del lexicon
        if not self.placebo or self.kind == "svd":
            return {}
        return {"directions": self.directions(spec.width).astype(np.float32)}

    def begin(
        self,
        weights: Weights,
        spec: ModelSpec,
        lexicon: Lexicon | None,
    ) -> None:
        """Begin with orthonormal rows, the first of them what all embeddings share."""
        del lexicon
        if self.kind == "svd":
            return
        basis = weights["mechanisms.reduction.basis"].astype(np.float64)
        basis[0] = weights["embedding.weight"].mean(0)
        rows, signs = np.linalg.qr(basis.T)
        weights["mechanisms.reduction.basis"] = (rows * np.sign(np.diag(signs))).T.astype(
            np.float32
        )
        weights["mechanisms.reduction.coordinates"][:, 0] = (
            EMBEDDING_RMS * SHARED_PART * spec.width**0.5
        )

    def table(self, table: Float[Tensor, "V C"] | None, p: Tensors) -> Float[Tensor, "V C"] | None:
        """The product of coordinates and basis; with `svd` nothing before the finish."""
        if self.kind == "svd":
            return table
        basis = p["basis"]
        if self.placebo:
            import torch

            first, rest = basis[:1], basis[1:]
            lengths = rest.square().sum(1, keepdim=True).sqrt()
            basis = torch.cat((first, lengths * p["directions"].to(basis.dtype)))
        made: Tensor = p["coordinates"] @ basis
        return made if table is None else table + made

    def finish(self, spec: ModelSpec, weights: Weights) -> tuple[ModelSpec, Weights]:
        """Bring the table to its rank, and the coordinates to whole numbers."""
        if self.kind == "scratch" and self.bits is None:
            return spec, weights
        table = weights["embedding.weight"].astype(np.float64)
        if self.kind == "svd":
            coordinates, basis = self._projected(table)
            rest = np.zeros_like(table)
        else:
            coordinates = weights["mechanisms.reduction.coordinates"].astype(np.float64)
            basis = weights["mechanisms.reduction.basis"].astype(np.float64)
            if self.placebo:
                lengths = np.linalg.norm(basis[1:], axis=1, keepdims=True)
                basis = np.concatenate([basis[:1], lengths * self.directions(spec.width)])
            rest = table - coordinates @ basis
        if self.bits is not None:
            coordinates, basis = self.rounded(coordinates, basis)
        found = (rest + coordinates @ basis).astype(np.float32)
        return spec, {**weights, "embedding.weight": found}

    def _projected(
        self, table: Float64[np.ndarray, "V C"]
    ) -> tuple[Float64[np.ndarray, "V r"], Float64[np.ndarray, "r C"]]:
        """Coordinates of the rows in the subspace nearest to them; the control's in any."""
        assert self.rank is not None
        if self.placebo:
            shape = (table.shape[1], self.rank)
            axes = np.linalg.qr(random_for("reduction.placebo").standard_normal(shape))[0].T
            return table @ axes.T, axes
        left, sizes, right = np.linalg.svd(table, full_matrices=False)
        return left[:, : self.rank] * sizes[: self.rank], right[: self.rank]

    def rounded(
        self, coordinates: Float64[np.ndarray, "V r"], basis: Float64[np.ndarray, "r C"]
    ) -> tuple[Float64[np.ndarray, "V r"], Float64[np.ndarray, "r C"]]:
        """Whole coordinates, and the basis that they belong to."""
        assert self.bits is not None
        reach = np.abs(coordinates).max(0)
        steps = np.where(reach > 0, reach, 1.0) / (2 ** (self.bits - 1) - 1)
        coordinates, basis = coordinates / steps, basis * steps[:, None]
        if not self.placebo:
            other, shorter = reduced(coordinates, basis)
            if np.square(shorter).sum() < np.square(basis).sum():
                coordinates, basis = other, shorter
        return np.rint(coordinates), basis


def reduced(
    coordinates: Float64[np.ndarray, "V r"], basis: Float64[np.ndarray, "r C"]
) -> tuple[Float64[np.ndarray, "V r"], Float64[np.ndarray, "r C"]]:
    """The same product over the LLL-reduced basis of the same lattice.

    The unimodular transform is found for the basis scaled to whole numbers of 30 bits. A basis
    whose rows are dependent at that precision is given back as it is.
    """
    from flint import fmpz_mat

    from cllm.numbers.reduction import lll_with_transform

    largest = np.abs(basis).max()
    if largest == 0:
        return coordinates, basis
    whole = np.rint(basis * (2.0**_BASIS_BITS / largest)).astype(np.int64)
    _, transform = lll_with_transform(whole)
    if len(transform) < len(basis):
        return coordinates, basis
    # Not inv(integer=True), which forgets the sign where the determinant is −1.
    inverse = fmpz_mat(transform.tolist()).inv().tolist()
    back = np.array([[float(int(value.p)) for value in row] for row in inverse])
    return coordinates @ back, transform.astype(np.float64) @ basis
