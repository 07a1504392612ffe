"""The input memory's table: sparse Adagrad equals the dense formula, and nothing else moves it."""

import numpy as np
import pytest

from cllm.model.spec import ModelSpec
from cllm.native import Engine, NgramPart, Parts, Update

SPEC = ModelSpec(23, 20, 1, 2, 1, 6, 28, 16)
NGRAM = NgramPart((2, 3), 2, (5, 7, 1009, 2003), 20)
PARTS = Parts(ngram=NGRAM, eos_id=0)
ADAM = Update(1, 0.01, 0.0, 0.9, 0.95, 1e-8, 0.1, 1.0, 0.0, 0.05)
MUON = Update(1, 0.01, 0.02, 0.9, 0.95, 1e-8, 0.1, 1.0, 0.95, 0.05)


def batch_of(draw, step):
    return draw.batch(SPEC, 3, 7 + step)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("settings", [ADAM, MUON])
def test_the_sparse_update_equals_the_dense_formula(library, draw, settings, threads):
    engine = draw.engine(library, SPEC, PARTS, threads)
    table, squares = engine.table.astype(np.float64), np.zeros(len(engine.table))
    touched = np.zeros(len(table), bool)
    for step in range(1, 5):
        # Two passes whose gradients add up, and are divided by two.
        for is_first in (True, False):
            batch = batch_of(draw, 2 * step + is_first)
            engine.gradient(*batch, weight=0.05, is_first=is_first)
        gradient = engine.table_gradient().astype(np.float64) / 2
        settings.step, settings.table_rate = step, 0.05 / step
        engine.update(settings, divide_by=2.0)
        squares += (gradient**2).mean(1)
        table -= settings.table_rate * gradient / (np.sqrt(squares) + 1e-10)[:, None]
        touched |= np.any(gradient, axis=1)
        np.testing.assert_allclose(engine.row_squares, squares, rtol=2e-6)
        np.testing.assert_allclose(engine.table, table, atol=1e-6)
    assert 0.01 < touched.mean() < 0.5
    fresh = draw.engine(library, SPEC, PARTS)
    np.testing.assert_array_equal(engine.table[~touched], fresh.table[~touched])


def test_two_passes_add_up_to_one(library, draw):
    ids, targets = draw.batch(SPEC, 6, 16)
    whole, halves = (draw.engine(library, SPEC, PARTS, 2) for _ in range(2))
    whole.gradient(ids, targets, weight=0.01)
    halves.gradient(ids[:2], targets[:2], weight=0.01)
    halves.gradient(ids[2:], targets[2:], weight=0.01, is_first=False)
    np.testing.assert_allclose(
        halves.table_gradient(), whole.table_gradient(), atol=1e-6 * whole.table_gradient().max()
    )


def test_the_number_of_threads_changes_no_bit_of_the_table(library, draw):
    tables = []
    for threads in (1, 2, 3, 7):
        engine = draw.engine(library, SPEC, PARTS, threads)
        engine.gradient(*batch_of(draw, 0), weight=0.05)
        engine.update(ADAM)
        tables.append(engine.table)
    for other in tables[1:]:
        np.testing.assert_array_equal(other, tables[0])


def test_it_is_outside_the_norm_and_its_clipping(library, draw):
    engine = draw.engine(library, SPEC, PARTS)
    engine.gradient(*batch_of(draw, 0), weight=0.05)
    wide, narrow = (draw.engine(library, SPEC, PARTS) for _ in range(2))
    for one, clip in ((wide, 1e9), (narrow, 1e-9)):
        one.gradient(*batch_of(draw, 0), weight=0.05)
        norm = one.update(Update(1, 0.01, 0.0, 0.9, 0.95, 1e-8, 0.1, clip, 0.0, 0.05))
        assert norm == pytest.approx(np.linalg.norm(engine.gradients.astype(np.float64)), rel=1e-6)
    np.testing.assert_array_equal(wide.table, narrow.table)


def test_a_norm_that_is_not_finite_changes_nothing(library, draw):
    engine = draw.engine(library, SPEC, PARTS)
    engine.gradient(*batch_of(draw, 0), weight=0.05)
    before = engine.table.copy()
    engine.gradients[3] = np.nan
    assert not np.isfinite(engine.update(ADAM))
    np.testing.assert_array_equal(engine.table, before)
    assert not np.any(engine.row_squares)


@pytest.mark.parametrize("muon", [False, True])
def test_only_the_projection_decays(library, draw, muon):
    # Without a gradient AdamW moves nothing, so what moves is decay.
    parts = Parts(NGRAM, (1, 2), True, "forget", (), 0)
    engine = Engine(library, SPEC, parts, threads=2, is_bfloat16=False)
    engine.parameters[:] = 1
    ids = np.zeros((1, 2), np.int32)
    engine.gradient(ids, ids - 1, weight=1.0)
    assert not np.any(engine.gradients)
    engine.update(MUON if muon else ADAM)
    plain = Engine(library, SPEC, threads=1, is_bfloat16=False).parameters.size
    up = SPEC.width * NGRAM.row_width
    kept = 1 if muon else 1 - 0.01 * 0.1
    np.testing.assert_allclose(engine.parameters[plain : plain + up], kept, rtol=1e-6)
    np.testing.assert_array_equal(engine.parameters[plain + up :], 1)


def test_a_table_of_another_size_is_refused(library):
    table = np.zeros((3024, 21), np.float32)
    with pytest.raises(ValueError, match="table must be 3,024 x 20 of float32"):
        Engine(library, SPEC, PARTS, threads=1, is_bfloat16=False, table=table)


def test_without_a_table_there_is_no_gradient_of_it(library):
    for parts, learns in ((None, True), (PARTS, False)):
        engine = Engine(library, SPEC, parts, threads=1, is_bfloat16=False, learns=learns)
        with pytest.raises(ValueError, match="without a table"):
            engine.table_gradient()
