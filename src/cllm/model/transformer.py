"""The model: token ids to logits, in one sitting.

The plain model is exactly Qwen3: pre-norm, rotary positions, normalised queries and keys,
grouped-query attention, SwiGLU, no biases. `Slots` names the places where another part can
stand; a slot left alone costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int32
from torch import Tensor, nn

from cllm.model.cache import KeyValueCache
from cllm.model.layers import Attention, FeedForward, RMSNorm, Rotary
from cllm.model.spec import ModelSpec
from cllm.model.weights import Weights


@dataclass(frozen=True, slots=True)
class Slots:
    """What stands at each place of the model; the defaults make it Qwen3."""

    rotary: Callable[[ModelSpec], Rotary] = Rotary
    attention: Callable[[ModelSpec, int], nn.Module] = Attention
    feed_forward: Callable[[ModelSpec], nn.Module] = FeedForward


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, spec: ModelSpec, layer: int, slots: Slots) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(spec.width, spec.norm_epsilon)
        self.attention = slots.attention(spec, layer)
        self.feed_forward_norm = RMSNorm(spec.width, spec.norm_epsilon)
        self.feed_forward = slots.feed_forward(spec)
        # Of each branch's output; whoever trains sets its share.
        self.dropout = nn.Dropout(0.0)

    def forward(
        self, x: Float[Tensor, "B T C"], rotary: Rotary, cache: KeyValueCache | None
    ) -> Float[Tensor, "B T C"]:
        """One layer of the residual stream."""
        x = x + self.dropout(self.attention(self.attention_norm(x), rotary, cache))
        mixed: Tensor = self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        return x + mixed


class Transformer(nn.Module):
    """A Qwen3 language model of any size."""

    def __init__(self, spec: ModelSpec, slots: Slots | None = None) -> None:
        super().__init__()
        slots = slots or Slots()
        self.spec = spec
        self.embedding = nn.Embedding(spec.vocab_size, spec.width)
        self.rotary = slots.rotary(spec)
        self.blocks = nn.ModuleList(Block(spec, layer, slots) for layer in range(spec.layers))
        self.norm = RMSNorm(spec.width, spec.norm_epsilon)
        self.head = None if spec.tied else nn.Linear(spec.width, spec.vocab_size, bias=False)

    def forward(
        self, ids: Int[Tensor, "B T"], cache: KeyValueCache | None = None
    ) -> Float[Tensor, "B T V"]:
        """Logits of the token after each position.

        With a cache, `ids` follow the `cache.length` tokens it holds; together they must fit
        the context.
        """
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, self.rotary, cache)
        if cache is not None:
            cache.advance(ids.shape[1])
        weight = self.embedding.weight if self.head is None else self.head.weight
        return F.linear(self.norm(x), weight)

    @torch.no_grad()
    def load_weights(self, weights: Weights) -> None:
        """Copy weights of this shape into the parameters."""
        for name, parameter in self.named_parameters():
            parameter.copy_(torch.from_numpy(weights[name]))

    def weights(self) -> Weights:
        """A copy of the parameters."""
        return {
            name: parameter.detach().to("cpu", torch.float32).numpy().copy()
            for name, parameter in self.named_parameters()
        }

    @property
    def context(self) -> int:
        """Most tokens it sees at once."""
        return self.spec.context

    @torch.inference_mode()
    def score(self, ids: Int32[np.ndarray, "B T"], targets: Int32[np.ndarray, "B T"]) -> float:
        """Summed nats over targets ≥ 0."""
        device = self.embedding.weight.device
        logits = self(torch.from_numpy(ids).to(device, torch.int64)).flatten(0, 1).float()
        wanted = torch.from_numpy(targets).to(device, torch.int64).flatten()
        losses = F.cross_entropy(logits, wanted, ignore_index=-1, reduction="none")
        return float(losses.double().sum())
