"""The parts of a block: norm, rotary positions, attention, feed-forward.

Each is the field's plain form, as in Qwen3. Dimension letters: B batch, T query, S key,
C width, H heads, K key-value heads, D head width, V vocabulary, M feed-forward width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cllm.model.mechanisms.mechanism import TurnsHeads
from cllm.model.norm import rms_norm
from cllm.model.parts import Parts
from cllm.model.reading import Reading
from cllm.model.spec import ModelSpec


class RMSNorm(nn.Module):
    """y = gain · x / sqrt(mean(x²) + ε) over the last axis.

    Source: Zhang 2019, arXiv:1910.07467.
    """

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Float[Tensor, "... C"]) -> Float[Tensor, "... C"]:
        """Normalise each vector; same shape."""
        return rms_norm(x, self.weight, self.epsilon)


class Rotary(nn.Module):
    """Rotary positions: pair (j, j + D/2) turns by position · base^(−2j/D).

    A mechanism may choose other angles. Tables are kept in float32 for every position below
    the context. Source: Su 2021, arXiv:2104.09864; pairing as in Qwen3.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        pairs = torch.arange(0, spec.head_width, 2, dtype=torch.float64)
        frequency = spec.rope_base ** (-pairs / spec.head_width)
        for part in spec.mechanisms:
            if isinstance(part, TurnsHeads):
                frequency = torch.from_numpy(part.frequencies(spec))
        angle = torch.outer(torch.arange(spec.context, dtype=torch.float64), frequency)
        self.register_buffer("cos", angle.cos().repeat(1, 2).float(), persistent=False)
        signed = torch.cat((-angle.sin(), angle.sin()), dim=1)
        self.register_buffer("sin", signed.float(), persistent=False)

    def forward(self, x: Float[Tensor, "B H T D"], start: int) -> Float[Tensor, "B H T D"]:
        """Turn queries or keys whose first position is `start`."""
        end = start + x.shape[2]
        cos, sin = self.cos[start:end].to(x.dtype), self.sin[start:end].to(x.dtype)
        return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


class Attention(nn.Module):
    """Causal grouped-query attention with queries and keys normalised, unless the spec says not.

    One product gives queries, keys and values. Source: Ainslie 2023, arXiv:2305.13245
    (groups); Henry 2020, arXiv:2010.04245 (query-key norm).
    """

    def __init__(self, spec: ModelSpec, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads, self.kv_heads, self.head_width = spec.heads, spec.kv_heads, spec.head_width
        rows = spec.parameter_shapes()[f"blocks.{layer}.attention.qkv.weight"][0]
        self.qkv = nn.Linear(spec.width, rows, bias=False)
        has_norm = spec.has_head_norm
        self.q_norm = RMSNorm(spec.head_width, spec.norm_epsilon) if has_norm else None
        self.k_norm = RMSNorm(spec.head_width, spec.norm_epsilon) if has_norm else None
        self.out = nn.Linear(spec.heads * spec.head_width, spec.width, bias=False)

    def forward(
        self, x: Float[Tensor, "B T C"], rotary: Rotary, reading: Reading, parts: Parts
    ) -> Float[Tensor, "B T C"]:
        """Mix each position with those before it."""
        B, T, _ = x.shape
        x = parts.filter(self.layer, x, reading)
        heads = F.linear(x, parts.project(self.layer, self.qkv.weight))
        heads = heads.view(B, T, -1, self.head_width)
        qk, v = torch.split(heads, [self.heads + self.kv_heads, self.kv_heads], dim=2)
        qk = rotary(self._normalised(qk).transpose(1, 2), reading.start)
        (q, k), v = qk.split((self.heads, self.kv_heads), dim=1), v.transpose(1, 2)
        if reading.cache is not None:
            k, v = reading.cache.extend(self.layer, k, v)
        v = parts.values(self.layer, v, reading)
        bias = parts.bias(self.layer, x, reading)
        if parts.replace_scores:
            q = torch.zeros_like(q)
        if reading.isolates_documents:
            bias = reading.document_mask if bias is None else bias + reading.document_mask
        y = attend(q, k, v, bias).transpose(1, 2)
        y = parts.gate(self.layer, y, x, reading)
        mixed: Tensor = self.out(y.reshape(B, T, -1))
        return mixed

    def _normalised(self, qk: Float[Tensor, "B T HK D"]) -> Float[Tensor, "B T HK D"]:
        if self.q_norm is None or self.k_norm is None:
            return qk
        q_gains = self.q_norm.weight.expand(self.heads, -1)
        k_gains = self.k_norm.weight.expand(self.kv_heads, -1)
        return rms_norm(qk, torch.cat((q_gains, k_gains)), self.q_norm.epsilon)


def attend(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B K S D"],
    v: Float[Tensor, "B K S D"],
    bias: Float[Tensor, "#B #H #T S"] | None = None,
) -> Float[Tensor, "B H T D"]:
    """Causal softmax attention; the T queries are the last of the S positions.

    `bias` is added to the scores. On a CPU as product, softmax, product: the fused kernel's
    backward pass is several times slower there in bfloat16. Elsewhere the fused kernel.
    Cost: B · H · T · S numbers.
    """
    B, H, T, D = q.shape
    K, S = k.shape[1], k.shape[2]
    if q.device.type != "cpu" and T == S and bias is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=H != K)
    q = (q * D**-0.5).reshape(B, K, H // K * T, D)
    scores = (q @ k.transpose(2, 3)).view(B, H, T, S)
    if bias is not None:
        scores = scores + bias
    if T > 1:
        mask = torch.full((T, S), float("-inf"), dtype=q.dtype, device=q.device).triu_(S - T + 1)
        scores = scores + mask
    weights = scores.softmax(-1).to(v.dtype).view(B, K, H // K * T, S)
    return (weights @ v).view(B, H, T, D)


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate·x) ⊙ up·x), gate and up in one product.

    Source: Shazeer 2020, arXiv:2002.05202.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.gate_up = nn.Linear(spec.width, 2 * spec.mlp_width, bias=False)
        self.down = nn.Linear(spec.mlp_width, spec.width, bias=False)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        """Transform each position by itself."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        mixed: Tensor = self.down(F.silu(gate) * up)
        return mixed
