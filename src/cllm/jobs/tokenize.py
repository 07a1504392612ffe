"""See how a model's tokeniser splits a text, or what ids stand for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from cllm.errors import InputError
from cllm.workspace.workspace import Workspace


@dataclasses.dataclass(frozen=True, slots=True)
class Tokenization:
    """A text and its tokens: `tokens[i]` is how `ids[i]` reads on its own."""

    ids: list[int]
    tokens: list[str]
    num_tokens: int
    text: str


def tokenize(workspace: Workspace, model: str, text: str) -> Tokenization:
    """Split `text` with the model's tokeniser. Raises: NotFoundError, IntegrityError."""
    from cllm.text.tokenizers import Tokenizer

    tokenizer = Tokenizer.load(workspace.models.path(model))
    ids = [int(token) for token in tokenizer.encode(text)]
    return Tokenization(ids, [tokenizer.decode([token]) for token in ids], len(ids), text)


def detokenize(workspace: Workspace, model: str, ids: Sequence[int]) -> Tokenization:
    """The text that `ids` stand for. Raises: InputError for an id not in the vocabulary."""
    from cllm.text.tokenizers import Tokenizer

    tokenizer = Tokenizer.load(workspace.models.path(model))
    for token in ids:
        if not 0 <= token < tokenizer.vocab_size:
            hint = f"The vocabulary of {model} has the ids 0 to {tokenizer.vocab_size - 1:,}."
            raise InputError(f"{token} is not a token id", hint=hint)
    tokens = [tokenizer.decode([token]) for token in ids]
    return Tokenization(list(ids), tokens, len(ids), tokenizer.decode(list(ids)))
