"""A model's text as HTML: each token shaded by its surprise, with what else might have come."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# At this surprise the shade is full: one chance in a thousand.
FULL_BITS = 10.0
# How far ahead a token's text is looked for behind one that completes no character.
_REACH = 8


@dataclass(frozen=True, slots=True)
class TokenFact:
    """A written token: how it reads, its log-probability in nats, and the likeliest others."""

    text: str
    log_probability: float
    alternatives: tuple[tuple[str, float], ...]

    @property
    def bits(self) -> float:
        """Its surprise."""
        return -self.log_probability / math.log(2)

    def to_json(self) -> list[Any]:
        """As it is kept with a message."""
        others = [[text, round(value, 4)] for text, value in self.alternatives]
        return [self.text, round(self.log_probability, 4), others]

    @classmethod
    def from_json(cls, value: Sequence[Any]) -> TokenFact:
        """What `to_json` gave."""
        text, log_probability, others = value
        return cls(text, log_probability, tuple((name, number) for name, number in others))


Segment = tuple[str, TokenFact | None]


def segments(text: str, facts: Sequence[TokenFact]) -> list[Segment]:
    """A text cut into its tokens; joined, the pieces are the text again.

    Tokens that complete no character, or whose text was left out, have no piece.
    """
    found: list[Segment] = []
    at = 0
    for fact in facts:
        piece = fact.text
        if at == 0 and not text.startswith(piece):
            # The blank before the first word may belong to the format of a chat.
            piece = piece.lstrip()
        if not piece or "\ufffd" in piece:
            continue
        start = text.find(piece, at, at + len(piece) + _REACH)
        if start < 0:
            continue
        if start > at:
            found.append((text[at:start], None))
        found.append((piece, fact))
        at = start + len(piece)
    if at < len(text):
        found.append((text[at:], None))
    return found


def tokens_html(parts: Sequence[Segment]) -> str:
    """The pieces as HTML, everything in them escaped."""
    return "".join(_token_html(piece, fact) for piece, fact in parts)


def _token_html(piece: str, fact: TokenFact | None) -> str:
    if fact is None:
        return html.escape(piece)
    share = min(fact.bits / FULL_BITS, 1.0)
    others = [[name, round(math.exp(value), 4)] for name, value in fact.alternatives]
    data = json.dumps([fact.text, round(math.exp(fact.log_probability), 4), others])
    return (
        f'<span class="cllm-token" style="--share:{share:.2f}" '
        f'data-token="{html.escape(data)}">{html.escape(piece)}</span>'
    )


def plain_html(text: str) -> str:
    """A text as HTML, escaped."""
    return html.escape(text)
