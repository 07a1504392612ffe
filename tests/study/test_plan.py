"""Which runs are made: every arm beside its placebo and its own plain model, in mixed order."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm.errors import NotFoundError
from cllm.jobs.mechanisms import catalogue_records, set_records
from cllm.model.mechanisms.choose import choose
from cllm.study.arms import VARIANTS, Arm, arms
from cllm.study.plan import (
    Engine,
    Round,
    StudySettings,
    expected_s,
    plan_confirm,
    plan_screen,
    rounds,
)

RECORDS = [
    {"name": "ngram", "needs": []},
    {"name": "roots", "needs": ["ranks", "roots"]},
    {"name": "schumann", "needs": []},
]
SETS = [
    {"name": "none", "members": []},
    {"name": "crystal", "members": ["ngram", "schumann.kind=static"]},
]
A, B = Arm("a", ("a",), ("a", "a.placebo=true")), Arm("b", ("b",), ("b", "b.placebo=true"))
ROUNDS = [Round("compiled", "bpe", (A,)), Round("torch", "bpe", (B,))]


def test_every_mechanism_and_its_variants_are_arms_but_sets_only_by_name() -> None:
    found = {arm.name: arm for arm in arms(RECORDS, SETS)}
    assert {"ngram", "roots", "schumann", "schumann.static", "roots.rotation"} <= set(found)
    assert "crystal" not in found
    assert found["roots"].tokenizer == "words"
    assert found["schumann.static"].items == ("schumann.kind=static",)
    assert found["schumann.static"].placebo == ("schumann.kind=static", "schumann.placebo=true")
    (crystal,) = arms(RECORDS, SETS, ["crystal"])
    assert crystal.items == ("ngram", "schumann.kind=static")
    assert crystal.placebo == (*crystal.items, "ngram.placebo=true", "schumann.placebo=true")


@pytest.mark.parametrize(("wrong", "near"), [("ngrm", "'ngram'"), ("none", "There are")])
def test_an_unknown_name_is_refused_with_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        arms(RECORDS, SETS, [wrong])
    assert near in str(caught.value)


def test_the_catalogue_understands_every_arm() -> None:
    records = catalogue_records()
    found = arms(records, set_records())
    assert {record["name"] for record in records} | set(VARIANTS) == {arm.name for arm in found}
    for arm in [*found, *arms(records, set_records(), ["crystal"])]:
        assert not any(part.placebo for part in choose(arm.items))
        assert all(part.placebo for part in choose(arm.placebo))
        if any("roots" in part.needs for part in choose(arm.placebo)):
            assert arm.tokenizer == "words"


def test_rounds_are_of_one_engine_and_one_tokeniser() -> None:
    words = Arm("w", ("w",), ("w",), "words")
    engines: dict[str, Engine] = {"a": "torch", "b": "compiled", "w": "torch"}
    found = rounds([A, B, words], lambda arm: engines[arm.name])
    assert [(r.engine, r.tokenizer, [arm.name for arm in r.arms]) for r in found] == [
        ("torch", "bpe", ["a"]),
        ("compiled", "bpe", ["b"]),
        ("torch", "words", ["w"]),
    ]


def test_a_screen_by_hand() -> None:
    runs = plan_screen(ROUNDS, StudySettings(seeds=2), text="t", threads=1)
    counted = Counter((run.engine, run.arm, run.role) for run in runs)
    assert counted == {
        ("compiled", "plain", "plain"): 2,
        ("compiled", "a", "arm"): 2,
        ("compiled", "a", "placebo"): 2,
        ("torch", "plain", "plain"): 2,
        ("torch", "b", "arm"): 2,
        ("torch", "b", "placebo"): 2,
    }
    # All arms of one seed come before any of the next, in an order that is not the same twice.
    assert [run.seed for run in runs] == [1] * 6 + [2] * 6
    first, second = ([(r.engine, r.arm, r.role) for r in part] for part in (runs[:6], runs[6:]))
    assert sorted(first) == sorted(second)
    assert first != second
    assert runs == plan_screen(ROUNDS, StudySettings(seeds=2), text="t", threads=1)
    # 12 runs of 30 s and about 1 s around each, two at a time.
    assert expected_s(runs, 2) == pytest.approx(12 * 31 / 2)


@given(st.integers(1, 500), st.integers(1, 6))
def test_confirmation_has_seeds_that_no_screen_has(seeds: int, confirm_seeds: int) -> None:
    settings = StudySettings(seeds=seeds, confirm_seeds=confirm_seeds)
    screen = plan_screen(ROUNDS[:1], settings, text="t", threads=1)
    confirm = plan_confirm(ROUNDS[:1], settings, texts=["t", "u"], threads=2)
    assert {run.seed for run in screen} & {run.seed for run in confirm} == set()
    assert len({run.id for run in screen + confirm}) == len(screen) + len(confirm)
    assert len({run.model for run in screen + confirm}) == len(screen) + len(confirm)
    assert len(confirm) == confirm_seeds * 2 * 3


def test_equal_tokens_take_the_steps_of_their_cell() -> None:
    settings = StudySettings(confirm_seeds=1)
    steps = {("t", "compiled", "bpe"): 70, ("t", "torch", "bpe"): 30}
    runs = plan_confirm(ROUNDS, settings, texts=["t"], threads=2, steps=steps)
    assert {(run.engine, run.steps, run.budget) for run in runs} == {
        ("compiled", 70, "tokens"),
        ("torch", 30, "tokens"),
    }
    assert {run.preset for run in runs} == {"small"}
