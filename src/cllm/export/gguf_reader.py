"""A GGUF file of a Qwen3 or Llama, read without trusting it."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cllm.errors import InputError, IntegrityError
from cllm.export import gguf_format as form
from cllm.export.foreign_config import Numbers, check_heads
from cllm.export.foreign_model import ForeignModel, check_tensors
from cllm.export.gguf_vocabulary import read_vocabulary
from cllm.export.head_rows import to_halves
from cllm.export.stored_tensor import StoredTensor, check_places, file_size, num_bytes
from cllm.model import ModelSpec

_MOST_KEYS, _MOST_TENSORS, _MOST_AXES = 1 << 16, 1 << 16, 4
# A vocabulary of 256,000 entries with its merges has 12 MB.
_MOST_ITEMS, _MOST_METADATA = 1 << 22, 256 << 20
_LARGEST_ALIGNMENT = 1 << 16
# Keys that change the arithmetic, with the values that don't.
_REFUSED: Mapping[str, tuple[Any, ...]] = {
    "rope.scaling.type": ("none",),
    "attention.sliding_window": (0,),
    "expert_count": (0,),
    "attention.scale": (0.0,),
    "attention.clamp_kqv": (0.0,),
    "attention.causal": (True,),
    "logit_scale": (0.0, 1.0),
    "residual_scale": (0.0, 1.0),
    "embedding_scale": (0.0, 1.0),
    "attn_logit_softcapping": (0.0,),
    "final_logit_softcapping": (0.0,),
}


@dataclass(frozen=True, slots=True)
class GgufFile:
    """What stands before the numbers; tensors by llama.cpp's names."""

    metadata: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]


