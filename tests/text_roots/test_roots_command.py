"""`cllm roots` on a model's folder: text, JSON, and what can go wrong."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest

from cllm.text.roots import save_roots, token_morphology
from cllm.text.tokenizers import Tokenizer, train_tokenizer

TEXTS = sorted(topics.values())[:30]


def tokenizer_of(kind) -> Tokenizer:
    num = sum(map(len, TEXTS))
    return train_tokenizer(kind, lambda: iter(TEXTS), vocab_size=None, num_characters=num)


@pytest.fixture
def model(home: Path) -> Path:
    """What the command reads of a model: its tokeniser, beside the file that marks a model."""
    folder = home / "models" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    tokenizer_of("words").save(folder)
    return folder


def shown(cllm_command, *arguments: str):
    done = cllm_command("roots", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_word_is_shown_with_its_code_and_relatives(model, cllm_command) -> None:
    found = shown(cllm_command, "show", "mine", "values")
    assert found["root"] == "value"
    assert found["morphs"] == ["value", "s"]
    assert found["is_in_vocabulary"] is True
    assert found["is_stored"] is False
    assert math.prod(found["code"]) == found["root_prime"] * math.prod(found["affix_primes"])
    nearest = found["relatives"][0]
    assert nearest["word"] == "value"
    assert nearest["factors"] == [found["root_prime"]]
    assert nearest["log_gcd"] == pytest.approx(math.log(found["root_prime"]))
    distances = [relative["log_gcd"] for relative in found["relatives"]]
    assert distances == sorted(distances, reverse=True)
    text = cllm_command("roots", "show", "mine", "values").stdout
    assert "value · s" in text
    assert f"= {math.prod(found['code']):,}" in text
    assert "just now" in text


def test_a_word_not_in_the_vocabulary_is_cut_all_the_same(model, cllm_command) -> None:
    found = shown(cllm_command, "show", "mine", "zurbing")
    assert found["is_in_vocabulary"] is False
    assert "".join(found["morphs"]) == "zurbing"
    assert "not in the vocabulary" in cllm_command("roots", "show", "mine", "zurbing").stdout


def test_stored_roots_are_shown_as_stored(model, cllm_command) -> None:
    tokenizer = Tokenizer.load(model)
    backwards = np.arange(tokenizer.vocab_size, dtype=np.int64)
    found = token_morphology(tokenizer, backwards)
    save_roots(model, found)
    result = shown(cllm_command, "show", "mine", "values")
    assert result["is_stored"] is True
    token = found.tokens_of("values")[0]
    assert result["code"] == list(found.code(token))


def test_the_order_of_frequency_that_a_model_keeps_is_used(model, cllm_command) -> None:
    from cllm.model.lexicon import Lexicon

    size = Tokenizer.load(model).vocab_size
    ranks = np.arange(size, 0, -1, dtype=np.int32)
    Lexicon(ranks).save(model)
    expected = token_morphology(Tokenizer.load(model), -ranks.astype(np.int64))
    result = shown(cllm_command, "show", "mine", "values")
    assert result["code"] == list(expected.code(expected.tokens_of("values")[0]))
    assert result["is_stored"] is False


def test_a_model_trained_with_roots_keeps_those_shown(model, cllm_command) -> None:
    from cllm.model.lexicon import Lexicon

    tokenizer = Tokenizer.load(model)
    ranks = np.random.default_rng(0).permutation(tokenizer.vocab_size).astype(np.int32) + 1
    found = token_morphology(tokenizer, -ranks.astype(np.int64))
    arrays = (found.roots, found.affixes, found.root_primes, found.affix_primes)
    Lexicon(ranks, *arrays).save(model)
    result = shown(cllm_command, "show", "mine", "values")
    assert result["is_stored"] is True
    assert result["code"] == list(found.code(found.tokens_of("values")[0]))


def test_families_of_a_model_and_of_a_file(model, cllm_command, tmp_path: Path) -> None:
    found = shown(cllm_command, "list", "mine", "--limit", "5")
    sizes = [len(family["words"]) for family in found["families"]]
    assert len(sizes) == 5
    assert sizes == sorted(sizes, reverse=True)
    assert found["num_roots"] < found["num_words"]
    path = tmp_path / "words.txt"
    stems = ("walk", "talk", "jump", "call", "play", "work", "rest", "look", "turn", "lock")
    path.write_text("\n".join(f"{stem} {stem}s {stem.upper()}ED {stem}ing" for stem in stems))
    found = shown(cllm_command, "list", str(path))
    assert {family["root"] for family in found["families"]} == set(stems)
    assert {affix for affix, _, _ in found["affixes"]} == {"-s", "-ed", "-ing"}
    assert found["num_words"] == 40
    assert "walked, walking" in cllm_command("roots", "list", path).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "nothing", "word"], "nothing"),
        (["show", "mine", "two words"], "not one word"),
        (["show", "mine", ""], "not one word"),
        (["list", "nothing"], "nothing"),
    ],
)
def test_mistakes_are_told_plainly(model, cllm_command, arguments, message) -> None:
    done = cllm_command("roots", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_of_bytes_has_no_roots(home: Path, cllm_command) -> None:
    folder = home / "models" / "raw"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    tokenizer_of("bytes").save(folder)
    done = cllm_command("roots", "show", "raw", "word")
    assert done.returncode == 2
    assert "the tokeniser 'bytes' has no words" in done.stderr
    assert "--tokenizer words" in done.stderr


def test_files_without_words_are_refused(home: Path, cllm_command, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("12 34\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\x81")
    for name, message in (("empty.txt", "no words"), ("binary.txt", "UTF-8")):
        done = cllm_command("roots", "list", tmp_path / name)
        assert done.returncode == 2
        assert message in done.stderr


def test_torch_is_not_loaded(model, home: Path) -> None:
    code = (
        "import sys; from cllm.cli.main import run\n"
        "assert run(['roots', 'show', 'mine', 'values']) == 0\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
