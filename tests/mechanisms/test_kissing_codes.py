"""Codes are vectors of kissing configurations, all different and far apart, evenly dealt out."""

import math

import numpy as np
import pytest
import torch

from cllm.errors import SettingsError
from cllm.model.lexicon import Lexicon
from cllm.model.mechanisms.choose import choose, with_mechanisms
from cllm.model.mechanisms.kissing_codes import KissingCodes, golden_step
from cllm.model.spec import ModelSpec


def lexicon_of(count: int) -> Lexicon:
    return Lexicon(np.arange(1, count + 1, dtype=np.int32))


def spec_of(count: int) -> ModelSpec:
    return ModelSpec(count, 16, 1, 2, 2, 8, 24, 8)


def test_e8_codes_are_pairs_of_roots():
    codes = KissingCodes().codes(lexicon_of(57_600))
    assert codes.shape == (57_600, 16)
    assert len(np.unique(codes.round(6), axis=0)) == 57_600
    assert np.allclose(np.square(codes).mean(1), 1)
    for half in (codes[:, :8], codes[:, 8:]):
        roots = np.unique(half.round(6), axis=0)
        assert len(roots) == 240
        # Angles between roots of E8 are 0, 60, 90, 120 and 180 degrees (Conway and Sloane).
        cosines = np.unique((roots @ roots.T / 8).round(6))
        assert cosines.tolist() == [-1, -0.5, 0, 0.5, 1]


def test_leech_codes_are_minimal_vectors_of_the_leech_lattice():
    codes = KissingCodes(lattice="leech").codes(lexicon_of(196_560))
    assert codes.shape == (196_560, 24)
    assert np.allclose(np.square(codes).sum(1), 24)
    cosines = codes[:40] @ codes.T / 24
    # Each minimal vector has 1, 4600, 47104, 93150, 47104, 4600 and 1 at these angles.
    found, counts = np.unique(cosines.round(6), return_counts=True)
    assert found.tolist() == [-1, -0.5, -0.25, 0, 0.25, 0.5, 1]
    assert (counts / 40).tolist() == [1, 4600, 47104, 93150, 47104, 4600, 1]


def test_the_first_codes_are_spread_evenly():
    """Whatever the vocabulary's size, each root is used about as often as any other."""
    roots = np.unique(KissingCodes().codes(lexicon_of(57_600))[:, :8].round(6), axis=0)
    for count in (2_400, 8_000):
        codes = KissingCodes().codes(lexicon_of(count))
        for half in (codes[:, :8], codes[:, 8:]):
            uses = (half.round(6)[:, None] == roots).all(2).sum(0)
            assert uses.sum() == count
            # Drawn at random the spread would be about √(count/240).
            assert uses.std() < math.sqrt(count / 240) / 2


@pytest.mark.parametrize("count", [1, 2, 6, 7, 64, 57_600, 196_560])
def test_the_golden_step_is_the_nearest_that_visits_every_place(count):
    step, aim = golden_step(count), count * (3 - math.sqrt(5)) / 2
    assert math.gcd(step, count) == 1
    nearer = range(max(1, math.ceil(aim - abs(step - aim))), step)
    assert all(math.gcd(other, count) > 1 for other in nearer)


def test_the_control_has_codes_of_the_same_length_in_other_directions():
    for lattice in ("e8", "leech"):
        control = KissingCodes(lattice=lattice, placebo=True).codes(lexicon_of(500))
        assert np.allclose(np.square(control).mean(1), 1)
        cosines = (control @ control.T)[np.triu_indices(500, 1)] / control.shape[1]
        assert len(np.unique(cosines.round(3))) > 500


def test_a_vocabulary_with_more_tokens_than_codes_is_refused():
    for lattice, hint in (("e8", "Choose leech."), ("leech", "Choose a smaller vocabulary.")):
        count = {"e8": 57_601, "leech": 196_561}[lattice]
        chosen = choose([f"kissing_codes.lattice={lattice}"])
        with pytest.raises(SettingsError, match="codes for") as refused:
            with_mechanisms(spec_of(count), chosen, lexicon_of(count))
        assert refused.value.hint == hint


def test_a_whole_table_is_made_from_the_codes(models):
    spec = models.spec(["kissing_codes.whole=true"])
    model = models.stirred(spec)
    weights = model.weights()
    assert "embedding.weight" not in weights
    assert models.spec().num_parameters - spec.num_parameters == 64 * 16 - 16 * 16 - 16
    codes = KissingCodes().codes(models.lexicon)
    up, offset = (weights[f"mechanisms.kissing_codes.{name}"] for name in ("up", "offset"))
    table = model.mechanisms.table(None).detach().numpy()
    assert np.allclose(table, offset + codes @ up.T, atol=1e-5)


def uniformity(table: np.ndarray) -> float:
    part = KissingCodes(uniformity=0.5)
    targets = torch.tensor([3, -1, 0, 5])
    logits = torch.zeros(4, len(table), dtype=torch.float64)
    # For three targets, half of it each.
    return float(part.loss(logits, targets, torch.from_numpy(table), 0.3, {})) / 1.5


def test_uniformity_is_the_mean_over_pairs_in_a_log():
    # Six points ±axis: each has one opposite (‖·‖² = 4) and four at right angles (2).
    octahedron = np.concatenate([np.eye(3), -np.eye(3)]) * 7.0
    expected = math.log((math.exp(-8) + 4 * math.exp(-4)) / 5)
    assert uniformity(octahedron) == pytest.approx(expected, abs=1e-12)
    # All in one place is the worst there is.
    assert uniformity(np.ones((10, 3))) == pytest.approx(0, abs=1e-12)


def test_uniformity_is_read_off_another_sample_as_the_run_goes_on():
    part = KissingCodes(uniformity=1.0)
    table = torch.randn(5_000, 4, generator=torch.Generator().manual_seed(0))
    table.requires_grad_()
    seen = []
    for progress in (0.1, 0.2):
        loss = part.loss(torch.zeros(1, 5_000), torch.tensor([1]), table, progress, {})
        [gradient] = torch.autograd.grad(loss, table)
        seen.append(set(gradient.abs().sum(1).nonzero().flatten().tolist()))
    assert [len(rows) for rows in seen] == [256, 256]
    assert seen[0] != seen[1]
