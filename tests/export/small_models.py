"""A small model as training leaves it in a workspace, of any shape."""

from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np

from cllm.files import write_folder, write_json
from cllm.model import ModelSpec, initial_weights, save_model
from cllm.text.tokenizers.training import train_tokenizer


def make_small(folder: Path, *, kind: Any = "bpe", **shape: Any) -> Path:
    """A model with random weights and a tokeniser of `kind`; by default 2 layers, 32 wide."""
    text = "\n\n".join(list(topics.values())[:8])
    size = 320 if kind == "bpe" else None
    tokenizer = train_tokenizer(
        kind, lambda: iter([text]), vocab_size=size, num_characters=len(text)
    )
    given = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "head_width": 8, "mlp_width": 64}
    spec = ModelSpec(vocab_size=tokenizer.vocab_size, **{**given, "context": 80, **shape})
    weights = initial_weights(spec, seed=1)
    random = np.random.default_rng(2)
    for values in weights.values():
        values[...] += random.normal(0, 0.2, values.shape).astype(np.float32)
    with write_folder(folder) as temporary:
        save_model(temporary, spec, weights)
        tokenizer.save(temporary, context=spec.context)
        write_json(temporary / "generation_config.json", {"eos_token_id": 0, "do_sample": True})
        (temporary / "README.md").write_text("---\nlibrary_name: transformers\n---\n\n# A model\n")
        (temporary / "training.json").write_text('{"model": "small"}')
    return folder
