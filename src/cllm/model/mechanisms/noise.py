"""What a control's gate reads in place of the data: a fixed random vector for each place."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32

from cllm.model.mechanisms.mechanism import Reading, Tensor, random_for

_ROWS = 256


def noise_table(name: str, width: int) -> Float32[np.ndarray, "N C"]:
    """The vectors of the mechanism of this name: normal, as large as what attention reads."""
    return random_for(f"{name}.placebo").standard_normal((_ROWS, width), np.float32)


def noise_at(
    noise: Float[Tensor, "N C"], h: Float[Tensor, "B T C"], reading: Reading
) -> Float[Tensor, "B T C"]:
    """The vector of each new position's place in its document, like `h` in shape and type."""
    found: Tensor = noise.to(h.dtype)[reading.places[:, -h.shape[1] :] % len(noise)]
    return found
