"""What every reader yields, before cleaning."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RawText:
    """A text as its file has it. `mark` tells a record within the file, such as `#17`."""

    text: str
    num_bytes: int
    mark: str = ""
    is_continuation: bool = False

    @classmethod
    def of(cls, text: str, mark: str = "") -> RawText:
        """A text that is a document of its own, with its size in UTF-8."""
        return cls(text, len(text.encode("utf-8", "surrogatepass")), mark)


@dataclass(frozen=True, slots=True)
class BadRecords:
    """Records of an otherwise good file that could not be used, and why."""

    reason: str
    num_bytes: int = 0
