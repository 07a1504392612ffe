"""`einstein`: weights decay by 3/144000 a step."""

from __future__ import annotations

from typing import ClassVar, final

from cllm.model.mechanisms.mechanism import Mechanism, random_for
from cllm.numbers.einstein import LAMBDA


@final
class Einstein(Mechanism):
    """The constant Λ as decoupled decay, in place of the recipe's.

        θ ← θ · (1 − Λ) at each step,   Λ = 3/144000 = 1/48000

    It does not follow the learning rate: at a rate of 10⁻³ it equals a weight decay of 0.0208.
    On gradients it would do nothing, as Adam and Muon divide by their size. What the optimiser
    decays is unchanged: matrices, not gains. Cost: none. Placebo: a factor drawn log-uniformly
    between a tenth and ten times Λ.

    Source: this project; Loshchilov 2019, arXiv:1711.05101 (decoupled decay).
    Status: measured (docs/mechanisms.md).
    """

    name: ClassVar = "einstein"
    title: ClassVar = "weights decay by 3/144000 a step, whatever the rate"
    cost: ClassVar = "none"
    control: ClassVar = "another decay, between a tenth and ten times as much"
    export: ClassVar = "training"
    is_compiled: ClassVar = True

    def step_factor(self, rate: float) -> float:
        """What a step multiplies the weights with."""
        del rate
        decay = float(LAMBDA)
        if self.placebo:
            decay *= 10.0 ** random_for("einstein.placebo").uniform(-1, 1)
        return 1.0 - decay
