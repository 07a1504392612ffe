"""The roots of a vocabulary in a model's folder: `roots.safetensors`, strings in its header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cllm.errors import IntegrityError
from cllm.files import write_atomic
from cllm.text.roots.segmenter import Segmenter
from cllm.text.roots.token_roots import TokenRoots

ROOTS = "roots.safetensors"
_ARRAYS = {"roots": "<i4", "affixes": "<i4", "root_primes": "<i8", "affix_primes": "<i8"}
_NAMES = ("root_names", "affix_names", "words")


def has_roots(folder: Path) -> bool:
    """Whether `save_roots` has written there."""
    return (folder / ROOTS).is_file()


def save_roots(folder: Path, found: TokenRoots) -> None:
    """Write `roots.safetensors`, atomically. Raises: StorageError."""
    arrays = {name: np.ascontiguousarray(getattr(found, name)) for name in _ARRAYS}
    strings = {name: json.dumps(getattr(found, name)) for name in _NAMES}
    strings["segmenter"] = json.dumps(found.segmenter.to_json())
    write_atomic(folder / ROOTS, save(arrays, metadata=strings))


def load_roots(folder: Path, vocab_size: int) -> TokenRoots:
    """Read it back, sizes checked. Raises: IntegrityError."""
    path = folder / ROOTS
    if not path.is_file():
        raise IntegrityError("the file is missing", where=path)
    try:
        with safe_open(path, "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in _ARRAYS}
            strings = file.metadata() or {}
        names: dict[str, Any] = {name: tuple(json.loads(strings[name])) for name in _NAMES}
        segmenter = Segmenter.from_json(json.loads(strings["segmenter"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(f"the file is damaged: {error}", where=path) from error
    problem = _problem(arrays, names, vocab_size)
    if problem is not None:
        raise IntegrityError(f"the file does not fit the model: {problem}", where=path)
    return TokenRoots(**arrays, **names, segmenter=segmenter)


def _problem(
    arrays: dict[str, np.ndarray], names: dict[str, tuple[str, ...]], vocab_size: int
) -> str | None:
    roots, affixes = arrays["roots"], arrays["affixes"]
    root_primes, affix_primes = arrays["root_primes"], arrays["affix_primes"]
    if any(arrays[name].dtype != np.dtype(kind) for name, kind in _ARRAYS.items()):
        return "an array has another type"
    if roots.shape != (vocab_size,) or affixes.ndim != 2 or len(affixes) != vocab_size:
        return f"roots and affixes are not {vocab_size:,}"
    if len(names["words"]) != vocab_size:
        return f"words are not {vocab_size:,}"
    if len(names["root_names"]) != len(root_primes) or root_primes.ndim != 1:
        return "roots and their primes differ in number"
    if len(names["affix_names"]) != len(affix_primes) or affix_primes.ndim != 1:
        return "affixes and their primes differ in number"
    if roots.min() < 0 or roots.max() >= len(root_primes):
        return "a root has no prime"
    if affixes.size and (affixes.min() < 0 or affixes.max() >= len(affix_primes)):
        return "an affix has no prime"
    row = np.concatenate((affix_primes, root_primes))
    return None if row[0] == 1 and np.all(np.diff(row) > 0) else "the primes are not in order"
