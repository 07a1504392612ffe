"""Tokenisers in GGUF: byte-level byte-pair encodings under a pre-tokeniser that llama.cpp knows.

llama.cpp cuts text by patterns of its own, chosen by a name; a tokeniser is written only where
one of them cuts as it does, so that the same text becomes the same tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cllm.errors import CllmError, InputError, IntegrityError
from cllm.export import gguf_format as form
from cllm.export.foreign_tokenizer import load_backend, make_tokenizer
from cllm.text.tokenizers import Tokenizer
from cllm.text.tokenizers.alphabet import EOS, EOS_ID
from cllm.text.tokenizers.pieces import PATTERNS

if TYPE_CHECKING:
    import tokenizers

_CONTRACTIONS = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_QWEN2 = PATTERNS["byte-level"]
_LLAMA3 = _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


@dataclass(frozen=True, slots=True)
class Cut:
    """Patterns by which text is cut one after the other; whole pieces may be tokens at once."""

    patterns: tuple[str, ...]
    ignores_merges: bool = False


# By llama.cpp's names; of equals the first is the one that is written.
CUTS: Mapping[str, Cut] = {
    "qwen2": Cut((_QWEN2,)),
    "deepseek-r1-qwen": Cut((_QWEN2,)),
    "stablelm2": Cut((_QWEN2,)),
    "llama-bpe": Cut((_LLAMA3,), ignores_merges=True),
    "llama3": Cut((_LLAMA3,), ignores_merges=True),
    "llama-v3": Cut((_LLAMA3,), ignores_merges=True),
    "falcon3": Cut((_LLAMA3,), ignores_merges=True),
    "dbrx": Cut((_LLAMA3,)),
    "smaug-bpe": Cut((_LLAMA3,)),
    "gpt-2": Cut((_GPT2,)),
    "olmo": Cut((_GPT2,)),
    "smollm": Cut((r"\p{N}", _GPT2)),
    "starcoder": Cut((r"\p{N}", _GPT2)),
}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A tokeniser as llama.cpp keeps it; row i of the model is spelled by token i."""

    pre: str
    tokens: list[str]
    kinds: list[int]
    merges: list[str]


@dataclass(frozen=True, slots=True, eq=False)
class FoundVocabulary:
    """What a file says of text: how it becomes tokens, what ends it, how turns are written."""

    tokenizer: Tokenizer
    eos_ids: tuple[int, ...]
    chat_template: str | None


def to_vocabulary(tokenizer: Tokenizer, vocab_size: int) -> Vocabulary:
    """The tokeniser for llama.cpp. Raises: InputError where it can't split text as ours does."""
    record = json.loads(tokenizer.backend.to_str())
    pre = _name_of(tokenizer, record)
    tokens = [f"[PAD{number}]" for number in range(vocab_size)]
    kinds = [form.UNUSED] * vocab_size
    for token, number in tokenizer.backend.get_vocab(with_added_tokens=True).items():
        tokens[number], kinds[number] = token, form.NORMAL
    for number, added in tokenizer.backend.get_added_tokens_decoder().items():
        kinds[number] = form.CONTROL if added.special else form.USER_DEFINED
    merges = [_merge(one) for one in record["model"]["merges"]]
    return Vocabulary(pre, tokens, kinds, merges)


def _merge(pair: str | list[str]) -> str:
    return pair if isinstance(pair, str) else " ".join(pair)


def _name_of(tokenizer: Tokenizer, record: dict[str, Any]) -> str:
    hint = (
        "A Hugging Face folder keeps any tokeniser; llama.cpp reads models made with bpe or bytes."
    )
    if tokenizer.kind not in ("bpe", "bytes", "foreign"):
        message = f"llama.cpp can't split text as the tokeniser {tokenizer.kind!r} does"
        raise InputError(message, hint=hint)
    if tokenizer.kind == "bytes":
        # Without merges every byte is a token, however text is cut.
        return "qwen2"
    normalizer, model = record["normalizer"], record["model"]
    # llama.cpp does not normalise; text is nearly always in this form already.
    is_as_it_is = normalizer is None or normalizer["type"] == "NFC"
    cut = Cut(_patterns(record["pre_tokenizer"]) or (), bool(model.get("ignore_merges")))
    name = next((name for name, known in CUTS.items() if known == cut), None)
    if name is None or not is_as_it_is or model["byte_fallback"]:
        message = "llama.cpp has no pre-tokeniser that splits text as the model's does"
        raise InputError(message, hint=hint)
    return name


def _patterns(part: Any) -> tuple[str, ...] | None:
    """The patterns of a byte-level pre-tokeniser's description; None for any other."""
    inner = part.get("pretokenizers", [part]) if isinstance(part, dict) else []
    found: list[str] = []
    is_byte_level = False
    for one in inner:
        if one["type"] == "Split" and one["behavior"] == "Isolated" and not one["invert"]:
            pattern = one["pattern"].get("Regex", "")
            found.append(pattern.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)", _CONTRACTIONS))
        elif one["type"] == "Digits" and one["individual_digits"]:
            found.append(r"\p{N}")
        elif one["type"] == "ByteLevel" and not one["add_prefix_space"]:
            is_byte_level = True
            if one["use_regex"]:
                found.append(_GPT2)
        else:
            return None
    return tuple(found) if is_byte_level else None


