"""The model: from token ids to logits."""

from cllm.model.cache import KeyValueCache
from cllm.model.files import load_model, save_model
from cllm.model.spec import PRESETS, ModelSpec, spec_from_settings
from cllm.model.transformer import Slots, Transformer

__all__ = [
    "PRESETS",
    "KeyValueCache",
    "ModelSpec",
    "Slots",
    "Transformer",
    "load_model",
    "save_model",
    "spec_from_settings",
]
