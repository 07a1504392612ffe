"""Log-probabilities as the two forms of OpenAI's API have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cllm.infer.passage import TokenScore

# JSON has no −∞; OpenAI answers with this for what is as good as impossible.
_LEAST = -9999.0


def completion_logprobs(
    scores: Sequence[TokenScore | None], texts: Sequence[str], start: int
) -> dict[str, Any]:
    """Of completions; None for a first token, which nothing stands before. `start`: of the text."""
    offsets, at = [], start
    for text in texts:
        offsets.append(at)
        at += len(text)
    return {
        "tokens": list(texts),
        "token_logprobs": [score and _finite(score.log_probability) for score in scores],
        "top_logprobs": [score and _by_text(score.alternatives) for score in scores],
        "text_offset": offsets,
    }


def _by_text(alternatives: Sequence[tuple[int, str, float]]) -> dict[str, float]:
    """Of tokens that look alike, such as parts of a character, the likeliest stands."""
    return {text: _finite(value) for _, text, value in reversed(alternatives)}


def chat_logprobs(scores: Sequence[TokenScore]) -> dict[str, Any]:
    """Of chat."""
    return {
        "content": [
            _entry(score.text, score.log_probability)
            | {"top_logprobs": [_entry(text, value) for _, text, value in score.alternatives]}
            for score in scores
        ],
        "refusal": None,
    }


def _entry(text: str, value: float) -> dict[str, Any]:
    return {"token": text, "logprob": _finite(value), "bytes": list(text.encode())}


def _finite(value: float) -> float:
    return max(value, _LEAST)
