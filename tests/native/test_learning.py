"""A learner with mechanisms: it learns what they are for, and goes on from its state exactly."""

import numpy as np
import pytest

from cllm.config import TrainSettings
from cllm.model.mechanisms.choose import choose, with_mechanisms
from cllm.model.spec import ModelSpec
from cllm.native import TABLE, named_views
from cllm.training.compiled_learner import CompiledLearner, scoring_engine
from cllm.training.compiled_parts import parts_of
from cllm.training.learner import Rates

PLAIN = ModelSpec(32, 16, 1, 2, 1, 8, 24, 24)
NGRAM = ("ngram.orders=2,3", "ngram.heads=2", "ngram.rows=211", "ngram.row_width=8")
NGRAM = (*NGRAM, "ngram.rate=0.1")
ALL = (*NGRAM, "dampening", "gamma", "schumann")


def spec_of(*items):
    return with_mechanisms(PLAIN, choose(items), None)


def learner_of(library, draw, items=ALL, **settings):
    decided = TrainSettings(threads=2, precision="float32", **settings)
    spec = spec_of(*items)
    parts = parts_of(spec)
    parameters = draw.parameters(spec, parts=parts)
    weights = named_views(spec, parameters, parts)
    if parts.ngram:
        weights[TABLE] = np.zeros((parts.ngram.num_rows, parts.ngram.row_width), np.float32)
    return CompiledLearner(library, spec, weights, decided)


def batches(step):
    """Sequences in which the sum of each two tokens decides the next."""
    ids = np.random.default_rng(step).integers(1, 32, (8, 25))
    for t in range(2, 25):
        ids[:, t] = 1 + (5 * ids[:, t - 1] + 11 * ids[:, t - 2]) % 31
    ids = ids.astype(np.int32)
    return [(np.ascontiguousarray(ids[:, :-1]), np.ascontiguousarray(ids[:, 1:]))]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_it_goes_on_from_its_state_exactly(library, draw, optimizer):
    one, other = (learner_of(library, draw, optimizer=optimizer) for _ in range(2))
    rates = Rates(0.01, 0.01, 0.9)
    for step in range(3):
        one.step(batches(step), rates)
    state = {name: value.copy() for name, value in one.state().items()}
    assert {f"weight.{TABLE}", f"row_squares.{TABLE}"} < state.keys()
    assert f"exp_avg.{TABLE}" not in state
    other.load_state(state)
    for step in range(3, 6):
        assert one.step(batches(step), rates) == other.step(batches(step), rates)
    for name, value in one.state().items():
        np.testing.assert_array_equal(other.state()[name], value, err_msg=name)


def test_the_rate_of_the_table_follows_the_schedule(library, draw):
    # Adagrad's first step moves each touched row by the rate, in its root mean square.
    moved = []
    for share in (1.0, 0.25):
        learner = learner_of(library, draw)
        learner.step(batches(0), Rates(0.01, 0.01, 0.9, share))
        table = learner.weights()[TABLE]
        moved.append(np.sqrt((table[np.any(table, axis=1)] ** 2).mean(1)))
    np.testing.assert_allclose(moved[0], 0.1, rtol=1e-5)
    np.testing.assert_allclose(moved[1], 0.025, rtol=1e-5)


def test_the_memory_learns_pairs_by_heart(library, draw):
    learner = learner_of(library, draw, NGRAM, optimizer="adamw")
    plain = learner_of(library, draw, (), optimizer="adamw")
    for step in range(100):
        with_memory = learner.step(batches(step), Rates(0.003, 0.0, 0.0)).nats
        without = plain.step(batches(step), Rates(0.003, 0.0, 0.0)).nats
    assert with_memory < 0.7 * without


def test_a_scoring_engine_has_the_same_weights(library, draw):
    learner = learner_of(library, draw)
    learner.step(batches(0), Rates(0.01, 0.01, 0.9))
    [batch] = batches(1)
    engine = scoring_engine(library, spec_of(*ALL), learner.weights(), threads=1)
    assert engine.score(*batch) == pytest.approx(learner.score(*batch), rel=1e-6)
