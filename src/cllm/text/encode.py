"""Second pass: turn the spans of the text file into tokens and write the shards."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from cllm.text.pipeline import WorkerPool
from cllm.text.progress import Progress
from cllm.text.shards import ShardWriter, token_dtype
from cllm.text.split import Span
from cllm.text.tokenizers import Tokenizer
from cllm.text.tokenizers.foreign import AnyKind
from cllm.text.write_behind import WriteBehind

# Spans are cut to pieces of at most this size, so that an encoder's arrays stay in the
# cache, and pieces are grouped to tasks.
_PIECE_BYTES, _TASK_BYTES = 1 << 18, 1 << 20
# How far back from there a good place to cut is looked for.
_LOOK_BACK_BYTES = 16 << 10
_TASK_PIECES = 4096


@dataclass(frozen=True, slots=True)
class Task:
    """Neighbouring pieces of the text file: their borders, and whether eos follows each."""

    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    has_eos: npt.NDArray[np.bool_]

    @property
    def num_bytes(self) -> int:
        """Bytes of text in the pieces."""
        return int((self.ends - self.starts).sum())


@dataclass(frozen=True, slots=True)
class EncodedTask:
    """The ids of a task's pieces in a row."""

    ids: npt.NDArray[np.unsignedinteger]
    num_tokens: npt.NDArray[np.int64]
    unknown_bytes: int
    num_characters: int


class EncodeWork:
    """What a worker does: read pieces of the text file and encode them."""

    def __init__(self, path: Path, tokenizer: Tokenizer) -> None:
        self._path = path
        self._kind: AnyKind = tokenizer.kind
        self._json = tokenizer.backend.to_str()
        self._known = tokenizer.known
        self._tokenizer: Tokenizer | None = tokenizer

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_tokenizer": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)

    def do(self, task: Task) -> Iterator[EncodedTask]:
        """The ids of one task."""
        if self._tokenizer is None:
            from tokenizers import Tokenizer as Backend

            self._tokenizer = Tokenizer(self._kind, Backend.from_str(self._json), known=self._known)
        with self._path.open("rb", buffering=0) as file:
            texts = [_read(file, *borders) for borders in _borders(task)]
        encoded = self._tokenizer.encode_utf8(texts, task.has_eos.tolist())
        dtype = token_dtype(self._tokenizer.vocab_size)
        yield EncodedTask(
            encoded.ids.astype(dtype),
            encoded.num_tokens,
            encoded.unknown_bytes,
            sum(map(_num_characters, texts)),
        )


@dataclass(frozen=True, slots=True)
class EncodedSpans:
    """Figures of the spans that were encoded; `num_tokens` is for each span, eos included."""

    num_tokens: npt.NDArray[np.int64]
    unknown_bytes: int
    num_characters: int


def encode_spans(
    path: Path,
    spans: Sequence[Span],
    tokenizer: Tokenizer,
    shards: ShardWriter,
    pool: WorkerPool,
    progress: Progress | None = None,
) -> EncodedSpans:
    """Encode spans of the text file at `path` to `shards`, each followed by eos."""
    tasks = list(_plan(path, spans))
    total = sum(task.num_bytes for task in tasks)
    answers = pool.run(EncodeWork(path, tokenizer), tasks)
    counts = np.zeros(len(spans), np.int64)
    unknown = characters = done = span = 0
    with WriteBehind() as behind:
        for task, encoded in zip(tasks, itertools.chain.from_iterable(answers), strict=True):
            behind.call(shards.write, encoded.ids)
            of_piece = span + np.cumsum(task.has_eos) - task.has_eos
            np.add.at(counts, of_piece, encoded.num_tokens)
            span += int(task.has_eos.sum())
            unknown += encoded.unknown_bytes
            characters += encoded.num_characters
            done += task.num_bytes
            if progress is not None:
                progress("encoding", done, total)
    return EncodedSpans(counts, unknown, characters)


def _plan(path: Path, spans: Sequence[Span]) -> Iterator[Task]:
    starts: list[int] = []
    ends: list[int] = []
    eos: list[bool] = []
    size = 0
    with path.open("rb", buffering=0) as file:
        for span in spans:
            start = span.start
            while start < span.end:
                end = cut_place(file, start, span.end)
                starts.append(start)
                ends.append(end)
                eos.append(end == span.end)
                size += end - start
                if size >= _TASK_BYTES or len(starts) >= _TASK_PIECES:
                    yield _task(starts, ends, eos)
                    starts, ends, eos, size = [], [], [], 0
                start = end
    if starts:
        yield _task(starts, ends, eos)


def _task(starts: list[int], ends: list[int], eos: list[bool]) -> Task:
    return Task(np.array(starts, np.int64), np.array(ends, np.int64), np.array(eos, bool))


def cut_place(file: BinaryIO, start: int, end: int, *, piece_bytes: int = _PIECE_BYTES) -> int:
    """Where to end a piece that begins at `start`: at `end` if that is near enough.

    Best between a line end and a letter, where every tokeniser cuts anyway; else at a line
    end; else between any two characters.
    """
    limit = start + piece_bytes
    if end <= limit:
        return end
    base = max(start, limit - _LOOK_BACK_BYTES)
    window = _read(file, base, limit + 1)
    raw = np.frombuffer(window, np.uint8)
    lines = np.flatnonzero(raw[:-1] == ord("\n")) + 1
    letters = lines[_IS_LETTER[raw[lines]]]
    for places in (letters, lines, np.flatnonzero((raw & 0xC0) != 0x80)):
        inside = places[places + base > start]
        if len(inside):
            return base + int(inside[-1])
    return end


_IS_LETTER = np.array([chr(byte).isalpha() and byte < 128 for byte in range(256)])


def _borders(task: Task) -> Iterator[tuple[int, int]]:
    return zip(task.starts.tolist(), task.ends.tolist(), strict=True)


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    parts = []
    while start < end and (part := file.read(end - start)):
        parts.append(part)
        start += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _num_characters(text: bytes) -> int:
    if text.isascii():
        return len(text)
    return int(np.count_nonzero((np.frombuffer(text, np.uint8) & 0xC0) != 0x80))
