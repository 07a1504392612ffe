"""Codes of primes: unique factors, and a common divisor exactly where words share a part."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sympy import factorint, prime

from cllm.errors import InputError
from cllm.text.roots import Morphology, learn_morphology

LIST = """
walk walks walked walking walker walkers talk talks talked talking talker talkers jump jumps jumped
jumping jumper call calls called calling caller play plays played playing player work works worked
working worker lock locks locked locking unlock unlocked unfold unfolded untie untied unpack
unpacked fold folds folded pack packs packed tie ties tied river mother street sugar table
"""
WORDS = LIST.split()
words = st.sampled_from(WORDS)


@pytest.fixture(scope="module")
def found() -> Morphology:
    # The first words of the list are the most frequent.
    return learn_morphology({word: len(WORDS) - place for place, word in enumerate(WORDS)})


def parts(found: Morphology, word: str) -> set[str]:
    split = found.split(word)
    return {split.root, *split.affixes}


def test_affixes_have_the_first_primes_and_roots_those_after(found: Morphology) -> None:
    num_affixes, num_roots = len(found.affixes), len(found.roots)
    assert found.primes.of_affixes.tolist() == [1, *(prime(k + 1) for k in range(num_affixes))]
    expected = [prime(num_affixes + k + 1) for k in range(num_roots)]
    assert found.primes.of_roots.tolist() == expected


def test_the_commonest_have_the_least_primes(found: Morphology) -> None:
    uses = {affix: sum(affix in found.split(w).affixes for w in WORDS) for affix in found.affixes}
    assert list(uses.values()) == sorted(uses.values(), reverse=True)
    assert found.roots[:3] == ["walk", "talk", "jump"]


@given(words)
def test_a_code_is_the_roots_prime_times_the_affixes(found: Morphology, word: str) -> None:
    code, split = found.code(word), found.split(word)
    assert len(code) == 1 + len(split.affixes)
    assert sorted(factorint(math.prod(code), multiple=True)) == list(code)


@given(words, words)
def test_codes_have_a_common_divisor_where_words_share_a_part(
    found: Morphology, word: str, other: str
) -> None:
    divisor = math.gcd(math.prod(found.code(word)), math.prod(found.code(other)))
    assert (divisor > 1) == bool(parts(found, word) & parts(found, other))
    assert math.prod(found.related(word, other)) == divisor


def test_known_families(found: Morphology) -> None:
    (walk,) = found.code("walk")
    assert found.related("walk", "walking") == (walk,)
    assert found.related("walking", "talking") == found.code("walking")[:1]
    assert found.related("walk", "river") == ()
    assert found.related("Walked", " UNFOLDED")


def test_a_root_that_no_word_has_gets_a_prime_of_its_own(found: Morphology) -> None:
    code = found.code("zurbing")
    assert max(code) == prime(len(found.affixes) + len(found.roots) + 1)
    assert found.related("zurbing", "river") == ()


@pytest.mark.parametrize("text", ["two words", "", "12", "don't"])
def test_what_is_no_word_has_no_code(found: Morphology, text: str) -> None:
    with pytest.raises(InputError, match="not one word"):
        found.code(text)
