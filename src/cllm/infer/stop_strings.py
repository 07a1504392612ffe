"""Ends a stream of text before a stop string, wherever the pieces of the stream are cut."""

from __future__ import annotations

from collections.abc import Sequence

from cllm.errors import SettingsError


class StopStrings:
    """Passes text on as it comes and withholds what may turn out to be a stop string.

    What comes out, put together, is the text up to the stop string that is complete first
    (of several, the one that began first), and doesn't depend on how the text was cut.
    Raises: SettingsError for an empty stop string.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        if any(not string for string in strings):
            raise SettingsError("an empty stop string would end every text", where="--stop")
        self._strings = tuple(strings)
        self._held = ""
        self.found: str | None = None

    def is_in(self, piece: str) -> bool:
        """Whether the next piece would complete one."""
        text = self._held + piece
        return any(stop in text for stop in self._strings)

    def push(self, piece: str) -> str:
        """Take the next piece; return what is certain not to belong to a stop string."""
        if self.found is not None:
            return ""
        if not self._strings:
            return piece
        text = self._held + piece
        matches = [(at + len(stop), at) for stop in self._strings if (at := text.find(stop)) >= 0]
        if matches:
            end, start = min(matches)
            self.found, self._held = text[start:end], ""
            return text[:start]
        certain = len(text) - self._num_open(text)
        self._held = text[certain:]
        return text[:certain]

    def finish(self) -> str:
        """Return what was withheld; no more text will come."""
        held, self._held = self._held, ""
        return held

    def _num_open(self, text: str) -> int:
        """Length of the longest end of `text` with which a stop string begins."""
        longest = min(len(text), max(map(len, self._strings), default=1) - 1)
        for length in range(longest, 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._strings):
                return length
        return 0
