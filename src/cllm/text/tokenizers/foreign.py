"""Tokenisers of models from elsewhere: byte-pair encodings with special tokens of their own."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cllm.config import TokenizerKind
from cllm.errors import InputError
from cllm.text.tokenizers.alphabet import unspell
from cllm.text.tokenizers.encoders import Encoded

if TYPE_CHECKING:
    import tokenizers

AnyKind = TokenizerKind | Literal["foreign"]

_BLANK = "\N{LOWER ONE EIGHTH BLOCK}"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass(frozen=True, slots=True)
class Foreign:
    """What a tokeniser of ours need not be told.

    `eos_id` ends a text, `begin_ids` stand before each; the model has `vocab_size` rows, of which
    the last ones may have no token.
    """

    eos_id: int
    vocab_size: int
    begin_ids: tuple[int, ...] = ()


class ForeignEncoder:
    """Asks the tokenizers library; special tokens spelled in a text are text."""

    def __init__(self, backend: tokenizers.Tokenizer, eos_id: int) -> None:
        self._backend, self._eos_id = backend, eos_id

    def encode(self, texts: Sequence[bytes], has_eos: Sequence[bool]) -> Encoded:
        """Encode the texts in a row. Raises: InputError where the library gives up."""
        decoded = [text.decode() for text in texts]
        try:
            found = self._backend.encode_batch_fast(decoded, add_special_tokens=False)
        except BaseException as error:
            # A panic of the library is no Exception, and its class has no name to import.
            if isinstance(error, Exception) or type(error).__name__ == "PanicException":
                message = f"the model's tokeniser can't encode the text: {str(error)[:200]}"
                raise InputError(message) from None
            raise
        rows = [
            encoding.ids + [self._eos_id] * ends
            for encoding, ends in zip(found, has_eos, strict=True)
        ]
        ids = np.array([token for row in rows for token in row], np.uint32)
        return Encoded(ids, np.array([len(row) for row in rows], np.int64), 0)


def require_readable(backend: tokenizers.Tokenizer) -> None:
    """Refuse what is no lossless byte-pair encoding. Raises: InputError."""
    record = json.loads(backend.to_str())
    model, decoders = record["model"], _types(record["decoder"])
    if model["type"] != "BPE":
        raise InputError(f"the tokeniser is of the type {model['type']}, not BPE")
    if "ByteLevel" not in decoders and not (model["byte_fallback"] and "ByteFallback" in decoders):
        raise InputError("the tokeniser does not spell every byte, so texts can't be read back")


def foreign_spellings(backend: tokenizers.Tokenizer, about: Foreign) -> list[bytes]:
    """The bytes each id stands for: none for eos and for rows without a token."""
    is_byte_level = "ByteLevel" in _types(json.loads(backend.to_str())["decoder"])
    added = backend.get_added_tokens_decoder()
    found = [b""] * about.vocab_size
    for token, number in backend.get_vocab(with_added_tokens=True).items():
        if number in added:
            found[number] = token.encode()
        else:
            found[number] = _byte_level(token) if is_byte_level else _piece(token)
    found[about.eos_id] = b""
    return found


def special_tokens(backend: tokenizers.Tokenizer) -> dict[str, int]:
    """The tokens that a text can't spell, by their names."""
    added = backend.get_added_tokens_decoder()
    return {token.content: number for number, token in added.items() if token.special}


def begin_ids(backend: tokenizers.Tokenizer) -> tuple[int, ...]:
    """The ids that the tokeniser itself puts before each text."""
    plain = backend.encode("a", add_special_tokens=False).ids
    whole = backend.encode("a", add_special_tokens=True).ids
    places = range(len(whole) - len(plain) + 1)
    start = next((at for at in places if whole[at : at + len(plain)] == plain), 0)
    return tuple(whole[:start])


def _types(part: Any) -> set[str]:
    """The types in a description, those of a sequence's parts too."""
    if not isinstance(part, dict):
        return set()
    inner = [part, *part.get("decoders", [])]
    return {one["type"] for one in inner if isinstance(one, dict)}


def _byte_level(token: str) -> bytes:
    try:
        return unspell(token)
    except KeyError:
        # Not of the alphabet, so that no text becomes it.
        return token.encode()


def _piece(token: str) -> bytes:
    byte = _BYTE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace(_BLANK, " ").encode()
