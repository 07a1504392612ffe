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
# Classes of less than this share of the vocabulary are listed, rather than masked out of it.
_SMALL = 8


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

    Cost in training: a second log-sum-exp over the vocabulary for each target, a third where
    classes are large, and with gcd V·`divisors` multiplications: a fifth of the step with two
    layers, C = 256 and V = 8,192. No parameters. Placebo: the classes, or the ranks, are dealt
    out to the tokens at random.

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
        """Classes with their tokens, or the factors S = smoothing · dividedᵀ of the kernel."""
        del spec
        assert lexicon is not None
        if self.kind != "gcd":
            return _members(self.classes(lexicon))
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
        import torch
        import torch.nn.functional as F

        wanted = targets.clamp_min(0)
        # CE(token) and what the target's logit is above its class: together CE(class).
        nats, column = F.cross_entropy(logits, wanted, reduction="none"), wanted[:, None]
        if self.kind == "gcd":
            sums = logits @ p["divided"].to(logits.dtype)
            inside = (sums * p["smoothing"].to(logits.dtype)[wanted]).sum(-1)
            nats = nats + logits.gather(1, column)[:, 0] - inside
        elif "members" in p:
            members = torch.cat((column, p["members"][p["classes"][wanted]]), 1)
            found = logits.gather(1, members.clamp_min(0))
            inside = found[:, 1:].masked_fill(members[:, 1:] < 0, float("-inf")).logsumexp(-1)
            nats = nats + found[:, 0] - inside
        else:
            is_other = p["classes"] != p["classes"][column]
            kept = logits.masked_fill(is_other, float("-inf"))
            nats = nats - F.cross_entropy(kept, wanted, reduction="none")
        return strength * (nats * (targets >= 0)).sum()


def _members(classes: Int64[np.ndarray, " V"]) -> dict[str, NDArray[Any]]:
    """The class of each token, and, where classes are small, each one's tokens, filled with −1."""
    sizes = np.bincount(classes)
    if sizes.max() * _SMALL > len(classes):
        return {"classes": classes}
    members = np.full((len(sizes), int(sizes.max())), -1, np.int64)
    order = np.argsort(classes, kind="stable")
    places = np.arange(len(classes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    members[classes[order], places] = order
    return {"classes": classes, "members": members}
