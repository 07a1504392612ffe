"""Learn to cut a language's words into prefixes, root and suffixes, from a word list alone.

Three steps. Morfessor, set to cut much, finds parts that recur. Then every cut of every word
into a stem and any ending is weighed, starting from Morfessor's: families of words that share
a stem, and endings that many stems take, support each other. Of the affixes found those are
kept that explain a good share of the words that could have them; with these alone the cuts are
weighed once more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from cllm.errors import InputError
from cllm.text.roots.allomorphs import find_kin
from cllm.text.roots.baseline import Baseline
from cllm.text.roots.cuts import Cut, Cuts, list_cuts
from cllm.text.roots.endings import ChainedEndings, FreeEndings, SuffixChain
from cllm.text.roots.estimate import (
    COVER_FLOOR,
    NEW_PREFIX,
    Estimate,
    Weighing,
    estimate,
    new_stems,
)
from cllm.text.roots.letters import Letters, count_beginnings, count_endings
from cllm.text.roots.segmenter import Segmenter
from cllm.text.roots.spelling import word_of

# Morfessor sees the most frequent words only; the others are cut with what it learnt there.
MORFESSOR_WORDS = 8_000
_MORFESSOR_WEIGHT, _MORFESSOR_EPOCHS = 0.5, 2
_LONGEST_ENDING = 14
_FIRST = Weighing(rounds=30, cover=2.0, new_endings=1.0)
_SECOND = Weighing(rounds=20, cover=1.0, new_endings=100.0)
# An affix is in three words, and in a tenth of those that could have it (as in RePortS,
# Keshava and Pitler 2006).
_LEAST_WORDS = 3
_LEAST_SHARE = 0.1


def learn_segmenter(counts: Mapping[str, int]) -> Segmenter:
    """Learn from a word list with counts; of the counts only their order matters.

    Words are folded (`word_of`), and what is no word is left out. Deterministic.
    Raises: InputError when no word is left.
    Cost: 2 to 4 s for 5,000 words, about 10 s for 20,000, on one core.
    """
    ranked = ranked_words(counts)
    if not ranked:
        raise InputError("the word list holds no words", hint="Give words made of letters.")
    words = sorted(ranked)
    letters, beginnings = Letters.of_words(words), count_beginnings(words)
    prefixes = _likely_prefixes(words, beginnings)
    cuts = list_cuts(words, prefixes, lambda ending: len(ending) <= _LONGEST_ENDING)
    free = FreeEndings(cuts.endings, letters, _FIRST.rounds - 1)
    shares = _start_shares(cuts, _first_cuts(ranked), letters)
    first = estimate(cuts, shares, free, letters, beginnings, _FIRST)
    suffixes = _kept_suffixes(cuts, first, free, count_endings(words))
    kept_prefixes = _kept_prefixes(cuts, first, beginnings)

    chain = SuffixChain.of_counts(suffixes)
    kept = list_cuts(words, kept_prefixes, lambda ending: chain.cost(ending) < np.inf)
    endings = ChainedEndings(kept.endings, chain)
    shares = _carry_over(cuts, first, kept, letters)
    second = estimate(kept, shares, endings, letters, beginnings, _SECOND)
    return _segmenter(kept, second, endings.chain, letters)


def ranked_words(counts: Mapping[str, int]) -> list[str]:
    """The folded words of a list by falling count, then in the order of the alphabet."""
    totals: dict[str, int] = {}
    for token, count in counts.items():
        word = word_of(token)
        if word is not None:
            # Not the sum, so that counts and ranks in their order give the same row.
            totals[word] = max(totals.get(word, count), count)
    return sorted(totals, key=lambda word: (-totals[word], word))


def _likely_prefixes(words: Sequence[str], beginnings: Mapping[str, int]) -> dict[str, int]:
    """Strings before which words stand as they are."""
    known = set(words)
    found = Counter(
        word[:end]
        for word in words
        for end in range(1, min(6, len(word) - 3))
        if word[end:] in known
    )
    return {
        text: n for text, n in found.items() if n > _LEAST_WORDS and n >= 0.08 * beginnings[text]
    }


def _first_cuts(ranked: Sequence[str]) -> dict[str, Cut]:
    """Morfessor's cuts; the stem is the part that is long for how rare it is."""
    seen = dict.fromkeys(ranked[:MORFESSOR_WORDS], 1)
    baseline = Baseline(seen, weight=_MORFESSOR_WEIGHT, max_epochs=_MORFESSOR_EPOCHS)
    parts = {word: baseline.cut(word)[0] for word in ranked}
    uses = Counter(part for row in parts.values() for part in row)
    found = {}
    for word, row in parts.items():
        weights = [uses[part] / len(part) ** 2 if len(part) > 1 else np.inf for part in row]
        place = min(range(len(row)), key=lambda k: (weights[k], -len(row[k])))
        found[word] = ("".join(row[:place]), row[place], "".join(row[place + 1 :]))
    return found


