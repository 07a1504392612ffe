"""The header of a safetensors file, every offset, shape and type checked against its size.

The format: 8 bytes of length, a JSON header, then the numbers without a gap.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeGuard

from cllm.errors import InputError, IntegrityError
from cllm.export.stored_tensor import (
    StoredTensor,
    check_places,
    file_size,
    num_bytes,
    parse_object,
)

# Models of a thousand layers have headers below 2 MB.
_LARGEST_HEADER = 16 << 20
_MOST_AXES = 8
_KINDS = ("F32", "F16", "BF16")


def read_safetensors_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file by name; none of their numbers is read.

    Raises: IntegrityError for a damaged file, InputError for numbers that are not floats.
    """
    end = file_size(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if end < 8 or length > min(end - 8, _LARGEST_HEADER):
            message = f"the file has {end:,} bytes, its header would have {length:,}"
            raise IntegrityError(message, where=path)
        header = parse_object(file.read(length), path)
    header.pop("__metadata__", None)
    tensors = {name: _tensor(name, entry, 8 + length, path) for name, entry in header.items()}
    check_places(tensors.values(), end)
    total = sum(tensor.num_bytes for tensor in tensors.values())
    if 8 + length + total != end:
        message = f"the tensors have {total:,} bytes, the file {end - 8 - length:,}"
        raise IntegrityError(message, where=path)
    return tensors


def _tensor(name: str, entry: object, start: int, path: Path) -> StoredTensor:
    if not isinstance(entry, dict):
        raise IntegrityError(f"the entry of {name} is damaged", where=path)
    kind, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not _are_counts(shape, _MOST_AXES) or not _are_counts(offsets, 2) or len(offsets) != 2:
        raise IntegrityError(f"shape or place of {name} is damaged", where=path)
    if kind not in _KINDS:
        hint = "Only float32, float16 and bfloat16 are read."
        raise InputError(f"{name} is of the type {kind!r}", where=path, hint=hint)
    begin, end = offsets
    wanted = num_bytes(kind, tuple(shape))
    if end - begin != wanted:
        message = f"{name} {shape} of {kind} has {end - begin:,} bytes instead of {wanted:,}"
        raise IntegrityError(message, where=path)
    return StoredTensor(name, path, kind, tuple(shape), start + begin, end - begin)


def _are_counts(value: object, most: int) -> TypeGuard[list[int]]:
    if not isinstance(value, list) or len(value) > most:
        return False
    return all(type(one) is int and 0 <= one < 2**63 for one in value)
