"""What mechanisms must know of a vocabulary: how often each token occurs, and of which roots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32, Int64
from numpy.typing import NDArray

from cllm.model.lexicon import Lexicon
from cllm.model.mechanisms.mechanism import Mechanism, needs_of
from cllm.text.corpus import Corpus

_PIECE_TOKENS = 1 << 22


def write_lexicon(folder: Path, corpus: Corpus, mechanisms: Sequence[Mechanism]) -> None:
    """Write the lexicon of a corpus's vocabulary, with roots where a mechanism needs them.

    Of roots the names too, for people. Raises: SettingsError where its tokens have no roots.
    """
    counts = token_counts(corpus)
    ranks = ranks_of(counts)
    if "roots" not in needs_of(mechanisms):
        Lexicon(ranks).save(folder)
        return
    from cllm.text.roots import save_roots, token_morphology

    found = token_morphology(corpus.tokenizer, counts)
    save_roots(folder, found)
    Lexicon(ranks, found.roots, found.affixes, found.root_primes, found.affix_primes).save(folder)


def copy_roots(sources: Sequence[Path], target: Path, vocab_size: int) -> None:
    """Keep the roots in the first of the folders that has some. Raises: IntegrityError."""
    from cllm.text.roots import has_roots, load_roots, save_roots

    for source in sources:
        if has_roots(source):
            save_roots(target, load_roots(source, vocab_size))
            return


def token_counts(corpus: Corpus) -> Int64[np.ndarray, " V"]:
    """How often each token occurs in the training part."""
    size = corpus.tokenizer.vocab_size
    counts = np.zeros(size, np.int64)
    for ids in pieces(corpus):
        counts += np.bincount(ids, minlength=size)
    return counts


def pieces(corpus: Corpus) -> Iterator[NDArray[np.uint32]]:
    """The training part's ids, as many at a time as fit into memory with ease."""
    tokens = corpus.tokens("train")
    for start in range(0, len(tokens), _PIECE_TOKENS):
        yield tokens.read(start, min(_PIECE_TOKENS, len(tokens) - start))


def ranks_of(counts: Int64[np.ndarray, " V"]) -> Int32[np.ndarray, " V"]:
    """Ranks from 1 by falling count; the smaller id first where counts are equal."""
    ranks = np.empty(len(counts), np.int32)
    ranks[np.argsort(-counts, kind="stable")] = np.arange(1, len(counts) + 1)
    return ranks
