"""What the byte-level tokenisers share: pre-tokeniser, decoder and special token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cllm.text.tokenizers.alphabet import EOS, UNK
from cllm.text.tokenizers.pieces import PATTERNS

if TYPE_CHECKING:
    import tokenizers


def finish(backend: tokenizers.Tokenizer, *, has_unk: bool = False) -> tokenizers.Tokenizer:
    """Declare the special tokens, which stand first in the vocabulary."""
    backend.add_special_tokens([EOS, UNK] if has_unk else [EOS])
    return backend


def with_byte_level_pieces(
    backend: tokenizers.Tokenizer, *, has_special: bool = True
) -> tokenizers.Tokenizer:
    """Cut by the byte-level pattern and spell the bytes in the byte-level alphabet."""
    from tokenizers import Regex, decoders, pre_tokenizers

    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERNS["byte-level"]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    return finish(backend) if has_special else backend
