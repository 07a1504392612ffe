"""A Hugging Face folder of a Qwen3 or Llama: configuration, safetensors, tokenizer.json.

Nothing that runs code is read: no pickles, no Python files of the model's own.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from cllm.errors import InputError, IntegrityError
from cllm.export.foreign_config import read_foreign_config, read_ids
from cllm.export.foreign_model import ForeignModel, check_tensors
from cllm.export.foreign_tokenizer import is_text, read_tokenizer
from cllm.export.safetensors_reader import read_safetensors_header
from cllm.export.stored_tensor import StoredTensor, file_size, read_object

_INDEX = "model.safetensors.index.json"
_LARGEST_INDEX, _LARGEST_SETTINGS, _MOST_FILES = 16 << 20, 4 << 20, 1000
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def read_huggingface(folder: Path) -> ForeignModel:
    """All of a model but its numbers, each claim of its files checked.

    Raises: IntegrityError for damaged files, InputError naming what can't be imported.
    """
    config = read_foreign_config(folder / "config.json")
    spec, eos_ids = config.spec, config.eos_ids
    tensors = _tensors(folder)
    check_tensors(spec, tensors, folder / "config.json")
    settings = _settings(folder / "generation_config.json")
    more = read_ids(
        settings.get("eos_token_id"), spec.vocab_size, folder / "generation_config.json"
    )
    words = _settings(folder / "tokenizer_config.json")
    # A model's own end is what its configuration or else its tokeniser names.
    eos_ids = tuple(dict.fromkeys((*eos_ids, *more)))
    tokenizer = read_tokenizer(folder / "tokenizer.json", words, spec, eos_ids)
    return ForeignModel(
        kind="Hugging Face folder",
        spec=replace(spec, eos_id=tokenizer.eos_id),
        tensors=tensors,
        tokenizer=tokenizer,
        eos_ids=tuple(dict.fromkeys((tokenizer.eos_id, *eos_ids))),
        chat_template=_chat_template(folder, words),
    )


def _tensors(folder: Path) -> dict[str, StoredTensor]:
    index, single = folder / _INDEX, folder / "model.safetensors"
    if index.is_file():
        return _sharded(folder, index)
    if single.is_file():
        return read_safetensors_header(single)
    if any(next(folder.glob(pattern), None) for pattern in _PICKLES):
        hint = "Pickled weights can run code when they are read: convert them to safetensors."
        raise InputError("the folder has no safetensors, but pickles", where=folder, hint=hint)
    raise IntegrityError("the file is missing", where=single)


def _sharded(folder: Path, index: Path) -> dict[str, StoredTensor]:
    places = read_object(index, _LARGEST_INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(one, str) for one in places.values()):
        raise IntegrityError("the file names no tensors (weight_map)", where=index)
    names = sorted(set(places.values()))
    if len(names) > _MOST_FILES:
        raise IntegrityError(f"{len(names):,} files", where=index)
    found: dict[str, dict[str, StoredTensor]] = {}
    for name in names:
        if name != Path(name).name or not name.endswith(".safetensors") or "\0" in name:
            raise IntegrityError(f"{name!r} is no file of this folder", where=index)
        found[name] = read_safetensors_header(folder / name)
    for tensor, name in places.items():
        if tensor not in found[name]:
            raise IntegrityError(f"the file lacks {tensor}", where=folder / name)
    return {tensor: found[name][tensor] for tensor, name in places.items()}


def _settings(path: Path) -> dict[str, Any]:
    return read_object(path, _LARGEST_SETTINGS) if path.exists() else {}


def _chat_template(folder: Path, words: dict[str, Any]) -> str | None:
    """The template for conversations, which newer folders keep in a file of its own."""
    path = folder / "chat_template.jinja"
    if path.exists():
        if file_size(path) > _LARGEST_SETTINGS:
            raise IntegrityError("the file is too large", where=path)
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, ValueError):
            raise IntegrityError("the file is damaged: not UTF-8", where=path) from None
    found = words.get("chat_template")
    if isinstance(found, list):
        named = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}
        found = named.get("default")
    return found if isinstance(found, str) and is_text(found) else None
