"""From the settings of a text to how the decoder chooses its tokens."""

from __future__ import annotations

import math

from cllm.config import GenerateSettings
from cllm.errors import SettingsError
from cllm.native.stream import Choice
from cllm.text.tokenizers import Tokenizer

_WHERE = "--logit-bias"


def make_choice(settings: GenerateSettings, tokenizer: Tokenizer, vocab_size: int) -> Choice:
    """How tokens are chosen; what stands for unknown words, or for nothing, never is.

    `vocab_size` is the model's, which may be larger than the tokeniser's. Raises: SettingsError.
    """
    bias = logit_bias(settings.logit_bias, tokenizer)
    if tokenizer.unk_id is not None:
        bias[tokenizer.unk_id] = -math.inf
    bias |= dict.fromkeys(range(tokenizer.vocab_size, vocab_size), -math.inf)
    return Choice(
        temperature=settings.temperature,
        top_k=settings.top_k,
        top_p=settings.top_p,
        min_p=settings.min_p,
        typical_p=settings.typical_p,
        repetition_penalty=settings.repetition_penalty,
        frequency_penalty=settings.frequency_penalty,
        presence_penalty=settings.presence_penalty,
        bias=bias,
    )


def logit_bias(items: tuple[str, ...], tokenizer: Tokenizer) -> dict[int, float]:
    """What `TOKEN=NUMBER` adds to each token: TOKEN is its text, or # and its id.

    Raises: SettingsError naming the item.
    """
    bias: dict[int, float] = {}
    for item in items:
        token, _, number = item.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not token or math.isnan(value) or value == math.inf:
            hint = "For example: --logit-bias ' the=-2', or --logit-bias '#17=-inf' for token 17."
            raise SettingsError(f"{item!r} is not TOKEN=NUMBER", where=_WHERE, hint=hint)
        bias[_token_id(token, tokenizer)] = value
    return bias


def _token_id(token: str, tokenizer: Tokenizer) -> int:
    if token.startswith("#") and token[1:].isdecimal():
        # So many digits no vocabulary needs, and Python reads only some thousands.
        if len(token) > 12 or int(token[1:]) >= tokenizer.vocab_size:
            message = f"there is no token {token[1:13]}: they end at {tokenizer.vocab_size - 1}"
            raise SettingsError(message, where=_WHERE)
        return int(token[1:])
    # A token is found by what it spells: encoding might cut the same text otherwise.
    spelling = token.encode()
    if spelling in tokenizer.spellings:
        return tokenizer.spellings.index(spelling)
    pieces = [tokenizer.decode([token_id]) for token_id in tokenizer.encode(token).tolist()]
    message = f"{token!r} is not one token of the model but {' + '.join(map(repr, pieces))}"
    raise SettingsError(message, where=_WHERE, hint="`cllm tokenize` shows how text is split.")
