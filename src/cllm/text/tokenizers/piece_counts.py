"""How often each piece occurs in the text a tokeniser is trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from cllm.text.tokenizers.piece_table import PieceTable
from cllm.text.tokenizers.pieces import PiecePattern

_GROUP_BYTES = 1 << 18


class PieceCounts:
    """Distinct pieces with their numbers of occurrences, in the order in which they came."""

    def __init__(self, pattern: PiecePattern) -> None:
        self._table = PieceTable(pattern)
        self._counts: npt.NDArray[np.int64] = np.zeros(1, np.int64)

    def add(self, text: str) -> None:
        """Count a text."""
        for start in range(0, len(text), _GROUP_BYTES):
            data = text[start : start + _GROUP_BYTES].encode() + b"\0"
            numbers = self._table.number(data, np.array([len(data) - 1]))
            counts = np.bincount(numbers, minlength=len(self._table.pieces))
            counts[: len(self._counts)] += self._counts
            self._counts = counts

    def add_all(self, texts: Iterable[str]) -> PieceCounts:
        """Count several texts."""
        for text in texts:
            self.add(text)
        return self

    @property
    def pieces(self) -> list[bytes]:
        """The distinct pieces."""
        return self._table.pieces[1:]

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """How often each occurs."""
        return self._counts[1:]

    def items(self) -> Iterator[tuple[bytes, int]]:
        """Each piece with its count."""
        return zip(self.pieces, self.counts.tolist(), strict=True)
