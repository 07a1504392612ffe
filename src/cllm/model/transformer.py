"""The model: token ids to logits, in one sitting.

The plain model is exactly Qwen3: pre-norm, rotary positions, normalised queries and keys,
grouped-query attention, SwiGLU, no biases. `Parts` calls the mechanisms at the places where they
stand; a place where none does costs nothing.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int32
from torch import Tensor, nn

from cllm.model.cache import KeyValueCache
from cllm.model.layers import Attention, FeedForward, RMSNorm, Rotary
from cllm.model.lexicon import Lexicon
from cllm.model.parts import Parts
from cllm.model.reading import Reading
from cllm.model.spec import ModelSpec
from cllm.model.weights import Weights


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, spec: ModelSpec, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(spec.width, spec.norm_epsilon)
        self.attention = Attention(spec, layer)
        self.feed_forward_norm = RMSNorm(spec.width, spec.norm_epsilon)
        self.feed_forward = FeedForward(spec)
        # Of each branch's output; whoever trains sets its share.
        self.dropout = nn.Dropout(0.0)

    def forward(
        self, x: Float[Tensor, "B T C"], rotary: Rotary, reading: Reading, parts: Parts
    ) -> Float[Tensor, "B T C"]:
        """One layer of the residual stream."""
        x = x + self.dropout(self.attention(self.attention_norm(x), rotary, reading, parts))
        mixed: Tensor = self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        return x + mixed


class Transformer(nn.Module):
    """A Qwen3 language model of any size, with the mechanisms of its spec.

    `lexicon` is what some of them make their tables from. With `isolates_documents` attention
    does not look into earlier documents of the window.
    """

    def __init__(self, spec: ModelSpec, lexicon: Lexicon | None = None) -> None:
        super().__init__()
        self.spec, self.lexicon = spec, lexicon
        self.isolates_documents = False
        shapes = spec.parameter_shapes()
        has_table, has_head = "embedding.weight" in shapes, "head.weight" in shapes
        self.embedding = nn.Embedding(spec.vocab_size, spec.width) if has_table else None
        self.rotary = Rotary(spec)
        self.blocks = nn.ModuleList(Block(spec, layer) for layer in range(spec.layers))
        self.norm = RMSNorm(spec.width, spec.norm_epsilon)
        self.head = nn.Linear(spec.width, spec.vocab_size, bias=False) if has_head else None
        self.mechanisms = Parts(spec, lexicon)

    def forward(
        self, ids: Int[Tensor, "B T"], cache: KeyValueCache | None = None
    ) -> Float[Tensor, "B T V"]:
        """Logits of the token after each position.

        With a cache, `ids` follow the `cache.length` tokens it holds; together they must fit
        the context.
        """
        logits, _ = self._look(ids, cache)
        order = self.mechanisms.order()
        return logits if order is None else logits.index_select(-1, order)

    def loss(
        self, ids: Int[Tensor, "B T"], targets: Int[Tensor, "B T"], progress: float = 0.0
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Summed nats over targets ≥ 0, and the sum that training lowers.

        They differ where a mechanism adds to the loss; `progress` is the share of the run
        that is done.
        """
        logits, table = self._look(ids, None)
        logits, targets = logits.flatten(0, 1), targets.flatten()
        if logits.dtype != torch.float64:
            logits = logits.float()
        order = self.mechanisms.order()
        if order is not None:
            targets = torch.where(targets < 0, targets, order[targets.clamp_min(0)])
        nats = F.cross_entropy(logits, targets, ignore_index=-1, reduction="sum")
        total = nats
        for extra in self.mechanisms.losses(logits, targets, table, progress):
            total = total + extra
        return nats, total

    def _look(
        self, ids: Int[Tensor, "B T"], cache: KeyValueCache | None
    ) -> tuple[Float[Tensor, "B T V"], Float[Tensor, "V C"]]:
        """Logits in the order of the table's rows, and the table."""
        parts = self.mechanisms
        reading = Reading(ids, cache, self.spec.eos_id, isolates_documents=self.isolates_documents)
        table = parts.table(None if self.embedding is None else self.embedding.weight)
        order = parts.order()
        x = parts.add(F.embedding(ids if order is None else order[ids], table), reading)
        for block in self.blocks:
            x = block(x, self.rotary, reading, parts)
        if cache is not None:
            cache.advance(ids.shape[1])
        weight = table if self.head is None else self.head.weight
        return parts.logits(self.norm(x), lambda h: F.linear(h, weight)), table

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
        device = self.norm.weight.device
        logits = self(torch.from_numpy(ids).to(device, torch.int64)).flatten(0, 1).float()
        wanted = torch.from_numpy(targets).to(device, torch.int64).flatten()
        losses = F.cross_entropy(logits, wanted, ignore_index=-1, reduction="none")
        return float(losses.double().sum())
