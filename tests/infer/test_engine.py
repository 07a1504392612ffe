"""The token loop over a Markov chain whose every probability is known."""

import numpy as np
import pytest

from cllm.config import GenerateSettings
from cllm.infer.engine import generate_tokens

EOS = 0


class Chain:
    """A `Runner` whose next token depends on the last alone; it notes what it was given."""

    def __init__(self, table, context=8):
        self.table = np.array(table, dtype=np.float64)
        self.context = context
        self.vocab_size = len(table)
        self.window = []
        self.prefills = []

    def prefill(self, ids):
        assert 1 <= len(ids) <= self.context
        self.window = list(ids)
        self.prefills.append(list(ids))
        return self._logits()

    def decode(self, token_id):
        self.window.append(token_id)
        assert len(self.window) <= self.context
        return self._logits()

    def _logits(self):
        with np.errstate(divide="ignore"):
            return np.log(self.table[self.window[-1]])


def counting(vocab_size=100, context=8):
    return Chain(np.roll(np.eye(vocab_size), 1, axis=1), context)


def write(runner, prompt, *, sample=0, eos_id=EOS, **settings):
    settings = GenerateSettings(**settings)
    return list(generate_tokens(runner, prompt, settings, eos_id=eos_id, sample=sample))


def test_greedy_follows_the_likeliest_and_stops_at_the_number():
    assert write(counting(), [3], temperature=0, max_tokens=5) == [4, 5, 6, 7, 8]


def test_it_ends_before_the_end_of_text():
    assert write(counting(10), [6], temperature=0, max_tokens=50) == [7, 8, 9]
    assert len(write(counting(10), [6], eos_id=None, temperature=0, max_tokens=50)) == 50


def test_of_a_long_prompt_the_last_context_is_seen():
    runner = counting(context=8)
    assert write(runner, list(range(20, 40)), temperature=0, max_tokens=2) == [40, 41]
    assert runner.prefills[0] == list(range(32, 40))


def test_a_full_window_goes_on_with_its_last_half():
    runner = counting(context=8)
    assert write(runner, [1, 2], temperature=0, max_tokens=20) == list(range(3, 23))
    # 2 of the prompt and 6 written fill it; the 7th written token needs room.
    assert runner.prefills == [[1, 2], [6, 7, 8, 9], [11, 12, 13, 14], [16, 17, 18, 19]]


@pytest.mark.parametrize("context", [1, 2, 3])
def test_the_smallest_contexts_work(context):
    runner = counting(context=context)
    assert write(runner, [1, 2, 3], temperature=0, max_tokens=9) == list(range(4, 13))


def test_the_same_seed_gives_the_same_tokens_and_another_does_not():
    table = np.full((50, 50), 0.02)
    first = write(Chain(table), [1], seed=5, max_tokens=40)
    assert first == write(Chain(table), [1], seed=5, max_tokens=40)
    assert first != write(Chain(table), [1], seed=6, max_tokens=40)
    assert first != write(Chain(table), [1], seed=5, sample=1, max_tokens=40)


def test_written_tokens_follow_the_chain():
    table = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1], [0.25, 0.5, 0.25]])
    ids = np.array([0, *write(Chain(table), [0], eos_id=None, temperature=1, max_tokens=8_000)])
    counts = np.zeros((3, 3))
    np.add.at(counts, (ids[:-1], ids[1:]), 1)
    expected = counts.sum(axis=1, keepdims=True) * table
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 22.46  # 0.999 quantile with six degrees of freedom


def test_a_presence_penalty_makes_greedy_writing_visit_every_token_once():
    table = np.tile([0.4, 0.3, 0.2, 0.1], (4, 1))
    written = write(
        Chain(table), [0], eos_id=None, temperature=0, presence_penalty=50, max_tokens=4
    )
    assert written == [0, 1, 2, 3]


def test_a_repetition_penalty_counts_the_prompt():
    class Flat(Chain):
        def _logits(self):
            return np.array([2.0, 1.9, 1.8])

    assert write(Flat(np.eye(3)), [0], eos_id=None, temperature=0, max_tokens=1) == [0]
    penalised = write(
        Flat(np.eye(3)), [0], eos_id=None, temperature=0, max_tokens=3, repetition_penalty=1.5
    )
    assert penalised == [1, 2, 0]
