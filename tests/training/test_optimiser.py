"""The optimiser against torch's own AdamW and the definition of global-norm clipping."""

import pytest
import torch
from torch import nn

from cllm.config import TrainSettings
from cllm.training.optimiser import Optimiser


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.matrix = nn.Parameter(torch.randn(4, 3, generator=generator))
        self.gain = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return (x @ self.matrix.t().to(x.dtype)) * self.gain.to(x.dtype)


def data(step):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(5, 3, generator=generator), torch.randn(5, 4, generator=generator)


def loss_of(model, step):
    x, y = data(step)
    return ((model(x.to(model.matrix.dtype)).float() - y) ** 2).mean()


SETTINGS = TrainSettings(weight_decay=0.1, beta1=0.9, beta2=0.95, epsilon=1e-8, clip=0.5)


def test_steps_equal_torchs_adamw_with_clipping_and_decay_on_matrices_only():
    ours, reference = Line(), Line()
    optimiser = Optimiser(ours, SETTINGS, torch.float32)
    groups = [
        {"params": [reference.matrix], "weight_decay": 0.1},
        {"params": [reference.gain], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), eps=1e-8, foreach=False)
    for step in range(10):
        loss_of(ours, step).backward()
        optimiser.collect()
        norm = optimiser.step(0.01, divide_by=1)
        adamw.zero_grad()
        loss_of(reference, step).backward()
        expected = nn.utils.clip_grad_norm_(reference.parameters(), 0.5)
        adamw.step()
        assert norm == pytest.approx(float(expected), rel=1e-5)
    torch.testing.assert_close(ours.matrix, reference.matrix, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours.gain, reference.gain, rtol=1e-6, atol=1e-6)


def test_accumulated_gradients_are_the_mean_over_the_passes():
    whole, parts = Line(), Line()
    one, two = Optimiser(whole, SETTINGS, torch.float32), Optimiser(parts, SETTINGS, torch.float32)
    ((loss_of(whole, 1) + loss_of(whole, 2)) / 2).backward()
    one.collect()
    for step in (1, 2):
        loss_of(parts, step).backward()
        two.collect()
    assert one.step(0.01, divide_by=1) == pytest.approx(two.step(0.01, divide_by=2), rel=1e-6)
    torch.testing.assert_close(whole.matrix, parts.matrix)


def test_masters_keep_what_bfloat16_would_lose():
    model = Line()
    optimiser = Optimiser(model, SETTINGS, torch.bfloat16)
    before = optimiser.weights()["matrix"].clone()
    assert model.matrix.dtype == torch.bfloat16
    for step in range(3):
        loss_of(model, step).backward()
        optimiser.collect()
        optimiser.step(1e-5, divide_by=1)
    after = optimiser.weights()["matrix"]
    assert after.dtype == torch.float32
    assert not torch.equal(before, after)
    assert torch.equal(model.matrix, after.bfloat16())


def test_a_gradient_that_is_not_finite_changes_nothing():
    model = Line()
    optimiser = Optimiser(model, SETTINGS, torch.float32)
    before = model.matrix.detach().clone()
    (loss_of(model, 0) * float("inf")).backward()
    optimiser.collect()
    assert not optimiser.step(0.01, divide_by=1) < float("inf")
    assert torch.equal(model.matrix, before)


def test_a_restored_optimiser_goes_on_bit_for_bit():
    straight, stopped = Line(), Line()
    one, two = (
        Optimiser(straight, SETTINGS, torch.float32),
        Optimiser(stopped, SETTINGS, torch.float32),
    )
    for step in range(6):
        if step == 3:
            state = {name: value.clone() for name, value in two.state().items()}
            stopped = Line()
            two = Optimiser(stopped, SETTINGS, torch.float32)
            two.load_state(state)
        for model, optimiser in ((straight, one), (stopped, two)):
            loss_of(model, step).backward()
            optimiser.collect()
            optimiser.step(0.01, divide_by=1)
    assert torch.equal(straight.matrix, stopped.matrix)
    assert torch.equal(straight.gain, stopped.gain)
