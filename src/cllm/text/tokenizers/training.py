"""Train a tokeniser on a corpus, choosing the size of its vocabulary if need be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

from cllm.config import TokenizerKind
from cllm.errors import SettingsError
from cllm.text.progress import Progress
from cllm.text.tokenizers import bpe, characters, unigram, wordpiece, words
from cllm.text.tokenizers import bytes as raw_bytes
from cllm.text.tokenizers.piece_counts import PieceCounts
from cllm.text.tokenizers.tokenizer import Tokenizer

_BASE_ENTRIES = {
    "bpe": bpe.BASE_ENTRIES,
    "wordpiece": wordpiece.BASE_ENTRIES,
    "unigram": unigram.BASE_ENTRIES,
    "words": words.BASE_ENTRIES,
    "characters": characters.BASE_ENTRIES,
    "bytes": raw_bytes.ENTRIES,
}
_ALL_CHARACTERS = 0x110000 - 0x800 + characters.BASE_ENTRIES
# Powers of two by the number of characters: 100 kB → 512, 1 MB → 1,024, 10 MB → 4,096,
# 100 MB → 8,192, 1 GB → 16,384. An entry should be seen often enough to learn its vector.
_SIZES = ((300_000, 512), (2_000_000, 1024), (8_000_000, 2048), (50_000_000, 4096))
_SIZES_ABOVE = ((500_000_000, 8192),)
_LARGEST = 16_384


def choose_vocab_size(kind: TokenizerKind, num_characters: int) -> int:
    """The size of the vocabulary for a text of so many characters.

    Characters take what they find and bytes are 257; words get four times as many entries
    as subwords. Training stops earlier when the text does not support so many.
    """
    if kind == "bytes":
        return raw_bytes.ENTRIES
    if kind == "characters":
        return _ALL_CHARACTERS
    steps = (*_SIZES, *_SIZES_ABOVE)
    size = next((size for limit, size in steps if num_characters < limit), _LARGEST)
    if kind == "words":
        return size * 4
    return size + 512 if kind == "wordpiece" else size


def train_tokenizer(
    kind: TokenizerKind,
    texts: Callable[[], Iterator[str]],
    *,
    vocab_size: int | None,
    num_characters: int,
    progress: Progress | None = None,
) -> Tokenizer:
    """Train on `texts()`, about `num_characters` of them.

    Raises: SettingsError when `vocab_size` is below what the kind needs or above what the
    text supports; the message says how many.
    """
    size = vocab_size or choose_vocab_size(kind, num_characters)
    _check_size(kind, vocab_size)
    known = None
    seen = _with_progress(texts(), progress, num_characters)
    if kind == "bytes":
        backend = raw_bytes.build()
    elif kind == "characters":
        backend = characters.build(_count_characters(seen), size)
    elif kind == "unigram":
        backend = unigram.train(seen, size)
    else:
        counts = PieceCounts("words" if kind == "words" else "byte-level").add_all(seen)
        if kind == "bpe":
            backend, known = bpe.train(counts, size)
        else:
            backend = (words if kind == "words" else wordpiece).train(counts, size)
    tokenizer = Tokenizer(kind, backend, known=known)
    if vocab_size is not None and tokenizer.vocab_size < vocab_size:
        raise SettingsError(
            f"a vocabulary of {vocab_size:,} is larger than the text supports",
            where="text.vocab-size",
            hint=f"This text supports {tokenizer.vocab_size:,} entries with "
            f"tokenizer {kind!r}; give at most that, or leave the choice to the program.",
        )
    return tokenizer


def _check_size(kind: TokenizerKind, vocab_size: int | None) -> None:
    if vocab_size is None:
        return
    least = _BASE_ENTRIES[kind]
    if vocab_size < least or (kind == "bytes" and vocab_size != least):
        word = "exactly" if kind == "bytes" else "at least"
        raise SettingsError(
            f"tokenizer {kind!r} needs {word} {least} entries, not {vocab_size:,}",
            where="text.vocab-size",
            hint="Give another size, another tokenizer, or leave the choice to the program.",
        )


def _with_progress(texts: Iterable[str], progress: Progress | None, total: int) -> Iterator[str]:
    done = 0
    for text in texts:
        yield text
        done += len(text)
        if progress is not None:
            progress("tokenizer", min(done, total), total)


def _count_characters(texts: Iterable[str]) -> dict[str, int]:
    totals: npt.NDArray[np.int64] = np.zeros(0x110000, np.int64)
    for text in texts:
        # Bytes below 128 are the ASCII characters; two at a time are counted faster.
        utf8 = text.encode()
        if len(utf8) % 2:
            utf8 += b"\xff"
        pairs = np.bincount(np.frombuffer(utf8, "<u2"), minlength=1 << 16).reshape(256, 256)
        totals[:128] += (pairs.sum(axis=0) + pairs.sum(axis=1))[:128]
        if not text.isascii():
            points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
            others = np.bincount(points[points >= 128])
            totals[: len(others)] += others
    return {chr(point): int(totals[point]) for point in np.flatnonzero(totals)}
