"""A tensor in somebody else's file: where it lies, checked before anything is read."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8, UInt16
from numpy.typing import NDArray

from cllm.errors import InputError, IntegrityError

# Numbers in a block, and its bytes.
BLOCKS: Mapping[str, tuple[int, int]] = {
    "F32": (1, 4),
    "F16": (1, 2),
    "BF16": (1, 2),
    "Q4_0": (32, 18),
    "Q4_1": (32, 20),
    "Q5_0": (32, 22),
    "Q5_1": (32, 24),
    "Q8_0": (32, 34),
}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """`num_bytes` from `start` on hold the numbers of an array, its last axis fastest."""

    name: str
    path: Path
    kind: str
    shape: tuple[int, ...]
    start: int
    num_bytes: int

    @property
    def size(self) -> int:
        """Count of its numbers."""
        count = 1
        for length in self.shape:
            count *= length
        return count

    def read(self) -> Float32[np.ndarray, "*S"]:
        """Its numbers. Raises: IntegrityError when some are missing or not finite."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            raw = np.fromfile(file, np.uint8, self.num_bytes)
        if len(raw) != self.num_bytes:
            raise IntegrityError(f"the file ends within {self.name}", where=self.path)
        values = from_bytes(raw, self.kind, self.shape)
        num_wrong = values.size - int(np.isfinite(values).sum())
        if num_wrong:
            message = f"{num_wrong:,} of the {values.size:,} numbers of {self.name} are not finite"
            raise IntegrityError(message, where=self.path)
        return values


def num_bytes(kind: str, shape: tuple[int, ...]) -> int | None:
    """Bytes of an array; None where its rows are no whole blocks."""
    block, size = BLOCKS[kind]
    rows = 1
    for length in shape[:-1]:
        rows *= length
    columns = shape[-1] if shape else 1
    return None if columns % block else rows * (columns // block) * size


def from_bytes(
    raw: UInt8[np.ndarray, " N"], kind: str, shape: tuple[int, ...]
) -> Float32[np.ndarray, "*S"]:
    """The numbers that bytes stand for."""
    if kind == "F32":
        values: NDArray[np.float32] = raw.view("<f4").astype(np.float32, copy=False)
    elif kind == "F16":
        values = raw.view("<f2").astype(np.float32)
    elif kind == "BF16":
        values = (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        quants, kinds = gguf_quants()
        # Whoever reads looks for numbers that are not finite.
        with np.errstate(invalid="ignore", over="ignore"):
            values = quants.dequantize(raw.reshape(-1, BLOCKS[kind][1]), kinds[kind])
    return values.reshape(shape)


def to_bytes(values: Float32[np.ndarray, "*S"], kind: str) -> NDArray[Any]:
    """Numbers in another format, as an array of any type that holds its bytes.

    Raises: InputError for numbers beyond float16 where blocks or numbers are kept in it.
    """
    if kind == "F32":
        return values.astype("<f4", copy=False)
    if kind == "BF16":
        return to_bfloat16(values)
    with np.errstate(over="ignore"):
        half = values.astype("<f2")
    if not np.isfinite(half).all():
        raise InputError("some weights are too large for float16", hint="Use f32 or bf16.")
    if kind == "F16":
        return half
    quants, kinds = gguf_quants()
    packed: NDArray[Any] = quants.quantize(np.ascontiguousarray(values), kinds[kind])
    return packed


def to_bfloat16(values: Float32[np.ndarray, "*S"]) -> UInt16[np.ndarray, "*S"]:
    """The upper halves of float32 numbers, rounded to the nearest, of two to the even one."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
    upper: UInt16[np.ndarray, "*S"] = (rounded >> np.uint32(16)).astype("<u2")
    return upper


def gguf_quants() -> tuple[Any, Any]:
    """The package that knows llama.cpp's blocks. Raises: InputError where it is missing."""
    try:
        from gguf import GGMLQuantizationType, quants
    except ImportError:
        hint = "Install it:  pip install gguf"
        raise InputError("blocks of 4 to 8 bits need the package gguf", hint=hint) from None
    return quants, GGMLQuantizationType


def check_places(tensors: Iterable[StoredTensor], end: int) -> None:
    """Refuse tensors that overlap or reach beyond the file's `end`. Raises: IntegrityError."""
    before: StoredTensor | None = None
    for tensor in sorted(tensors, key=lambda one: (one.start, one.num_bytes)):
        if tensor.start + tensor.num_bytes > end:
            message = f"{tensor.name} would end at byte {tensor.start + tensor.num_bytes:,}"
            hint = "The file is truncated, or its header is damaged."
            raise IntegrityError(f"{message} of {end:,}", where=tensor.path, hint=hint)
        if before is not None and before.start + before.num_bytes > tensor.start:
            message = f"{before.name} and {tensor.name} overlap"
            raise IntegrityError(message, where=tensor.path)
        if tensor.num_bytes:
            before = tensor


def file_size(path: Path) -> int:
    """Bytes of a plain file. Raises: IntegrityError where there is none."""
    try:
        found = path.stat()
    except OSError as error:
        raise IntegrityError(f"can't be read ({error.strerror})", where=path) from None
    if not stat.S_ISREG(found.st_mode):
        raise IntegrityError("is not a file", where=path)
    return found.st_size


def read_object(path: Path, most_bytes: int) -> dict[str, Any]:
    """A JSON object of at most so many bytes. Raises: IntegrityError."""
    if file_size(path) > most_bytes:
        raise IntegrityError(f"larger than {most_bytes:,} bytes", where=path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise IntegrityError(f"can't be read ({error.strerror})", where=path) from None
    return parse_object(raw, path)


def parse_object(raw: bytes, where: Path) -> dict[str, Any]:
    """A JSON object. Raises: IntegrityError."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise IntegrityError("the file is damaged: not valid JSON", where=where) from None
    if not isinstance(value, dict):
        raise IntegrityError("the file is damaged: not a JSON object", where=where)
    return value
