"""The loss over classes and over common divisors, against sums of probabilities in numpy."""

import math

import numpy as np
import pytest
import torch

from cllm.model.lexicon import Lexicon
from cllm.model.mechanisms.root_loss import RootLoss


def loss_of(part: RootLoss, lexicon: Lexicon, logits, targets, progress=0.0) -> float:
    p = {name: torch.from_numpy(value) for name, value in part.fixed(None, lexicon).items()}
    table = torch.zeros(lexicon.vocab_size, 1)
    return float(part.loss(torch.tensor(logits), torch.tensor(targets), table, progress, p))


def probabilities(logits) -> np.ndarray:
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)


def draws(models, count=9):
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (count, 64))
    targets = random.integers(0, 64, count)
    targets[2] = -1
    return logits, targets


@pytest.mark.parametrize("kind", ["root", "frequency"])
def test_a_class_has_the_probability_of_its_tokens(models, kind):
    logits, targets = draws(models)
    lexicon = models.lexicon
    ranks = lexicon.ranks.tolist()
    classes = lexicon.roots if kind == "root" else [math.floor(math.log2(n)) for n in ranks]
    expected = -sum(
        math.log(sum(row[w] for w in range(64) if classes[w] == classes[target]))
        for row, target in zip(probabilities(logits), targets, strict=True)
        if target >= 0
    )
    found = loss_of(RootLoss(kind=kind), lexicon, logits, targets)
    assert found == pytest.approx(0.1 * expected, rel=1e-9)
    assert RootLoss(kind=kind).needs == ({"roots"} if kind == "root" else {"ranks"})


def test_smoothing_is_by_the_gcd_of_ranks(models):
    logits, targets = draws(models)
    ranks = models.lexicon.ranks
    kernel = np.gcd.outer(ranks, ranks).astype(float)
    smooth = kernel / kernel.sum(1, keepdims=True)
    likely = np.log(probabilities(logits))
    expected = -sum(
        smooth[target] @ row for row, target in zip(likely, targets, strict=True) if target >= 0
    )
    part = RootLoss(kind="gcd", divisors=64, weight=0.3)
    found = loss_of(part, models.lexicon, logits, targets)
    assert found == pytest.approx(0.3 * expected, rel=1e-6)


def test_few_divisors_leave_a_kernel_that_begins_with_even_smoothing(models):
    logits, targets = draws(models)
    likely = np.log(probabilities(logits))[targets >= 0]
    # φ(1) = 1 for every pair: the usual label smoothing (Szegedy 2016).
    found = loss_of(RootLoss(kind="gcd", divisors=1), models.lexicon, logits, targets)
    assert found == pytest.approx(-0.1 * likely.mean(1).sum(), rel=1e-6)
    # With 2: even ranks have one more in common, φ(2) = 1.
    factors = RootLoss(kind="gcd", divisors=2).fixed(None, models.lexicon)
    smooth = factors["smoothing"] @ factors["divided"].T
    is_even = models.lexicon.ranks % 2 == 0
    assert np.allclose(smooth.sum(1), 1)
    assert np.allclose(smooth[is_even][:, is_even], 2 / 96)
    assert np.allclose(smooth[is_even][:, ~is_even], 1 / 96)
    assert np.allclose(smooth[~is_even], 1 / 64)


def test_nothing_overflows_where_a_class_is_as_good_as_impossible(models):
    logits = np.full((1, 64), 500.0)
    family = models.lexicon.roots == models.lexicon.roots[5]
    logits[0, family] = -500.0
    found = loss_of(RootLoss(weight=1.0), models.lexicon, logits, [5])
    rest, own = 64 - family.sum(), family.sum()
    assert found == pytest.approx(1000 + math.log(rest / own), rel=1e-12)


def test_the_weight_holds_for_seven_tenths_and_falls_to_nothing():
    part = RootLoss(weight=0.1)
    weights = [part.strength(share) for share in (0.0, 0.5, 0.7, 0.85, 1.0)]
    assert weights == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.0])


def test_the_loss_is_gone_at_the_end(models):
    logits, targets = draws(models)
    assert loss_of(RootLoss(), models.lexicon, logits, targets, progress=1.0) == 0.0


def test_the_control_has_classes_of_the_same_sizes(models):
    real, control = (RootLoss(placebo=p).classes(models.lexicon) for p in (False, True))
    assert np.array_equal(np.bincount(real), np.bincount(control))
    assert not np.array_equal(real, control)


def test_the_reported_loss_stays_the_plain_one(models):
    ids = models.ids()
    plain = models.begun(models.spec()).loss(ids[:, :-1], ids[:, 1:], 0.5)
    nats, total = models.begun(models.spec(["root_loss"])).loss(ids[:, :-1], ids[:, 1:], 0.5)
    assert nats.item() == pytest.approx(plain[0].item(), rel=1e-6)
    assert total.item() > nats.item()
