"""How much the loss rises when one matrix is stored in fewer bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cllm.model.packed import MixedWeights, Packed
from cllm.model.packed_files import to_tensors
from cllm.quantise.budget import Option

# Mean nats a token of a model with these weights, on text.
Loss = Callable[[MixedWeights], float]
# A rise that chance hides still has an order, by the error in what the matrix puts out.
_LEAST_RISE = 1e-6


def rises(weights: MixedWeights, coarsest: Mapping[str, Packed], loss: Loss) -> dict[str, float]:
    """Of each matrix, by how many nats a token the loss rises when it alone is coarse."""
    base = loss(weights)
    return {
        name: max(loss({**weights, name: packed}) - base, _LEAST_RISE)
        for name, packed in coarsest.items()
    }


def options_of(rise: float, candidates: Sequence[Packed], errors: Sequence[float]) -> list[Option]:
    """What each candidate, with its error, costs in bytes and in loss.

    The loss is nearly flat at trained weights, so it rises as the error does: what was measured
    for the first, the coarsest, is scaled.
    """
    scale = rise / errors[0] if errors[0] > 0 else 0.0
    return [
        Option(packed_bytes(packed), scale * error)
        for packed, error in zip(candidates, errors, strict=True)
    ]


def packed_bytes(packed: Packed) -> int:
    """The bytes of a matrix's tensors in a file, without the file's header."""
    tensors, _ = to_tensors("", packed)
    return sum(tensor.nbytes for tensor in tensors.values())
