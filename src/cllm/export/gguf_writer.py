"""A model as a GGUF file, which llama.cpp opens."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cllm.errors import IntegrityError
from cllm.export import gguf_format as form
from cllm.export.gguf_vocabulary import Vocabulary, to_vocabulary
from cllm.export.head_rows import to_neighbours
from cllm.export.plain_model import load_plain, require_dtype
from cllm.export.stored_tensor import num_bytes, to_bytes
from cllm.files import read_json, storage_errors
from cllm.model import ModelSpec, Weights
from cllm.model.files import foreign_names
from cllm.text.tokenizers import Tokenizer

GGUF_DTYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")


def write_gguf(folder: Path, output: Path, *, dtype: str | None = None) -> list[Path]:
    """Write the model in `folder` as the file `output`; float32 unless `dtype` says otherwise.

    Matrices are kept in `dtype`, vectors in float32; a matrix whose rows are no whole blocks of
    32 in float16. Raises: InputError naming what llama.cpp lacks, SettingsError, StorageError.
    """
    kind = require_dtype(dtype, GGUF_DTYPES, "a GGUF file").upper()
    spec, weights = load_plain(folder)
    tokenizer = Tokenizer.load(folder)
    vocabulary = to_vocabulary(tokenizer, spec.vocab_size)
    metadata = _metadata(folder, spec, tokenizer, vocabulary, form.FILE_TYPES[kind])
    tensors = [(name, values, _kind(values, kind)) for name, values in _tensors(spec, weights)]
    with storage_errors(output), output.open("wb") as file:
        file.write(form.MAGIC + struct.pack("<IQQ", form.VERSION, len(tensors), len(metadata)))
        for key, (number, value) in metadata.items():
            file.write(_string(key) + struct.pack("<I", number) + _value(number, value))
        at = 0
        for name, values, one in tensors:
            length = num_bytes(one, values.shape)
            assert length is not None
            shape = values.shape[::-1]
            axes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
            file.write(_string(name) + axes + struct.pack("<IQ", form.KINDS[one], at))
            at += -(-length // form.ALIGNMENT) * form.ALIGNMENT
        _pad(file)
        for _, values, one in tensors:
            to_bytes(values, one).tofile(file)
            _pad(file)
    return [output]


def _tensors(spec: ModelSpec, weights: Weights) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """llama.cpp's names and numbers, without copying those that stay as they are."""
    for name, parameter in spec.parameters().items():
        names, rows = foreign_names(name), parameter.rows
        values = weights[name]
        pieces = [values] if rows is None else np.split(values, np.cumsum(rows)[:-1])
        for foreign, piece in zip(names, pieces, strict=True):
            turns = foreign.endswith(("q_proj.weight", "k_proj.weight")) and not spec.has_head_norm
            yield (
                form.to_gguf_name(foreign),
                to_neighbours(piece, spec.head_width) if turns else piece,
            )


def _kind(values: NDArray[np.float32], kind: str) -> str:
    if values.ndim == 1:
        return "F32"
    return kind if num_bytes(kind, values.shape) is not None else "F16"


def _metadata(
    folder: Path, spec: ModelSpec, tokenizer: Tokenizer, vocabulary: Vocabulary, file_type: int
) -> dict[str, tuple[int, Any]]:
    """Every key with the number of its type and its value."""
    kind = "qwen3" if spec.has_head_norm else "llama"
    begin = tokenizer.begin_ids
    shape = {
        "context_length": spec.context,
        "embedding_length": spec.width,
        "block_count": spec.layers,
        "feed_forward_length": spec.mlp_width,
        "attention.head_count": spec.heads,
        "attention.head_count_kv": spec.kv_heads,
        "attention.key_length": spec.head_width,
        "attention.value_length": spec.head_width,
        "rope.dimension_count": spec.head_width,
        "vocab_size": spec.vocab_size,
    }
    reals = {
        "rope.freq_base": spec.rope_base,
        "attention.layer_norm_rms_epsilon": spec.norm_epsilon,
    }
    template = _chat_template(folder)
    return {
        "general.architecture": (form.STRING, kind),
        "general.type": (form.STRING, "model"),
        "general.name": (form.STRING, folder.name),
        "general.alignment": (form.UINT32, form.ALIGNMENT),
        "general.file_type": (form.UINT32, file_type),
        "general.quantization_version": (form.UINT32, 2),
        **{f"{kind}.{name}": (form.UINT32, value) for name, value in shape.items()},
        **{f"{kind}.{name}": (form.FLOAT32, value) for name, value in reals.items()},
        "tokenizer.ggml.model": (form.STRING, "gpt2"),
        "tokenizer.ggml.pre": (form.STRING, vocabulary.pre),
        "tokenizer.ggml.tokens": (form.ARRAY, (form.STRING, vocabulary.tokens)),
        "tokenizer.ggml.token_type": (form.ARRAY, (form.INT32, vocabulary.kinds)),
        "tokenizer.ggml.merges": (form.ARRAY, (form.STRING, vocabulary.merges)),
        "tokenizer.ggml.eos_token_id": (form.UINT32, tokenizer.eos_id),
        # Without one llama.cpp takes GPT-2's, whatever token that is here.
        "tokenizer.ggml.bos_token_id": (form.UINT32, begin[0] if begin else tokenizer.eos_id),
        "tokenizer.ggml.add_bos_token": (form.BOOL, bool(begin)),
        "tokenizer.ggml.add_eos_token": (form.BOOL, False),
        "tokenizer.ggml.add_space_prefix": (form.BOOL, False),
        **({"tokenizer.chat_template": (form.STRING, template)} if template else {}),
    }


def _chat_template(folder: Path) -> str | None:
    config = read_json(folder / "tokenizer_config.json")
    if not isinstance(config, dict):
        raise IntegrityError("the file is damaged", where=folder / "tokenizer_config.json")
    template = config.get("chat_template")
    return template if isinstance(template, str) else None


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(number: int, value: Any) -> bytes:
    if number == form.STRING:
        return _string(value)
    if number == form.ARRAY:
        inner, items = value
        parts = [_value(inner, item) for item in items]
        return struct.pack("<IQ", inner, len(items)) + b"".join(parts)
    return form.SCALARS[number].pack(value)


def _pad(file: BinaryIO) -> None:
    file.write(bytes(-file.tell() % form.ALIGNMENT))
