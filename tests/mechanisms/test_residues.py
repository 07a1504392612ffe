"""Codes by the Chinese remainder theorem, and the tables they point into."""

import math

import numpy as np
import pytest

from cllm.model.mechanisms.residues import Residues, coprime_pair


@pytest.mark.parametrize("size", [*range(1, 300), 8_192, 32_000, 151_936])
def test_the_pair_is_coprime_and_its_sum_the_least(size):
    p, q = coprime_pair(size)
    assert math.gcd(p, q) == 1
    assert p * q >= size
    # Every pair of a smaller sum is too small or has a common factor.
    less = ((a, total - a) for total in range(2, p + q) for a in range(1, total))
    if size < 300:
        assert not any(a * b >= size and math.gcd(a, b) == 1 for a, b in less)
    assert p + q <= 2 * math.sqrt(size) + 8


def test_no_two_tokens_share_both_rows_and_the_control_lets_some():
    for size in (64, 1_000, 8_192):
        p, q = coprime_pair(size)
        rows = Residues().rows(size)
        assert rows[0].max() < p and rows[1].max() < q
        assert len(np.unique(rows, axis=1).T) == size
        assert len(np.unique(Residues(placebo=True).rows(size), axis=1).T) < size


def test_the_table_is_the_product_or_the_sum_of_two_rows(models):
    for combine, operation in (("product", np.multiply), ("sum", np.add)):
        spec = models.spec([f"residues.combine={combine}"])
        model = models.stirred(spec)
        first, second = (
            model.weights()[f"mechanisms.residues.{name}"] for name in ("first", "second")
        )
        # 9 · 8 is the least coprime pair for 64 tokens.
        assert (len(first), len(second)) == (9, 8)
        table = model.mechanisms.table(None).detach().numpy()
        for token in range(64):
            expected = operation(first[token % 9], second[token % 8])
            assert np.array_equal(table[token], expected)


def test_it_has_some_two_roots_of_the_vocabulary_in_rows(models):
    plain, spec = models.spec(), models.spec(["residues"])
    assert plain.num_parameters - spec.num_parameters == (64 - 9 - 8) * 16
