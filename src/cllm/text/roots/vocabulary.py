"""From a tokeniser's vocabulary to the roots of its tokens."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

from cllm.errors import SettingsError
from cllm.text.roots.learning import learn_segmenter
from cllm.text.roots.primes import number_parts
from cllm.text.roots.segmenter import Segmenter
from cllm.text.roots.spelling import word_of
from cllm.text.roots.token_roots import TokenRoots
from cllm.text.tokenizers.alphabet import CONTINUATION, EOS
from cllm.text.tokenizers.foreign import AnyKind
from cllm.text.tokenizers.tokenizer import Tokenizer

# What makes a root one: words share it, anything else has it to itself.
_RootKey = tuple[str, str]
_HINT = "Use --tokenizer words or unigram (bpe works where its tokens are words)."


def require_words(kind: AnyKind) -> None:
    """Refuse tokenisers without words. Raises: SettingsError."""
    if kind in ("bytes", "characters"):
        message = f"the tokeniser {kind!r} has no words, and roots need words"
        raise SettingsError(message, where="text.tokenizer", hint=_HINT)


def token_morphology(
    tokenizer: Tokenizer, counts: Int64[np.ndarray, " V"] | None = None
) -> TokenRoots:
    """The root and affixes of each token, learnt from the vocabulary's words alone.

    Of the counts only the order matters; without them the smaller id counts as the more
    frequent. Tokens that differ in case or by a leading blank share a root. Where tokens are
    parts of words, those with a leading blank are the words; another part has the root of the
    word it reads like, or else one of its own, with the affix that it spells if it does.
    Raises: SettingsError where tokens are no words. Cost: that of `learn_segmenter`.
    """
    require_words(tokenizer.kind)
    texts = _texts(tokenizer)
    size = tokenizer.vocab_size
    order = np.arange(size) if counts is None else np.argsort(-counts, kind="stable")
    words = [None if text is None else word_of(text) for text in texts]
    is_start = _starts(tokenizer, texts)
    learnt: dict[str, int] = {}
    for rank, token in enumerate(order.tolist()):
        word = words[token]
        if word is not None and is_start[token]:
            learnt.setdefault(word, size - rank)
    if not learnt:
        message = f"no token of the tokeniser {tokenizer.kind!r} is a word, and roots need words"
        raise SettingsError(message, where="text.tokenizer", hint=_HINT)
    segmenter = learn_segmenter(learnt)
    parts, kept = _parts(tokenizer, texts, words, is_start, segmenter)
    return _table(parts, kept, order.tolist(), segmenter)


def _texts(tokenizer: Tokenizer) -> list[str | None]:
    """What each token spells; None where its bytes are no text by themselves."""
    found: list[str | None] = []
    for spelling in tokenizer.spellings:
        try:
            found.append(spelling.decode())
        except UnicodeDecodeError:
            found.append(None)
    eos_id, unk_id = tokenizer.eos_id, tokenizer.unk_id
    special = [eos_id] if unk_id is None else [eos_id, unk_id]
    for token in special:
        found[token] = None
    return found


def _starts(tokenizer: Tokenizer, texts: list[str | None]) -> list[bool]:
    """Which tokens begin a word and hold it whole, as far as one can tell."""
    if tokenizer.kind == "words":
        return [True] * len(texts)
    return [text is not None and text.startswith(" ") for text in texts]


def _parts(
    tokenizer: Tokenizer,
    texts: list[str | None],
    words: list[str | None],
    is_start: list[bool],
    segmenter: Segmenter,
) -> tuple[list[tuple[_RootKey, tuple[str, ...]]], list[str]]:
    """Root and affixes of each token, and its word ("" where it is none)."""
    vocabulary = tokenizer.backend.get_vocab()
    continues = {token for text, token in vocabulary.items() if text.startswith(CONTINUATION)}
    splits = {word: segmenter.split(word) for word in segmenter.cuts}
    spelled = {affix for split in splits.values() for affix in split.affixes}
    parts: list[tuple[_RootKey, tuple[str, ...]]] = []
    kept: list[str] = []
    for token, (text, word, starts) in enumerate(zip(texts, words, is_start, strict=True)):
        is_word = starts or token not in continues
        if word is not None and word in splits and is_word:
            parts.append((("word", splits[word].root), splits[word].affixes))
            kept.append(word)
        elif word is not None:
            affix = f"-{word}"
            parts.append((("part", word), (affix,) if affix in spelled else ()))
            kept.append("")
        else:
            shown = tokenizer.decode([token]) if text is None else text
            name = EOS if token == tokenizer.eos_id else shown
            parts.append(((f"token {token}", name), ()))
            kept.append("")
    return parts, kept


def _table(
    parts: list[tuple[_RootKey, tuple[str, ...]]],
    words: list[str],
    order: list[int],
    segmenter: Segmenter,
) -> TokenRoots:
    primes = number_parts(parts[token] for token in order)
    most = max(len(affixes) for _, affixes in parts)
    affixes = np.zeros((len(parts), max(1, most)), np.int32)
    for token, (_, names) in enumerate(parts):
        affixes[token, : len(names)] = [primes.affixes[name] for name in names]
    return TokenRoots(
        roots=np.array([primes.roots[root] for root, _ in parts], np.int32),
        affixes=affixes,
        root_primes=primes.of_roots,
        affix_primes=primes.of_affixes,
        root_names=tuple(name for _, name in primes.roots),
        affix_names=("", *primes.affixes),
        words=tuple(words),
        segmenter=segmenter,
    )