def read_vocabulary(metadata: Mapping[str, Any], vocab_size: int, where: Path) -> FoundVocabulary:
    """Build the tokeniser that a file describes.

    Raises: IntegrityError for a damaged description, InputError for a kind that we lack.
    """
    try:
        return _read(metadata, vocab_size)
    except CllmError as error:
        raise type(error)(error.message, where=where, hint=error.hint) from None


def _read(metadata: Mapping[str, Any], vocab_size: int) -> FoundVocabulary:
    model, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if model != "gpt2":
        message = f"the tokeniser is of the kind {model!r}; only byte-level ones (gpt2) are read"
        raise InputError(message, hint="Import the Hugging Face folder that the file came from.")
    cut = CUTS.get(pre) if isinstance(pre, str) else None
    if cut is None:
        hint = f"There are read: {', '.join(CUTS)}."
        raise InputError(f"the pre-tokeniser {pre!r} is not known", hint=hint)
    tokens = _texts(metadata, "tokenizer.ggml.tokens")
    merges = _texts(metadata, "tokenizer.ggml.merges") if _has_merges(metadata) else []
    kinds = metadata.get("tokenizer.ggml.token_type", [form.NORMAL] * len(tokens))
    if not isinstance(kinds, list) or len(kinds) != len(tokens) or len(tokens) != vocab_size:
        message = f"{len(tokens):,} tokens, the model has rows for {vocab_size:,}"
        raise IntegrityError(message)
    if len(set(tokens)) != len(tokens):
        raise IntegrityError("a token is there twice")
    backend = _backend(tokens, kinds, merges, cut, _begin(metadata, tokens, cut))
    names = ("eos", "eot", "eom")
    ends = [metadata.get(f"tokenizer.ggml.{name}_token_id") for name in names]
    eos_ids = tuple(dict.fromkeys(one for one in ends if type(one) is int and one < vocab_size))
    tokenizer = make_tokenizer(backend, vocab_size, eos_ids, kind=_own_kind(tokens, merges, cut))
    template = metadata.get("tokenizer.chat_template")
    return FoundVocabulary(tokenizer, eos_ids, template if isinstance(template, str) else None)


def _has_merges(metadata: Mapping[str, Any]) -> bool:
    return bool(metadata.get("tokenizer.ggml.merges"))


def _texts(metadata: Mapping[str, Any], name: str) -> list[str]:
    found = metadata.get(name)
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise IntegrityError(f"the file lacks {name}")
    return found


def _own_kind(tokens: list[str], merges: list[str], cut: Cut) -> str | None:
    """Which of ours it may be; whoever uses it compares the ids."""
    if cut != CUTS["qwen2"] or tokens[EOS_ID] != EOS:
        return None
    return "bpe" if merges else "bytes"


def _begin(metadata: Mapping[str, Any], tokens: list[str], cut: Cut) -> int | None:
    """The token that stands before each text, if one does."""
    # llama.cpp adds it to Llama 3's kind unless the file says not.
    if not metadata.get("tokenizer.ggml.add_bos_token", cut.ignores_merges):
        return None
    begin = metadata.get("tokenizer.ggml.bos_token_id")
    if type(begin) is not int or not 0 <= begin < len(tokens):
        raise IntegrityError("the token that begins texts (bos_token_id) is not there")
    return begin


def _beginning(token: str, number: int) -> dict[str, Any]:
    first = {"SpecialToken": {"id": token, "type_id": 0}}
    parts = [{"Sequence": {"id": name, "type_id": 0}} for name in ("A", "B")]
    return {
        "type": "TemplateProcessing",
        "single": [first, parts[0]],
        "pair": [first, *parts],
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}},
    }


def _backend(
    tokens: list[str], kinds: list[Any], merges: list[str], cut: Cut, begin: int | None
) -> tokenizers.Tokenizer:
    """The tokeniser as a tokenizer.json has it."""
    numbers = {token: number for number, token in enumerate(tokens)}
    used = {token: at for token, at in numbers.items() if kinds[at] != form.UNUSED}
    pairs = [_halves(merge) for merge in merges]
    split = [
        {"type": "Split", "pattern": {"Regex": one}, "behavior": "Isolated", "invert": False}
        for one in cut.patterns
    ]
    bytes_ = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": False,
    }
    added = [
        {
            "id": number,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kinds[number] != form.USER_DEFINED,
        }
        for token, number in numbers.items()
        if kinds[number] in (form.CONTROL, form.UNKNOWN, form.USER_DEFINED)
    ]
    record = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*split, bytes_]},
        "post_processor": None if begin is None else _beginning(tokens[begin], begin),
        "decoder": bytes_,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": cut.ignores_merges,
            "vocab": used,
            "merges": pairs,
        },
    }
    return load_backend(json.dumps(record))


def _halves(merge: str) -> list[str]:
    left, _, right = merge.partition(" ")
    if not left or not right:
        raise IntegrityError(f"the merge {merge[:60]!r} is damaged")
    return [left, right]
