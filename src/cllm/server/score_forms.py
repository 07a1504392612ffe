"""Log-probabilities as the two forms of OpenAI's API have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from cllm.infer.passage import TokenScore
from cllm.text.tokenizers import Tokenizer

# JSON has no −∞; OpenAI answers with this for what is as good as impossible.
_LEAST = -9999.0


@dataclass(frozen=True, slots=True)
class PlacedToken:
    """A token of a text: its score (None where nothing stands before it), and where it begins."""

    text: str
    offset: int
    score: TokenScore | None


@final
class Places:
    """Finds where the tokens of a text begin, in characters.

    One that goes on with a character that another began stands where that character does.
    """

    def __init__(self, tokenizer: Tokenizer, start: int = 0) -> None:
        self._decoded, self._at = tokenizer.stream(), start

    def next(self, token_id: int) -> int:
        """Where the next token begins."""
        at = self._at
        self._at += len(self._decoded.push(token_id))
        return at


def completion_logprobs(tokens: Sequence[PlacedToken]) -> dict[str, Any]:
    """Of completions."""
    scores = [token.score for token in tokens]
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [score and _finite(score.log_probability) for score in scores],
        "top_logprobs": [score and _by_text(score) for score in scores],
        "text_offset": [token.offset for token in tokens],
    }


def _by_text(score: TokenScore) -> dict[str, float]:
    """The likeliest and the token itself, by their texts.

    Of those that look alike, such as parts of a character, the likeliest stands.
    """
    known = {text: _finite(value) for _, text, value in reversed(score.alternatives)}
    known.setdefault(score.text, _finite(score.log_probability))
    return known


def chat_logprobs(scores: Sequence[TokenScore], spellings: Sequence[bytes]) -> dict[str, Any]:
    """Of chat; `spellings` of all tokens."""

    def entry(token_id: int, text: str, value: float) -> dict[str, Any]:
        # A model may have more rows than its tokeniser has tokens.
        spelling = spellings[token_id] if token_id < len(spellings) else b""
        return {"token": text, "logprob": _finite(value), "bytes": list(spelling)}

    return {
        "content": [
            entry(score.token_id, score.text, score.log_probability)
            | {"top_logprobs": [entry(*other) for other in score.alternatives]}
            for score in scores
        ],
        "refusal": None,
    }


def _finite(value: float) -> float:
    return max(value, _LEAST)