def read_gguf(path: Path) -> ForeignModel:
    """All of a model but its numbers, each claim of the file checked.

    Raises: IntegrityError for a damaged file, InputError naming what can't be imported.
    """
    header = read_gguf_header(path)
    kind = header.metadata.get("general.architecture")
    if kind not in ("qwen3", "llama"):
        raise InputError(f"a model of the type {kind!r}, not qwen3 or llama", where=path)
    if header.metadata.get("split.count", 1) not in (0, 1):
        hint = "Join them first:  llama-gguf-split --merge FIRST-PART WHOLE"
        raise InputError("this is one of several parts of a model", where=path, hint=hint)
    tensors = {form.from_gguf_name(name): one for name, one in header.tensors.items()}
    if len(tensors) < len(header.tensors):
        raise IntegrityError("the file names a tensor twice", where=path)
    spec = _spec(kind, header, path)
    check_tensors(spec, tensors, path)
    vocabulary = read_vocabulary(header.metadata, spec.vocab_size, path)

    def rearrange(name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            return to_halves(values, spec.head_width)
        return values

    return ForeignModel(
        kind="GGUF",
        spec=replace(spec, eos_id=vocabulary.tokenizer.eos_id),
        tensors=tensors,
        tokenizer=vocabulary.tokenizer,
        eos_ids=vocabulary.eos_ids,
        chat_template=vocabulary.chat_template,
        rearrange=rearrange if kind == "llama" else None,
    )


def read_gguf_header(path: Path) -> GgufFile:
    """The metadata and the places of the tensors.

    Raises: IntegrityError for a damaged file, InputError for kinds of numbers that are not read.
    """
    size = file_size(path)
    with path.open("rb") as file:
        cursor = _Cursor(file, size, path)
        if cursor.take(4) != form.MAGIC:
            raise IntegrityError("not a GGUF file", where=path)
        version = cursor.scalar(form.UINT32)
        if version not in (2, 3):
            shown = "of the other byte order" if version & 0xFFFF == 0 else f"version {version}"
            raise InputError(f"a GGUF file {shown}", where=path, hint="Versions 2 and 3 are read.")
        num_tensors, num_keys = cursor.count(_MOST_TENSORS), cursor.count(_MOST_KEYS)
        metadata: dict[str, Any] = {}
        for _ in range(num_keys):
            key = cursor.string()
            if key in metadata:
                raise IntegrityError(f"the file has the key {key!r} twice", where=path)
            metadata[key] = cursor.value(cursor.scalar(form.UINT32))
        entries = [_entry(cursor) for _ in range(num_tensors)]
        alignment = metadata.get("general.alignment", form.ALIGNMENT)
        if type(alignment) is not int or not 0 < alignment <= _LARGEST_ALIGNMENT:
            raise IntegrityError(f"an alignment of {alignment!r}", where=path)
        data = -(-cursor.place // alignment) * alignment
    tensors = {}
    for name, shape, kind, offset in entries:
        if name in tensors:
            raise IntegrityError(f"the file names {name!r} twice", where=path)
        if offset % alignment:
            raise IntegrityError(f"{name} does not begin at a multiple of {alignment}", where=path)
        length = num_bytes(kind, shape)
        if length is None:
            raise IntegrityError(
                f"rows of {name} {list(shape)} are no blocks of {kind}", where=path
            )
        tensors[name] = StoredTensor(name, path, kind, shape, data + offset, length)
    check_places(tensors.values(), size)
    return GgufFile(metadata, tensors)


def _entry(cursor: _Cursor) -> tuple[str, tuple[int, ...], str, int]:
    """Name, shape (the last axis fastest), kind and offset of a tensor."""
    name = cursor.string()
    num_axes = cursor.scalar(form.UINT32)
    if num_axes > _MOST_AXES:
        raise IntegrityError(f"{name} has {num_axes:,} axes", where=cursor.path)
    shape = tuple(cursor.scalar(10) for _ in range(num_axes))[::-1]
    number, offset = cursor.scalar(form.UINT32), cursor.scalar(10)
    kind = next((kind for kind, one in form.KINDS.items() if one == number), None)
    if kind is None:
        listed = f"There are read: {', '.join(form.KINDS)}."
        message = f"{name} is of the kind {number}, which is not read"
        raise InputError(message, where=cursor.path, hint=listed)
    return name, shape, kind, offset


class _Cursor:
    """Reads values one after the other, never more than the file has.

    Raises: IntegrityError where the file ends too early or claims too much.
    """

    def __init__(self, file: BinaryIO, size: int, path: Path) -> None:
        self._file, self._size, self.path = file, min(size, _MOST_METADATA), path
        self.place, self._num_items = 0, 0

    def take(self, length: int) -> bytes:
        """The next bytes."""
        if length > self._size - self.place:
            message = f"at byte {self.place:,} the file claims {length:,} more of {self._size:,}"
            raise IntegrityError(message, where=self.path, hint="It is truncated or damaged.")
        self.place += length
        return self._file.read(length)

    def scalar(self, kind: int) -> Any:
        """A number or a truth value."""
        shape = form.SCALARS[kind]
        try:
            return shape.unpack(self.take(shape.size))[0]
        except struct.error:
            raise IntegrityError(
                "the file grew shorter while it was read", where=self.path
            ) from None

    def count(self, most: int) -> int:
        """A count of 8 bytes, at most `most`."""
        value = int(self.scalar(10))
        if value > most:
            message = f"at byte {self.place:,} the file claims {value:,} items; {most:,} at most"
            raise IntegrityError(message, where=self.path)
        return value

    def string(self) -> str:
        """A text of UTF-8."""
        place, raw = self.place, self.take(self.count(_MOST_METADATA))
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise IntegrityError(
                f"the text at byte {place:,} is not UTF-8", where=self.path
            ) from None

    def value(self, kind: int) -> Any:
        """A value of metadata; arrays hold no arrays."""
        if kind == form.STRING:
            return self.string()
        if kind != form.ARRAY:
            if kind not in form.SCALARS:
                message = f"at byte {self.place:,} stands a value of the unknown type {kind}"
                raise IntegrityError(message, where=self.path)
            return self.scalar(kind)
        inner, length = self.scalar(form.UINT32), self.count(_MOST_ITEMS - self._num_items)
        self._num_items += length
        if inner == form.STRING:
            return [self.string() for _ in range(length)]
        if inner not in form.SCALARS:
            raise IntegrityError(f"an array of the type {inner}", where=self.path)
        one = form.SCALARS[inner]
        raw = self.take(one.size * length)
        return [value for (value,) in one.iter_unpack(raw)]


def _spec(kind: str, header: GgufFile, path: Path) -> ModelSpec:
    prefix = f"{kind}."
    own = {
        key.removeprefix(prefix): value
        for key, value in header.metadata.items()
        if key.startswith(prefix)
    }
    wrong = [key for key, fine in _REFUSED.items() if key in own and own[key] not in fine]
    wrong += [key for key in header.tensors if key.startswith("rope_")]
    if wrong:
        message = f"the model has {' and '.join(wrong)}, which can't be imported"
        raise InputError(message, where=path)
    table = header.tensors.get("token_embd.weight")
    if table is None or len(table.shape) != 2:
        raise IntegrityError("the file has no table of embeddings", where=path)
    read = Numbers(own, path)
    width, heads = read.whole("embedding_length"), read.whole("attention.head_count")
    head_width = read.whole("attention.key_length", max(1, width // heads))
    for name in ("attention.value_length", "rope.dimension_count"):
        if read.whole(name, head_width) != head_width:
            message = f"the model has heads {head_width} wide and {name} {own[name]}"
            raise InputError(f"{message}, which can't be imported", where=path)
    spec = ModelSpec(
        vocab_size=table.shape[0],
        width=width,
        layers=read.whole("block_count", most=1 << 12),
        heads=heads,
        kv_heads=read.whole("attention.head_count_kv", heads),
        head_width=head_width,
        mlp_width=read.whole("feed_forward_length"),
        context=read.whole("context_length", most=1 << 24),
        rope_base=_shortest(read.real("rope.freq_base", 10_000.0, above=1.0)),
        norm_epsilon=_shortest(read.real("attention.layer_norm_rms_epsilon", 1e-6, above=0.0)),
        tied="output.weight" not in header.tensors,
        has_head_norm=kind == "qwen3",
    )
    check_heads(spec, path)
    return spec


def _shortest(value: float) -> float:
    """The shortest decimal number that the file's float32 stands for, such as 1e-6."""
    return float(str(np.float32(value)))
