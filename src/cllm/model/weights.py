"""A model's parameters as plain arrays, whatever computes with them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# By parameter name (`ModelSpec.parameter_shapes`), float32.
Weights = dict[str, NDArray[np.float32]]

# How embeddings begin: their root mean square, and the share of each along the direction that
# all have in common. See "Initialisation" in docs/log.md for the runs behind these.
EMBEDDING_RMS = 0.2
SHARED_PART = 0.5


def reading_deviation(width: int) -> float:
    """Of the normal numbers that matrices reading the residual stream begin with."""
    return 0.02 * float((768 / width) ** 0.5)
