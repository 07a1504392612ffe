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

    token_id: int
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


def completion_logprobs(
    tokens: Sequence[PlacedToken], spellings: Sequence[bytes]
) -> dict[str, Any]:
    """Of completions; `spellings` of all tokens."""
    scores = [token.score for token in tokens]
    return {
        "tokens": [_name(token.text, token.token_id, spellings) for token in tokens],
        "token_logprobs": [score and _finite(score.log_probability) for score in scores],
        "top_logprobs": [score and _by_name(score, spellings) for score in scores],
        "text_offset": [token.offset for token in tokens],
    }


def _by_name(score: TokenScore, spellings: Sequence[bytes]) -> dict[str, float]:
    """The likeliest and the token itself; of those with one name the likeliest stands."""
    known = {
        _name(text, token_id, spellings): _finite(value)
        for token_id, text, value in reversed(score.alternatives)
    }
    known.setdefault(_name(score.text, score.token_id, spellings), _finite(score.log_probability))
    return known


def _name(text: str, token_id: int, spellings: Sequence[bytes]) -> str:
    """A token's text; of one that is no whole character its bytes, as OpenAI writes them."""
    if "\ufffd" not in text or token_id >= len(spellings):
        return text
    spelling = spellings[token_id]
    if spelling == text.encode():
        return text
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelling)


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
