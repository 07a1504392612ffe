"""Loss and gradient against torch's float64 autograd of the same model."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cllm.model.spec import ModelSpec
from cllm.native import Engine

# Of the norm: 24 bits and 8 bits of mantissa, through sums of some hundred numbers.
TOLERANCE = {False: 1e-5, True: 5e-2}
SAME = {False: torch.float32, True: torch.bfloat16}


@st.composite
def cases(draw):
    kv_heads = draw(st.integers(1, 3))
    context = draw(st.integers(1, 70))
    spec = ModelSpec(
        vocab_size=draw(st.integers(1, 90)),
        width=draw(st.integers(2, 75)),
        layers=draw(st.integers(1, 3)),
        heads=kv_heads * draw(st.integers(1, 3)),
        kv_heads=kv_heads,
        head_width=2 * draw(st.integers(1, 18)),
        mlp_width=draw(st.integers(1, 120)),
        context=context,
        tied=draw(st.booleans()),
    )
    return spec, draw(st.integers(1, 7)), draw(st.integers(1, context)), draw(st.integers(1, 3))


def distance(a, b):
    # A gradient that is nothing but rounding (one token to choose from) has no relative error.
    return np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-3)


def learn(library, spec, parameters, ids, targets, threads=1, is_bfloat16=False):
    engine = Engine(library, spec, threads=threads, is_bfloat16=is_bfloat16)
    engine.parameters[:] = parameters
    nats = engine.gradient(ids, targets, weight=1 / int((targets >= 0).sum()))
    return engine, nats


@pytest.mark.parametrize("is_bfloat16", [False, True])
@example((ModelSpec(1, 2, 1, 1, 1, 2, 1, 1), 1, 1, 1))
@example((ModelSpec(2, 6, 1, 1, 1, 2, 3, 5), 2, 5, 3))
@example((ModelSpec(3, 10, 2, 3, 1, 6, 5, 33, tied=False), 1, 33, 3))
@example((ModelSpec(301, 101, 2, 6, 3, 20, 171, 200), 3, 199, 2))
@given(cases())
@settings(max_examples=40)
def test_equals_torch(library, draw, by_torch, is_bfloat16, case):
    if is_bfloat16 and not library.has_bfloat16:
        pytest.skip("this processor has no products of bfloat16")
    spec, rows, length, threads = case
    parameters, (ids, targets) = draw.parameters(spec), draw.batch(spec, rows, length)
    expected = by_torch(spec, parameters, ids, targets)
    engine, nats = learn(library, spec, parameters, ids, targets, threads, is_bfloat16)
    num_targets = int((targets >= 0).sum())
    tolerance = TOLERANCE[is_bfloat16]
    assert abs(nats - expected.nats) < tolerance * max(num_targets, expected.nats)
    error = distance(engine.gradients, expected.gradient)
    if error >= tolerance:
        # A norm over two or three numbers takes most of the gradient away, and leaves rounding:
        # then of the order of torch's error in the same format.
        rounded = by_torch(spec, parameters, ids, targets, SAME[is_bfloat16])
        assert error < 10 * distance(rounded.gradient, expected.gradient)


SPEC = ModelSpec(65, 48, 2, 4, 2, 12, 100, 40)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_threads_give_the_same_bits(library, draw, threads):
    parameters, batch = draw.parameters(SPEC), draw.batch(SPEC, 5, 37)
    one, nats = learn(library, SPEC, parameters, *batch, threads)
    other, nats_again = learn(library, SPEC, parameters, *batch, threads)
    assert nats == nats_again
    np.testing.assert_array_equal(one.gradients, other.gradients)


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_more_threads_give_nearly_the_same(library, draw, threads):
    parameters, batch = draw.parameters(SPEC), draw.batch(SPEC, 5, 37)
    one, _ = learn(library, SPEC, parameters, *batch)
    other, _ = learn(library, SPEC, parameters, *batch, threads)
    assert distance(other.gradients, one.gradients) < 1e-6


@pytest.mark.parametrize("tied", [False, True])
def test_two_calls_add_up_to_one(library, draw, tied):
    spec = ModelSpec(65, 48, 2, 4, 2, 12, 100, 40, tied=tied)
    parameters, (ids, targets) = draw.parameters(spec), draw.batch(spec, 6, 40)
    weight = 1 / int((targets >= 0).sum())
    whole, nats = learn(library, spec, parameters, ids, targets, threads=2)
    parts, _ = learn(library, spec, parameters, ids, targets, threads=2)
    summed = parts.gradient(ids[:2], targets[:2], weight=weight)
    summed += parts.gradient(ids[2:], targets[2:], weight=weight, is_first=False)
    assert summed == pytest.approx(nats, rel=1e-9)
    assert distance(parts.gradients, whole.gradients) < 1e-6


def test_more_rows_than_a_thread_keeps_are_taken_in_turns(library, draw, by_torch, monkeypatch):
    monkeypatch.setattr("cllm.native.engine._TAPE_BYTES", 0)
    parameters, (ids, targets) = draw.parameters(SPEC), draw.batch(SPEC, 9, 21)
    expected = by_torch(SPEC, parameters, ids, targets)
    engine, _ = learn(library, SPEC, parameters, ids, targets, threads=2)
    assert distance(engine.gradients, expected.gradient) < TOLERANCE[False]


@pytest.mark.parametrize("is_bfloat16", [False, True])
def test_a_batch_that_was_not_finite_leaves_no_trace(library, draw, is_bfloat16):
    if is_bfloat16 and not library.has_bfloat16:
        pytest.skip("this processor has no products of bfloat16")
    # Odd widths: the products' words of two numbers reach into what lies behind a row.
    spec = ModelSpec(33, 15, 2, 2, 1, 6, 21, 20)
    parameters, (ids, targets) = draw.parameters(spec), draw.batch(spec, 1, 7)
    fresh, _ = learn(library, spec, parameters, ids, targets, is_bfloat16=is_bfloat16)
    engine = Engine(library, spec, threads=1, is_bfloat16=is_bfloat16)
    engine.parameters[:] = np.nan
    assert np.isnan(engine.gradient(*draw.batch(spec, 6, 20), weight=1.0))
    engine.parameters[:] = parameters
    engine.changed()
    engine.gradient(ids, targets, weight=1 / int((targets >= 0).sum()))
    np.testing.assert_array_equal(engine.gradients, fresh.gradients)
