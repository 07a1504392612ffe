"""The constant Λ = 3/144000 and the weight decay that it amounts to.

As a factor on gradients Λ would change nothing under Adam, which divides by the gradients' own
size. As decoupled decay it does: θ ← θ(1 − Λ) at every step.
"""

from __future__ import annotations

import math
from fractions import Fraction

from cllm.errors import InputError
from cllm.numbers.checks import whole_number

# Written as the prototype writes it; in lowest terms it is 1/48000.
LAMBDA = Fraction(3, 144000)


def remaining_share(num_steps: int) -> Fraction:
    """What is left of a weight that gets no gradient: (1 − Λ)^num_steps, exactly.

    Raises: InputError for a negative number. Cost: a numerator of 15.6 bits a step.
    """
    return (1 - LAMBDA) ** whole_number(num_steps, "num_steps", 0)


def half_life_steps() -> float:
    """Steps until such a weight has halved: ln 2 / −ln(1 − Λ), about 33,271."""
    return -math.log(2.0) / math.log1p(-float(LAMBDA))


def equivalent_weight_decay(learning_rate: float) -> float:
    """The weight decay w with which AdamW does the same: learning_rate · w = Λ.

    AdamW multiplies by 1 − learning_rate · w at each step, so the two agree for as long as the
    learning rate stays there; in a schedule Λ alone stays constant. At 1e-3 it is 1/48.

    Raises: InputError unless the learning rate is positive and finite.
    Source: Loshchilov & Hutter, 2017, arXiv 1711.05101 (decoupled decay).
    """
    if not (0.0 < learning_rate < math.inf):
        hint = "Give a positive number, such as 0.001."
        raise InputError(f"{learning_rate} is no learning rate", hint=hint)
    return float(LAMBDA) / learning_rate
