"""The loss of any model over a whole text, the same way for each: windows, every token once."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

# Rows in one forward pass: enough to keep the products large, little memory.
_ROWS = 64


@torch.no_grad()
def window_nats(logits: Callable[[Tensor], Tensor], ids: Tensor, window: int) -> float:
    """Mean nats per token of `ids` [N], in windows that overlap by one token.

    `logits` maps [B, T] to [B, T, V]. Each token but the very first is predicted once, from
    the 1 to `window` tokens before it in its window. No token is put in front of a window.
    """
    num_full = (len(ids) - 1) // window
    end = num_full * window
    nats = 0.0
    if num_full:
        inputs, targets = ids[:end].view(-1, window), ids[1 : end + 1].view(-1, window)
        for rows, wanted in zip(inputs.split(_ROWS), targets.split(_ROWS), strict=True):
            nats += _summed(logits(rows), wanted)
    if end < len(ids) - 1:
        nats += _summed(logits(ids[None, end:-1]), ids[None, end + 1 :])
    return nats / (len(ids) - 1)


def _summed(logits: Tensor, targets: Tensor) -> float:
    flat = logits.float().flatten(0, 1)
    return float(F.cross_entropy(flat, targets.flatten(), reduction="sum"))
