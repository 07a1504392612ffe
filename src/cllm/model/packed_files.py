"""Quantised matrices among the tensors of a file, and their records in the configuration."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray

from cllm.errors import IntegrityError
from cllm.model.codebooks import direct_table, pair_table
from cllm.model.packed import BLOCK, GROUP, KINDS, Kind, MixedWeights, Packed, padded
from cllm.model.rotation import can_rotate
from cllm.model.spec import ModelSpec

VERSION = 1
# Row scales are kept as the largest one times 2^(−byte/32), within 1.1% of any wish, or 0.
SCALE_STEPS, NO_SCALE = 32, 255


def to_packed_tensors(weights: MixedWeights) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """All parameters as tensors under our own names, and the record for the configuration."""
    tensors: dict[str, NDArray[Any]] = {}
    records: dict[str, Any] = {}
    for name, value in weights.items():
        if isinstance(value, Packed):
            parts, records[name] = to_tensors(name, value)
            tensors |= parts
        else:
            tensors[name] = np.ascontiguousarray(value, np.float32)
    return tensors, {"version": VERSION, "matrices": records}


def from_packed_tensors(
    spec: ModelSpec,
    tensors: Mapping[str, NDArray[Any]],
    record: object,
    names: Collection[str] | None = None,
) -> MixedWeights:
    """The parameters that `to_packed_tensors` wrote, or some; those of mechanisms as float32.

    Raises: IntegrityError when something is missing, of another shape or type, or not finite.
    """
    records = record.get("matrices") if isinstance(record, dict) else None
    if not isinstance(record, dict) or record.get("version") != VERSION:
        raise IntegrityError("the record of the quantisation is damaged, or of another version")
    shapes = spec.parameter_shapes()
    if not isinstance(records, dict) or not records.keys() <= shapes.keys():
        raise IntegrityError("the record of the quantisation names matrices that the model lacks")
    weights: MixedWeights = {}
    for name, shape in shapes.items():
        if names is not None and name not in names:
            continue
        if name not in records:
            weights[name] = _tensor(tensors, name, np.float32, shape)
            continue
        packed = from_tensors(name, shape, records[name], tensors)
        weights[name] = packed.dequantise() if name.startswith("mechanisms.") else packed
    return weights


def scales_on_grid(largest: float, codes: UInt8[np.ndarray, " N"]) -> Float32[np.ndarray, " N"]:
    """The row scales that a file's bytes stand for."""
    scales: Float32[np.ndarray, " N"] = (
        largest * np.exp2(codes.astype(np.float64) / -SCALE_STEPS)
    ).astype(np.float32)
    scales[codes == NO_SCALE] = 0.0
    return scales


def nearest_on_grid(scales: NDArray[Any]) -> Float32[np.ndarray, " N"]:
    """The nearest scales (by ratio) that a file keeps in one byte each; the least become 0."""
    largest = float(np.float32(scales.max(initial=0.0)))
    if largest <= 0:
        return np.zeros(len(scales), np.float32)
    return scales_on_grid(largest, _grid_codes(scales, largest))


def _grid_codes(scales: NDArray[Any], largest: float) -> UInt8[np.ndarray, " N"]:
    wanted = scales.astype(np.float64) / largest
    least = 2.0 ** (-(NO_SCALE - 1) / SCALE_STEPS)
    codes: UInt8[np.ndarray, " N"] = np.rint(
        -SCALE_STEPS * np.log2(np.maximum(wanted, least))
    ).astype(np.uint8)
    codes[wanted < least / 2] = NO_SCALE
    return codes


def to_tensors(name: str, packed: Packed) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """A matrix as tensors of a file, and as the record by which they are read again."""
    tensors: dict[str, NDArray[Any]] = {}
    record: dict[str, Any] = {"kind": packed.kind}
    for stage, codes in enumerate(packed.codes):
        tensors[f"{name}.codes{_number(stage)}"] = np.ascontiguousarray(codes)
    scales = packed.scales
    if packed.kind == "e8":
        record["stages"] = [
            {"codes": "pairs" if codes.dtype == np.uint16 else "direct", "ratio": ratio}
            for codes, ratio in zip(packed.codes, packed.ratios, strict=True)
        ]
        largest = float(scales.max(initial=0.0))
        if largest > 0:
            grid = _grid_codes(scales, largest)
            if np.array_equal(scales_on_grid(largest, grid), scales):
                scales, record["largest_scale"] = grid, largest
    tensors[f"{name}.scales"] = np.ascontiguousarray(scales)
    if packed.signs is not None:
        tensors[f"{name}.signs"] = np.packbits(packed.signs < 0)
    return tensors, record


