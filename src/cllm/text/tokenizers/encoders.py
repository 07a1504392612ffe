"""From text to token ids, fast: one encoder for each way in which a token is found.

Each gives exactly the ids of the Hugging Face tokenizer it is made for: what can't be
looked up is asked of that tokenizer's own model, once for each distinct piece.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from cllm.text.tokenizers.alphabet import EOS_ID, UNK_ID
from cllm.text.tokenizers.piece_table import PieceTable
from cllm.text.tokenizers.pieces import CharacterClasses, PiecePattern

Ids = npt.NDArray[np.uint32]

# Texts are encoded in groups of about this size, so that the arrays stay in the cache.
_GROUP_BYTES = 1 << 18
# Past this many distinct pieces the table starts afresh, so that memory is bounded.
_MOST_PIECES = 1 << 19


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of several texts in a row."""

    ids: Ids
    num_tokens: npt.NDArray[np.int64]  # of each text, its eos included
    unknown_bytes: int  # UTF-8 bytes of what became <unk>


@dataclass(frozen=True, slots=True)
class KnownPieces:
    """Pieces whose ids need not be asked for: all ids in a row, and how many each has."""

    pieces: list[bytes]
    ids: Ids
    num_ids: npt.NDArray[np.int64]

    @classmethod
    def none(cls) -> KnownPieces:
        """No pieces."""
        return cls([], np.empty(0, np.uint32), np.empty(0, np.int64))


@runtime_checkable
class Encoder(Protocol):
    """Turns UTF-8 texts into ids; where `has_eos` says so, the end of a text becomes eos."""

    def encode(self, texts: Sequence[bytes], has_eos: Sequence[bool]) -> Encoded:
        """Encode the texts in a row."""
        ...


class PieceEncoder:
    """Cuts text into pieces and remembers the ids of each distinct piece."""

    def __init__(
        self,
        pattern: PiecePattern,
        tokenize: Callable[[bytes], list[int]],
        *,
        has_unk: bool,
        known: KnownPieces | None = None,
    ) -> None:
        self._pattern: PiecePattern = pattern
        self._tokenize = tokenize
        self._has_unk = has_unk
        self._known = known or KnownPieces.none()
        self._classes = CharacterClasses(pattern)
        # The tables grow with what is read, and a model's prompts come from several threads.
        self._growing = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self._table = PieceTable(self._pattern, self._classes)
        self._table.add(self._known.pieces)
        self._flat = np.concatenate([np.array([EOS_ID], np.uint32), self._known.ids])
        self._counts = np.concatenate([np.ones(1, np.int64), self._known.num_ids])
        self._offsets = np.cumsum(self._counts) - self._counts

    def encode(self, texts: Sequence[bytes], has_eos: Sequence[bool]) -> Encoded:
        """Encode the texts in a row, in groups that fit the cache."""
        parts: list[Encoded] = []
        first, size = 0, 0
        for place, text in enumerate(texts):
            size += len(text)
            if size >= _GROUP_BYTES:
                group = slice(first, place + 1)
                parts.append(self._encode_group(texts[group], has_eos[group]))
                first, size = place + 1, 0
        if first < len(texts):
            parts.append(self._encode_group(texts[first:], has_eos[first:]))
        return join_encoded(parts)

    def _encode_group(self, texts: Sequence[bytes], has_eos: Sequence[bool]) -> Encoded:
        with self._growing:
            return self._encode_alone(texts, has_eos)

    def _encode_alone(self, texts: Sequence[bytes], has_eos: Sequence[bool]) -> Encoded:
        if len(self._table.pieces) > _MOST_PIECES:
            self._reset()
        data = b"\0".join([*texts, b""])
        ends = np.cumsum([len(text) + 1 for text in texts]) - 1
        numbers = self._table.number(data, ends)
        self._learn()
        counts = self._counts[numbers]
        places = np.flatnonzero(numbers == 0)
        counts[places[~np.asarray(has_eos, bool)]] = 0
        cumulative = np.cumsum(counts)
        shifts = self._offsets[numbers] - cumulative + counts
        gather = np.repeat(shifts, counts)
        gather += np.arange(len(gather))
        ids = self._flat[gather]
        num_tokens = np.diff(cumulative[places], prepend=0)
        unknown = self._unknown_bytes(numbers) if self._has_unk else 0
        return Encoded(ids, num_tokens, unknown)

    def _unknown_bytes(self, numbers: npt.NDArray[np.int32]) -> int:
        unknown = numbers[self._flat[self._offsets[numbers]] == UNK_ID].tolist()
        return sum(len(self._table.pieces[number]) for number in unknown)

    def _learn(self) -> None:
        """Ask for the ids of the pieces that are new in the table."""
        pieces = self._table.pieces[len(self._counts) :]
        if not pieces:
            return
        ids = [self._tokenize(piece) for piece in pieces]
        counts = np.array([len(part) for part in ids], np.int64)
        offsets = np.cumsum(counts) - counts + len(self._flat)
        self._flat = np.concatenate(
            [self._flat, np.array([number for part in ids for number in part], np.uint32)]
        )
        self._offsets = np.concatenate([self._offsets, offsets])
        self._counts = np.concatenate([self._counts, counts])


