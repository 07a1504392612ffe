"""`lattice_transform`: the finished model's residual stream in another orthogonal basis."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal, final

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray
from pydantic import Field

from cllm.model.mechanisms.mechanism import Mechanism, ModelSpec, random_for
from cllm.model.weights import Weights

# Of other mechanisms that stay in a finished model: what reads the normed stream, and what
# writes to the stream.
_READERS = {"gamma": "weight", "schumann": "gate"}
_WRITERS = {"ngram": "up"}


@final
class LatticeTransform(Mechanism):
    """What the model says stays; the numbers that it is made of are spread evenly.

        E ← E·Q,   W ← W·diag(g)·Q for what reads,   W ← Qᵀ·W for what writes,   QᵀQ = 1

    First the norms' gains g are worked into what reads after them, as a norm without gains does
    not see a turn; so the head becomes a matrix of its own. No channel is large by itself any
    more: the preparation for quantisation below 8 bits. It is done once, when training is over.

    Q by `kind`: hadamard, random signs times the Kronecker product of Hadamard's matrix of order
    2^k and the reflection 1 − (2/m)·11ᵀ of order m, for a width 2^k·m with m odd; givens, for
    each stride 1, 2, 4, … the planes of channels i and i + stride, turned by the triples whose
    legs differ by 1, one after the other: (3, 4, 5), (20, 21, 29), (119, 120, 169), … They come
    ever nearer to 45°. Both are exactly rational, but for a root of 2 in the first.

    Shapes: V·C more parameters where the head was tied. Cost: none. Placebo: a random orthogonal
    matrix.

    Source: Ashkboos 2024, arXiv:2404.00456 (QuaRot). Status: theorem (no output changes).
    """

    name: ClassVar = "lattice_transform"
    title: ClassVar = "the finished model turned to another basis, to be rounded better"
    cost: ClassVar = "none; the head becomes a matrix of its own"
    control: ClassVar = "a random orthogonal matrix"
    export: ClassVar = "folds"
    is_compiled: ClassVar = True

    kind: Literal["hadamard", "givens"] = Field("hadamard", description="How the basis is made.")

    def basis(self, width: int) -> Float64[np.ndarray, "C C"]:
        """Q."""
        if self.placebo:
            drawn = random_for("lattice_transform.placebo").standard_normal((width, width))
            return np.linalg.qr(drawn)[0]
        return _givens(width) if self.kind == "givens" else _hadamard(width)

    def finish(self, spec: ModelSpec, weights: Weights) -> tuple[ModelSpec, Weights]:
        """The same model in the new basis."""
        basis = self.basis(spec.width)
        done = {name: value.astype(np.float64) for name, value in weights.items()}
        if spec.tied:
            done["head.weight"] = done["embedding.weight"]
        ones = np.ones(spec.width)

        def read(name: str, norm: str) -> None:
            done[name] = done[name] * done[norm] @ basis

        for layer in range(spec.layers):
            block = f"blocks.{layer}."
            norm = block + "attention_norm.weight"
            read(block + "attention.qkv.weight", norm)
            read(block + "feed_forward.gate_up.weight", block + "feed_forward_norm.weight")
            for name in ("attention.out.weight", "feed_forward.down.weight"):
                done[block + name] = basis.T @ done[block + name]
            for name in self._reading(spec, layer):
                read(name, norm)
            done[norm] = done[block + "feed_forward_norm.weight"] = ones
        read("head.weight", "norm.weight")
        done["norm.weight"] = ones
        done["embedding.weight"] = done["embedding.weight"] @ basis
        for part in spec.mechanisms:
            if part.name in _WRITERS:
                name = f"mechanisms.{part.name}.{_WRITERS[part.name]}"
                done[name] = basis.T @ done[name]
        return replace(spec, tied=False), {k: v.astype(np.float32) for k, v in done.items()}

    def _reading(self, spec: ModelSpec, layer: int) -> list[str]:
        """Mechanisms' matrices that read what attention reads; a control reads noise instead."""
        names = [
            f"mechanisms.{part.name}.{layer}.{_READERS[part.name]}"
            for part in spec.mechanisms
            if part.name in _READERS and not part.placebo
        ]
        known = spec.parameters()
        return [name for name in names if name in known]


def _hadamard(width: int) -> NDArray[np.float64]:
    odd = width // (width & -width)
    matrix = np.eye(odd) - (2.0 / odd) * np.ones((odd, odd)) if odd > 1 else np.ones((1, 1))
    while len(matrix) < width:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]]) * 0.5**0.5
    signs = random_for("lattice_transform").choice([-1.0, 1.0], width)
    return signs[:, None] * matrix


def _givens(width: int) -> NDArray[np.float64]:
    """A plane for every two channels a stride apart, once for each power of two below the width."""
    matrix = np.eye(width)
    leg, diagonal = 3, 5
    for stride in (1 << k for k in range((width - 1).bit_length())):
        first = np.array([i for i in range(width - stride) if not i & stride])
        second, cos, sin = first + stride, leg / diagonal, (leg + 1) / diagonal
        x, y = matrix[:, first], matrix[:, second]
        matrix[:, first], matrix[:, second] = cos * x - sin * y, sin * x + cos * y
        # Of all triples whose legs differ by 1, the next.
        leg, diagonal = 3 * leg + 2 * diagonal + 1, 4 * leg + 3 * diagonal + 2
    return matrix
