"""What every other program can open: a model's plain weights, all mechanisms worked in."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.errors import InputError, SettingsError, did_you_mean
from cllm.files import write_json
from cllm.model import ModelSpec, Weights
from cllm.model.files import CONFIG, load_float_weights, load_lexicon, to_config
from cllm.model.folding import fold

# What says how text becomes tokens and how to generate; the same in every kind of export.
_BESIDE = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")


def require_plain(spec: ModelSpec) -> None:
    """Refuse a model with mechanisms that no other program has. Raises: InputError."""
    names = [part.name for part in spec.mechanisms if part.export == "refuses"]
    if names:
        raise InputError(
            f"a model with {' and '.join(names)} opens in CLLM alone",
            hint="`cllm mechanisms` says which ones can be exported; train without the others.",
        )


def load_plain(folder: Path) -> tuple[ModelSpec, Weights]:
    """A model's weights in float32, dequantised, with everything folded that folds.

    Raises: IntegrityError, InputError naming the mechanisms that can't be folded.
    """
    spec, weights = load_float_weights(folder)
    require_plain(spec)
    return fold(spec, weights, load_lexicon(folder, spec))


def require_dtype(dtype: str | None, allowed: tuple[str, ...], target: str) -> str:
    """The first of the allowed number formats for None. Raises: SettingsError listing them."""
    if dtype is None:
        return allowed[0]
    if dtype not in allowed:
        listed = f"{target} can have: {', '.join(allowed)}."
        hint = did_you_mean(dtype, allowed, otherwise="", cutoff=0.7)
        message = f"{target} has no number format {dtype!r}"
        raise SettingsError(message, where="--dtype", hint=f"{hint} {listed}".strip())
    return dtype


def stored_as(name: str, values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Weights in the format that they are stored in. Raises: InputError when they are too large."""
    with np.errstate(over="ignore"):
        stored: NDArray[Any] = values.astype(dtype, copy=False)
    if not np.isfinite(stored).all():
        raise InputError(f"{name} has weights too large for {dtype}", hint="Use float32.")
    return stored


def write_beside(folder: Path, spec: ModelSpec, output: Path) -> list[Path]:
    """Write the configuration and the tokeniser of the model in `folder` into `output`."""
    write_json(output / CONFIG, to_config(spec))
    written = [output / CONFIG]
    for name in _BESIDE:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, output / name)
            written.append(output / name)
    return written
