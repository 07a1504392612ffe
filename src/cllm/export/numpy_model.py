"""A model as a folder with one readable program in numpy that runs it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from cllm.export.plain_model import load_plain, require_dtype, stored_as, write_beside
from cllm.model import ModelSpec, Weights

NUMPY_DTYPES = ("float32", "float16")
NUMPY_WEIGHTS, NUMPY_PROGRAM = "weights.npz", "model.py"
_TEMPLATE = Path(__file__).with_name("numpy_program.py")

# Fused matrices are taken apart, so that the program reads as the papers do.
_PARTS = {
    "attention.qkv": ("query", "key", "value"),
    "feed_forward.gate_up": ("gate", "up"),
    "attention.out": ("out",),
    "attention.q_norm": ("query_norm",),
    "attention.k_norm": ("key_norm",),
    "feed_forward.down": ("down",),
}


def write_numpy(folder: Path, output: Path, *, dtype: str | None = None) -> list[Path]:
    """Write `model.py`, its weights and tokeniser of the model in `folder` into `output`.

    The program computes in float32 whatever the weights are stored in. Returns the files.
    Raises: InputError for mechanisms that can't be exported, SettingsError, IntegrityError.
    """
    dtype = require_dtype(dtype, NUMPY_DTYPES, "numpy")
    spec, weights = load_plain(folder)
    output.mkdir(parents=True, exist_ok=True)
    arrays = {name: stored_as(name, value, dtype) for name, value in _named(spec, weights).items()}
    with (output / NUMPY_WEIGHTS).open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    program = output / NUMPY_PROGRAM
    program.write_text(_TEMPLATE.read_text(encoding="utf-8"), encoding="utf-8")
    return [output / NUMPY_WEIGHTS, program, *write_beside(folder, spec, output)]


def _named(spec: ModelSpec, weights: Weights) -> Weights:
    """The weights under the program's names: `embedding`, `0.query`, `0.gate`, `norm`."""
    parameters, named = spec.parameters(), Weights()
    for name, value in weights.items():
        stem = name.removesuffix(".weight")
        block = re.fullmatch(r"blocks\.(\d+)\.(.+)", stem)
        if block is None:
            named[stem] = value
            continue
        parts = _PARTS.get(block[2], (block[2],))
        rows = parameters[name].rows
        pieces = [value] if rows is None else np.split(value, np.cumsum(rows)[:-1])
        for part, piece in zip(parts, pieces, strict=True):
            named[f"{block[1]}.{part}"] = piece
    return named