def _start_shares(
    cuts: Cuts, chosen: Mapping[str, Cut], letters: Letters
) -> Float[np.ndarray, " N"]:
    """All on the chosen cut; where it is none of the cuts, the stem's attestation decides."""
    rows = range(len(cuts.word))
    is_chosen = np.array([chosen[cuts.words[cuts.word[k]]] == cuts.name(k) for k in rows], float)
    return _shares_or_prior(cuts, is_chosen, letters)


def _shares_or_prior(
    cuts: Cuts, weights: Float[np.ndarray, " N"], letters: Letters
) -> Float[np.ndarray, " N"]:
    """The weights as shares; for words where they amount to nothing, what the stems suggest."""
    known = set(cuts.words)
    # Only has to be of the right order: stems that are words before others, prefixes last.
    prior = np.array(
        [
            letters.stem(stem) - letters.log_probability(stem) - (0.0 if stem in known else 2.0)
            for stem in cuts.stems
        ]
    )
    otherwise = cuts.shares(prior[cuts.stem] - 6.0 * (cuts.prefix > 0))
    total = np.bincount(cuts.word, weights, minlength=len(cuts.words))[cuts.word]
    return np.where(total > 0.5, weights / np.maximum(total, 1e-9), otherwise)


def _carry_over(old: Cuts, found: Estimate, new: Cuts, letters: Letters) -> Float[np.ndarray, " N"]:
    """The shares that the same cuts had before."""
    rows = np.flatnonzero(found.shares > 0.01).tolist()
    shares = {(old.word[k].item(), old.name(k)): float(found.shares[k]) for k in rows}
    known = range(len(new.word))
    weights = np.array([shares.get((new.word[k].item(), new.name(k)), 0.0) for k in known])
    return _shares_or_prior(new, weights, letters)


def _kept_suffixes(
    cuts: Cuts, found: Estimate, free: FreeEndings, seen: Mapping[str, int]
) -> dict[str, float]:
    """Suffixes and the number of words they are in."""
    last: Counter[str] = Counter()
    all_: Counter[str] = Counter()
    for ending, weight in zip(cuts.endings, found.ending_words.tolist(), strict=True):
        if ending and weight >= 0.5:
            parts = free.suffixes(ending)
            last[parts[-1]] += weight
            for part in parts:
                all_[part] += weight
    return {
        suffix: float(weight)
        for suffix, weight in all_.items()
        if weight >= _LEAST_WORDS and last[suffix] >= _LEAST_SHARE * max(1, seen[suffix])
    }


def _kept_prefixes(cuts: Cuts, found: Estimate, seen: Mapping[str, int]) -> set[str]:
    pairs = zip(cuts.prefixes, found.prefix_words.tolist(), strict=True)
    return {
        prefix
        for prefix, weight in pairs
        if prefix and weight >= max(_LEAST_WORDS, _LEAST_SHARE * seen[prefix])
    }


def _segmenter(cuts: Cuts, found: Estimate, chain: SuffixChain, letters: Letters) -> Segmenter:
    total = len(cuts.words)
    new = _SECOND.new_endings
    endings = {
        name: float(np.log(weight + new * np.exp(-chain.cost(name))) - np.log(total + new))
        for name, weight in zip(cuts.endings, found.ending_words.tolist(), strict=True)
    }
    prefixes = {
        name: float(np.log(weight + NEW_PREFIX) - np.log(total))
        for name, weight in zip(cuts.prefixes, found.prefix_words.tolist(), strict=True)
    }
    stems = {}
    for stem, weight, cover in zip(
        cuts.stems, found.stem_words.tolist(), found.cover.tolist(), strict=True
    ):
        if weight > 0.05:
            new_stem = new_stems(total) * np.exp(letters.stem(stem))
            score = np.log(weight + new_stem) + _SECOND.cover * np.log(cover + COVER_FLOOR)
            stems[stem] = float(score)
    best = cuts.best(found.scores)
    segmenter = Segmenter(
        cuts=best,
        stems=stems,
        endings=endings,
        prefixes=prefixes,
        suffix_costs=chain.costs,
        letters=letters.frequency,
        kin={},
    )
    return segmenter.with_kin(find_kin(segmenter))
