"""A text on a page that grows token by token: only its last part is sent anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from nicegui import ui

from cllm.web.token_text import Segment, TokenFact, segments, tokens_html

# So long the part that changes may become; what is before it is left alone.
_MOST_TOKENS, _MOST_CHARACTERS = 96, 2000


@final
class StreamedText:
    """The text of a message; its tokens are shaded as far as something is known of them."""

    def __init__(self, text: str = "", facts: Sequence[TokenFact] = ()) -> None:
        self._root = ui.element("div").classes("cllm-text")
        self._root.props('tabindex="0" role="group" aria-label="What the model wrote"')
        self._at, self._num_facts = 0, 0
        self._last = self._part()
        self.grow(text, facts)

    def grow(self, text: str, facts: Sequence[TokenFact]) -> None:
        """Show the text as it is now: what was there, and more."""
        while True:
            rest, known = text[self._at :], facts[self._num_facts :]
            parts = segments(rest, known) if known else _slices(rest)
            if len(parts) <= _MOST_TOKENS and len(rest) <= _MOST_CHARACTERS + _MOST_TOKENS:
                break
            frozen = parts[:_MOST_TOKENS] if known else parts[:1]
            if len(frozen) == len(parts):
                break
            self._last.set_content(tokens_html(frozen))
            self._at += sum(len(piece) for piece, _ in frozen)
            self._num_facts += _num_used(frozen, known)
            self._last = self._part()
        self._last.set_content(tokens_html(parts))

    def _part(self) -> ui.html:
        with self._root:
            # Everything in it is escaped by `tokens_html`.
            return ui.html("", sanitize=False, tag="span")


def _slices(text: str) -> list[Segment]:
    return [
        (text[at : at + _MOST_CHARACTERS], None) for at in range(0, len(text), _MOST_CHARACTERS)
    ]


def _num_used(parts: Sequence[Segment], facts: Sequence[TokenFact]) -> int:
    """How many of the facts belong to these parts."""
    last = next((fact for _, fact in reversed(parts) if fact is not None), None)
    if last is None:
        return 0
    return 1 + max(k for k, fact in enumerate(facts[: 4 * _MOST_TOKENS]) if fact is last)
