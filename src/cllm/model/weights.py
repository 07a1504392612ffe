"""A model's parameters as plain arrays, whatever computes with them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# By parameter name (`ModelSpec.parameter_shapes`), float32.
Weights = dict[str, NDArray[np.float32]]
