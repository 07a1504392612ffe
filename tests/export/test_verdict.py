"""Whether a difference is seen, and only a difference: with planted errors, and damaged files."""

import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from small_models import make_small

from cllm.export import opened
from cllm.export.numpy_model import write_numpy
from cllm.export.onnx_graph import write_onnx
from cllm.export.opened import Answers, Trials
from cllm.export.trials import make_trials
from cllm.export.verdict import compare, judge, section, stored_records, with_section

V = 50
TRIALS = Trials(["", "one", "two three"], [[1], [2, 3, 4, 5]], [([1], 6), ([2, 3], 6)])


class Toy:
    """A model whose scores hang on the last token alone, in a way written down here."""

    def __init__(self):
        self.table = np.random.default_rng(0).normal(0, 1, (V, V)).astype(np.float32)

    def tokenize(self, text):
        return [ord(character) % V for character in text]

    def logits(self, ids):
        return self.table[list(ids)]

    def greedy(self, ids, count):
        made = list(ids)
        for _ in range(count):
            made.append(int(self.table[made[-1]].argmax()))
        return made[len(ids) :]


def answers(**changed):
    asked = opened.ask(Toy(), TRIALS)
    copy = Answers(asked.tokens, [rows.copy() for rows in asked.logits], asked.greedy)
    return replace(copy, **changed)


def verdict(theirs, dtype="float32"):
    return compare(Toy(), theirs, TRIALS, dtype, ("cutter 1", "runner 2"))


def test_the_same_answers_pass():
    tokens, logits, greedy = verdict(answers())
    assert (tokens.result, greedy.result) == ("all equal", "12 of 12 equal")
    assert all(check.passed for check in (tokens, logits, greedy))
    assert [check.program for check in (tokens, logits, greedy)] == ["cutter 1"] + ["runner 2"] * 2


def test_one_text_cut_otherwise_fails_and_is_shown():
    theirs = answers()
    theirs.tokens[2] = [7]
    tokens, logits, greedy = verdict(theirs)
    assert not tokens.passed
    assert "1 differ" in tokens.result
    assert "'two three'" in tokens.result
    assert logits.passed
    assert greedy.passed


@pytest.mark.parametrize("dtype", ["float32", "f16", "q8_0", "q4_0"])
def test_a_table_with_two_rows_exchanged_fails_in_every_number_format(dtype):
    theirs = answers()
    for rows in theirs.logits:
        rows[:, [4, 9]] = rows[:, [9, 4]] + 8.0
    assert [check.passed for check in verdict(theirs, dtype)] == [True, False, True]


def test_what_rounding_explains_passes_in_that_number_format_alone():
    theirs = answers()
    random = np.random.default_rng(1)
    for rows in theirs.logits:
        rows[...] += random.normal(0, 5e-3, rows.shape).astype(np.float32)
    assert [verdict(theirs, dtype)[1].passed for dtype in ("f16", "float32")] == [True, False]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_that_is_no_number_fails(value):
    theirs = answers()
    theirs.logits[1][2, 3] = value
    assert not verdict(theirs, "q4_0")[1].passed


def test_scores_of_another_vocabulary_fail():
    theirs = answers(logits=[rows[:, :-1] for rows in answers().logits])
    _, logits, _ = verdict(theirs)
    assert not logits.passed
    assert "(1, 50)" in logits.result
    assert "(1, 49)" in logits.result


def test_another_token_fails_unless_both_are_as_likely():
    theirs = answers()
    right = theirs.greedy[0][3]
    before = theirs.greedy[0][2]
    wrong = int(Toy().table[before].argsort()[-2])
    theirs.greedy[0][3:] = [wrong, 0, 0]
    found = verdict(theirs)[2]
    assert not found.passed
    assert f"comes {right}, and there {wrong}" in found.result

    class Tied(Toy):
        def __init__(self):
            super().__init__()
            self.table[before, wrong] = self.table[before, right] - 1e-5

    # The scores of our own decide; theirs are as before but for this one.
    found = compare(Tied(), theirs, TRIALS, "float32", ("", ""))[2]
    assert found.passed
    assert found.result.startswith("9 of 12 equal; 1 text parts where two logits are within")


def test_a_text_that_ends_too_early_fails():
    theirs = answers()
    del theirs.greedy[1][4:]
    assert not verdict(theirs)[2].passed


