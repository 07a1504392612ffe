"""What a word's table row is made of, word by word, against loops in numpy."""

import math
from dataclasses import replace

import numpy as np
import pytest

from cllm.errors import SettingsError
from cllm.model.mechanisms.roots import Roots


@pytest.fixture(scope="module")
def models(models):
    """Those of the suite, but every fourth word has no affix."""
    found = type(models)()
    affixes = found.lexicon.affixes.copy()
    affixes[::4] = 0
    found.lexicon = replace(found.lexicon, affixes=affixes)
    return found


def table_of(model) -> np.ndarray:
    plain = None if model.embedding is None else model.embedding.weight
    return model.mechanisms.table(plain).detach().numpy()


def own(model) -> dict[str, np.ndarray]:
    prefix = "mechanisms.roots."
    weights = model.weights().items()
    return {name.removeprefix(prefix): v for name, v in weights if name.startswith(prefix)}


def test_a_row_is_its_own_and_its_root_and_its_affixes(models):
    model = models.stirred(models.spec(["roots"]))
    plain, p, lexicon = model.weights()["embedding.weight"], own(model), models.lexicon
    for word, row in enumerate(table_of(model)):
        shared = p["roots"][lexicon.roots[word]].copy()
        for affix in lexicon.affixes[word]:
            if affix:
                shared += p["affixes"][affix - 1]
        assert np.allclose(row, plain[word] + p["strength"][0] * shared, atol=1e-5)


def test_words_move_together_exactly_where_their_codes_share_a_prime(models):
    """The derivative of one row by the parameters another is made of is 0 iff the gcd is 1."""
    spec, lexicon = models.spec(["roots.own=none"]), models.lexicon
    codes = [
        math.prod([lexicon.root_primes[root], *lexicon.affix_primes[affixes]])
        for root, affixes in zip(lexicon.roots, lexicon.affixes, strict=True)
    ]
    model = models.stirred(spec)
    before, p = table_of(model), own(model)
    for word in (0, 1, 2, 17):
        weights = model.weights()
        weights["mechanisms.roots.roots"][lexicon.roots[word]] += 1.0
        for affix in lexicon.affixes[word]:
            if affix:
                weights["mechanisms.roots.affixes"][affix - 1] += 1.0
        moved = np.abs(table_of(models.built(spec, weights)) - before).max(1) > 1e-3
        related = [math.gcd(int(codes[word]), int(code)) > 1 for code in codes]
        assert moved.tolist() == related
    assert "embedding.weight" not in model.weights()
    assert set(p) == {"strength", "roots", "affixes"}


def test_affixes_turn_the_root_and_turns_add_up(models):
    model = models.stirred(models.spec(["roots.rotation=true"]))
    plain, p, lexicon = model.weights()["embedding.weight"], own(model), models.lexicon
    assert set(p) == {"strength", "roots", "angles"}
    for word, row in enumerate(table_of(model)):
        angles = sum((p["angles"][a - 1] for a in lexicon.affixes[word] if a), np.zeros(8))
        root = p["roots"][lexicon.roots[word]]
        # A pair as a complex number, turned.
        turned = (root[:8] + 1j * root[8:]) * np.exp(1j * angles)
        expected = np.concatenate([turned.real, turned.imag])
        assert np.allclose(row, plain[word] + p["strength"][0] * expected, atol=1e-5)
        assert np.linalg.norm(expected) == pytest.approx(np.linalg.norm(root))


