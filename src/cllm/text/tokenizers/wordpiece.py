"""WordPiece over bytes: the longest piece first; lossless, unlike BERT's.

The alphabet is the byte-level one and the continuation mark lies outside it, so a token's
text is never ambiguous; every byte is in the vocabulary, both as a start and continuing.
Source: Schuster and Nakajima 2012; Wu et al. 2016 (arXiv:1609.08144). Trained by merging
the commonest pairs, as Hugging Face's trainer does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cllm.text.tokenizers.alphabet import CONTINUATION, EOS, SORTED_CHARACTERS
from cllm.text.tokenizers.byte_level import with_byte_level_pieces
from cllm.text.tokenizers.merges import learn_merges
from cllm.text.tokenizers.piece_counts import PieceCounts

if TYPE_CHECKING:
    import tokenizers

BASE_ENTRIES = 513  # eos, and the bytes twice
# Longer pieces are cut: the search for the longest token takes cubic time.
LONGEST_PIECE = 64


def train(counts: PieceCounts, vocab_size: int) -> tokenizers.Tokenizer:
    """Merge the commonest pairs until the vocabulary is full or no pair occurs twice."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    learned = learn_merges(counts, vocab_size - BASE_ENTRIES, continuation=CONTINUATION)
    continued = [CONTINUATION + character for character in SORTED_CHARACTERS]
    merged = (left + right.removeprefix(CONTINUATION) for left, right in learned.pairs)
    vocabulary = {EOS: 0}
    for token in [*SORTED_CHARACTERS, *continued, *merged]:
        vocabulary.setdefault(token, len(vocabulary))
    model = models.WordPiece(
        vocabulary,
        unk_token=EOS,  # the model demands one; no piece needs it
        continuing_subword_prefix=CONTINUATION,
        max_input_chars_per_word=LONGEST_PIECE,
    )
    backend = with_byte_level_pieces(Tokenizer(model))
    limit = pre_tokenizers.Split(Regex(f".{{1,{LONGEST_PIECE}}}"), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([backend.pre_tokenizer, limit])
    backend.decoder = decoders.Sequence([decoders.Replace(CONTINUATION, ""), decoders.ByteLevel()])
    return backend