def test_the_1000_texts_are_of_every_kind_and_always_the_same():
    spellings = [b"", b"the", b" a", b"\xe6\x97", b"\n"]
    trials = make_trials(spellings, context=128, eos_id=0)
    again = make_trials(spellings, context=128, eos_id=0)
    assert trials == again != make_trials(spellings, context=128, eos_id=0, seed=1)
    texts = trials.texts
    assert len(texts) == 1000
    assert len(set(texts)) > 850
    together = "".join(texts)
    together.encode()  # no half characters
    categories = {unicodedata.category(character) for character in together}
    assert {"Lu", "Ll", "Lo", "Mn", "Nd", "Sm", "So", "Zs", "Zl", "Cc", "Cf", "Co"} <= categories
    names = " ".join(unicodedata.name(character, "") for character in set(together))
    for script in ("GREEK", "CYRILLIC", "ARABIC", "HEBREW", "DEVANAGARI", "THAI", "HANGUL", "CJK"):
        assert f"{script} " in names
    for part in ("\r\n", "    ", "\x00", "👩‍👩‍👧‍👦", "<|endoftext|>", "def ", "the"):
        assert any(part in text for text in texts)


def test_special_spellings_are_left_out_where_they_would_be_read_as_such():
    trials = make_trials([b"", b"a"], context=64, eos_id=0, special=["<|endoftext|>"])
    assert not any("<|endoftext|>" in text for text in trials.texts)


@pytest.mark.parametrize("context", [1, 2, 40, 1000])
def test_what_is_read_and_written_fits_the_context(context):
    trials = make_trials([b"", b"a", b"b"], context=context, eos_id=0)
    assert all(1 <= len(ids) <= context for ids in trials.sequences)
    assert all(len(ids) + count <= context for ids, count in trials.prompts)
    # A context of one token has no room for another.
    expected = {1: set(), 2: {1}, 40: {39}, 1000: {64}}[context]
    assert {count for _, count in trials.prompts} == expected


CHECK = {"what": "logits", "program": "onnxruntime 1", "result": "a | b\nc", "passed": True}
RECORD = {
    "target": "onnx",
    "dtype": "float32",
    "program": "onnxruntime",
    "version": "1",
    "missing": None,
    "checks": [CHECK],
}


def test_the_section_of_a_card_is_replaced_and_the_rest_stays():
    first = with_section("# Name\n\nText.\n", section([RECORD]))
    assert first.startswith("# Name\n\nText.\n\n## Exports\n")
    assert "| onnx, float32 | logits | onnxruntime 1 | a b c |" in first
    second = with_section(first + "\n## After\n\nMore.\n", section([RECORD, RECORD]))
    assert second.count("## Exports") == 1
    assert second.count("a b c") == 2
    assert second.endswith("\n## After\n\nMore.\n")


def test_stored_verdicts_of_another_version_are_left_out():
    broken = [{}, 3, RECORD | {"checks": None}, RECORD | {"missing": 3}, {**RECORD, "checks": [{}]}]
    assert stored_records([RECORD, *broken]) == [RECORD]
    assert stored_records({"a": 1}) == []


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    return make_small(tmp_path_factory.mktemp("models") / "small", kind="bytes", context=24)


def own_model(folder):
    from cllm.infer.torch_decoder import TorchDecoder
    from cllm.jobs.export import OwnModel
    from cllm.text.tokenizers import Tokenizer

    tokenizer = Tokenizer.load(folder)
    trials = make_trials(tokenizer.spellings, context=24, eos_id=0)
    return OwnModel(TorchDecoder.load(folder), tokenizer), trials


def test_a_file_that_does_not_open_fails_with_what_the_program_said(small_model, tmp_path):
    write_onnx(small_model, tmp_path)
    path = tmp_path / "model.onnx"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    own, trials = own_model(small_model)
    found = judge(own, "onnx", tmp_path, "float32", trials)
    assert found.checked
    assert not found.passed
    assert "did not open" in found.checks[0].result
    assert "model.onnx" in found.checks[0].result


def test_one_wrong_weight_in_the_file_is_seen(small_model, tmp_path):
    write_numpy(small_model, tmp_path)
    with np.load(tmp_path / "weights.npz") as file:
        weights = {name: file[name] for name in file.files}
    own, trials = own_model(small_model)
    assert judge(own, "numpy", tmp_path, "float32", trials).passed
    weights["1.down"][0, 0] += 1.0
    np.savez(tmp_path / "weights.npz", **weights)
    found = judge(own, "numpy", tmp_path, "float32", trials)
    assert [check.passed for check in found.checks][:2] == [True, False]


def test_a_program_that_is_not_there_or_broken_leaves_the_export_unchecked(
    small_model, tmp_path, monkeypatch
):
    own, trials = own_model(small_model)
    broken = tmp_path / "onnxruntime"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('made for another processor')")
    with monkeypatch.context() as here:
        here.setenv("PYTHONPATH", str(tmp_path))
        found = judge(own, "onnx", tmp_path, "float32", trials)
    assert not found.checked
    assert "made for another processor" in found.missing
    monkeypatch.setitem(opened.PROGRAMS, "onnx", ("not_a_module_of_anybody", "some-runtime"))
    found = judge(own, "onnx", tmp_path, "float32", trials)
    assert found.rows == [("not checked", "some-runtime", "install it: pip install some-runtime")]
    assert found.to_json()["passed"] is False
