"""The merges are those of the algorithm, and nearly those of the tokenizers library."""

import collections
import itertools
import json
import pydoc_data.topics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from cllm.text.tokenizers.alphabet import SORTED_CHARACTERS, spell
from cllm.text.tokenizers.merges import learn_merges
from cllm.text.tokenizers.piece_counts import PieceCounts
from cllm.text.tokenizers.pieces import PATTERNS

TOPICS = "\n\n".join(pydoc_data.topics.topics.values())


def reference(text, num_merges):
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERNS["byte-level"]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + num_merges,
        min_frequency=2,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    backend.train_from_iterator([text], trainer)
    return [tuple(pair) for pair in json.loads(backend.to_str())["model"]["merges"]]


def naive(text, num_merges):
    """The algorithm of the paper, letter by letter: count all pairs anew for each merge."""
    split = pre_tokenizers.Split(Regex(PATTERNS["byte-level"]), "isolated")
    spelled = [spell(piece.encode()) for piece, _ in split.pre_tokenize_str(text)]
    words = collections.Counter(tuple(word) for word in spelled)
    numbers = {character: n for n, character in enumerate(SORTED_CHARACTERS)}
    merges = []
    while len(merges) < num_merges:
        pairs = collections.Counter()
        for word, count in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += count
        ranked = sorted(pairs, key=lambda p: (-pairs[p], numbers[p[0]], numbers[p[1]]))
        if not ranked or pairs[ranked[0]] < 2:
            break
        merges.append(ranked[0])
        numbers.setdefault("".join(ranked[0]), len(numbers))
        words = collections.Counter()
        for word in [joined(word, ranked[0]) for word in spelled_words(spelled, merges)]:
            words[word] += 1
    return merges


def spelled_words(spelled, merges):
    for word in spelled:
        symbols = tuple(word)
        for pair in merges[:-1]:
            symbols = joined(symbols, pair)
        yield symbols


def joined(word, pair):
    out, place = [], 0
    while place < len(word):
        if word[place : place + 2] == pair:
            out.append("".join(pair))
            place += 2
        else:
            out.append(word[place])
            place += 1
    return tuple(out)


@pytest.mark.parametrize("text", [TOPICS[:4000], TOPICS[9000:12_000].upper()])
def test_merges_are_those_of_the_algorithm(text):
    learned = learn_merges(PieceCounts("byte-level").add_all([text]), 60)
    assert learned.pairs == naive(text, 60)


@given(st.lists(st.text("ab ", min_size=1, max_size=40), min_size=1, max_size=8))
def test_merges_of_few_letters(texts):
    text = " ".join(texts)
    learned = learn_merges(PieceCounts("byte-level").add_all([text]), 12)
    if not learned.is_ambiguous:
        assert learned.pairs == naive(text, 12)[: len(learned.pairs)]


def test_merges_of_a_large_text_are_nearly_those_of_the_library():
    # The library takes pairs of equal count in another order, which moves a few at the end.
    learned = learn_merges(PieceCounts("byte-level").add_all([TOPICS]), 2000)
    ours, theirs = {left + right for left, right in learned.pairs}, reference(TOPICS, 2000)
    assert not learned.is_ambiguous
    assert len(ours & {left + right for left, right in theirs}) >= 0.99 * 2000


def test_the_pieces_are_cut_as_the_merges_cut_them():
    counts = PieceCounts("byte-level").add_all([TOPICS[:30_000]])
    learned = learn_merges(counts, 500)
    merged = [left + right for left, right in learned.pairs]
    spellings = [*SORTED_CHARACTERS, *merged]
    backend = Tokenizer(models.BPE({s: n for n, s in enumerate(spellings)}, learned.pairs))
    ids = [token.id for piece in counts.pieces for token in backend.model.tokenize(spell(piece))]
    assert learned.symbols.tolist() == ids
    assert learned.num_symbols.sum() == len(ids)


def test_no_pair_is_merged_that_occurs_once():
    assert learn_merges(PieceCounts("byte-level").add_all(["abcdefg"]), 10).pairs == []
    assert learn_merges(PieceCounts("byte-level").add_all([""]), 10).pairs == []
