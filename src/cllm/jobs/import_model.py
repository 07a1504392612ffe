"""Take in a model from elsewhere: a Qwen3 or Llama as a Hugging Face folder or a GGUF file."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cllm.errors import InputError, NotFoundError
from cllm.files import write_atomic, write_json
from cllm.jobs.model_folder import TRAINING
from cllm.jobs.models import name_for
from cllm.workspace.workspace import Workspace

if TYPE_CHECKING:
    from cllm.export.foreign_model import ForeignModel

# How many parameters are read, of how many.
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What was taken in, and under which name."""

    model: str
    path: str
    source: str
    format: str
    architecture: str
    num_parameters: int
    vocab_size: int
    context: int
    tokenizer: str
    is_chat: bool
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def import_model(
    workspace: Workspace,
    source: Path,
    *,
    name: str | None = None,
    overwrite: bool = False,
    context: int | None = None,
    on_progress: OnProgress | None = None,
) -> ImportResult:
    """Read a model and keep it as `name` (made from the source's unless given).

    `context` lets it see fewer tokens at once than it was made for. All that the files claim is
    checked before a number is read; a model of that name stays as it is until the new one is
    whole. Raises: NotFoundError, ExistsError, InvalidNameError and InputError before any work,
    IntegrityError naming what is damaged, StorageError.
    """
    began = time.perf_counter()
    if name is not None:
        workspace.models.check_free(name, overwrite=overwrite)
    found = open_foreign(source).with_context(context)
    if name is None:
        name = name_for(workspace, [str(source)])
    weights = found.read_weights(on_progress)
    with workspace.models.write(name, overwrite=overwrite) as folder:
        _write(folder, name, source, found, weights)
    return ImportResult(
        model=name,
        path=str(workspace.models.path(name)),
        source=str(source),
        format=found.kind,
        architecture=_architecture(found),
        num_parameters=found.spec.num_parameters,
        vocab_size=found.spec.vocab_size,
        context=found.spec.context,
        tokenizer=found.tokenizer.kind,
        is_chat=found.chat_template is not None,
        seconds=time.perf_counter() - began,
    )


def open_foreign(source: Path) -> ForeignModel:
    """All of a model but its numbers.

    Raises: NotFoundError, InputError for what can't be imported, IntegrityError.
    """
    from cllm.export.gguf_reader import read_gguf
    from cllm.export.huggingface_reader import read_huggingface

    hint = "Name a folder with config.json and safetensors, or a .gguf file."
    if not source.exists():
        raise NotFoundError("there is no such file or folder", where=source, hint=hint)
    if source.is_dir():
        if not (source / "config.json").is_file():
            raise InputError("the folder has no config.json", where=source, hint=hint)
        return read_huggingface(source)
    if source.suffix.lower() != ".gguf":
        raise InputError("neither a folder nor a .gguf file", where=source, hint=hint)
    return read_gguf(source)


def _architecture(found: ForeignModel) -> str:
    return "Qwen3" if found.spec.has_head_norm else "Llama"


def _write(
    folder: Path, name: str, source: Path, found: ForeignModel, weights: dict[str, Any]
) -> None:
    from cllm.model import save_model

    spec, tokenizer = found.spec, found.tokenizer
    save_model(folder, spec, weights)
    tokenizer.save(folder, chat_template=found.chat_template, context=spec.context)
    ends = list(dict.fromkeys((tokenizer.eos_id, *found.eos_ids)))
    generation: dict[str, Any] = {
        "bos_token_id": tokenizer.begin_ids[0] if tokenizer.begin_ids else tokenizer.eos_id,
        "eos_token_id": ends if len(ends) > 1 else ends[0],
        "do_sample": True,
        "temperature": 0.8,
    }
    # Other tokens that may end a turn are seen as what they are called.
    stop = [tokenizer.decode([token]) for token in ends[1:]]
    if any(stop):
        generation["stop_strings"] = [text for text in stop if text]
    write_json(folder / "generation_config.json", generation)
    training = {
        "model": name,
        "imported": {"from": source.name, "format": found.kind},
        "settings": {"text": {"tokenizer": tokenizer.kind}},
        "figures": {"num_parameters": spec.num_parameters, "val_bits_per_byte": None},
    }
    write_json(folder / TRAINING, training)
    write_atomic(folder / "README.md", _card(name, source, found))


def _card(name: str, source: Path, found: ForeignModel) -> str:
    spec = found.spec
    shape = f"{spec.layers} layers, {spec.width} wide, {spec.heads} heads, context {spec.context}"
    return f"""---
library_name: transformers
pipeline_tag: text-generation
---

# {name}

Imported with CLLM from {source.name} ({found.kind}); its weights, in float32, are those it had
there. Its maker's terms hold for it.

| | |
|---|---|
| architecture | {_architecture(found)} |
| parameters | {spec.num_parameters:,} |
| shape | {shape} |
| tokeniser | {found.tokenizer.kind}, {spec.vocab_size:,} entries |
"""
