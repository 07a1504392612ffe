"""Queries mixed with keys, against the same in fractions and loops."""

from fractions import Fraction

import numpy as np
import torch

from cllm.model.layers import Rotary
from cllm.model.mechanisms.reversal import Reversal

# The first triples by their diagonal; of 65 and 85 there are two each.
TRIPLES = [(3, 4, 5), (5, 12, 13), (15, 8, 17), (7, 24, 25)]


def exact_matrix() -> list[list[Fraction]]:
    """R for heads of width 8."""
    matrix = [[Fraction(0)] * 8 for _ in range(8)]
    for j, (a, b, c) in enumerate(TRIPLES):
        matrix[j][j] = matrix[j + 4][j + 4] = Fraction(a, c)
        matrix[j][j + 4], matrix[j + 4][j] = Fraction(-b, c), Fraction(b, c)
    return matrix


def test_it_turns_by_triples_and_so_is_exactly_orthogonal():
    matrix = exact_matrix()
    for i in range(8):
        for j in range(8):
            assert sum(matrix[i][k] * matrix[j][k] for k in range(8)) == (i == j)
    expected = [[a / c for a, _, c in TRIPLES], [b / c for _, b, c in TRIPLES]]
    assert np.array_equal(Reversal().cosines_and_sines(4), expected)


def test_queries_get_their_own_group_s_keys(models):
    spec = models.spec(("reversal",))
    model = models.stirred(spec)
    weights = model.weights()
    turn = np.array(exact_matrix(), np.float64)
    for layer in range(spec.layers):
        qkv = weights[f"blocks.{layer}.attention.qkv.weight"].astype(np.float64)
        strength = weights[f"mechanisms.reversal.{layer}.strength"]
        expected = qkv.copy()
        for head in range(4):
            first = 32 + 8 * (head // 2)
            mixed = strength[head] * turn @ qkv[first : first + 8]
            expected[8 * head : 8 * head + 8] += mixed
        found = model.mechanisms.project(layer, torch.from_numpy(qkv).float())
        assert np.abs(found.detach().numpy() - expected).max() < 1e-5


def test_the_turn_commutes_with_rotary_positions(models):
    rotary = Rotary(models.spec())
    turn = torch.from_numpy(np.array(exact_matrix(), np.float32))
    keys = torch.randn(1, 1, 32, 8, generator=torch.Generator().manual_seed(0))
    assert (rotary(keys @ turn.T, 0) - rotary(keys, 0) @ turn.T).abs().max() < 1e-5


def test_the_control_s_angles_are_spread_as_those_of_triples_are():
    """Both evenly over a right angle (Lehmer 1900): a quarter of them in each quarter of it."""
    for part in (Reversal(), Reversal(placebo=True)):
        cos, sin = part.cosines_and_sines(2000)
        assert np.abs(cos**2 + sin**2 - 1).max() < 1e-12
        counts, _ = np.histogram(np.arctan2(sin, cos), bins=4, range=(0, np.pi / 2))
        assert np.abs(counts - 500).max() < 75
