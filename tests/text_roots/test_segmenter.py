"""Words are cut into parts that join to the word; forms of one word share a root."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm.errors import InputError
from cllm.text.roots import Segmenter, learn_segmenter, word_of

LIST = """
walk walks walked walking walker walkers talk talks talked talking talker jump jumps jumped jumping
jumper call calls called calling caller play plays played playing player work works worked working
worker rest rests rested resting look looks looked looking turn turns turned turning lock locks
locked locking unlock unlocked unfold unfolded untie untied unpack unpacked fold folds folded pack
packs packed tie ties tied river mother street sugar table
"""
SMALL = LIST.split()


@pytest.fixture(scope="module")
def small() -> Segmenter:
    return learn_segmenter(dict.fromkeys(SMALL, 1))


@pytest.mark.parametrize(
    ("token", "word"),
    [
        ("walking", "walking"),
        (" Walking", "walking"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("İyi", "iyi"),
        ("cafe\u0301", "café"),
        ("  two", None),
        ("two words", None),
        ("don't", None),
        ("x2", None),
        ("_", None),
        ("", None),
        (" ", None),
        ("\u0301", None),
    ],
)
def test_a_word_is_letters_alone_without_case_or_the_blank_before(token, word) -> None:
    assert word_of(token) == word


def test_parts_join_to_the_word(english_segmenter: Segmenter) -> None:
    for word in english_segmenter.cuts:
        assert "".join(english_segmenter.split(word).morphs) == word


@given(st.text("abceginlorstuwykçğ", min_size=1, max_size=40))
def test_parts_join_to_any_other_word_too(small: Segmenter, word: str) -> None:
    split = small.split(word)
    assert "".join(split.morphs) == word
    assert split.stem


@settings(max_examples=25)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=8), st.integers(1, 9), min_size=1))
def test_every_word_list_can_be_learnt(counts: dict[str, int]) -> None:
    segmenter = learn_segmenter(counts)
    assert set(segmenter.cuts) == set(counts)
    assert all("".join(segmenter.split(word).morphs) == word for word in counts)


@pytest.mark.parametrize(
    "family",
    [
        ("walk", "walks", "walked", "walking"),
        ("make", "making", "makers"),
        ("run", "running", "runner"),
        ("stop", "stopped", "stopping"),
        ("care", "cares", "careless", "carelessly"),
        ("connect", "disconnected", "connection"),
    ],
)
def test_forms_of_an_english_word_share_its_root(
    english_segmenter: Segmenter, family: tuple[str, ...]
) -> None:
    assert len({english_segmenter.split(word).root for word in family}) == 1


@pytest.mark.parametrize(
    "family",
    [
        ("ev", "evler", "evlerimizden", "evde"),
        ("yaprak", "yaprağımız", "yaprakta"),
        ("kitap", "kitaplarımız", "kitapta"),
        ("araba", "arabalarda", "arabası"),
        ("geldi", "geliyorum", "gelecek", "gelmek"),
    ],
)
def test_forms_of_a_turkish_word_share_its_root(
    turkish_segmenter: Segmenter, family: tuple[str, ...]
) -> None:
    learnt = [word for word in family if word in turkish_segmenter.cuts]
    assert len(learnt) >= 2
    assert len({turkish_segmenter.split(word).root for word in learnt}) == 1


@pytest.mark.parametrize("word", ["river", "mother", "street", "thing", "spring", "island"])
def test_words_that_only_look_inflected_stay_whole(english_segmenter: Segmenter, word: str) -> None:
    assert english_segmenter.split(word).morphs == (word,)


def test_a_word_not_in_the_list_is_cut_with_the_parts_learnt(small: Segmenter) -> None:
    assert small.split("resting").morphs == ("rest", "ing")
    assert "turner" not in small.cuts
    assert small.split("turner").morphs == ("turn", "er")
    assert small.split("unturned").morphs == ("un", "turn", "ed")
    assert small.split("unturned").affixes == ("un-", "-ed")


def test_letters_never_met_are_no_trouble(small: Segmenter) -> None:
    assert "".join(small.split("żółwing").morphs) == "żółwing"


def test_case_and_blanks_make_no_other_word() -> None:
    segmenter = learn_segmenter({" Walk": 3, "walk": 2, "WALKS": 1, "12": 9, "?": 9})
    assert set(segmenter.cuts) == {"walk", "walks"}


def test_only_the_order_of_counts_matters() -> None:
    rising = {word: number + 1 for number, word in enumerate(SMALL)}
    squared = {word: count**2 for word, count in rising.items()}
    assert learn_segmenter(rising).to_json() == learn_segmenter(squared).to_json()


@pytest.mark.parametrize("counts", [{}, {"12": 3, "two words": 1, "?": 2}])
def test_a_list_without_words_is_refused(counts: dict[str, int]) -> None:
    with pytest.raises(InputError, match="no words"):
        learn_segmenter(counts)


def test_pythons_random_numbers_go_on_as_if_nothing_happened() -> None:
    # In a fresh process: the checks of annotations in this one draw random numbers themselves.
    code = f"""
import random
from cllm.text.roots import learn_segmenter
random.seed(7)
expected = random.random()
random.seed(7)
learn_segmenter(dict.fromkeys({SMALL!r}, 1))
assert random.random() == expected
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_process_learns_the_same(small: Segmenter) -> None:
    code = f"""
import json
from cllm.text.roots import learn_segmenter
print(json.dumps(learn_segmenter(dict.fromkeys({SMALL[::-1]!r}, 1)).to_json(), sort_keys=True))
"""
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(done.stdout) == json.loads(json.dumps(small.to_json()))


def test_what_was_learnt_survives_json(small: Segmenter) -> None:
    again = Segmenter.from_json(json.loads(json.dumps(small.to_json())))
    words = [*SMALL, "turner", "unturned", "zzz"]
    assert [again.split(word) for word in words] == [small.split(word) for word in words]
