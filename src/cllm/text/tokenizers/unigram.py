"""Unigram language model over bytes: the likeliest cut into tokens; lossless.

Source: Kudo 2018 (arXiv:1804.10959); trained by Hugging Face's UnigramTrainer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cllm.text.tokenizers.alphabet import EOS, SORTED_CHARACTERS
from cllm.text.tokenizers.byte_level import with_byte_level_pieces

if TYPE_CHECKING:
    import tokenizers

BASE_ENTRIES = 257  # eos and the bytes
_DIGITS = 9


def train(texts: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    """Train by expectation-maximisation on the texts."""
    from tokenizers import Tokenizer, models, trainers

    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size - 1,
        initial_alphabet=SORTED_CHARACTERS,
        show_progress=False,
    )
    trained = with_byte_level_pieces(Tokenizer(models.Unigram()), has_special=False)
    trained.train_from_iterator(texts, trainer)
    scored = json.loads(trained.to_str())["model"]["vocab"]
    # eos is in the model only to hold its id: no piece of text can be spelled like it.
    entries = [(EOS, 0.0), *_in_order((token, score) for token, score in scored)]
    return with_byte_level_pieces(Tokenizer(models.Unigram(entries)))


def _in_order(scored: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    """Undo what chance did: the last digits of scores, and the order of bytes not seen.

    The library gives those bytes the lowest scores in the order of a randomised hash table.
    """
    rounded = [(token, round(score, _DIGITS)) for token, score in scored]
    least = min((score for token, score in rounded if len(token) > 1), default=0.0)
    seen = [entry for entry in rounded if len(entry[0]) > 1 or entry[1] >= least]
    unseen = [entry for entry in rounded if len(entry[0]) == 1 and entry[1] < least]
    scores = sorted((score for _, score in unseen), reverse=True)
    seen.sort(key=lambda entry: (-entry[1], entry[0]))
    return [*seen, *zip(sorted(token for token, _ in unseen), scores, strict=True)]
