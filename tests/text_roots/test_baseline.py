"""What cuts words first must come out alike, whatever else runs in the process."""

from __future__ import annotations

import random

import pytest

from cllm.text.roots.baseline import Baseline


def test_nothing_is_drawn_from_the_generator_that_threads_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> float:
        raise AssertionError("another thread's draw would change the result")

    before = random.getstate()
    for name in ("shuffle", "random", "seed", "setstate"):
        monkeypatch.setattr(random, name, refuse)
    words = {stem + end: 1 for stem in ("walk", "talk", "land") for end in ("", "s", "ed", "ing")}
    Baseline(words, weight=0.5, max_epochs=6)
    assert random.getstate() == before
