"""What a person may want to change, said where it helps."""

from __future__ import annotations

from collections.abc import Sequence

_LITTLE_TEXT_BYTES = 100_000


def advise_on_text(num_bytes: int) -> str | None:
    """Say so when there is too little text to learn a language from."""
    if num_bytes >= _LITTLE_TEXT_BYTES:
        return None
    return (
        f"Only {num_bytes:,} bytes of text: the model will mostly memorise. "
        "From about 100,000 bytes it starts to write by itself; from a million it does so well."
    )


def advise_on_tokens(num_characters: int, num_tokens: int, kind: str) -> str | None:
    """Say so when subword tokens break a script into less than characters."""
    if kind in ("bytes", "characters") or num_tokens <= 1.2 * num_characters:
        return None
    return (
        f"The tokeniser needs {num_tokens / max(num_characters, 1):.1f} tokens a character: "
        "the text's script does not suit it. Try --tokenizer characters or a larger --vocab-size."
    )


def advise_on_loss(train_nats: Sequence[float], learning_rate: float) -> str | None:
    """Say so when the loss has not fallen since the start; one value per step."""
    if len(train_nats) < 50:
        return None
    tenth = max(5, len(train_nats) // 10)
    first, last = _mean(train_nats[:tenth]), _mean(train_nats[-tenth:])
    if last < first - 0.1:
        return None
    return (
        f"The loss is not falling ({first:.2f} at the start, {last:.2f} now). "
        f"Try lower rates than --train.learning-rate {learning_rate:g} and the --train.matrix-rate"
        " of the plan, or look at the text."
    )


def advise_on_overfitting(val_nats: Sequence[float]) -> str | None:
    """Say so when the held-out loss has risen clearly above its best."""
    if len(val_nats) < 3:
        return None
    best = min(val_nats)
    if val_nats[-1] < best * 1.02 + 0.01:
        return None
    return (
        f"Overfitting: the held-out loss rose from {best:.2f} to {val_nats[-1]:.2f} nats a token. "
        "The best state is kept; more text, a smaller model or less time would do as well."
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
