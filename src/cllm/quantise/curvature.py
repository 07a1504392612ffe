"""How much an error in a matrix's weights matters: the second moments of what the matrix reads.

A matrix W that reads inputs X [T, K] errs by ‖X(W − Ŵ)ᵀ‖² = tr (W − Ŵ) H (W − Ŵ)ᵀ with H = XᵀX.
Source: Frantar, Ashkboos, Hoefler and Alistarh, GPTQ, 2022, arXiv:2210.17323.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int8

from cllm.model.rotation import rotate

# Of the mean of the diagonal; GPTQ's own choice. It keeps what was never read from being free.
DAMPING = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Feedback:
    """H = F·D·Fᵀ with F unit upper triangular in blocks and D block-diagonal.

    With errors e = w − q of the columns before, block b's target is w_b + Σ e_i F_ib, and the
    whole error is Σ_b (target_b − q_b) D_b (target_b − q_b)ᵀ: each step is that of Babai's
    nearest plane. `factor` [K, K]; `weights` [K / size, size, size].
    """

    factor: Float64[np.ndarray, "K K"]
    weights: Float64[np.ndarray, "B S S"]


def damped(moments: Float[np.ndarray, "K K"], share: float = DAMPING) -> Float64[np.ndarray, "K K"]:
    """The moments over their mean diagonal, plus `share` of the identity: positive definite."""
    found = np.array(moments, np.float64)
    mean = np.trace(found) / len(found)
    identity = np.eye(len(found))
    if not (np.isfinite(mean) and mean > 0):
        return identity
    scaled: Float64[np.ndarray, "K K"] = (found + found.T) / (2 * mean) + share * identity
    return scaled


def feedback_of(curvature: Float64[np.ndarray, "K K"], size: int = 1) -> Feedback:
    """The factors of a positive definite matrix whose width `size` divides. O(K³)."""
    lower = np.linalg.cholesky(curvature[::-1, ::-1])
    upper = lower[::-1, ::-1]
    starts = range(0, len(upper), size)
    blocks = np.stack([upper[i : i + size, i : i + size] for i in starts])
    inverses = np.linalg.inv(blocks)
    columns = [
        upper[:, i : i + size] @ inverse for i, inverse in zip(starts, inverses, strict=True)
    ]
    return Feedback(np.ascontiguousarray(np.hstack(columns)), blocks @ blocks.transpose(0, 2, 1))


def rotated_curvature(
    curvature: Float64[np.ndarray, "K K"], signs: Int8[np.ndarray, " K"]
) -> Float64[np.ndarray, "K K"]:
    """The moments of rotated inputs."""
    turned: Float64[np.ndarray, "K K"] = rotate(rotate(curvature, signs).T, signs)
    return turned


def row_errors(
    error: Float[np.ndarray, "N K"], curvature: Float64[np.ndarray, "K K"]
) -> Float64[np.ndarray, " N"]:
    """The weighted error of each row of W − Ŵ: e H eᵀ."""
    found: Float64[np.ndarray, " N"] = np.einsum("nk,nk->n", error @ curvature, error)
    return found
