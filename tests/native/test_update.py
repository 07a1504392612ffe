"""Optimiser steps against torch's AdamW, and Muon against its formula in float64."""

import numpy as np
import pytest
import torch

from cllm.model.spec import ModelSpec
from cllm.native import Engine, Update, parameter_places

SPEC = ModelSpec(37, 20, 2, 4, 2, 6, 28, 16, tied=False)
ADAM = Update(1, 0.01, 0.0, 0.9, 0.95, 1e-8, 0.1, 1.0, 0.0)
MUON = Update(1, 0.01, 0.02, 0.9, 0.95, 1e-8, 0.1, 1.0, 0.95)
# Source: Amsel 2025, arXiv:2505.16932, algorithm 1 with five steps from 10⁻³.
POLAR = [
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
]


def polar(matrix):
    x = matrix / (1.01 * np.linalg.norm(matrix))
    for a, b, c in POLAR:
        square = x @ x.T
        x = a / 1.01 * x + (b / 1.01**3 * square + c / 1.01**5 * square @ square) @ x
    return x


def at_step(settings, step):
    return Update(step, *(getattr(settings, name) for name, _ in Update._fields_[1:]))


def gradients(step):
    # From far below the largest allowed norm to far above it.
    rng = np.random.default_rng(step)
    return (10.0 ** (step % 4 - 3) * rng.normal(size=SPEC.num_parameters)).astype(np.float32)


@pytest.mark.parametrize("threads", [1, 3])
def test_ten_steps_equal_torchs_adamw_with_clipping(library, draw, threads):
    engine = Engine(library, SPEC, threads=threads, is_bfloat16=False)
    engine.parameters[:] = draw.parameters(SPEC)
    tensors = [
        torch.nn.Parameter(torch.from_numpy(engine.parameters[p.start : p.stop].copy()))
        for p in parameter_places(SPEC)
    ]
    is_matrix = [len(place.shape) == 2 for place in parameter_places(SPEC)]
    groups = [
        {
            "params": [t for t, matrix in zip(tensors, is_matrix, strict=True) if matrix == decays],
            "weight_decay": 0.1 if decays else 0.0,
        }
        for decays in (True, False)
    ]
    adamw = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), eps=1e-8, foreach=False)
    for step in range(1, 11):
        engine.gradients[:] = gradients(step)
        norm = engine.update(at_step(ADAM, step), divide_by=4.0)
        for place, tensor in zip(parameter_places(SPEC), tensors, strict=True):
            tensor.grad = torch.from_numpy(gradients(step)[place.start : place.stop]) / 4
        expected = torch.nn.utils.clip_grad_norm_(tensors, 1.0)
        adamw.step()
        assert norm == pytest.approx(float(expected), rel=1e-5)
    flat = torch.cat([tensor.detach() for tensor in tensors]).numpy()
    np.testing.assert_allclose(engine.parameters, flat, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("settings", [ADAM, MUON])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(library, draw, settings, value):
    engine = Engine(library, SPEC, threads=2, is_bfloat16=False)
    engine.parameters[:] = draw.parameters(SPEC)
    engine.gradients[:] = gradients(0)
    engine.update(settings)
    kept = (engine.parameters, engine.first_moments, engine.second_moments)
    before = [array.copy() for array in kept]
    engine.gradients[-1] = value
    assert not np.isfinite(engine.update(at_step(settings, 2)))
    for array, copy in zip(kept, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def pieces():
    """Rows of each matrix inside the blocks that Muon takes by itself."""
    q, kv = SPEC.heads * SPEC.head_width, SPEC.kv_heads * SPEC.head_width
    splits = {"qkv": [q, q + kv], "gate_up": [SPEC.mlp_width], "out": [], "down": []}
    for place in parameter_places(SPEC):
        kind = place.name.split(".")[-2]
        if kind in splits:
            rows = np.arange(place.start, place.stop).reshape(place.shape)
            yield from np.split(rows, splits[kind])


@pytest.mark.parametrize("threads", [1, 3])
def test_muon_equals_its_formula(library, draw, threads):
    engine = Engine(library, SPEC, threads=threads, is_bfloat16=False)
    engine.parameters[:] = draw.parameters(SPEC)
    twin = Engine(library, SPEC, threads=threads, is_bfloat16=False)
    twin.parameters[:] = engine.parameters
    # Beside Muon, tables and gains are AdamW's without decay.
    without_decay = at_step(ADAM, 1)
    without_decay.weight_decay = 0.0
    expected = engine.parameters.astype(np.float64)
    momentum = np.zeros_like(expected)
    squares = {}
    for step in range(1, 4):
        gradient = gradients(step).astype(np.float64)
        gradient /= max(1.0, np.linalg.norm(gradient))
        for one in (engine, twin):
            one.gradients[:] = gradients(step)
        engine.update(at_step(MUON, step))
        twin.update(at_step(without_decay, step))
        for places in pieces():
            momentum[places] = 0.95 * momentum[places] + 0.05 * gradient[places]
            direction = polar(0.95 * momentum[places] + 0.05 * gradient[places])
            # NorMuon: each row over the root of its running mean square, then the old norm.
            mean = (direction**2).mean(1)
            running = 0.95 * squares.get(places[0, 0], 0.0) + 0.05 * mean
            squares[places[0, 0]] = running
            even = direction / np.sqrt(running / (1 - 0.95**step))[:, None]
            even *= np.linalg.norm(direction) / np.linalg.norm(even)
            size = 0.02 * 0.2 * max(places.shape) ** 0.5
            expected[places] = expected[places] * (1 - 0.02 * 0.1) - size * even
    inside = np.concatenate([places.ravel() for places in pieces()])
    np.testing.assert_allclose(engine.parameters[inside], expected[inside], atol=2e-5)
    outside = np.setdiff1d(np.arange(SPEC.num_parameters), inside)
    np.testing.assert_array_equal(engine.parameters[outside], twin.parameters[outside])


def test_an_engine_that_only_looks_does_not_learn(library):
    engine = Engine(library, SPEC, threads=1, is_bfloat16=False, learns=False)
    ids = np.zeros((1, 2), np.int32)
    with pytest.raises(ValueError, match="without gradients"):
        engine.gradient(ids, ids, weight=1.0)
    with pytest.raises(ValueError, match="without gradients"):
        engine.update(ADAM)
