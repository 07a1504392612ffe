"""The model: from token ids to logits. What needs torch is imported when it is first used."""

from typing import TYPE_CHECKING

from cllm.model.files import load_model, load_weights, save_model
from cllm.model.initial import initial_weights
from cllm.model.spec import PRESETS, ModelSpec, spec_from_settings
from cllm.model.weights import Weights

if TYPE_CHECKING:
    from cllm.model.cache import KeyValueCache
    from cllm.model.transformer import Slots, Transformer

__all__ = [
    "PRESETS",
    "KeyValueCache",
    "ModelSpec",
    "Slots",
    "Transformer",
    "Weights",
    "initial_weights",
    "load_model",
    "load_weights",
    "save_model",
    "spec_from_settings",
]


def __getattr__(name: str) -> object:
    if name in ("Slots", "Transformer"):
        from cllm.model import transformer

        return getattr(transformer, name)
    if name == "KeyValueCache":
        from cllm.model.cache import KeyValueCache

        return KeyValueCache
    raise AttributeError(f"module 'cllm.model' has no attribute {name!r}")
