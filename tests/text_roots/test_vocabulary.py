"""Tables by token id, from each kind of tokeniser."""

from __future__ import annotations

import math
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cllm.errors import IntegrityError, SettingsError
from cllm.text.roots import TokenRoots, load_roots, save_roots, token_morphology
from cllm.text.tokenizers import Tokenizer, train_tokenizer

TEXTS = sorted(topics.values())[:30]
KINDS = ("words", "unigram", "bpe", "wordpiece")


def make(kind) -> Tokenizer:
    size = None if kind == "bytes" else 1200
    if kind == "characters":
        size = 60
    num = sum(map(len, TEXTS))
    return train_tokenizer(kind, lambda: iter(TEXTS), vocab_size=size, num_characters=num)


@pytest.fixture(scope="module")
def made() -> dict[str, tuple[Tokenizer, TokenRoots]]:
    found = {}
    for kind in KINDS:
        tokenizer = make(kind)
        found[kind] = tokenizer, token_morphology(tokenizer)
    return found


@pytest.fixture(params=KINDS)
def one(request, made):
    return made[request.param]


def test_every_token_has_a_root_and_every_part_a_prime(one) -> None:
    tokenizer, found = one
    size = tokenizer.vocab_size
    assert found.roots.shape == (size,)
    assert found.roots.dtype == np.int32
    assert found.affixes.dtype == np.int32
    assert set(found.roots.tolist()) == set(range(len(found.root_primes)))
    assert set(found.affixes.ravel().tolist()) | {0} == set(range(len(found.affix_primes)))
    # Filled up from behind.
    assert np.all(np.diff((found.affixes > 0).astype(int), axis=1) <= 0)
    primes = [*found.affix_primes.tolist(), *found.root_primes.tolist()]
    assert primes[0] == 1
    assert primes == sorted(set(primes))


def test_what_is_no_word_has_a_root_of_its_own(one) -> None:
    tokenizer, found = one
    sizes = np.bincount(found.roots)
    for token, spelling in enumerate(tokenizer.spellings):
        text = spelling.decode("utf-8", "replace")
        if token == tokenizer.eos_id or not any(char.isalpha() for char in text):
            assert sizes[found.roots[token]] == 1
            assert not found.affixes[token].any()
            assert found.words[token] == ""
    assert found.root_names[found.roots[tokenizer.eos_id]] == "<|endoftext|>"


def test_words_share_their_root_across_case_blanks_and_endings(made) -> None:
    tokenizer, found = made["words"]
    ids = {text: int(tokenizer.encode(text)[0]) for text in ("The", "the", "value", "values")}
    assert found.roots[ids["The"]] == found.roots[ids["the"]]
    assert found.roots[ids["values"]] == found.roots[ids["value"]]
    assert found.affix_names[found.affixes[ids["values"]][0]] == "-s"
    assert math.prod(found.code(ids["values"])) == math.prod(found.code(ids["value"])) * int(
        found.affix_primes[found.affixes[ids["values"]][0]]
    )


def test_a_blank_before_a_word_changes_nothing(made) -> None:
    tokenizer, found = made["bpe"]
    spellings = {spelling: token for token, spelling in enumerate(tokenizer.spellings)}
    pairs = [
        (token, spellings[b" " + spelling])
        for spelling, token in spellings.items()
        if spelling.isalpha() and b" " + spelling in spellings
    ]
    assert len(pairs) > 20
    assert all(found.roots[bare] == found.roots[blank] for bare, blank in pairs)


def test_a_part_that_spells_an_affix_has_it(made) -> None:
    tokenizer, found = made["bpe"]
    parts = {
        spelling.decode(): [found.affix_names[k] for k in found.affixes[token] if k]
        for token, spelling in enumerate(tokenizer.spellings)
        if not found.words[token] and spelling.isalpha()
    }
    spelled = {text: affixes for text, affixes in parts.items() if affixes}
    assert "ing" in spelled
    assert all(affixes == [f"-{text.casefold()}"] for text, affixes in spelled.items())


def test_counts_and_ranks_in_their_order_give_the_same(made) -> None:
    tokenizer, _ = made["words"]
    counts = np.random.default_rng(0).integers(0, 50, tokenizer.vocab_size)
    order = np.argsort(-counts, kind="stable")
    ranks = np.empty_like(counts)
    ranks[order] = np.arange(len(counts))
    one, other = token_morphology(tokenizer, counts), token_morphology(tokenizer, -ranks)
    for name in ("roots", "affixes", "root_primes", "affix_primes"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    assert one.roots[order[0]] == 0


def test_log_gcd_is_the_logarithm_of_the_greatest_common_divisor(made) -> None:
    tokenizer, found = made["words"]
    word = next(w for w in found.words if len(found.segmenter.split(w or "x").affixes) >= 2)
    split = found.segmenter.split(word)
    code = math.prod(found.code_of_split(split))
    near = found.log_gcd(split)
    for token in range(0, tokenizer.vocab_size, 7):
        expected = math.log(math.gcd(code, math.prod(found.code(token))))
        assert near[token] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", ["bytes", "characters"])
def test_tokenisers_without_words_are_refused(kind) -> None:
    with pytest.raises(SettingsError, match=f"'{kind}' has no words") as caught:
        token_morphology(make(kind))
    assert "--tokenizer words" in (caught.value.hint or "")


def test_a_vocabulary_of_no_words_is_refused() -> None:
    text = "12 34 12 34 ?! ?! 12 34 " * 20
    tokenizer = train_tokenizer(
        "words", lambda: iter([text]), vocab_size=None, num_characters=len(text)
    )
    with pytest.raises(SettingsError, match="is a word"):
        token_morphology(tokenizer)


def test_roots_are_read_back_as_written(one, tmp_path: Path) -> None:
    tokenizer, found = one
    save_roots(tmp_path, found)
    again = load_roots(tmp_path, tokenizer.vocab_size)
    for name in ("roots", "affixes", "root_primes", "affix_primes"):
        assert np.array_equal(getattr(again, name), getattr(found, name))
    assert again.root_names == found.root_names
    assert again.affix_names == found.affix_names
    assert again.words == found.words
    assert again.segmenter.split("unheard") == found.segmenter.split("unheard")


def test_damaged_or_foreign_files_are_refused(made, tmp_path: Path) -> None:
    tokenizer, found = made["words"]
    with pytest.raises(IntegrityError, match="missing"):
        load_roots(tmp_path, 5)
    save_roots(tmp_path, found)
    with pytest.raises(IntegrityError, match="does not fit"):
        load_roots(tmp_path, tokenizer.vocab_size + 1)
    path = tmp_path / "roots.safetensors"
    arrays = load_file(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IntegrityError, match="damaged"):
        load_roots(tmp_path, tokenizer.vocab_size)
    save_file(arrays, path)  # without the strings
    with pytest.raises(IntegrityError, match="damaged"):
        load_roots(tmp_path, tokenizer.vocab_size)
