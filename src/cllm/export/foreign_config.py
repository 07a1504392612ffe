"""The configuration of somebody else's Qwen3 or Llama: its shape, or what of it we lack."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cllm.errors import InputError, IntegrityError
from cllm.export.stored_tensor import read_object
from cllm.model.spec import LONGEST_CONTEXT, MOST_LAYERS, ModelSpec

_LARGEST_CONFIG = 1 << 20
# Far above any model's, so that a damaged number is refused before anything is made of it.
_MOST = 1 << 28
_CLASSES = {"qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM"}


@dataclass(frozen=True, slots=True)
class ForeignConfig:
    """A shape, and the tokens that end a text."""

    spec: ModelSpec
    eos_ids: tuple[int, ...]


class Numbers:
    """Reads numbers by name and refuses what can't be one. Raises: IntegrityError."""

    def __init__(self, values: dict[str, Any], where: Path) -> None:
        self.values, self.where = values, where

    def whole(self, name: str, default: int | None = None, *, most: int = _MOST) -> int:
        """A count from 1 to `most`."""
        value = self.values.get(name)
        value = default if value is None else value
        if type(value) is not int or not 1 <= value <= most:
            raise IntegrityError(f"{name} is {_shown(value)}, not 1 to {most:,}", where=self.where)
        return value

    def real(self, name: str, default: float, *, above: float, value: Any = None) -> float:
        """A finite number above a bound."""
        value = self.values.get(name) if value is None else value
        value = default if value is None else value
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not above < value < 1e30 or not math.isfinite(value):
            message = f"{name} is {_shown(value)}, not a number above {above:g}"
            raise IntegrityError(message, where=self.where)
        return float(value)


def check_heads(spec: ModelSpec, where: Path) -> None:
    """Raises: IntegrityError for heads that don't fit together."""
    if spec.head_width % 2 or spec.heads % spec.kv_heads:
        shape = f"{spec.heads} heads, {spec.kv_heads} key-value heads, {spec.head_width} wide each"
        raise IntegrityError(f"the heads don't fit together: {shape}", where=where)


def read_foreign_config(path: Path) -> ForeignConfig:
    """Read a `config.json`.

    Raises: IntegrityError for a damaged file, InputError naming what the model has that ours
    lack.
    """
    values = read_object(path, _LARGEST_CONFIG)
    kind = values.get("model_type")
    if kind == "cllm":
        hint = "Copy its folder into the folder of models (`cllm models path` tells it)."
        raise InputError("this is a model of CLLM's own", where=path, hint=hint)
    if not isinstance(kind, str) or kind not in _CLASSES:
        message = f"a model of the type {_shown(kind)}, not qwen3 or llama"
        raise InputError(message, where=path)
    _refuse_parts(values, kind, path)
    read = Numbers(values, path)
    width, heads = read.whole("hidden_size"), read.whole("num_attention_heads")
    spec = ModelSpec(
        vocab_size=read.whole("vocab_size"),
        width=width,
        layers=read.whole("num_hidden_layers", most=MOST_LAYERS),
        heads=heads,
        kv_heads=read.whole("num_key_value_heads", heads),
        head_width=read.whole("head_dim", 128 if kind == "qwen3" else max(1, width // heads)),
        mlp_width=read.whole("intermediate_size"),
        context=read.whole("max_position_embeddings", 2048, most=LONGEST_CONTEXT),
        rope_base=read.real("rope_theta", 10_000.0, above=1.0, value=_rope_base(values)),
        norm_epsilon=read.real("rms_norm_eps", 1e-6, above=0.0),
        tied=_flag(values, "tie_word_embeddings", path),
        has_head_norm=kind == "qwen3",
    )
    check_heads(spec, path)
    return ForeignConfig(spec, read_ids(values.get("eos_token_id"), spec.vocab_size, path))


def read_ids(value: object, vocab_size: int, where: Path) -> tuple[int, ...]:
    """One token id, several or none. Raises: IntegrityError."""
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if len(ids) > 1000 or not all(type(one) is int and 0 <= one < vocab_size for one in ids):
        raise IntegrityError(f"eos_token_id is {_shown(value)}", where=where)
    return tuple(ids)


def _refuse_parts(values: dict[str, Any], kind: str, path: Path) -> None:
    """Refuse by name what would change the arithmetic."""
    layers, parts = values.get("layer_types"), _rope_parts(values)
    kinds = [part.get("rope_type", part.get("type")) for part in parts]
    scaling = [one for one in kinds if one not in ("default", None)]
    shares = [part.get("partial_rotary_factor") for part in (values, *parts)]
    classes = values.get("architectures") or [_CLASSES[kind]]
    window = values.get("sliding_window") is not None and values.get("use_sliding_window", True)
    found = {
        "code of its own (auto_map)": bool(values.get("auto_map")),
        f"the class {_shown(classes)}": classes != [_CLASSES[kind]],
        f"rotary scaling {_shown(scaling)}": bool(scaling),
        "partly rotated heads": any(share not in (1, None) for share in shares),
        "a sliding window": bool(values.get("use_sliding_window")) or bool(window),
        f"layers of the types {_shown(layers)}": layers is not None
        and (not isinstance(layers, list) or any(one != "full_attention" for one in layers)),
        "biases of attention": bool(values.get("attention_bias")),
        "biases of the feed-forward part": bool(values.get("mlp_bias")),
        f"the activation {_shown(values.get('hidden_act'))}": values.get("hidden_act", "silu")
        not in ("silu", "swish"),
        "quantised weights (quantization_config)": bool(values.get("quantization_config")),
    }
    names = [name for name, is_there in found.items() if is_there]
    if names:
        message = f"the model has {' and '.join(names)}, which can't be imported"
        raise InputError(message, where=path)


def _rope_parts(values: dict[str, Any]) -> list[dict[str, Any]]:
    """How positions turn: newer files keep it together, older ones only the scaling."""
    parts = [values.get(name) for name in ("rope_parameters", "rope_scaling")]
    return [part for part in parts if isinstance(part, dict)]


def _rope_base(values: dict[str, Any]) -> Any:
    bases = [part.get("rope_theta") for part in (*_rope_parts(values), values)]
    return next((base for base in bases if base is not None), None)


def _flag(values: dict[str, Any], name: str, where: Path) -> bool:
    value = values.get(name, False)
    if not isinstance(value, bool):
        raise IntegrityError(f"{name} is {_shown(value)}, not true or false", where=where)
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
