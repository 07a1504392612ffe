"""Byte-level byte-pair encoding: the default tokeniser, lossless, read by llama.cpp.

Source: Sennrich et al. 2016 (arXiv:1508.07909); over bytes: Radford et al. 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cllm.text.tokenizers.alphabet import EOS, SORTED_CHARACTERS
from cllm.text.tokenizers.byte_level import with_byte_level_pieces
from cllm.text.tokenizers.encoders import KnownPieces
from cllm.text.tokenizers.merges import learn_merges
from cllm.text.tokenizers.piece_counts import PieceCounts

if TYPE_CHECKING:
    import tokenizers

BASE_ENTRIES = 257  # eos and the bytes


def train(counts: PieceCounts, vocab_size: int) -> tuple[tokenizers.Tokenizer, KnownPieces]:
    """Merge the commonest pairs until the vocabulary is full or no pair occurs twice.

    Also gives the ids of the pieces it was trained on.
    """
    from tokenizers import Tokenizer, models

    learned = learn_merges(counts, vocab_size - BASE_ENTRIES)
    vocabulary = {EOS: 0}
    for token in [*SORTED_CHARACTERS, *(left + right for left, right in learned.pairs)]:
        vocabulary.setdefault(token, len(vocabulary))
    backend = with_byte_level_pieces(Tokenizer(models.BPE(vocabulary, learned.pairs)))
    if learned.is_ambiguous:
        return backend, KnownPieces.none()
    # eos is 0 and the symbols follow it.
    return backend, KnownPieces(
        counts.pieces, (learned.symbols + 1).astype(np.uint32), learned.num_symbols
    )
