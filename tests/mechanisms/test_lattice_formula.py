"""The formula's features by token, against the formula worked out by hand."""

import math

import numpy as np

from cllm.model.mechanisms.lattice_formula import LatticeFormula
from cllm.numbers.lattice_formula import COLUMNS


def test_features_are_the_formulas_of_the_tokens_rank(models):
    features, ranks = LatticeFormula().features(models.lexicon), models.lexicon.ranks
    assert features.shape == (64, 17)
    assert np.allclose(features.mean(0), 0, atol=1e-6)
    assert np.allclose(features.std(0), 1, atol=1e-5)
    golden = (1 + math.sqrt(5)) / 2
    primes = [n for n in range(2, 320) if all(n % d for d in range(2, n))][:64]
    by_hand = {
        "wave_3": [math.cos(3 * 2 * math.pi * n / golden**2) for n in range(1, 65)],
        "wave_59": [math.cos(59 * 2 * math.pi * n / golden**2) for n in range(1, 65)],
        "twist": [(-1) ** (n // 12) for n in range(1, 65)],
        "density": [math.log2(n / p) for n, p in zip(range(1, 65), primes, strict=True)],
    }
    for name, values in by_hand.items():
        column = np.array(values)
        expected = ((column - column.mean()) / column.std())[ranks - 1]
        assert np.allclose(features[:, COLUMNS.index(name)], expected, atol=1e-5)


def test_no_two_ranks_have_the_same_features(models):
    """Unlike those of θ = nπ/6, of which there are twelve."""
    features = LatticeFormula().features(models.lexicon)
    assert len(np.unique(features.round(4), axis=0)) == 64


def test_the_control_has_the_same_numbers_in_every_column(models):
    real = LatticeFormula().features(models.lexicon)
    control = LatticeFormula(placebo=True).features(models.lexicon)
    assert np.array_equal(np.sort(real, 0), np.sort(control, 0))
    correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(real.T, control.T, strict=True)]
    assert np.abs(correlation).mean() < 0.3


def test_the_table_gets_the_projected_features(models):
    model = models.stirred(models.spec(["lattice_formula"]))
    weights = model.weights()
    plain, up = weights["embedding.weight"], weights["mechanisms.lattice_formula.up"]
    strength = weights["mechanisms.lattice_formula.strength"][0]
    expected = plain + strength * LatticeFormula().features(models.lexicon) @ up.T
    found = model.mechanisms.table(model.embedding.weight).detach().numpy()
    assert np.allclose(found, expected, atol=1e-5)
