"""Counts of a training text that guess the next token: what speculation drafts from."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Int32, UInt8, UInt64
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from cllm.errors import IntegrityError
from cllm.files import write_atomic

DRAFTS = "drafts.safetensors"
LONGEST_CONTEXT = 3
MOST_CONTEXTS = 1 << 16
# Three tokens and the length fit in 64 bits.
MOST_TOKENS = 1 << 20
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@final
class DraftTable(ctypes.Structure):
    """`DraftTable` of source/decode/drafts.h."""

    _fields_ = (
        ("contexts", ctypes.c_void_p),
        ("tokens", ctypes.c_void_p),
        ("shares", ctypes.c_void_p),
        ("starts", ctypes.c_void_p),
        ("bucket_bits", ctypes.c_int64),
        ("vocab_size", ctypes.c_int64),
    )


@final
@dataclass(frozen=True, slots=True, eq=False)
class Drafts:
    """The likeliest token after each of N contexts, and its share of what followed in 255ths.

    A context of n tokens, the latest t₁, is 4·(t₁ + V·t₂ + V²·t₃) + n. They are in the order of
    their bucket, the highest bits of context·0x9E3779B97F4A7C15 mod 2⁶⁴ (as many bits as number
    them, at least one). Source: this project, after prompt lookup (Saxena 2023).
    """

    contexts: UInt64[np.ndarray, " N"]
    tokens: Int32[np.ndarray, " N"]
    shares: UInt8[np.ndarray, " N"]
    vocab_size: int
    # Where each bucket begins, and the end of the last.
    starts: Int32[np.ndarray, " B"] = field(init=False)

    def __post_init__(self) -> None:
        bits = _bucket_bits(len(self.contexts))
        sizes = np.bincount(_buckets(self.contexts, bits), minlength=1 << bits)
        object.__setattr__(self, "starts", np.append([0], np.cumsum(sizes)).astype(np.int32))

    def save(self, folder: Path) -> None:
        """Write `drafts.safetensors` into an existing folder, atomically. Raises: StorageError."""
        arrays = {
            "contexts": self.contexts,
            "tokens": self.tokens,
            "shares": self.shares,
            "vocab_size": np.array([self.vocab_size], np.int64),
        }
        write_atomic(folder / DRAFTS, save(arrays))

    @classmethod
    def load(cls, folder: Path, vocab_size: int) -> Drafts:
        """Read it back, everything checked that compiled code trusts. Raises: IntegrityError."""
        path = folder / DRAFTS
        try:
            arrays = load_file(path)
        except FileNotFoundError:
            raise IntegrityError("the file is missing", where=path) from None
        except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
            raise IntegrityError(f"the file is damaged: {error}", where=path) from error
        problem = _problem(arrays, vocab_size)
        if problem is not None:
            raise IntegrityError(f"the file does not fit the model: {problem}", where=path)
        return cls(arrays["contexts"], arrays["tokens"], arrays["shares"], vocab_size)

    def table(self) -> DraftTable:
        """What compiled code reads, while this object lives."""
        return DraftTable(
            self.contexts.ctypes.data,
            self.tokens.ctypes.data,
            self.shares.ctypes.data,
            self.starts.ctypes.data,
            _bucket_bits(len(self.contexts)),
            self.vocab_size,
        )


def build_drafts(ids: Int32[np.ndarray, " N"], vocab_size: int) -> Drafts:
    """Count a training text: what followed contexts of one to three tokens at least twice.

    The contexts that guess right most often are kept, at most 65,536 (0.85 MB). About 0.3 s and
    50 MB for 10⁶ tokens. Raises: ValueError.
    """
    if ids.size and not (int(ids.min()) >= 0 and int(ids.max()) < vocab_size):
        raise ValueError(f"ids must be from 0 to {vocab_size - 1}")
    if not 0 < vocab_size <= MOST_TOKENS:
        raise ValueError(f"{vocab_size} tokens; contexts are packed for at most {MOST_TOKENS}")
    counted = [_followers(ids, n, vocab_size) for n in range(1, LONGEST_CONTEXT + 1)]
    contexts, tokens, right, total = (np.concatenate(part) for part in zip(*counted, strict=True))
    kept = np.argsort(-right, kind="stable")[:MOST_CONTEXTS]
    # Of what was seen twice and went on alike, one more time may differ.
    shares = np.round(255 * right[kept] / (total[kept] + 1)).astype(np.uint8)
    order = np.argsort(_buckets(contexts[kept], _bucket_bits(len(kept))), kind="stable")
    return Drafts(
        contexts[kept][order], tokens[kept][order].astype(np.int32), shares[order], vocab_size
    )


def _followers(ids: Int32[np.ndarray, " N"], n: int, vocab_size: int) -> tuple[np.ndarray, ...]:
    """Contexts of n tokens with a follower seen twice: that token, how often, and how often in all.

    Of followers seen equally often, the one with the lowest id.
    """
    wide, size = ids.astype(np.uint64), np.uint64(vocab_size)
    num = max(0, len(wide) - n)
    packed = np.zeros(num, np.uint64)
    for k in range(n, 0, -1):
        packed = packed * size + wide[n - k : n - k + num]
    distinct = None
    if vocab_size ** (n + 1) >= 1 << 64:
        distinct, numbers = np.unique(packed, return_inverse=True)
        packed = numbers.astype(np.uint64)
    pairs = np.sort(packed * size + wide[n : n + num])
    pairs, times = _runs(pairs)
    befores = pairs // size
    contexts, sizes = _runs(befores)
    first = np.cumsum(sizes) - sizes
    if not len(contexts):
        return contexts, contexts, sizes, sizes
    total, right = np.add.reduceat(times, first), np.maximum.reduceat(times, first)
    hits = np.flatnonzero(times == np.repeat(right, sizes))
    best = hits[np.searchsorted(hits, first)]
    tokens, keep = pairs[best] % size, right >= 2
    if distinct is not None:
        contexts = distinct[contexts.astype(np.int64)]
    keys = contexts * np.uint64(4) + np.uint64(n)
    return keys[keep], tokens[keep], right[keep], total[keep]


def _runs(ordered: UInt64[np.ndarray, " N"]) -> tuple[np.ndarray, np.ndarray]:
    """The different numbers of an ordered array, and how often each is there."""
    starts = np.flatnonzero(np.diff(ordered, prepend=~ordered[:1]))
    return ordered[starts], np.diff(starts, append=len(ordered))


def _bucket_bits(count: int) -> int:
    return max(1, (count - 1).bit_length())


def _buckets(contexts: UInt64[np.ndarray, " N"], bits: int) -> np.ndarray:
    return ((contexts * _MULTIPLIER) >> np.uint64(64 - bits)).astype(np.int64)


def _problem(arrays: dict[str, np.ndarray], vocab_size: int) -> str | None:
    kinds = {"contexts": np.uint64, "tokens": np.int32, "shares": np.uint8, "vocab_size": np.int64}
    if arrays.keys() != kinds.keys():
        return f"it holds {', '.join(sorted(arrays)) or 'nothing'}"
    count = len(arrays["contexts"]) if arrays["contexts"].ndim == 1 else -1
    for name, array in arrays.items():
        size = 1 if name == "vocab_size" else count
        if array.dtype != kinds[name] or array.shape != (size,):
            return f"{name} is {array.dtype} of shape {array.shape}"
    if int(arrays["vocab_size"][0]) != vocab_size:
        return f"it was counted over {int(arrays['vocab_size'][0])} tokens, not {vocab_size}"
    if not 0 < vocab_size <= MOST_TOKENS or count > MOST_CONTEXTS:
        return "it is larger than any that is written"
    tokens, contexts = arrays["tokens"], arrays["contexts"]
    if count and not (int(tokens.min()) >= 0 and int(tokens.max()) < vocab_size):
        return "a token is not in the vocabulary"
    if np.any(np.diff(_buckets(contexts, _bucket_bits(count))) < 0):
        return "contexts are not in order"
    return None