def test_binding_adds_the_root_with_signs_that_undo_themselves(models):
    spec = models.spec(["roots.binding=true"])
    signs = spec.mechanisms[0].fixed(spec, models.lexicon)["signs"].astype(int)
    lexicon, model = models.lexicon, models.stirred(spec)
    bare = ~(lexicon.affixes > 0).any(1)
    assert bare.any()
    assert (signs[bare] == 0).all()
    assert set(np.unique(signs[~bare])) == {-1, 1}
    of_affix = {}
    for word in range(64):
        present = sorted(affix for affix in lexicon.affixes[word] if affix)
        if len(present) == 1:
            of_affix.setdefault(present[0], signs[word])
            assert np.array_equal(signs[word], of_affix[present[0]])
        if len(present) == 2 and set(present) <= set(of_affix):
            assert np.array_equal(signs[word], of_affix[present[0]] * of_affix[present[1]])
    assert len(of_affix) >= 4
    weights = model.weights()
    strength = weights["mechanisms.roots.binding"][0]
    without = models.built(spec, {**weights, "mechanisms.roots.binding": np.zeros(1, np.float32)})
    added = table_of(model) - table_of(without)
    expected = strength * weights["mechanisms.roots.roots"][lexicon.roots] * signs
    assert np.allclose(added, expected, atol=1e-5)


def test_only_frequent_words_keep_a_vector_of_their_own(models):
    lexicon = models.lexicon
    spec = models.spec(["roots.own=frequent", "roots.frequent=10", "roots.rank=3"])
    model = models.stirred(spec)
    p = own(model)
    assert (p["own"].shape, p["coordinates"].shape, p["basis"].shape) == (
        (10, 16),
        (54, 3),
        (3, 16),
    )
    shared = p["roots"][lexicon.roots].copy()
    for word in range(64):
        shared[word] += sum(p["affixes"][a - 1] for a in lexicon.affixes[word] if a)
    rest = table_of(model) - p["strength"][0] * shared
    for word, rank in enumerate(lexicon.ranks):
        low = p["coordinates"][rank - 11] @ p["basis"] if rank > 10 else None
        assert np.allclose(rest[word], p["own"][rank - 1] if rank <= 10 else low, atol=1e-5)


def test_what_compression_saves(models):
    plain = models.spec().num_parameters
    # 20 roots, 5 affixes, 1 strength instead of 64 rows of 16.
    small = models.spec(["roots.own=none"]).num_parameters
    assert plain - small == (64 - 20 - 5) * 16 - 1
    some = models.spec(["roots.own=frequent"]).num_parameters
    # An eighth of 64 tokens.
    assert some - small == 8 * 16


def test_mobius_inversion_gives_the_plain_table_back(models):
    spec, lexicon = models.spec(["roots.mobius_start=true"]), models.lexicon
    plain = models.begun(models.spec()).weights()["embedding.weight"]
    model = models.begun(spec)
    assert np.allclose(table_of(model), plain, atol=1e-6)
    p, left = own(model), model.weights()["embedding.weight"]
    assert p["strength"][0] == 1
    assert not p["affixes"].any()
    for root in range(20):
        family = np.flatnonzero(lexicon.roots == root)
        bare = [w for w in family if not lexicon.affixes[w].any()]
        first = min(bare or family, key=lambda w: lexicon.ranks[w])
        # f(p) = e(p), and f(p·q) = e(p·q) − e(p), as e(q) = e(1) = 0.
        assert np.array_equal(p["roots"][root], plain[first])
        for word in family:
            assert np.allclose(left[word], plain[word] - plain[first], atol=1e-6)


def test_without_own_vectors_a_root_begins_as_its_first_word(models):
    plain = models.begun(models.spec()).weights()["embedding.weight"]
    weights = models.begun(models.spec(["roots.own=none"])).weights()
    rows = {tuple(row) for row in plain.round(6).tolist()}
    assert all(tuple(row) in rows for row in weights["mechanisms.roots.roots"].round(6).tolist())
    assert weights["mechanisms.roots.strength"][0] == 1


def test_the_control_deals_out_as_many_roots_and_affixes(models):
    real, control = (Roots(placebo=p).morphemes(models.lexicon) for p in (False, True))
    pairs = [sorted(zip(r.tolist(), a.tolist(), strict=True)) for r, a in (real, control)]
    assert pairs[0] == pairs[1]
    assert not np.array_equal(real[0], control[0])


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["roots.rank=2"], "every token has a whole vector"),
        (["roots.own=none", "roots.mobius_start=true"], "Möbius inversion"),
        (["roots.own=frequent", "roots.frequent=64"], "only 64 tokens"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(models, items, message):
    with pytest.raises(SettingsError, match=message):
        models.spec(items)
