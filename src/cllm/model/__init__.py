"""The model: from token ids to logits. What needs torch is imported when it is first used."""

from typing import TYPE_CHECKING

from cllm.model.files import load_model, load_weights, save_model
from cllm.model.initial import initial_weights
from cllm.model.lexicon import Lexicon
from cllm.model.spec import PRESETS, ModelSpec, spec_from_settings
from cllm.model.weights import Weights

if TYPE_CHECKING:
    from cllm.model.cache import KeyValueCache
    from cllm.model.transformer import Transformer

__all__ = [
    "PRESETS",
    "KeyValueCache",
    "Lexicon",
    "ModelSpec",
    "Transformer",
    "Weights",
    "initial_weights",
    "load_model",
    "load_weights",
    "save_model",
    "spec_from_settings",
]


def __getattr__(name: str) -> object:
    if name == "Transformer":
        from cllm.model.transformer import Transformer

        return Transformer
    if name == "KeyValueCache":
        from cllm.model.cache import KeyValueCache

        return KeyValueCache
    raise AttributeError(f"module 'cllm.model' has no attribute {name!r}")
