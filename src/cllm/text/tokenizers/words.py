"""Whole words, blanks and signs: lossless but for words that are not in the vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cllm.text.tokenizers.alphabet import EOS, UNK
from cllm.text.tokenizers.byte_level import finish
from cllm.text.tokenizers.piece_counts import PieceCounts
from cllm.text.tokenizers.pieces import PATTERNS

if TYPE_CHECKING:
    import tokenizers

BASE_ENTRIES = 2  # eos and <unk>


def train(counts: PieceCounts, vocab_size: int) -> tokenizers.Tokenizer:
    """Take the commonest words that occur at least twice.

    Words that occur once are left to `<unk>`, so that training sees it.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    ranked = sorted(
        ((count, piece) for piece, count in counts.items() if count > 1),
        key=lambda item: (-item[0], item[1]),
    )
    chosen = [piece.decode() for _, piece in ranked[: vocab_size - BASE_ENTRIES]]
    vocabulary = {token: number for number, token in enumerate([EOS, UNK, *chosen])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(PATTERNS["words"]), "isolated")
    backend.decoder = decoders.Fuse()
    return finish(backend, has_unk=True)
