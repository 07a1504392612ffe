"""Tokens whose vectors point the same way: what a model takes for alike."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from cllm.errors import InputError
from cllm.workspace.workspace import Workspace

# A vector shorter than this is a token that was never trained.
_SHORTEST = 1e-12


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A token, the cosine of its vector and the one asked for, and its place on the map."""

    token_id: int
    text: str
    cosine: float
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The tokens of what was typed, which of them was looked up, and what lies near it.

    The first of `nearest` is the token itself. The map is the plane in which they lie farthest
    apart; `shown_share` is the share of their spread that it shows.
    """

    pieces: list[str]
    chosen: int
    nearest: list[Neighbour]
    shown_share: float


def nearest_tokens(
    workspace: Workspace, model: str, text: str, *, piece: int = 0, limit: int = 24
) -> Neighbours:
    """The nearest tokens to one of the tokens of a text, by the cosine of their vectors.

    A text that is a token of the vocabulary counts as that one. Cost: V·C multiplications.
    Raises: NotFoundError, IntegrityError, InputError.
    """
    from cllm.text.tokenizers import Tokenizer

    folder = workspace.models.path(model)
    tokenizer = Tokenizer.load(folder)
    spellings = tokenizer.spellings
    spelling = text.encode()
    if spelling and spelling in spellings:
        ids = [spellings.index(spelling)]
    else:
        ids = [int(token) for token in tokenizer.encode(text)]
    if not ids:
        raise InputError("there is nothing to look up", hint="Type a word of the model's text.")
    chosen = min(max(piece, 0), len(ids) - 1)
    table = _directions(folder, (folder / "model.safetensors").stat().st_mtime_ns)
    if ids[chosen] >= len(table) or not table[ids[chosen]].any():
        raise InputError("the model has no vector for this token", hint="Try another word.")
    cosines = table @ table[ids[chosen]]
    cosines[ids[chosen]] = 2.0
    order = np.argsort(-cosines, kind="stable")[: limit + 1]
    cosines[ids[chosen]] = 1.0
    places, share = plane(table[order].astype(np.float64))
    nearest = [
        Neighbour(int(k), spelled(spellings, int(k)), float(cosines[k]), float(x), float(y))
        for k, (x, y) in zip(order, places, strict=True)
    ]
    return Neighbours([spelled(spellings, k) for k in ids], chosen, nearest, share)


def spelled(spellings: list[bytes], token_id: int) -> str:
    """How a token reads by itself; bytes that are no text as ⟨e2⟩."""
    spelling = spellings[token_id] if token_id < len(spellings) else b""
    if not spelling:
        return "⟨end of text⟩"
    try:
        return spelling.decode()
    except UnicodeDecodeError:
        return f"⟨{spelling.hex(' ')}⟩"


def plane(vectors: Float64[np.ndarray, "N C"]) -> tuple[Float64[np.ndarray, "N 2"], float]:
    """The vectors in the plane of their two main directions, and its share of their variance."""
    centred = vectors - vectors.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    whole = float((singular**2).sum())
    places = np.zeros((len(vectors), 2))
    found = (left * singular)[:, :2]
    places[:, : found.shape[1]] = found
    return places, float((singular[:2] ** 2).sum()) / whole if whole > 0 else 1.0


@functools.lru_cache(maxsize=1)
def _directions(folder: Path, changed: int) -> Float32[np.ndarray, "V C"]:
    """The model's input vectors, each of length 1 (or 0); `changed` makes a new file a new key."""
    del changed
    table = _table(folder)
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    return np.where(lengths > _SHORTEST, table / np.maximum(lengths, _SHORTEST), 0).astype(
        np.float32
    )


def _table(folder: Path) -> Float32[np.ndarray, "V C"]:
    """What a token's vector is, also where a mechanism makes it (then torch is loaded)."""
    from cllm.model.files import load_float_weights, read_spec
    from cllm.model.mechanisms.mechanism import ChangesTable

    if not any(isinstance(part, ChangesTable) for part in read_spec(folder).mechanisms):
        _, weights = load_float_weights(folder, {"embedding.weight"})
        return weights["embedding.weight"]
    import torch

    from cllm.model import load_model

    model = load_model(folder)
    with torch.inference_mode():
        table = model.mechanisms.table(None if model.embedding is None else model.embedding.weight)
    return np.asarray(table.float().numpy())
