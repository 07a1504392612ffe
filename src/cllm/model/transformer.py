"""The model: token ids to logits, in one sitting.

The plain model is exactly Qwen3: pre-norm, rotary positions, normalised queries and keys,
grouped-query attention, SwiGLU, no biases. `Slots` names the places where another part can
stand; a slot left alone costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from cllm.model.cache import KeyValueCache
from cllm.model.layers import Attention, FeedForward, RMSNorm, Rotary
from cllm.model.spec import ModelSpec


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

    def forward(
        self, x: Float[Tensor, "B T C"], rotary: Rotary, cache: KeyValueCache | None
    ) -> Float[Tensor, "B T C"]:
        """One layer of the residual stream."""
        x = x + self.attention(self.attention_norm(x), rotary, cache)
        mixed: Tensor = self.feed_forward(self.feed_forward_norm(x))
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
    def initialise(self, generator: torch.Generator) -> None:
        """Draw every weight anew; the same generator state gives the same weights.

        Normal with deviation 0.02 at width 768, growing as 1/√width for narrower models;
        projections back into the residual stream divided by √(2L) (Radford 2019).
        """
        deviation = 0.02 * (768 / self.spec.width) ** 0.5
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                parameter.fill_(1.0)
                continue
            scale = 1.0
            if name.endswith(("attention.out.weight", "feed_forward.down.weight")):
                scale = (2 * self.spec.layers) ** -0.5
            values = torch.empty(parameter.shape).normal_(generator=generator)
            parameter.copy_(values * (deviation * scale))
