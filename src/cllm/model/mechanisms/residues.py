"""`residues`: a token's vector is made from its remainders by two coprime numbers."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, final

import numpy as np
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from pydantic import Field

from cllm.model.lexicon import Lexicon
from cllm.model.mechanisms.mechanism import (
    Mechanism,
    ModelSpec,
    Parameter,
    Tensor,
    Tensors,
    random_for,
)
from cllm.model.weights import Weights

_SPREAD = 0.5


@final
class Residues(Mechanism):
    """The vocabulary is compressed by the Chinese remainder theorem.

        e_t = P[t mod p] ⊙ Q[t mod q],   p, q coprime, p·q ≥ V

    (or P + Q, with `combine=sum`), t the token's id. No two tokens have both remainders in
    common, so each has a combination of its own. p and q are the pair of least sum, near √V.
    Where other mechanisms make or change the table, theirs is added.

    P begins with rows of the plain table, Q at 1 with deviation ½ (in a sum, at 0).

    Shapes: first [p, C], second [q, C]: about 2√V·C parameters instead of V·C. Cost in training:
    V·C multiplications a step; in a finished model none, as it has a whole table. Placebo: each
    token's two rows are drawn at random, so that some tokens share both.

    Source: Shi 2020, arXiv:1909.02107 (compositional embeddings). Status: theorem (the codes are
    unique); its quality is measured (docs/mechanisms.md).
    """

    name: ClassVar = "residues"
    title: ClassVar = "token vectors made from remainders by two coprime numbers"
    cost: ClassVar = "none in a finished model; 2√V·C parameters instead of V·C to train"
    control: ClassVar = "two random rows for each token, which may collide"
    export: ClassVar = "folds"
    replaces: ClassVar = True

    combine: Literal["product", "sum"] = Field(
        "product", description="How the two rows are combined."
    )

    def parameters(self, spec: ModelSpec) -> dict[str, Parameter | None]:
        """The two tables, in place of one."""
        p, q = coprime_pair(spec.vocab_size)
        is_product = self.combine == "product"
        return {
            "embedding.weight": None,
            "mechanisms.residues.first": Parameter((p, spec.width), decays=True),
            # Decay to 0 would take a factor's whole effect away.
            "mechanisms.residues.second": Parameter(
                (q, spec.width),
                constant=1.0 if is_product else 0.0,
                deviation=_SPREAD if is_product else 0.1,
                decays=not is_product,
            ),
        }

    def rows(self, vocab_size: int) -> Int64[np.ndarray, "2 V"]:
        """Each token's row in both tables."""
        p, q = coprime_pair(vocab_size)
        if self.placebo:
            random = random_for("residues.placebo")
            return np.stack([random.integers(0, size, vocab_size) for size in (p, q)])
        ids = np.arange(vocab_size, dtype=np.int64)
        return np.stack([ids % p, ids % q])

    def fixed(self, spec: ModelSpec, lexicon: Lexicon | None) -> dict[str, NDArray[Any]]:
        """Each token's row in both tables."""
        del lexicon
        return {"rows": self.rows(spec.vocab_size)}

    def begin(
        self,
        weights: Weights,
        spec: ModelSpec,
        lexicon: Lexicon | None,
    ) -> None:
        """Start the first table with rows of the plain one, and with the part they all share."""
        del spec, lexicon
        name = "mechanisms.residues.first"
        weights[name] = weights["embedding.weight"][: len(weights[name])].copy()

    def table(self, table: Float[Tensor, "V C"] | None, p: Tensors) -> Float[Tensor, "V C"]:
        """The whole table."""
        import torch.nn.functional as F

        first, second = (
            F.embedding(rows, p[name])
            for rows, name in zip(p["rows"], ("first", "second"), strict=True)
        )
        made: Tensor = first * second if self.combine == "product" else first + second
        return made if table is None else table + made


def coprime_pair(size: int) -> tuple[int, int]:
    """Coprime p ≥ q with p·q ≥ `size` and the least sum; of equal sums, the least p.

    Raises nothing: p = size, q = 1 is always one.
    """
    best = (size, 1)
    p = math.isqrt(size - 1) + 1
    # From here on p alone is as large as the best sum.
    while p < sum(best):
        q = -(-size // p)
        while math.gcd(p, q) > 1:
            q += 1
        if p + q < sum(best):
            best = (max(p, q), min(p, q))
        p += 1
    return best
