"""Byte-level byte-pair encoding: the default tokeniser, lossless, read by llama.cpp.

Source: Sennrich et al. 2016 (arXiv:1508.07909); over bytes: Radford et al. 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cllm.text.tokenizers.alphabet import EOS, SORTED_CHARACTERS
from cllm.text.tokenizers.byte_level import with_byte_level_pieces
from cllm.text.tokenizers.merges import learn_merges
from cllm.text.tokenizers.piece_counts import PieceCounts

if TYPE_CHECKING:
    import tokenizers

BASE_ENTRIES = 257  # eos and the bytes


def train(counts: PieceCounts, vocab_size: int) -> tokenizers.Tokenizer:
    """Merge the commonest pairs until the vocabulary is full or no pair occurs twice."""
    from tokenizers import Tokenizer, models

    merges = learn_merges(counts, vocab_size - BASE_ENTRIES)
    vocabulary = {EOS: 0}
    for token in [*SORTED_CHARACTERS, *(left + right for left, right in merges)]:
        vocabulary.setdefault(token, len(vocabulary))
    return with_byte_level_pieces(Tokenizer(models.BPE(vocabulary, merges)))
