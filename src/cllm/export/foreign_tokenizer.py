"""A tokenizer.json from elsewhere: ours if it is one of ours, else a foreign one."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from cllm.config import TokenizerKind
from cllm.errors import CllmError, IntegrityError
from cllm.export.stored_tensor import file_size
from cllm.model import ModelSpec
from cllm.text.tokenizers import Tokenizer
from cllm.text.tokenizers.alphabet import EOS, EOS_ID
from cllm.text.tokenizers.foreign import Foreign, begin_ids, require_readable
from cllm.text.tokenizers.foreign_parts import require_bounded

if TYPE_CHECKING:
    import tokenizers

# Those of the largest vocabularies (256,000 entries) have 35 MB.
_LARGEST = 128 << 20
_NUM_PROBES = 60


def read_tokenizer(
    path: Path, words: dict[str, Any], spec: ModelSpec, eos_ids: tuple[int, ...]
) -> Tokenizer:
    """The tokeniser of a model of this shape; `words` is its `tokenizer_config.json`.

    Raises: IntegrityError for a damaged file, InputError for a tokeniser that can't be used.
    """
    if not path.exists():
        hint = "Newer versions of transformers write it:  AutoTokenizer.from_pretrained(...)"
        raise IntegrityError("the file is missing", where=path, hint=f"{hint}.save_pretrained(...)")
    if file_size(path) > _LARGEST:
        raise IntegrityError(f"larger than {_LARGEST:,} bytes", where=path)
    try:
        backend = load_backend(path.read_text(encoding="utf-8"))
    except CllmError as error:
        raise type(error)(error.message, where=path, hint=error.hint) from None
    except (OSError, ValueError):
        raise IntegrityError("the file is damaged: not UTF-8", where=path) from None
    eos = words.get("eos_token")
    eos = eos.get("content") if isinstance(eos, dict) else eos
    named = backend.token_to_id(eos) if isinstance(eos, str) and is_text(eos) else None
    candidates = (*eos_ids, *(() if named is None else (named,)))
    try:
        return make_tokenizer(backend, spec.vocab_size, candidates, kind=words.get("cllm_kind"))
    except CllmError as error:
        raise type(error)(error.message, where=path, hint=error.hint) from None


def load_backend(text: str) -> tokenizers.Tokenizer:
    """Parse a tokenizer.json; what pads or cuts texts is switched off. Raises: IntegrityError."""
    import tokenizers

    try:
        backend = tokenizers.Tokenizer.from_str(text)
    except BaseException as error:
        raise _refusal(error) from None
    backend.no_padding()
    backend.no_truncation()
    return backend


def make_tokenizer(
    backend: tokenizers.Tokenizer,
    vocab_size: int,
    eos_ids: tuple[int, ...],
    *,
    kind: object = None,
) -> Tokenizer:
    """The tokeniser of a model with so many rows; `kind` is what a folder of ours claims it is.

    Raises: IntegrityError where it does not fit the model, InputError where it can't be used.
    """
    ids = set(backend.get_vocab(with_added_tokens=True).values())
    largest = max(ids, default=-1)
    if not 0 <= largest < vocab_size:
        message = f"the tokeniser has ids up to {largest:,}, the model rows for {vocab_size:,}"
        raise IntegrityError(message)
    require_bounded(json.loads(backend.to_str()))
    named = [kind_ for kind_ in get_args(TokenizerKind) if kind_ == kind]
    is_dense = len(ids) == backend.get_vocab_size() == vocab_size
    is_ours = named and is_dense and backend.token_to_id(EOS) == EOS_ID
    if is_ours and _is_true(Tokenizer(named[0], backend)):
        return Tokenizer(named[0], backend)
    if not eos_ids or backend.id_to_token(eos_ids[0]) is None:
        raise IntegrityError("no token is named that ends a text (eos_token_id)")
    require_readable(backend)
    try:
        about = Foreign(eos_ids[0], vocab_size, begin_ids(backend))
        backend.encode("".join(map(chr, range(0x500))), add_special_tokens=False)
    except BaseException as error:
        raise _refusal(error) from None
    if not all(0 <= one < vocab_size for one in about.begin_ids):
        raise IntegrityError("the tokeniser begins texts with ids that the model lacks")
    return Tokenizer("foreign", backend, about=about)


def _is_true(tokenizer: Tokenizer) -> bool:
    """Whether our own way of encoding gives the ids that the file asks for."""
    draw = random.Random(0)
    texts = [
        "".join(chr(draw.choice(_POINTS)) for _ in range(draw.randrange(1, 40)))
        for _ in range(_NUM_PROBES)
    ]
    try:
        wanted = [encoding.ids for encoding in tokenizer.backend.encode_batch(texts)]
        found = [row.tolist() for row in tokenizer.encode_batch(texts)]
        num_spellings = len(tokenizer.spellings)
    except (KeyError, ValueError):
        return False
    except BaseException as error:
        raise _refusal(error) from None
    return wanted == found and num_spellings == tokenizer.vocab_size


# ASCII thrice as often as the rest of the first plane's beginning, and some beyond.
_POINTS = [*range(0x7F), *range(0x7F), *range(0x7F), *range(0x80, 0x180), 0x3042, 0x4E2D, 0x1F600]


def _refusal(error: BaseException) -> BaseException:
    """The library raises bare exceptions, and panics that are no exceptions."""
    if isinstance(error, KeyboardInterrupt | SystemExit | CllmError | MemoryError):
        return error
    shown = str(error).splitlines()[:1] or [type(error).__name__]
    return IntegrityError(f"the file is damaged: {shown[0][:200]}")


def is_text(text: str) -> bool:
    """Whether a text holds whole characters only, so that it can be written."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
