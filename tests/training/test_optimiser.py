"""The optimiser against torch's own AdamW and the definition of global-norm clipping."""

import numpy as np
import pytest
import torch
from torch import nn

from cllm.config import TrainSettings
from cllm.model import ModelSpec
from cllm.training.learner import Rates
from cllm.training.optimiser import Optimiser, orthogonalise


class Line(nn.Module):
    """Quacks as a `Transformer` of which the optimiser needs parameters and shape only."""

    def __init__(self):
        super().__init__()
        self.spec = ModelSpec(5, 3, 1, 1, 1, 2, 4, 8)
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


RATES = Rates(learning_rate=0.01, matrix_rate=0.0, momentum=0.0)
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
        norm = optimiser.step(RATES)
        adamw.zero_grad()
        loss_of(reference, step).backward()
        expected = nn.utils.clip_grad_norm_(reference.parameters(), 0.5)
        adamw.step()
        assert norm == pytest.approx(float(expected), rel=1e-5)
    torch.testing.assert_close(ours.matrix, reference.matrix, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours.gain, reference.gain, rtol=1e-6, atol=1e-6)


def test_gradients_of_several_passes_add_up():
    whole, parts = Line(), Line()
    one, two = Optimiser(whole, SETTINGS, torch.float32), Optimiser(parts, SETTINGS, torch.float32)
    (loss_of(whole, 1) + loss_of(whole, 2)).backward()
    one.collect()
    for step in (1, 2):
        loss_of(parts, step).backward()
        two.collect()
    assert one.step(RATES) == pytest.approx(two.step(RATES), rel=1e-6)
    torch.testing.assert_close(whole.matrix, parts.matrix)


def test_masters_keep_what_bfloat16_would_lose():
    model = Line()
    optimiser = Optimiser(model, SETTINGS, torch.bfloat16)
    before = dict(optimiser.masters())["matrix"].clone()
    assert model.matrix.dtype == torch.bfloat16
    for step in range(3):
        loss_of(model, step).backward()
        optimiser.collect()
        optimiser.step(Rates(1e-5, 0.0, 0.0))
    after = dict(optimiser.masters())["matrix"]
    assert after.dtype == torch.float32
    assert not torch.equal(before, after)
    assert torch.equal(model.matrix, after.bfloat16())


def test_a_gradient_that_is_not_finite_changes_nothing():
    model = Line()
    optimiser = Optimiser(model, SETTINGS, torch.float32)
    before = model.matrix.detach().clone()
    (loss_of(model, 0) * float("inf")).backward()
    optimiser.collect()
    assert not optimiser.step(RATES) < float("inf")
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
            optimiser.step(RATES)
    assert torch.equal(straight.matrix, stopped.matrix)
    assert torch.equal(straight.gain, stopped.gain)


def published_iteration(g):
    """Polar Express as printed, in float64."""
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / (np.linalg.norm(x) * 1.01)
    for a, b, c in POLAR_EXPRESS:
        square = x @ x.T
        x = a / 1.01 * x + (b / 1.01**3 * square + c / 1.01**5 * square @ square) @ x
    return x.T if g.shape[0] > g.shape[1] else x


# The paper's list (arXiv:2505.16932, section 3), typed from there.
POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
)


@pytest.mark.parametrize("shape", [(16, 16), (12, 40), (40, 12)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape):
    g = np.random.default_rng(0).standard_normal((3, *shape))
    ours = orthogonalise(torch.from_numpy(g)).numpy()
    for one, matrix in zip(ours, g, strict=True):
        np.testing.assert_allclose(one, published_iteration(matrix), atol=1e-9)
        values = np.linalg.svd(one, compute_uv=False)
        # For singular values spread over two decades the paper promises 1 ± 0.2 after five.
        assert 0.6 < values.min() <= values.max() < 1.3
        u, _, v = np.linalg.svd(matrix, full_matrices=False)
        assert np.sum(one * (u @ v)) / np.linalg.norm(one) / np.linalg.norm(u @ v) > 0.98


def test_masters_are_those_that_were_loaded_and_not_their_rounding():
    model = Line()
    exact = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimiser = Optimiser(model, SETTINGS, torch.bfloat16)
    for name, master in optimiser.masters():
        assert torch.equal(master, exact[name]), name
