"""Raw bytes: 256 of them and eos; lossless, nothing to train."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cllm.text.tokenizers.alphabet import BYTE_CHARACTERS, EOS
from cllm.text.tokenizers.byte_level import finish

if TYPE_CHECKING:
    import tokenizers

ENTRIES = 257


def build() -> tokenizers.Tokenizer:
    """A byte's id is its value plus one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {token: number for number, token in enumerate([EOS, *BYTE_CHARACTERS])}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return finish(backend)
