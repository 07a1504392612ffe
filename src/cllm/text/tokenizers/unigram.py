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
    entries = [(EOS, 0.0), *((token, score) for token, score in scored)]
    return with_byte_level_pieces(Tokenizer(models.Unigram(entries)))
