"""Where tokens stand at first, and what their places add."""

import math

import numpy as np

from cllm.model.mechanisms.coordinates import Coordinates


def test_the_token_of_rank_n_is_the_nth_point_of_the_golden_spiral(models):
    points, ranks = Coordinates().points(models.lexicon), models.lexicon.ranks
    golden_angle = math.pi * (3 - math.sqrt(5))
    primes = [n for n in range(2, 320) if all(n % d for d in range(2, n))][:64]
    assert primes[-1] == 311
    for token, rank in enumerate(ranks):
        radius, angle = math.sqrt(rank / 64), golden_angle * rank
        expected = (
            radius * math.cos(angle),
            radius * math.sin(angle),
            math.log(primes[rank - 1]) / math.log(311),
        )
        assert np.allclose(points[token], expected, atol=1e-6)
    assert np.abs(points).max() <= 1


def test_the_control_deals_the_same_points_out_otherwise(models):
    real, control = (Coordinates(placebo=p).points(models.lexicon) for p in (False, True))
    assert not np.array_equal(real, control)
    assert np.array_equal(real[np.lexsort(real.T)], control[np.lexsort(control.T)])


def test_a_model_begins_there_and_the_table_gets_the_projected_places(models):
    spec = models.spec(["coordinates"])
    begun = models.begun(spec).weights()["mechanisms.coordinates.points"]
    assert np.array_equal(begun, Coordinates().points(models.lexicon))
    model = models.stirred(spec)
    weights = {name.rpartition(".")[2]: value for name, value in model.weights().items()}
    expected = weights["strength"][0] * weights["points"] @ weights["up"].T
    plain = model.embedding.weight
    added = (model.mechanisms.table(plain) - plain).detach().numpy()
    assert np.allclose(added, expected, atol=1e-6)
