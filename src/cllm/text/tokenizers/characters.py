"""Characters: every one seen in the training text is a token, any other is `<unk>`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cllm.text.tokenizers.alphabet import EOS, UNK
from cllm.text.tokenizers.byte_level import finish

if TYPE_CHECKING:
    import tokenizers

BASE_ENTRIES = 2  # eos and <unk>


def build(counts: Mapping[str, int], vocab_size: int) -> tokenizers.Tokenizer:
    """Take the commonest characters that fit; their ids are in the order of code points."""
    from tokenizers import Tokenizer, decoders, models

    ranked = sorted(Counter(counts).items(), key=lambda item: (-item[1], item[0]))
    chosen = sorted(character for character, _ in ranked[: vocab_size - BASE_ENTRIES])
    vocabulary = {token: number for number, token in enumerate([EOS, UNK, *chosen])}
    # BPE without merges takes text character by character, however long it is.
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token=UNK, fuse_unk=False))
    backend.decoder = decoders.Fuse()
    return finish(backend, has_unk=True)
