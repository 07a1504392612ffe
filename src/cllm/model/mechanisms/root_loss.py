"""`root_loss`: in training, the root of the next word counts as well as the word."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, final

import numpy as np
from jaxtyping import Bool, Float, Int, Int64
from numpy.typing import NDArray
from pydantic import Field

from cllm.model.lexicon import Lexicon
from cllm.model.mechanisms.mechanism import (
    Mechanism,
    ModelSpec,
    Need,
    Tensor,
    Tensors,
    random_for,
)
from cllm.numbers.arithmetic import totient

# From here on the extra loss falls to 0: the end of a run is for what is measured.
_FALLS_FROM = 0.7


@final
class RootLoss(Mechanism):
    """A wrong word of the right root is less wrong. Only training sees it.

        L = CE(token) + ε · CE(class),   p(class) = Σ_{v in class} p_v

    ε is `weight`, and falls linearly to 0 over the last 30% of the run; what is reported stays
    the plain cross-entropy. By `kind` the classes are the tokens of one `root`, or the
    `frequency` bands ⌊log₂ rank⌋, which need no roots. The sum is a log-sum-exp over the
    target's class, so nothing over- or underflows.

    `kind=gcd` has no classes but smooths the target by how alike the ranks are:

        L = CE(token) − ε · Σ_v S_yv log p_v,   S_yv = k(n_y, n_v) / Σ_w k(n_y, n_w)
        k(a, b) = Σ φ(d) over the common divisors d ≤ `divisors`

    which is gcd(a, b) once `divisors` reaches V (Smith 1876). The sum over v needs no V×V
    kernel, only each divisor's sum of logits.

    Cost in training, for N targets: 3·N·V operations; with gcd N·V·`divisors` multiplications.
    No parameters. Placebo: the classes, or the ranks, are dealt out to the tokens at random.

    Source: this project; Szegedy 2016, arXiv:1512.00567 (label smoothing). Status: measured
    (docs/mechanisms.md).
    """

    name: ClassVar = "root_loss"
    title: ClassVar = "in training, the root of the next word counts as well as the word"
    cost: ClassVar = "none in a finished model"
    control: ClassVar = "roots dealt out to the tokens at random"
    export: ClassVar = "training"

    kind: Literal["root", "frequency", "gcd"] = Field(
        "root", description="Classes by root or frequency band, or smoothing by gcd of ranks."
    )
    weight: float = Field(0.1, gt=0.0, le=10.0, description="Weight ε of the extra loss.")
    divisors: int = Field(32, ge=1, description="Largest divisor that the gcd kernel counts.")

    @property
    def needs(self) -> frozenset[Need]:
        """Roots only where they are the classes."""
        return frozenset({"roots"} if self.kind == "root" else {"ranks"})

    def strength(self, progress: float) -> float:
        """ε when this share of the run is done."""
        return self.weight * min(1.0, max(0.0, (1.0 - progress) / (1.0 - _FALLS_FROM)))

    def classes(self, lexicon: Lexicon) -> Int64[np.ndarray, " V"]:
        """The class of each token."""
        if self.kind == "root":
            assert lexicon.roots is not None
            found = lexicon.roots.astype(np.int64)
        else:
            # Exact up to 2⁵³: frexp gives the number of binary digits.
            found = np.frexp(lexicon.ranks.astype(np.float64))[1].astype(np.int64) - 1
        return random_for("root_loss.placebo").permutation(found) if self.placebo else found

    def is_divided(self, lexicon: Lexicon) -> Bool[np.ndarray, "V d"]:
        """Whether each token's rank is divisible by 1, 2, … `divisors`."""
        ranks = lexicon.ranks
        if self.placebo:
            ranks = random_for("root_loss.placebo").permutation(ranks)
        most = min(self.divisors, lexicon.vocab_size)
        divided: NDArray[np.bool_] = ranks[:, None] % np.arange(1, most + 1) == 0
        return divided

    def fixed(self, spec: ModelSpec, lexicon: Lexicon | None) -> dict[str, NDArray[Any]]:
        """Classes, or the factors S = smoothing · dividedᵀ of the row-normalised kernel."""
        del spec
        assert lexicon is not None
        if self.kind != "gcd":
            return {"classes": self.classes(lexicon)}
        divided = self.is_divided(lexicon).astype(np.float64)
        weighted = divided * [totient(d + 1) for d in range(divided.shape[1])]
        totals = weighted @ divided.sum(0)
        return {
            "divided": divided.astype(np.float32),
            "smoothing": (weighted / totals[:, None]).astype(np.float32),
        }

    def loss(
        self,
        logits: Float[Tensor, "N V"],
        targets: Int[Tensor, " N"],
        table: Float[Tensor, "V C"],
        progress: float,
        p: Tensors,
    ) -> Float[Tensor, ""]:
        """ε times the extra cross-entropy, summed over targets ≥ 0."""
        del table
        strength = self.strength(progress)
        if strength == 0.0:
            return logits.new_zeros(())
        wanted, is_target = targets.clamp_min(0), targets >= 0
        if self.kind == "gcd":
            likely = (logits @ p["divided"].to(logits.dtype)) * p["smoothing"].to(logits.dtype)[
                wanted
            ]
            inside = likely.sum(-1)
        else:
            classes = p["classes"]
            is_other = classes != classes[wanted][:, None]
            inside = logits.masked_fill(is_other, float("-inf")).logsumexp(-1)
        nats = (logits.logsumexp(-1) - inside) * is_target
        return strength * nats.sum()
