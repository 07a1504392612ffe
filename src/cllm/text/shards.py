"""Token ids on disk: plain little-endian files, mapped into memory and read as one row."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from cllm.errors import IntegrityError

SHARD_TOKENS = 64 << 20


def token_dtype(vocab_size: int) -> np.dtype[np.unsignedinteger]:
    """Two bytes a token where the vocabulary allows it, else four."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


class ShardWriter:
    """Appends ids to `NAME-00000.tokens`, `NAME-00001.tokens`… of at most `shard_tokens`."""

    def __init__(
        self, folder: Path, name: str, vocab_size: int, *, shard_tokens: int = SHARD_TOKENS
    ) -> None:
        self._folder, self._name = folder, name
        self._dtype = token_dtype(vocab_size)
        self._shard_tokens = shard_tokens
        self._file: BinaryIO | None = None
        self.shards: list[tuple[str, int]] = []  # file name and number of tokens

    @property
    def num_tokens(self) -> int:
        """Tokens written so far."""
        return sum(tokens for _, tokens in self.shards)

    def write(self, ids: npt.NDArray[np.unsignedinteger]) -> None:
        """Append ids."""
        ids = ids.astype(self._dtype, copy=False)
        while len(ids):
            if self._file is None or self.shards[-1][1] >= self._shard_tokens:
                self._next()
            assert self._file is not None
            name, written = self.shards[-1]
            part = ids[: self._shard_tokens - written]
            self._file.write(part.data)
            self.shards[-1] = (name, written + len(part))
            ids = ids[len(part) :]

    def _next(self) -> None:
        self.close()
        name = f"{self._name}-{len(self.shards):05d}.tokens"
        self._file = (self._folder / name).open("wb")
        self.shards.append((name, 0))

    def close(self) -> None:
        """Finish the last shard."""
        if self._file is not None:
            self._file.close()
            self._file = None


class TokenStream:
    """The shards of one split as one row of ids; only what is read takes memory."""

    def __init__(self, paths: Sequence[Path], lengths: Sequence[int], vocab_size: int) -> None:
        dtype = token_dtype(vocab_size)
        self._ends = np.cumsum([0, *lengths]).tolist()
        self._maps: list[npt.NDArray[np.unsignedinteger]] = []
        for path, length in zip(paths, lengths, strict=True):
            size = path.stat().st_size if path.is_file() else -1
            if size != length * dtype.itemsize:
                expected = length * dtype.itemsize
                message = f"truncated or altered: {size:,} bytes instead of {expected:,}"
                raise IntegrityError("the file is missing" if size < 0 else message, where=path)
            self._maps.append(np.memmap(path, dtype, "r", shape=(length,)))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, start: int, length: int) -> npt.NDArray[np.uint32]:
        """A copy of `length` ids from `start` on (fewer where the row ends)."""
        if start < 0 or length < 0:
            raise ValueError("start and length are at least 0")
        stop = min(start + length, len(self))
        out = np.empty(max(stop - start, 0), np.uint32)
        place = start
        shard = bisect.bisect_right(self._ends, start) - 1
        while place < stop:
            first = self._ends[shard]
            part = self._maps[shard][place - first : stop - first]
            out[place - start : place - start + len(part)] = part
            place += len(part)
            shard += 1
        return out
