"""Dropout: each branch's output, unbiased, as a function of seed and place alone."""

import numpy as np
import pytest

from cllm.model.spec import ModelSpec
from cllm.native import Engine, parameter_places

SPEC = ModelSpec(31, 24, 2, 2, 1, 6, 20, 16)


def engine_with(library, parameters, threads=1):
    engine = Engine(library, SPEC, threads=threads, is_bfloat16=False)
    engine.parameters[:] = parameters
    return engine


def silent(draw):
    """Parameters whose branches give nothing: only their own gradients meet the dropout."""
    parameters = draw.parameters(SPEC)
    places = [p for p in parameter_places(SPEC) if p.name.endswith(("out.weight", "down.weight"))]
    for place in places:
        parameters[place.start : place.stop] = 0
    return parameters, places


def gradient_of(engine, batch, **dropout):
    engine.gradient(*batch, weight=1.0, **dropout)
    return engine.gradients.copy()


def test_each_number_is_dropped_or_grown(library, draw):
    parameters, places = silent(draw)
    engine = engine_with(library, parameters)
    ids = targets = np.ones((1, 1), np.int32)
    plain = gradient_of(engine, (ids, targets))
    kept = []
    for seed in range(200):
        dropped = gradient_of(engine, (ids, targets), dropout=0.25, seed=seed)
        for place in places:
            part = slice(place.start, place.stop)
            # One row of tokens: the gradient's rows are the branch's numbers.
            rows = np.abs(plain[part]).reshape(place.shape).argmax(axis=1)
            at = place.start + np.arange(place.shape[0]) * place.shape[1] + rows
            ratio = dropped[at] / plain[at]
            assert np.all((np.abs(ratio) < 1e-6) | (np.abs(ratio - 1 / 0.75) < 1e-4))
            kept.append(ratio > 0.5)
    share = np.mean(kept)
    # 200 seeds · 4 branches · 24 numbers: five deviations of a binomial share.
    assert abs(share - 0.75) < 5 * (0.25 * 0.75 / np.size(kept)) ** 0.5


def test_the_mean_over_seeds_is_the_gradient_without(library, draw):
    parameters, places = silent(draw)
    engine, batch = engine_with(library, parameters), draw.batch(SPEC, 3, 11)
    plain = gradient_of(engine, batch)
    several = np.array([gradient_of(engine, batch, dropout=0.3, seed=s) for s in range(400)])
    for place in places:
        part = slice(place.start, place.stop)
        error = several[:, part].mean(axis=0) - plain[part]
        deviation = several[:, part].std(axis=0) / len(several) ** 0.5
        assert np.sqrt(np.mean((error / (deviation + 1e-9)) ** 2)) < 1.5


def test_seed_and_place_alone_decide(library, draw):
    parameters, batch = draw.parameters(SPEC), draw.batch(SPEC, 5, 16)
    engine = engine_with(library, parameters)
    first = gradient_of(engine, batch, dropout=0.3, seed=7)
    other_seed = gradient_of(engine, batch, dropout=0.3, seed=8)
    again = gradient_of(engine, batch, dropout=0.3, seed=7)
    np.testing.assert_array_equal(first, again)
    assert np.linalg.norm(first - other_seed) > 0.01 * np.linalg.norm(first)
    threads = gradient_of(engine_with(library, parameters, 3), batch, dropout=0.3, seed=7)
    assert np.linalg.norm(threads - first) < 1e-5 * np.linalg.norm(first)


@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_is_the_slope_of_the_loss(library, draw, seed):
    parameters, batch = draw.parameters(SPEC), draw.batch(SPEC, 3, 16)
    gradient = gradient_of(engine_with(library, parameters), batch, dropout=0.2, seed=seed)
    norm = np.linalg.norm(gradient)
    direction = gradient / norm
    step = 1e-2
    ends = [
        engine_with(library, (parameters + sign * step * direction).astype(np.float32)).gradient(
            *batch, weight=1.0, dropout=0.2, seed=seed
        )
        for sign in (1, -1)
    ]
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(norm, rel=0.01)
