"""The n-gram memory: its rows by hand, its collisions by the Chinese remainder theorem."""

import itertools
import math

import numpy as np
import pytest
import torch
from sympy import isprime

from cllm.errors import SettingsError
from cllm.model.mechanisms.choose import choose, with_mechanisms
from cllm.model.reading import Reading
from cllm.model.spec import ModelSpec
from cllm.model.transformer import Transformer

SPEC = ModelSpec(50, 16, 1, 2, 2, 8, 16, 32, eos_id=0)


def make(*items, spec=SPEC):
    return with_mechanisms(spec, choose(["ngram", *items]), None)


def rows_by_hand(ids, moduli, orders, vocab_size, eos_id):
    """Python's own integers, position by position."""
    found = []
    for t in range(len(ids)):
        row, start = [], 0
        for modulus, order in zip(moduli, orders, strict=True):
            z, is_known = 0, True
            for k in range(order):
                is_known = is_known and t >= k and (k == 0 or ids[t - k] != eos_id)
                z += (ids[t - k] if is_known else eos_id) * vocab_size**k
            row.append(start + z % modulus)
            start += modulus
        found.append(row)
    return found


def test_rows_are_those_of_the_definition_across_documents():
    spec = make("ngram.orders=2,3", "ngram.heads=2", "ngram.rows=97")
    [ngram] = spec.mechanisms
    model = Transformer(spec)
    ids = torch.randint(0, 50, (2, 32), generator=torch.Generator().manual_seed(0))
    ids[0, 5] = ids[0, 6] = ids[1, 20] = 0
    rows = ngram.rows_of(Reading(ids, None, spec.eos_id), model.mechanisms.tensors(ngram))
    for sequence, found in zip(ids.tolist(), rows.tolist(), strict=True):
        assert found == rows_by_hand(sequence, ngram.moduli, [2, 2, 3, 3], 50, 0)
    counts = ngram.row_counts(spec, [np.array(row, np.uint32) for row in ids.tolist()])
    assert (counts == np.bincount(rows.flatten().numpy(), minlength=sum(ngram.moduli))).all()


def test_big_vocabularies_keep_exact_numbers():
    spec = make("ngram.orders=3", "ngram.rows=1000", spec=ModelSpec(2**20, 8, 1, 1, 1, 8, 8, 8))
    [ngram] = spec.mechanisms
    ids = torch.tensor([[2**20 - 1, 2**20 - 2, 2**20 - 3, 5]])
    p = {name: torch.from_numpy(value) for name, value in ngram.fixed(spec, None).items()}
    rows = ngram.rows_of(Reading(ids, None, 0), p)
    orders = [3] * ngram.heads
    assert rows[0].tolist() == rows_by_hand(ids[0].tolist(), ngram.moduli, orders, 2**20, 0)


def test_the_control_hashes_into_powers_of_two():
    spec = make("ngram.placebo=true", "ngram.orders=2,3", "ngram.heads=2", "ngram.rows=64")
    [ngram] = spec.mechanisms
    assert ngram.moduli == (64,) * 4
    assert all(number % 2 == 1 and number > 1 for number in ngram.multipliers)
    ids = torch.randint(1, 50, (1, 12), generator=torch.Generator().manual_seed(0))
    p = {name: torch.from_numpy(value) for name, value in ngram.fixed(spec, None).items()}
    rows = ngram.rows_of(Reading(ids, None, 0), p)
    for t in range(2, 12):
        for table, order in enumerate((2, 2, 3, 3)):
            z = sum(int(ids[0, t - k]) * 50**k for k in range(order))
            expected = z * ngram.multipliers[table] % 2**64 % 64 + 64 * table
            assert int(rows[0, t, table]) == expected


def test_moduli_are_different_primes_of_about_the_size_asked_for():
    [ngram] = make("ngram.orders=2,3", "ngram.heads=3", "ngram.rows=500").mechanisms
    assert len(set(ngram.moduli)) == 6
    assert all(isprime(modulus) and 500 <= modulus <= 560 for modulus in ngram.moduli)


def test_no_two_bigrams_meet_in_all_heads_when_the_product_reaches_their_number():
    spec = make("ngram.orders=2", "ngram.heads=2", "ngram.rows=50")
    [ngram] = spec.mechanisms
    assert math.prod(ngram.moduli) >= 50**2
    pairs = {
        tuple(z % modulus for modulus in ngram.moduli)
        for z in (a + 50 * b for a, b in itertools.product(range(50), repeat=2))
    }
    assert len(pairs) == 50**2


def test_rows_that_are_met_seldom_are_held_back_only_when_a_text_is_read_again():
    spec = make("ngram.orders=2", "ngram.heads=1", "ngram.rows=50", "ngram.prior=10")
    [ngram] = spec.mechanisms
    text = np.array([3, 4] * 60 + [0, 7, 8], np.uint32)
    once = ngram.first_squares(spec, [text], 1.0)["mechanisms.ngram.table"]
    assert (once == 10).all()
    often = ngram.first_squares(spec, [text], 11.0)["mechanisms.ngram.table"]
    [modulus] = ngram.moduli
    frequent, rare = (4 + 50 * 3) % modulus, (8 + 50 * 7) % modulus
    assert often[frequent] == pytest.approx(10 * (1 + (ngram.occurrences * 10 / 60) ** 2))
    assert often[rare] == pytest.approx(10 * (1 + (ngram.occurrences * 10) ** 2))


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (["ngram.orders=1,2"], "from 2 on"),
        (["ngram.orders=2,2"], "different"),
        (["ngram.orders=2,12"], "12 tokens of 50 kinds"),
    ],
)
def test_lengths_that_can_not_be_are_refused(items, words):
    with pytest.raises(SettingsError, match=words):
        make(*items)
