"""The shape of a model: the numbers from which it can be built again."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from cllm.config import ModelSettings
from cllm.errors import SettingsError
from cllm.model.mechanisms.mechanism import Mechanism, Parameter
from cllm.model.weights import reading_deviation

# A configuration that claims more is damaged, or made to exhaust memory.
MOST_LAYERS, LONGEST_CONTEXT = 1 << 12, 1 << 20


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
    # The token that ends a document.
    eos_id: int = 0
    # Queries and keys are normalised, as in Qwen3; Llama lacks that and is otherwise the same.
    has_head_norm: bool = True
    # In the order in which they act; see `mechanisms.choose`.
    mechanisms: tuple[Mechanism, ...] = ()

    @property
    def num_parameters(self) -> int:
        """Trained numbers, tied tables counted once."""
        return sum(math.prod(shape) for shape in self.parameter_shapes().values())

    @property
    def num_row_parameters(self) -> int:
        """Of those, the numbers of tables of which a step touches few rows."""
        kinds = self.parameters().values()
        return sum(math.prod(kind.shape) for kind in kinds if kind.update == "rows")

    @property
    def plain(self) -> ModelSpec:
        """The same model without mechanisms."""
        return replace(self, mechanisms=())

    def parameters(self) -> dict[str, Parameter]:
        """Every parameter by name, in the order in which all code keeps them."""
        found: dict[str, Parameter | None] = dict(_plain_parameters(self))
        for mechanism in self.mechanisms:
            found |= mechanism.parameters(self)
        return {name: value for name, value in found.items() if value is not None}

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter by name."""
        return {name: value.shape for name, value in self.parameters().items()}


def _plain_parameters(spec: ModelSpec) -> dict[str, Parameter]:
    width, head_width = spec.width, spec.head_width
    deviation = reading_deviation(width)
    gains, head_gains = Parameter((width,), 1.0), Parameter((head_width,), 1.0)
    heads = (spec.heads * head_width, spec.kv_heads * head_width, spec.kv_heads * head_width)
    halves = (spec.mlp_width, spec.mlp_width)

    def matrix(rows: int | tuple[int, ...], columns: int, *, writes: bool = False) -> Parameter:
        stacked = rows if isinstance(rows, tuple) else None
        shape = (sum(rows) if isinstance(rows, tuple) else rows, columns)
        return Parameter(shape, 0.0, 0.0 if writes else deviation, "muon", True, stacked)

    table = Parameter((spec.vocab_size, width), deviation=deviation, decays=True)
    found = {"embedding.weight": table}
    for layer in range(spec.layers):
        head_norms = {"attention.q_norm": head_gains, "attention.k_norm": head_gains}
        block = {
            "attention_norm": gains,
            "attention.qkv": matrix(heads, width),
            **(head_norms if spec.has_head_norm else {}),
            "attention.out": matrix(width, spec.heads * head_width, writes=True),
            "feed_forward_norm": gains,
            "feed_forward.gate_up": matrix(halves, width),
            "feed_forward.down": matrix(width, spec.mlp_width, writes=True),
        }
        found |= {f"blocks.{layer}.{part}.weight": value for part, value in block.items()}
    found["norm.weight"] = gains
    if not spec.tied:
        found["head.weight"] = table
    return found


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
