"""The shape of a model: the numbers from which it can be built again."""

from __future__ import annotations

from dataclasses import dataclass

from cllm.config import ModelSettings
from cllm.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Preset:
    """A named size."""

    width: int
    layers: int
    heads: int
    context: int


PRESETS: dict[str, Preset] = {
    "tiny": Preset(width=64, layers=2, heads=2, context=128),
    "small": Preset(width=128, layers=4, heads=4, context=256),
    "base": Preset(width=256, layers=6, heads=4, context=256),
    "mid": Preset(width=384, layers=6, heads=6, context=256),
    "large": Preset(width=512, layers=8, heads=8, context=512),
}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Everything that decides the shapes and the arithmetic of a `Transformer`."""

    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    mlp_width: int
    context: int
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-6
    tied: bool = True

    @property
    def num_parameters(self) -> int:
        """Trained numbers, tied tables counted once."""
        attention = 2 * (self.heads + self.kv_heads) * self.head_width * self.width
        norms = 2 * self.width + 2 * self.head_width
        block = attention + 3 * self.width * self.mlp_width + norms
        tables = self.vocab_size * self.width * (1 if self.tied else 2)
        return tables + self.layers * block + self.width

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter by name, in the order in which all code keeps them."""
        width, head_width = (self.width,), (self.head_width,)
        shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (self.vocab_size, self.width)}
        for layer in range(self.layers):
            block = {
                "attention_norm": width,
                "attention.qkv": ((self.heads + 2 * self.kv_heads) * self.head_width, self.width),
                "attention.q_norm": head_width,
                "attention.k_norm": head_width,
                "attention.out": (self.width, self.heads * self.head_width),
                "feed_forward_norm": width,
                "feed_forward.gate_up": (2 * self.mlp_width, self.width),
                "feed_forward.down": (self.width, self.mlp_width),
            }
            shapes |= {f"blocks.{layer}.{part}.weight": shape for part, shape in block.items()}
        shapes["norm.weight"] = width
        if not self.tied:
            shapes["head.weight"] = (self.vocab_size, self.width)
        return shapes


def fused_rows(spec: ModelSpec) -> dict[str, list[int]]:
    """The parameters that hold several matrices one above the other, with the rows of each."""
    heads = [n * spec.head_width for n in (spec.heads, spec.kv_heads, spec.kv_heads)]
    parts = {"attention.qkv": heads, "feed_forward.gate_up": [spec.mlp_width] * 2}
    return {
        f"blocks.{layer}.{part}.weight": rows
        for layer in range(spec.layers)
        for part, rows in parts.items()
    }


def spec_from_settings(settings: ModelSettings, vocab_size: int, preset: str) -> ModelSpec:
    """Fill what the settings leave open from `preset`, and check that the parts fit.

    Raises: SettingsError naming the setting.
    """
    size = PRESETS[settings.preset or preset]
    width = settings.width or size.width
    head_width = settings.head_width
    if settings.heads is None and head_width is None:
        head_width = size.width // size.heads
        heads = max(1, width // head_width)
    else:
        heads = settings.heads or max(1, width // (head_width or 1))
    if head_width is None:
        if width % heads:
            raise SettingsError(
                f"{heads} heads do not divide the width {width}",
                where="model.heads",
                hint="Choose heads that divide the width, or give model.head-width too.",
            )
        head_width = width // heads
    if head_width % 2:
        raise SettingsError(
            f"the head width {head_width} is odd, but rotary positions turn pairs",
            where="model.head-width",
            hint="Choose an even head width (width / heads).",
        )
    kv_heads = settings.kv_heads or heads
    if heads % kv_heads:
        raise SettingsError(
            f"{kv_heads} key-value heads do not divide the {heads} query heads",
            where="model.kv-heads",
        )
    return ModelSpec(
        vocab_size=vocab_size,
        width=width,
        layers=settings.layers or size.layers,
        heads=heads,
        kv_heads=kv_heads,
        head_width=head_width,
        mlp_width=settings.mlp_width or _mlp_width(width),
        context=settings.context or size.context,
        rope_base=settings.rope_base,
        norm_epsilon=settings.norm_epsilon,
        tied=settings.tied,
    )


def _mlp_width(width: int) -> int:
    # 8/3: three matrices cost what the classic two of 4x do (Shazeer 2020, arXiv:2002.05202).
    return max(32, round(width * 8 / 3 / 32) * 32)