class CharacterEncoder:
    """Looks up each character in a table over all code points."""

    def __init__(self, vocabulary: dict[str, int]) -> None:
        self._table = np.full(0x110000, UNK_ID, np.uint32)
        for character, number in vocabulary.items():
            if len(character) == 1:
                self._table[ord(character)] = number
        self._ascii = self._table[:128].copy()
        self._has_ascii = not (self._ascii == UNK_ID).any()

    def encode(self, texts: Sequence[bytes], has_eos: Sequence[bool]) -> Encoded:
        """Encode the texts in a row."""
        return join_encoded([self._encode_one(*pair) for pair in zip(texts, has_eos, strict=True)])

    def _encode_one(self, text: bytes, has_eos: bool) -> Encoded:
        if text.isascii():
            points: npt.NDArray[np.integer] = np.frombuffer(text, np.uint8)
        else:
            points = np.frombuffer(text.decode().encode("utf-32-le"), np.uint32)
        ids = np.empty(len(points) + has_eos, np.uint32)
        np.take(self._table, points, out=ids[: len(points)], mode="clip")
        if has_eos:
            ids[-1] = EOS_ID
        unknown = points[ids[: len(points)] == UNK_ID]
        unknown_bytes = sum(int((unknown >= limit).sum()) for limit in (0, 0x80, 0x800, 0x10000))
        return Encoded(ids, np.array([len(ids)]), unknown_bytes)


class ByteEncoder:
    """Each byte is a token: its value plus one, since eos is 0."""

    def encode(self, texts: Sequence[bytes], has_eos: Sequence[bool]) -> Encoded:
        """Encode the texts in a row."""
        num_tokens = np.array([len(text) for text in texts], np.int64)
        num_tokens += np.asarray(has_eos, bool)
        ids = np.full(int(num_tokens.sum()), EOS_ID, np.uint32)
        place = 0
        for text, length in zip(texts, num_tokens.tolist(), strict=True):
            np.add(np.frombuffer(text, np.uint8), 1, out=ids[place : place + len(text)], dtype="u4")
            place += length
        return Encoded(ids, num_tokens, 0)


def join_encoded(parts: Sequence[Encoded]) -> Encoded:
    """The parts in a row."""
    if len(parts) == 1:
        return parts[0]
    return Encoded(
        np.concatenate([part.ids for part in parts] or [np.empty(0, np.uint32)]),
        np.concatenate([part.num_tokens for part in parts] or [np.empty(0, np.int64)]),
        sum(part.unknown_bytes for part in parts),
    )
