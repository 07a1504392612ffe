"""How well words are cut: against gold made by hand, Morfessor alone, and byte-pair merges.

`pytest tests/text_roots/test_quality.py -s` prints the table of docs/guide/roots.md.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
import tokenizers
from tokenizers import models, trainers

from cllm.text.roots import Segmenter

# What must be reached, some way below what was measured: other versions of Python have other
# documentation topics.
FLOORS = {"English": 0.94, "Turkish": 0.90, "Esperanto": 0.64}
MORFESSOR_WEIGHTS = (0.5, 1.0)


@pytest.fixture(params=["english", "turkish", "esperanto"])
def language(request):
    name = request.param
    return request.getfixturevalue(name), request.getfixturevalue(f"{name}_segmenter")


def morfessor_cut(
    words: list[str], weight: float, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Sequence[str]]:
    import morfessor

    # Its shuffling must not depend on what other threads of this process draw.
    monkeypatch.setattr(morfessor.baseline, "random", random.Random(0))
    model = morfessor.BaselineModel(corpusweight=weight)
    model.load_data([(1, word) for word in words])
    model.train_batch(max_epochs=6)
    return lambda word: model.viterbi_segment(word)[0]


def merges_cut(words: list[str]) -> Callable[[str], Sequence[str]]:
    model = tokenizers.Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=1000, show_progress=False)
    model.train_from_iterator(words, trainer)
    return lambda word: model.encode(word).tokens


def test_words_are_cut_better_than_by_morfessor_or_merges(
    language, agreement, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, segmenter = language
    rows = {"CLLM": agreement(words.gold, lambda word: segmenter.split(word).morphs)}
    for weight in MORFESSOR_WEIGHTS:
        cut = morfessor_cut(words.words, weight, monkeypatch)
        rows[f"Morfessor, weight {weight:g}"] = agreement(words.gold, cut)
    rows["byte-pair merges, 1,000"] = agreement(words.gold, merges_cut(words.words))
    rows["never cut"] = agreement(words.gold, lambda word: [word])
    print(f"\n{words.language}: {len(words.words):,} words, {len(words.gold)} in the gold list")
    for name, row in rows.items():
        figures = f"{row.precision:.3f} | {row.recall:.3f} | {row.f1:.3f} | {row.exact:.3f}"
        print(f"| {words.language} | {name} | {figures} |")
    ours = rows.pop("CLLM")
    assert ours.f1 >= FLOORS[words.language]
    assert all(ours.f1 > other.f1 for other in rows.values())


def test_the_root_of_nearly_every_word_is_right(esperanto, esperanto_segmenter: Segmenter) -> None:
    # In this language the root is known by construction: the longest part is it or a prefix.
    affixes = {"mal", "re", "ek"}
    right = 0
    for parts in esperanto.gold:
        root = parts[1] if parts[0] in affixes else parts[0]
        right += esperanto_segmenter.split("".join(parts)).stem == root
    print(f"\nEsperanto: the root of {right / len(esperanto.gold):.1%} of the words is right")
    assert right >= 0.85 * len(esperanto.gold)
