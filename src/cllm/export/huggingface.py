"""A model as a folder that transformers opens without code of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from cllm.errors import InputError
from cllm.export.plain_model import load_plain, require_dtype, write_beside
from cllm.export.safetensors_writer import save_bfloat16
from cllm.files import read_json, storage_errors, write_atomic, write_json
from cllm.model import ModelSpec
from cllm.model.files import CONFIG, WEIGHTS, to_qwen3

HUGGINGFACE_DTYPES = ("float32", "bfloat16", "float16")


def write_huggingface(folder: Path, output: Path, *, dtype: str | None = None) -> list[Path]:
    """Write the model in `folder` into the folder `output`, in float32 unless `dtype` says other.

    Raises: InputError naming the mechanisms that transformers lacks, SettingsError, StorageError.
    """
    kind = require_dtype(dtype, HUGGINGFACE_DTYPES, "a Hugging Face folder")
    spec, weights = load_plain(folder)
    if not spec.has_head_norm and spec.width % spec.heads:
        message = f"transformers opens no Llama whose {spec.heads} heads do not divide its width"
        raise InputError(message, hint="llama.cpp does: export it as GGUF.")
    with storage_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        written = write_beside(folder, spec, output)
        config: dict[str, Any] = read_json(output / CONFIG)
        write_json(output / CONFIG, config | {"dtype": kind, "torch_dtype": kind})
        tensors = to_qwen3(spec, weights)
        if kind == "bfloat16":
            save_bfloat16(output / WEIGHTS, tensors)
        else:
            stored = {name: _as(name, value, kind) for name, value in tensors.items()}
            save_file(stored, output / WEIGHTS, metadata={"format": "pt"})
        write_atomic(output / "README.md", _card(folder.name, spec, kind))
    return [*written, output / WEIGHTS, output / "README.md"]


def _as(name: str, values: NDArray[np.float32], kind: str) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        stored: NDArray[Any] = values.astype(kind, copy=False)
    if not np.isfinite(stored).all():
        raise InputError(f"{name} has weights too large for float16", hint="Use bfloat16.")
    return stored


def _card(name: str, spec: ModelSpec, kind: str) -> str:
    architecture = "Qwen3" if spec.has_head_norm else "Llama"
    shape = f"{spec.layers} layers, {spec.width} wide, {spec.heads} heads, context {spec.context}"
    return f"""---
library_name: transformers
pipeline_tag: text-generation
---

# {name}

A language model exported from CLLM.

| | |
|---|---|
| architecture | {architecture} |
| parameters | {spec.num_parameters:,} in {kind} |
| shape | {shape} |
| vocabulary | {spec.vocab_size:,} entries |

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("PATH/OF/THIS/FOLDER")
tokenizer = AutoTokenizer.from_pretrained("PATH/OF/THIS/FOLDER")
```
"""
