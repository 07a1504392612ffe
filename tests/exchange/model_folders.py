"""Small models with random weights and real tokenisers, as folders."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from cllm.files import write_json, write_manifest
from cllm.model import ModelSpec, Weights, initial_weights, save_model
from cllm.text.tokenizers import Tokenizer, train_tokenizer

TEXT = " ".join(
    f"The {a} {b} don't {c} {i * 37} times, naïve façade; 日本語\n\tif x_{i} == {i}: return '{b}'"
    for i, (a, b, c) in enumerate(
        itertools.product(
            ("quick", "slow", "old"),
            ("fox", "dog", "crow", "owl"),
            ("jump", "sleep", "sing", "run"),
        )
    )
)
SHAPES = {
    "qwen3": {},
    "grouped": {"heads": 6, "kv_heads": 2, "head_width": 16, "width": 64, "mlp_width": 96},
    "untied": {"tied": False, "rope_base": 500_000.0, "norm_epsilon": 1e-5},
    "llama": {"has_head_norm": False, "kv_heads": 1},
    "llama-untied": {"has_head_norm": False, "tied": False, "width": 96, "heads": 6,
                     "kv_heads": 3},
    "llama-odd": {"has_head_norm": False, "heads": 6, "kv_heads": 2, "head_width": 16},
}  # fmt: skip


def make_tokenizer(kind: str = "bpe") -> Tokenizer:
    size = 330 if kind == "bpe" else None
    return train_tokenizer(kind, lambda: iter([TEXT]), vocab_size=size, num_characters=len(TEXT))


def make_spec(vocab_size: int, shape: str = "qwen3") -> ModelSpec:
    sizes = {
        "vocab_size": vocab_size,
        "width": 64,
        "layers": 2,
        "heads": 2,
        "kv_heads": 2,
        "head_width": 32,
        "mlp_width": 160,
        "context": 128,
    }
    return ModelSpec(**(sizes | SHAPES[shape]))


def make_weights(spec: ModelSpec, seed: int = 0) -> Weights:
    """Random weights large enough that every part counts."""
    random = np.random.default_rng(seed)
    weights = initial_weights(spec, seed)
    return {
        name: value + random.normal(0, 0.2 if value.ndim == 1 else 0.1, value.shape).astype("f4")
        for name, value in weights.items()
    }


def make_model(
    folder: Path, *, shape: str = "qwen3", kind: str = "bpe", chat_template: str | None = None
) -> Tokenizer:
    """A model's folder as training leaves it."""
    folder.mkdir(parents=True)
    tokenizer = make_tokenizer(kind)
    spec = make_spec(tokenizer.vocab_size, shape)
    save_model(folder, spec, make_weights(spec))
    tokenizer.save(folder, chat_template=chat_template, context=spec.context)
    write_json(folder / "generation_config.json", {"eos_token_id": 0, "bos_token_id": 0})
    write_manifest(folder)
    return tokenizer
