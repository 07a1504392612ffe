"""Theta series: published terms, and vectors that are really counted."""

import pytest

from cllm.errors import InputError
from cllm.numbers.enumeration import count_by_norm
from cllm.numbers.lattices import named_lattice
from cllm.numbers.leech import count_leech_by_norm
from cllm.numbers.theta import ramanujan_tau, theta_series

# OEIS A004016, A004011, A004009, A008408.
PUBLISHED = {
    "A2": [1, 6, 0, 6, 6, 0, 0, 12, 0, 6, 0, 0, 6, 12],
    "D4": [1, 24, 24, 96, 24, 144, 96, 192, 24, 312],
    "E8": [1, 240, 2160, 6720, 17520, 30240, 60480, 82560, 140400],
    "Leech": [1, 0, 196560, 16773120, 398034000, 4629381120, 34417656000, 187489935360],
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_formulas_give_the_published_terms(name):
    terms = PUBLISHED[name]
    assert theta_series(name, len(terms)) == terms
    assert theta_series(name.lower(), 1) == [1]


# Norms in the scale of the basis: E8's is doubled.
@pytest.mark.parametrize(("name", "terms", "square"), [("A2", 14, 1), ("D4", 6, 1), ("E8", 4, 4)])
def test_as_many_vectors_are_found(name, terms, square):
    counts = count_by_norm(named_lattice(name).basis, 2 * (terms - 1) * square)
    found = [counts.get(2 * m * square, 0) for m in range(terms)]
    assert found == PUBLISHED[name][:terms]
    assert sum(counts.values()) == sum(found)


def test_the_leech_lattice_s_first_shell_is_found_vector_by_vector():
    counts = count_by_norm(named_lattice("Leech").basis, 32)
    assert counts == {0: 1, 32: 196_560}


def test_the_golay_code_s_weights_count_the_leech_lattice_s_shells():
    counts = count_leech_by_norm(24)
    assert [counts[norm] for norm in range(0, 16, 2)] == PUBLISHED["Leech"]
    # And on, by the formula with Ramanujan's τ, which knows nothing of the code.
    assert list(counts.values()) == theta_series("Leech", 13)


def test_tau_is_as_ramanujan_tabulated_it():
    known = [1, -24, 252, -1472, 4830, -6048, -16744, 84480, -113643, -115920]
    assert ramanujan_tau(10) == known


def test_other_lattices_and_no_terms_are_refused():
    with pytest.raises(InputError, match="'E7'"):
        theta_series("E7", 3)
    with pytest.raises(InputError, match="num_terms"):
        theta_series("E8", 0)
