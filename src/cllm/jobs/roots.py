"""A word's root, affixes, prime code and relatives in a model's vocabulary, and its families."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cllm.errors import InputError
from cllm.workspace.workspace import Workspace

if TYPE_CHECKING:
    from cllm.model.lexicon import Lexicon
    from cllm.text.roots import Split, TokenRoots


@dataclass(frozen=True, slots=True)
class Relative:
    """A word that shares factors: their logarithms sum to `log_gcd`."""

    word: str
    shares: list[str]
    factors: list[int]
    log_gcd: float


@dataclass(frozen=True, slots=True)
class WordRoots:
    """What is known of a word; `code` is the prime factors of p · ∏ q, in order.

    `is_stored` says that the model keeps these roots, else they were found in its vocabulary
    just now.
    """

    model: str
    word: str
    is_in_vocabulary: bool
    morphs: list[str]
    root: str
    root_prime: int
    affixes: list[str]
    affix_primes: list[int]
    code: list[int]
    relatives: list[Relative]
    num_relatives: int
    is_stored: bool


@dataclass(frozen=True, slots=True)
class Family:
    """The words of one root."""

    root: str
    prime: int
    words: list[str]


@dataclass(frozen=True, slots=True)
class Families:
    """The largest families of a vocabulary or word list, and its affixes with their uses."""

    place: str
    num_words: int
    num_roots: int
    num_affixes: int
    families: list[Family]
    affixes: list[tuple[str, int, int]]  # affix, prime, words that have it


def word_roots(workspace: Workspace, model: str, text: str, *, limit: int = 12) -> WordRoots:
    """A word's parts and code, and its nearest words of the vocabulary by shared factors.

    Raises: NotFoundError, IntegrityError, InputError for what is no single word,
    SettingsError where the model's tokens have no roots.
    """
    from cllm.text.roots import word_of

    folder = workspace.models.path(model)
    word = word_of(text.strip())
    if word is None:
        hint = "Give a single word made of letters."
        raise InputError(f"{text!r} is not one word", hint=hint)
    found, is_stored = _roots_of(folder)
    split = found.segmenter.split(word)
    code = found.code_of_split(split)
    known = dict(zip(found.affix_names, found.affix_primes.tolist(), strict=True))
    affixes = [affix for affix in split.affixes if affix in known]
    affix_primes = [known[affix] for affix in affixes]
    rest = Counter(code) - Counter(affix_primes)
    root_prime = next(rest.elements())
    reading = {root_prime: split.root} | dict(zip(affix_primes, affixes, strict=True))
    relatives = _relatives(found, word, split, code, reading)
    return WordRoots(
        model=model,
        word=word,
        is_in_vocabulary=word in found.words,
        morphs=list(split.morphs),
        root=split.root,
        root_prime=root_prime,
        affixes=affixes,
        affix_primes=affix_primes,
        code=list(code),
        relatives=relatives[:limit],
        num_relatives=len(relatives),
        is_stored=is_stored,
    )


def largest_families(workspace: Workspace, place: str, *, limit: int = 20) -> Families:
    """The largest families of a model's vocabulary, or of the words of a text file.

    Raises: NotFoundError when `place` is neither; InputError for a file without words,
    SettingsError for a model without.
    """
    if Path(place).is_file() and place not in workspace.models.names():
        return _families_of_text(Path(place), limit)
    found, _ = _roots_of(workspace.models.path(place))
    rows = dict.fromkeys(
        (word, int(root)) for word, root in zip(found.words, found.roots, strict=True) if word
    )
    members: dict[tuple[str, int], list[str]] = defaultdict(list)
    for word, root in rows:
        members[found.root_names[root], int(found.root_primes[root])].append(word)
    uses = Counter(
        affix
        for word in dict.fromkeys(word for word, _ in rows)
        for affix in found.segmenter.split(word).affixes
    )
    primes = dict(zip(found.affix_names, found.affix_primes.tolist(), strict=True))
    return _families(place, members, uses, primes, limit)


def _families_of_text(path: Path, limit: int) -> Families:
    import regex

    from cllm.text.roots import learn_morphology

    try:
        text = path.read_text(encoding="utf-8")
    except ValueError as error:
        raise InputError("not a text in UTF-8", where=path) from error
    counts = Counter(regex.findall(r"[\p{L}\p{M}]+", text))
    if not counts:
        raise InputError("the file holds no words", where=path, hint="Give a text or word list.")
    found = learn_morphology(counts)
    members: dict[tuple[str, int], list[str]] = defaultdict(list)
    uses: Counter[str] = Counter()
    for word in sorted(found.segmenter.cuts):
        split = found.split(word)
        prime = int(found.primes.of_roots[found.primes.roots[split.root]])
        members[split.root, prime].append(word)
        uses.update(split.affixes)
    primes = {name: int(found.primes.of_affixes[k]) for name, k in found.primes.affixes.items()}
    return _families(str(path), members, uses, primes, limit)


def _families(
    place: str,
    members: dict[tuple[str, int], list[str]],
    uses: Counter[str],
    primes: dict[str, int],
    limit: int,
) -> Families:
    ranked = sorted(members.items(), key=lambda item: (-len(item[1]), item[0]))
    affixes = sorted(uses.items(), key=lambda item: (-item[1], item[0]))
    return Families(
        place=place,
        num_words=sum(map(len, members.values())),
        num_roots=len(members),
        num_affixes=len(uses),
        families=[Family(root, prime, sorted(words)) for (root, prime), words in ranked[:limit]],
        affixes=[(affix, primes[affix], count) for affix, count in affixes[:limit]],
    )


def _roots_of(folder: Path) -> tuple[TokenRoots, bool]:
    """The roots of a model's vocabulary, and whether they are those that the model keeps.

    A model trained with roots keeps them with their names. A model whose folder has lost the
    names keeps the numbers in its lexicon: the roots are found anew, in the order of frequency
    that it keeps too, and the numbers compared.
    """
    from cllm.text.roots import has_roots, load_roots, require_words, token_morphology
    from cllm.text.tokenizers import Tokenizer

    tokenizer = Tokenizer.load(folder)
    require_words(tokenizer.kind)
    if has_roots(folder):
        return load_roots(folder, tokenizer.vocab_size), True
    lexicon = _lexicon_of(folder, tokenizer.vocab_size)
    if lexicon is None:
        return token_morphology(tokenizer), False
    found = token_morphology(tokenizer, -lexicon.ranks.astype("int64"))
    return found, _are_equal(lexicon, found)


def _lexicon_of(folder: Path, vocab_size: int) -> Lexicon | None:
    from cllm.model.lexicon import LEXICON, Lexicon

    return Lexicon.load(folder, vocab_size) if (folder / LEXICON).is_file() else None


def _are_equal(lexicon: Lexicon, found: TokenRoots) -> bool:
    import numpy as np

    if lexicon.roots is None or lexicon.affixes is None:
        return False
    return np.array_equal(lexicon.roots, found.roots) and np.array_equal(
        lexicon.affixes, found.affixes
    )


def _relatives(
    found: TokenRoots, word: str, split: Split, code: tuple[int, ...], reading: dict[int, str]
) -> list[Relative]:
    """Each other word that shares a factor, the nearest first, then by token id."""
    from cllm.text.roots.primes import shared_factors

    near = found.log_gcd(split)
    seen = {word, ""}
    relatives = []
    for token in sorted((near > 0).nonzero()[0].tolist(), key=lambda k: (-near[k], k)):
        if found.words[token] in seen:
            continue
        seen.add(found.words[token])
        factors = shared_factors(code, found.code(token))
        shares = [reading[factor] for factor in reversed(factors)]
        relatives.append(Relative(found.words[token], shares, list(factors), float(near[token])))
    return relatives