def from_tensors(
    name: str, shape: tuple[int, ...], record: object, tensors: Mapping[str, NDArray[Any]]
) -> Packed:
    """The matrix that `to_tensors` wrote, every shape, type and number checked before it is used.

    Raises: IntegrityError.
    """
    if len(shape) != 2 or not isinstance(record, dict) or record.get("kind") not in KINDS:
        raise IntegrityError(f"the record of {name} is damaged, or of another version")
    kind: Kind = record["kind"]
    rows, columns = shape
    wide = padded(columns)
    ratios: tuple[int, ...] = (1,)
    types: Sequence[type]
    if kind == "e8":
        types, ratios = _stages(name, record)
        widths = [wide // BLOCK] * len(types)
        scales = _row_scales(name, rows, record, tensors)
    else:
        types, widths = ([np.int8], [wide]) if kind == "int8" else ([np.uint8], [wide // 2])
        scales = _tensor(tensors, f"{name}.scales", np.float16, (rows, wide // GROUP))
    codes = tuple(
        _tensor(tensors, f"{name}.codes{_number(stage)}", dtype, (rows, width))
        for stage, (dtype, width) in enumerate(zip(types, widths, strict=True))
    )
    if kind == "int8" and codes[0].min(initial=0) < -127:
        raise IntegrityError(f"{name}.codes holds −128")
    if not np.isfinite(scales).all():
        raise IntegrityError(f"{name}.scales holds values that are not finite")
    signs = None
    if f"{name}.signs" in tensors:
        if not can_rotate(columns):
            raise IntegrityError(f"{name} has signs, but {columns} columns can't be rotated")
        bits = _tensor(tensors, f"{name}.signs", np.uint8, (-(-columns // 8),))
        signs = 1 - 2 * np.unpackbits(bits)[:columns].astype(np.int8)
    return Packed(kind, columns, codes, scales, ratios, signs)


def _number(stage: int) -> str:
    return str(stage + 1) if stage else ""


def _tensor(
    tensors: Mapping[str, NDArray[Any]], name: str, dtype: type, shape: tuple[int, ...]
) -> NDArray[Any]:
    found = tensors.get(name)
    if found is None:
        raise IntegrityError(f"the weights lack {name}")
    if found.dtype != dtype or found.shape != shape:
        wanted = f"{np.dtype(dtype)} {list(shape)}"
        raise IntegrityError(f"{name} is {found.dtype} {list(found.shape)}, not {wanted}")
    return found


def _stages(name: str, record: dict[str, Any]) -> tuple[list[type], tuple[int, ...]]:
    """The type of each stage's codes, and the ratios, whose sums fit int8."""
    largest = {"pairs": int(pair_table().max()) + 1, "direct": int(np.abs(direct_table()).max())}
    stages, total = record.get("stages"), 0
    if not isinstance(stages, list) or not stages:
        raise IntegrityError(f"the record of {name} names no stages")
    for stage in stages:
        kind = stage.get("codes") if isinstance(stage, dict) else None
        ratio = stage.get("ratio") if isinstance(stage, dict) else None
        if kind not in largest or type(ratio) is not int or not 1 <= ratio <= 127:
            raise IntegrityError(f"the record of {name} has a stage {stage!r}")
        total += ratio * largest[kind]
    # The decoder keeps bytes above 16 times the ratios, and up to 11 times them more.
    if total > 127 or sum(stage["ratio"] for stage in stages) > 9:
        raise IntegrityError(f"the record of {name} has stages whose sum does not fit a byte")
    types: list[type] = [np.uint16 if stage["codes"] == "pairs" else np.uint8 for stage in stages]
    return types, tuple(stage["ratio"] for stage in stages)


def _row_scales(
    name: str, rows: int, record: dict[str, Any], tensors: Mapping[str, NDArray[Any]]
) -> Float32[np.ndarray, " N"]:
    if "largest_scale" not in record:
        return _tensor(tensors, f"{name}.scales", np.float32, (rows,))
    largest = record["largest_scale"]
    if type(largest) not in (int, float) or not 0 < largest < float(np.finfo(np.float32).max):
        raise IntegrityError(f"the record of {name} has a largest scale of {largest!r}")
    return scales_on_grid(float(largest), _tensor(tensors, f"{name}.scales", np.uint8, (rows,)))
