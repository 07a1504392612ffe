"""Row-wise Adagrad against its definition, written out in numpy over the dense table."""

import numpy as np
import pytest
import torch
from torch import nn

from cllm.training.row_adagrad import RowAdagrad


def adagrad(table):
    return RowAdagrad({"t": (table, table.detach().clone())})


def test_only_touched_rows_move_and_they_move_as_defined():
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(50, 4, generator=generator)
    table = nn.Parameter(start.clone())
    optimiser = RowAdagrad({"table": (table, table.detach().clone())})
    expected, squares = start.double().numpy().copy(), np.zeros(50)
    touched = set()
    for step in range(6):
        ids = torch.randint(0, 50, (7,), generator=generator)
        ids[3] = ids[0]  # a row met twice counts as one gradient, the sum
        target = torch.randn(7, 4, generator=generator)
        rows = nn.functional.embedding(ids, table, sparse=True)
        ((rows - target) ** 2).sum().backward()
        dense = np.zeros((50, 4))
        for i, row in enumerate(ids.tolist()):
            dense[row] += 2 * (expected[row] - target[i].double().numpy())
        optimiser.collect()
        optimiser.step(0.1 / (step + 1))
        for row in set(ids.tolist()):
            squares[row] += np.mean(dense[row] ** 2)
            expected[row] -= 0.1 / (step + 1) * dense[row] / np.sqrt(squares[row])
        touched |= set(ids.tolist())
    np.testing.assert_allclose(table.detach().numpy(), expected, rtol=2e-5, atol=1e-5)
    untouched = sorted(set(range(50)) - touched)
    assert untouched
    assert torch.equal(table[untouched], start[untouched])


def test_several_backward_passes_are_one_step():
    one, two = nn.Parameter(torch.ones(9, 3)), nn.Parameter(torch.ones(9, 3))
    whole, parts = adagrad(one), adagrad(two)
    ids = torch.tensor([1, 4, 4, 7])
    nn.functional.embedding(ids, one, sparse=True).square().sum().backward()
    whole.collect()
    for piece in (ids[:2], ids[2:]):
        nn.functional.embedding(piece, two, sparse=True).square().sum().backward()
        parts.collect()
    whole.step(0.5)
    parts.step(0.5)
    torch.testing.assert_close(one, two)


def test_it_goes_on_where_it_was():
    generator = torch.Generator().manual_seed(3)

    def steps(optimiser, table, first, last):
        for step in range(first, last):
            ids = torch.tensor([step % 5, (2 * step) % 5])
            nn.functional.embedding(ids, table, sparse=True).pow(2).sum().backward()
            optimiser.collect()
            optimiser.step(0.1)

    start = torch.randn(5, 2, generator=generator)
    one, two, three = (nn.Parameter(start.clone()) for _ in range(3))
    straight, stopped = adagrad(one), adagrad(two)
    steps(straight, one, 0, 6)
    steps(stopped, two, 0, 3)
    resumed = adagrad(three)
    resumed.load_state({name: value.clone() for name, value in stopped.state().items()})
    steps(resumed, three, 3, 6)
    assert torch.equal(one, three)


def test_small_steps_are_not_lost_in_16_bits():
    table = nn.Parameter(torch.ones(1, 2, dtype=torch.bfloat16))
    optimiser = RowAdagrad({"t": (table, torch.ones(1, 2))})
    optimiser.begin({"t": np.full(1, 1e6, np.float32)})
    for _ in range(200):
        nn.functional.embedding(torch.tensor([0]), table, sparse=True).sum().backward()
        optimiser.collect()
        optimiser.step(0.1)
    # 200 steps of 0.1 / √10⁶, each far below what bfloat16 can tell from 1.
    assert float(optimiser.weights()["t"][0, 0]) == pytest.approx(0.98, abs=1e-4)
    assert float(table[0, 0]) == pytest.approx(0.98, abs=4e-3)
