"""One interface to every tokeniser."""

from __future__ import annotations

import codecs
import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt

from cllm import files
from cllm.config import TokenizerKind
from cllm.errors import InputError, IntegrityError
from cllm.text.tokenizers.alphabet import CONTINUATION, EOS, EOS_ID, UNK, UNK_ID, spell, unspell
from cllm.text.tokenizers.encoders import (
    ByteEncoder,
    CharacterEncoder,
    Encoded,
    Encoder,
    KnownPieces,
    PieceEncoder,
)
from cllm.text.tokenizers.foreign import (
    AnyKind,
    Foreign,
    ForeignEncoder,
    foreign_spellings,
    special_tokens,
)
from cllm.text.tokenizers.wordpiece import LONGEST_PIECE

if TYPE_CHECKING:
    import tokenizers

_HAS_UNK = ("words", "characters")
# The library encodes fewer bytes of these sooner than arrays are set up.
_IN_PIECES = ("bpe", "wordpiece", "unigram", "words")
_SHORT_BYTES = 256


class Tokenizer:
    """Turns text into token ids and back.

    Wraps a Hugging Face `tokenizers.Tokenizer` (`backend`), whose `tokenizer.json` is what
    other programs read, and gives the same ids much faster; `known` are pieces whose ids
    training has told already. The end of a text, `<|endoftext|>`, is id 0 and is never made by
    `encode`: its spelling inside a text is plain text. A tokeniser from elsewhere is of the kind
    "foreign" and has special tokens of its own, of which `about` tells; `begin_ids` stand before
    each text. `is_lossless` says that `decode(encode(s)) == s` for every `s`; where it is false
    the same holds for texts without unknown words or characters.
    """

    def __init__(
        self,
        kind: AnyKind,
        backend: tokenizers.Tokenizer,
        *,
        known: KnownPieces | None = None,
        about: Foreign | None = None,
    ) -> None:
        assert (about is not None) == (kind == "foreign")
        backend.encode_special_tokens = True
        self.known = known
        self.kind: AnyKind = kind
        self.backend = backend
        self.about = about
        self.vocab_size: int = about.vocab_size if about else backend.get_vocab_size()
        self.eos_id: int = about.eos_id if about else EOS_ID
        self.begin_ids: tuple[int, ...] = about.begin_ids if about else ()
        self.unk_id: int | None = UNK_ID if kind in _HAS_UNK else None
        self.is_lossless: bool = kind not in _HAS_UNK

    def encode(self, text: str) -> npt.NDArray[np.uint32]:
        """The ids of a text; from any thread. Raises: InputError when it holds a lone surrogate."""
        raw = _utf8(text)
        if len(raw) <= _SHORT_BYTES and self.kind in _IN_PIECES:
            return np.array(self.backend.encode(text, add_special_tokens=False).ids, np.uint32)
        return self.encode_utf8([raw], [False]).ids

    def encode_batch(self, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        """The ids of each text."""
        encoded = self.encode_utf8([_utf8(text) for text in texts], [False] * len(texts))
        return np.split(encoded.ids, np.cumsum(encoded.num_tokens)[:-1]) if texts else []

    def encode_utf8(self, texts: Sequence[bytes], has_eos: Sequence[bool]) -> Encoded:
        """The ids of texts in a row, with eos after those that `has_eos` names."""
        return self._encoder.encode(texts, has_eos)

    def encode_rendered(self, text: str) -> npt.NDArray[np.uint32]:
        """The ids of what a chat template made, in which special tokens are meant as such.

        Ours have none. Raises: InputError as `encode`.
        """
        special = special_tokens(self.backend) if self.about else {}
        if not special:
            return self.encode(text)
        names = "|".join(map(re.escape, sorted(special, key=len, reverse=True)))
        parts = [
            np.array([special[part]], np.uint32) if part in special else self.encode(part)
            for part in re.split(f"({names})", text)
            if part
        ]
        return np.concatenate(parts or [np.empty(0, np.uint32)])

    def decode(self, ids: Sequence[int] | npt.NDArray[np.integer[Any]]) -> str:
        """The text of some ids; eos is left out, `<unk>` is shown as such.

        Bytes that are not UTF-8 (a model may write any) become U+FFFD.
        """
        spellings = self.spellings
        return b"".join([spellings[int(i)] for i in ids]).decode("utf-8", "replace")

    def stream(self) -> TokenStreamDecoder:
        """A decoder for ids that come one at a time."""
        return TokenStreamDecoder(self.spellings)

    def unknown_bytes(self, text: str) -> int:
        """UTF-8 bytes of the spellings that become `<unk>`."""
        return self.encode_utf8([_utf8(text)], [False]).unknown_bytes

    @property
    def eos_token(self) -> str:
        """The name of the end-of-text token, as chat templates write it."""
        return str(self.backend.id_to_token(self.eos_id))

    @functools.cached_property
    def spellings(self) -> list[bytes]:
        """The bytes each id stands for (none for eos)."""
        if self.about is not None:
            return foreign_spellings(self.backend, self.about)
        entries = self.backend.get_vocab()
        tokens = sorted(entries, key=entries.__getitem__)
        first = 1 if self.unk_id is None else 2
        special = [b"", UNK.encode()][:first]
        if self.kind in _HAS_UNK:
            return special + [token.encode() for token in tokens[first:]]
        return special + [unspell(token.removeprefix(CONTINUATION)) for token in tokens[first:]]

    @functools.cached_property
    def _encoder(self) -> Encoder:
        if self.about is not None:
            return ForeignEncoder(self.backend, self.eos_id)
        if self.kind == "bytes":
            return ByteEncoder()
        if self.kind == "characters":
            return CharacterEncoder(self.backend.get_vocab(with_added_tokens=False))
        if self.kind == "words":
            vocabulary = self.backend.get_vocab(with_added_tokens=False)
            return PieceEncoder(
                "words", lambda raw: [vocabulary.get(raw.decode(), UNK_ID)], has_unk=True
            )
        return PieceEncoder("byte-level", self._tokenize_piece, has_unk=False, known=self.known)

    def _tokenize_piece(self, raw: bytes) -> list[int]:
        piece = spell(raw)
        if self.kind == "wordpiece" and len(piece) > LONGEST_PIECE:
            parts = range(0, len(piece), LONGEST_PIECE)
            cut = [piece[start : start + LONGEST_PIECE] for start in parts]
        else:
            cut = [piece]
        tokenize = self.backend.model.tokenize
        return [token.id for part in cut for token in tokenize(part)]

    def save(
        self, folder: Path, *, chat_template: str | None = None, context: int | None = None
    ) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, as transformers reads them.

        Raises: StorageError.
        """
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "cllm_kind": self.kind,
            "eos_token": EOS,
            "clean_up_tokenization_spaces": False,
            # A special token's spelling inside a text is text.
            "split_special_tokens": True,
        }
        if self.unk_id is not None:
            config["unk_token"] = UNK
        if self.about is not None:
            config |= _foreign_config(self.backend, self.about)
        if context is not None:
            config["model_max_length"] = context
        if chat_template is not None:
            config["chat_template"] = chat_template
        files.write_atomic(folder / "tokenizer.json", self.backend.to_str(pretty=True))
        files.write_json(folder / "tokenizer_config.json", config)

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Read what `save` wrote. Raises: IntegrityError when it is missing or damaged."""
        import tokenizers

        path = folder / "tokenizer.json"
        config = files.read_json(folder / "tokenizer_config.json")
        name = config.get("cllm_kind") if isinstance(config, dict) else None
        kinds: tuple[AnyKind, ...] = (*get_args(TokenizerKind), "foreign")
        kind = next((kind for kind in kinds if kind == name), None)
        if kind is None:
            raise IntegrityError(
                f"unknown kind of tokeniser {name!r}", where=folder / "tokenizer_config.json"
            )
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise IntegrityError("the file is missing", where=path) from error
        except ValueError as error:
            raise IntegrityError("the file is damaged: not UTF-8", where=path) from error
        try:
            backend = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises the bare class
            raise IntegrityError(f"the file is damaged: {error}", where=path) from error
        if kind == "foreign":
            about = _read_foreign(config, backend, folder / "tokenizer_config.json")
            return cls(kind, backend, about=about)
        if backend.token_to_id(EOS) != EOS_ID:
            raise IntegrityError(f"{EOS} is not id {EOS_ID}", where=path)
        return cls(kind, backend)


class TokenStreamDecoder:
    """Turns ids that come one at a time into text, whole characters only."""

    def __init__(self, spellings: Sequence[bytes]) -> None:
        self._spellings = spellings
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The text that is certain now that this id has come; often empty."""
        return self._decoder.decode(self._spellings[token_id])

    def push_all(self, ids: Sequence[int]) -> str:
        """The same for several at once."""
        spellings = self._spellings
        return self._decoder.decode(b"".join([spellings[token_id] for token_id in ids]))

    def copy(self) -> TokenStreamDecoder:
        """One that goes on from here by itself."""
        twin = TokenStreamDecoder(self._spellings)
        twin._decoder.setstate(self._decoder.getstate())
        return twin

    def finish(self) -> str:
        """What is left at the end: U+FFFD for a character that was not completed."""
        return self._decoder.decode(b"", final=True)


def _foreign_config(backend: tokenizers.Tokenizer, about: Foreign) -> dict[str, Any]:
    first = backend.id_to_token(about.begin_ids[0]) if about.begin_ids else None
    return {
        "cllm_eos_id": about.eos_id,
        "cllm_vocab_size": about.vocab_size,
        "cllm_begin_ids": list(about.begin_ids),
        "eos_token": backend.id_to_token(about.eos_id),
        **({"bos_token": first} if first is not None else {}),
        "split_special_tokens": False,
    }


def _read_foreign(config: dict[str, Any], backend: tokenizers.Tokenizer, where: Path) -> Foreign:
    size, eos_id = config.get("cllm_vocab_size"), config.get("cllm_eos_id")
    begin = config.get("cllm_begin_ids")
    largest = max(backend.get_vocab().values(), default=-1)
    if type(size) is not int or largest >= size or not isinstance(begin, list):
        raise IntegrityError("the file does not fit tokenizer.json", where=where)
    if not all(type(token) is int and 0 <= token < size for token in (eos_id, *begin)):
        raise IntegrityError("the file names tokens that the vocabulary lacks", where=where)
    return Foreign(int(eos_id or 0), size, tuple(begin))


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the text holds half a character (a lone surrogate) at place {error.start}",
            hint="Read the text with its right encoding.",
        ) from error
