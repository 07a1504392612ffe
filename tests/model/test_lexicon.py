"""The lexicon on disk: what does not fit the model is refused by name."""

import dataclasses

import numpy as np
import pytest

from cllm.errors import IntegrityError
from cllm.jobs.lexicon import ranks_of
from cllm.model.lexicon import LEXICON, Lexicon

WHOLE = Lexicon(
    ranks=np.array([2, 1, 4, 3], np.int32),
    roots=np.array([0, 0, 1, 1], np.int32),
    affixes=np.array([[0, 0], [1, 0], [1, 2], [0, 0]], np.int32),
    root_primes=np.array([7, 11], np.int64),
    affix_primes=np.array([1, 2, 3], np.int64),
)


@pytest.mark.parametrize(
    "lexicon", [WHOLE, Lexicon(WHOLE.ranks)], ids=["with roots", "ranks alone"]
)
def test_it_comes_back_as_it_was(lexicon, tmp_path):
    lexicon.save(tmp_path)
    again = Lexicon.load(tmp_path, 4)
    for field in dataclasses.fields(Lexicon):
        one, two = getattr(lexicon, field.name), getattr(again, field.name)
        assert (one is None and two is None) or (one == two).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ranks": np.array([1, 2, 2, 4], np.int32)}, "numbers from 1"),
        ({"roots": np.array([0, 0, 1, 2], np.int32)}, "a root has no prime"),
        ({"roots": np.array([0, 0, 1, -1], np.int32)}, "a root has no prime"),
        ({"affixes": np.array([[3], [0], [0], [0]], np.int32)}, "an affix has no prime"),
        ({"affixes": None}, "a part of the roots is missing"),
    ],
)
def test_what_does_not_fit_is_named(change, words, tmp_path):
    dataclasses.replace(WHOLE, **change).save(tmp_path)
    with pytest.raises(IntegrityError, match=words):
        Lexicon.load(tmp_path, 4)


def test_a_lexicon_of_another_vocabulary_is_refused(tmp_path):
    WHOLE.save(tmp_path)
    with pytest.raises(IntegrityError, match="ranks have shape"):
        Lexicon.load(tmp_path, 5)


def test_a_damaged_or_missing_file_is_named(tmp_path):
    with pytest.raises(IntegrityError, match="missing"):
        Lexicon.load(tmp_path, 4)
    (tmp_path / LEXICON).write_bytes(b"\x05\x00\x00\x00\x00\x00\x00\x00{}{}{")
    with pytest.raises(IntegrityError, match="damaged"):
        Lexicon.load(tmp_path, 4)


def test_ranks_count_from_the_most_frequent():
    assert ranks_of(np.array([5, 9, 0, 9])).tolist() == [3, 1, 4, 2]
