"""Kinship of tokens, against gcds of whole numbers, distances and cosines."""

import math

import numpy as np
import pytest
import torch

from cllm.errors import SettingsError
from cllm.model.lexicon import Lexicon
from cllm.model.mechanisms.choose import choose, with_mechanisms
from cllm.model.reading import Reading


def code_of(lexicon: Lexicon, token: int) -> int:
    """The number that stands for a token: its primes multiplied out."""
    primes = [lexicon.affix_primes[affix] for affix in lexicon.affixes[token]]
    return int(lexicon.root_primes[lexicon.roots[token]]) * math.prod(int(p) for p in primes)


def bias_of(models, items: tuple[str, ...]):
    """Ids, weights, and the bias of layer 1."""
    model = models.stirred(models.spec(items))
    ids = models.ids()
    bias = model.mechanisms.bias(1, torch.zeros(2, 32, 16), Reading(ids, None, 0))
    return ids.numpy(), model.weights(), bias.detach().numpy()


def test_the_root_term_is_the_log_of_the_gcd_of_their_numbers(models):
    ids, p, found = bias_of(models, ("resonance.terms=root",))
    repeated = [token for token, row in enumerate(models.lexicon.affixes) if row[0] == row[1] > 0]
    # Squares of affix primes must be among what is tried.
    assert np.isin(ids, repeated).any()
    [strength] = p["mechanisms.resonance.1.strength"]
    for row, tokens in enumerate(ids):
        codes = [code_of(models.lexicon, token) for token in tokens]
        logs = np.array([[math.log(math.gcd(a, b)) for b in codes] for a in codes])
        assert np.linalg.eigvalsh(logs).min() > -1e-9
        assert np.abs(found[row] - strength[:, None, None] * logs).max() < 1e-5


def test_the_phase_term_is_the_cosine_of_their_difference(models):
    ids, p, found = bias_of(models, ("resonance.terms=phase",))
    [strength], phases = p["mechanisms.resonance.1.strength"], p["mechanisms.resonance.phases"]
    angles = phases[ids].astype(np.float64)
    cosines = np.cos(angles[:, :, None] - angles[:, None, :])
    assert np.abs(found - strength[:, None, None] * cosines[:, None]).max() < 1e-5


def test_the_lattice_term_is_the_squared_distance_but_for_the_query_s_share(models):
    ids, p, found = bias_of(models, ("resonance.terms=lattice",))
    [strength] = p["mechanisms.resonance.1.strength"]
    points = p["mechanisms.resonance.coordinates"][ids].astype(np.float64)
    squares = ((points[:, :, None] - points[:, None, :]) ** 2).sum(-1)
    without = -squares + (points**2).sum(-1)[:, :, None]
    assert np.abs(found - strength[:, None, None] * without[:, None]).max() < 1e-5


def test_terms_add_up(models):
    _, p, found = bias_of(models, ("resonance",))
    assert p["mechanisms.resonance.1.strength"].shape == (3, 4)
    # A sum over rows is what remains of three kernels with strengths of their own.
    total = sum(
        bias_of_one(models, p, name, row) for row, name in enumerate(("root", "lattice", "phase"))
    )
    assert np.abs(found - total).max() < 1e-5


def bias_of_one(models, p, term: str, row: int) -> np.ndarray:
    """One term's bias with its row of the strengths of all three."""
    spec = models.spec((f"resonance.terms={term}",))
    names = spec.parameters()
    weights = {name: value for name, value in p.items() if name in names}
    for layer in (0, 1):
        name = f"mechanisms.resonance.{layer}.strength"
        weights[name] = p[name][row : row + 1]
    model = models.built(spec, weights)
    bias = model.mechanisms.bias(1, torch.zeros(2, 32, 16), Reading(models.ids(), None, 0))
    return bias.detach().numpy()


def test_tokens_begin_on_the_golden_spiral(models):
    p = models.begun(models.spec(("resonance",))).weights()
    golden = math.pi * (3 - math.sqrt(5))
    primes = [n for n in range(2, 400) if all(n % d for d in range(2, n))]
    for token, rank in enumerate(models.lexicon.ranks):
        x, y, z = p["mechanisms.resonance.coordinates"][token]
        radius = math.sqrt(rank / 64)
        assert abs(complex(x, y) - radius * np.exp(1j * golden * rank)) < 1e-5
        assert abs(z - math.log(primes[rank - 1]) / math.log(311)) < 1e-6
        turn = np.exp(1j * p["mechanisms.resonance.phases"][token])
        assert abs(turn - np.exp(1j * golden * rank)) < 1e-5


def test_the_control_has_the_kin_of_others(models):
    items = ("resonance",)
    real = models.begun(models.spec(items)).weights()
    control = models.begun(models.spec((*items, "resonance.placebo=true"))).weights()
    name = "mechanisms.resonance.coordinates"
    assert not np.array_equal(real[name], control[name])
    assert sorted(map(tuple, real[name])) == sorted(map(tuple, control[name]))


def test_a_term_whose_source_is_absent_is_absent(models):
    spec = models.spec()
    without = Lexicon(models.lexicon.ranks)
    [part] = with_mechanisms(spec, choose(["resonance"]), without).mechanisms
    assert part.terms == ("lattice", "phase")
    assert part.needs == {"ranks"}
    [part] = models.spec(("resonance",)).mechanisms
    assert part.terms == ("root", "lattice", "phase")
    assert part.needs == {"ranks", "roots"}
    assert choose(["resonance.terms=root"])[0].needs == {"ranks", "roots"}


def test_terms_must_differ():
    with pytest.raises(SettingsError, match=r"resonance\.terms.*different"):
        choose(["resonance.terms=phase,phase"])


def test_alone_it_leaves_queries_and_keys_out(models):
    spec, ids = models.spec(("resonance.only=true",)), models.ids()
    weights = models.stirred(spec).weights()
    changed = {name: value.copy() for name, value in weights.items()}
    for layer in (0, 1):
        # All but the 16 rows of values.
        changed[f"blocks.{layer}.attention.qkv.weight"][:-16] *= -2
    with torch.no_grad():
        one, two = (models.built(spec, each)(ids) for each in (weights, changed))
        assert torch.equal(one, two)
        changed["mechanisms.resonance.1.strength"] *= -2
        assert not torch.equal(one, models.built(spec, changed)(ids))
