"""Text that must have a form: a JSON schema, a grammar or a regular expression.

Which tokens may come next is found by llguidance, from the bytes that each token spells.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import UInt32

from cllm.errors import InputError, SettingsError
from cllm.text.tokenizers import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher

Form = Literal["json schema", "grammar", "regex"]
_BLANKS = r"( ?|\n[ \t]{0,16})"
_FORMATS = {"json schema": "json_schema", "grammar": "grammar", "regex": "regex"}


class Grammar:
    """A form that texts must have, for a model with this tokeniser.

    `text` is a JSON schema, a grammar (Lark's notation or GBNF's) or a regular expression; `where`
    is the flag or file that errors name. Raises: SettingsError for one that can't be understood;
    InputError when no token of the model begins such a text.
    """

    def __init__(
        self, tokenizer: Tokenizer, form: Form, text: str, *, vocab_size: int, where: str
    ) -> None:
        try:
            import llguidance
        except ImportError:
            hint = "Install it with: pip install llguidance"
            raise SettingsError(
                "the package llguidance is missing", where=where, hint=hint
            ) from None
        self.where = where
        self._vocab_size = vocab_size
        words: Any = llguidance.TokenizerWrapper(_Spellings(tokenizer, vocab_size))
        self._tokenizer = llguidance.LLTokenizer(
            words, n_vocab=vocab_size, eos_token=tokenizer.eos_id
        )
        if form == "json schema":
            text = _with_few_blanks(text)
        try:
            grammar = llguidance.grammar_from(_FORMATS[form], text)  # type: ignore[arg-type]
        except Exception as error:  # the library raises many kinds
            raise SettingsError(_first_line(error), where=where) from None
        # Some dozen messages for the same text: the first mistake alone.
        self._first = llguidance.LLMatcher(self._tokenizer, grammar, log_level=0)
        if self._first.is_error():
            raise SettingsError(_first_line(self._first.get_error()), where=where)
        self.begin().mask()

    def begin(self) -> Constraint:
        """The same form for one more text."""
        return Constraint(self._first.deep_copy(), self._vocab_size, self.where)


def _with_few_blanks(schema: str) -> str:
    """A schema in which blanks between JSON's signs are a space, or a line break and an indent.

    JSON allows any number, and a model that has learned little would write nothing else.
    """
    try:
        value = json.loads(schema)
    except ValueError:
        return schema
    if not isinstance(value, dict) or "x-guidance" in value:
        return schema
    return json.dumps({**value, "x-guidance": {"whitespace_pattern": _BLANKS}})


class Constraint:
    """Where a text stands in its form."""

    def __init__(self, matcher: LLMatcher, vocab_size: int, where: str) -> None:
        self._matcher, self._where = matcher, where
        self._num_words = (vocab_size + 31) // 32

    def mask(self) -> UInt32[np.ndarray, " W"]:
        """A bit for each token that may come next, that of the end of text among them.

        Raises: InputError when no token of the model goes on as the form asks.
        """
        mask = np.zeros(self._num_words, np.uint32)
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        if self._matcher.is_error():
            raise InputError(
                "the model has no token that goes on as this asks",
                where=self._where,
                hint="Its tokens can't spell every text; one with a bpe or bytes tokeniser can.",
            )
        return mask

    def advance(self, token_id: int) -> None:
        """Go on behind a token that the mask allowed."""
        was_taken = self._matcher.consume_token(token_id)
        assert was_taken, "the mask has let it through"

    @property
    def is_complete(self) -> bool:
        """Whether nothing more can come."""
        return bool(self._matcher.is_stopped())

    @property
    def is_satisfied(self) -> bool:
        """Whether the text may end here."""
        return bool(self._matcher.is_accepting())


class _Spellings:
    """A tokeniser as llguidance wants to see it."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id, self.bos_token_id = tokenizer.eos_id, None
        unknown = () if tokenizer.unk_id is None else (tokenizer.unk_id,)
        # A model may have more rows than tokens.
        padding = range(tokenizer.vocab_size, vocab_size)
        self.special_token_ids = [tokenizer.eos_id, *unknown, *padding]
        self.tokens = [*tokenizer.spellings, *(b"" for _ in padding)]
        for number in unknown:
            self.tokens[number] = b""

    def __call__(self, text: bytes | str) -> Sequence[int]:
        """The ids of a text as far as the vocabulary spells it."""
        raw = text if isinstance(text, str) else text.decode("utf-8", "ignore")
        ids = [int(token) for token in self._tokenizer.encode(raw)]
        unknown = self._tokenizer.unk_id
        return ids[: ids.index(unknown)] if unknown in ids else ids


def _first_line(error: object) -> str:
    return str(error).strip().splitlines()[0]
