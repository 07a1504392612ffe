"""Models with mechanisms against their formulas, written out in float64 and differentiated."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cllm.errors import SettingsError
from cllm.model.mechanisms.dampening import Dampening
from cllm.model.mechanisms.gamma import Gamma
from cllm.model.mechanisms.schumann import Schumann
from cllm.model.spec import ModelSpec
from cllm.native import TABLE, Engine, NgramPart, Parts, named_views, parameter_places
from cllm.training.compiled_parts import parts_of, uncompiled

# Of a parameter's gradient: 24 bits and 8 bits of mantissa, through sums of some hundred numbers.
TOLERANCE = {False: 1e-5, True: 1e-1}
SPEC = ModelSpec(23, 36, 2, 4, 2, 10, 50, 40)
NGRAM = NgramPart((2, 3), 2, (11, 13, 17, 19), 8)
ODD = (0x9E3779B97F4A7C15, 3, 2**64 - 1, 0xBF58476D1CE4E5B9)
DECAYS = (0.02, 0.04, 0.08, 0.16)


def noise(rows, width=SPEC.width):
    return np.random.default_rng(rows).standard_normal((rows, width), np.float32)


ALONE = {
    "ngram": Parts(ngram=NGRAM, eos_id=0),
    "ngram with multipliers": Parts(
        ngram=replace(NGRAM, moduli=(16, 8, 32, 16), multipliers=ODD), eos_id=3
    ),
    "dampening": Parts(lags=(1, 2, 3), eos_id=0),
    "dampening far": Parts(lags=(16, 5), eos_id=0),
    "dampening without documents": Parts(lags=(1, 2, 3)),
    "gamma": Parts(has_gamma=True),
    "schumann static": Parts(schumann="static", decays=DECAYS),
    "schumann forget": Parts(schumann="forget"),
    "gamma from noise": Parts(has_gamma=True, eos_id=0, gamma_noise=noise(8)),
    "gamma from noise without documents": Parts(has_gamma=True, gamma_noise=noise(8)),
    "schumann from noise": Parts(schumann="forget", eos_id=0, forget_noise=noise(11)),
}
TOGETHER = {
    "all with forget": Parts(NGRAM, (1, 2, 3), True, "forget", (), 0),
    "all with static": Parts(NGRAM, (1, 2, 3), True, "static", DECAYS, 0),
    "all, gamma from noise": Parts(NGRAM, (1, 2, 3), True, "forget", (), 0, noise(8)),
    "all, schumann from noise": Parts(NGRAM, (1, 2, 3), True, "forget", (), 0, None, noise(8)),
    "all, both from noise": Parts(NGRAM, (1, 2, 3), True, "forget", (), 0, noise(8), noise(11)),
}


def batch_with_documents(draw, spec, parts, rows, length):
    """Ids and targets; documents end in the middle of windows, one of them right after another."""
    ids, targets = draw.batch(spec, rows, length)
    if parts.eos_id is not None:
        ids[:, length // 3] = ids[0, length // 2 :: 7] = ids[-1, :2] = parts.eos_id
    return ids, targets


def gradients_of(engine, spec, parts, batch):
    """Nats, and each parameter's gradient by name."""
    nats = engine.gradient(*batch, weight=1 / int((batch[1] >= 0).sum()))
    found = named_views(spec, engine.gradients, parts)
    if parts.ngram:
        found[TABLE] = engine.table_gradient()
    return nats, found


def check(library, draw, by_formula, spec, parts, sizes, is_bfloat16=False):
    """Nats and gradients against the formula; `sizes` are rows, length and threads."""
    rows, length, threads = sizes
    engine = draw.engine(library, spec, parts, threads, is_bfloat16=is_bfloat16)
    batch = batch_with_documents(draw, spec, parts, rows, length)
    expected = by_formula(spec, parts, engine.parameters, engine.table, batch)
    nats, found = gradients_of(engine, spec, parts, batch)
    tolerance = TOLERANCE[is_bfloat16]
    assert nats == pytest.approx(expected.nats, rel=tolerance)
    assert expected.gradients.keys() == found.keys()
    whole = np.sqrt(sum(np.sum(g**2) for g in expected.gradients.values()))
    rounded = None
    for name, gradient in expected.gradients.items():
        error = np.linalg.norm(found[name] - gradient)
        # What nearly cancels out is as wrong as what it is the sum of.
        if error < tolerance * max(np.linalg.norm(gradient), 0.1 * whole):
            continue
        # A norm over a few numbers takes most of the gradient away, and leaves rounding: then
        # of the order of torch's error in float32.
        arrays = engine.parameters, engine.table
        rounded = rounded or by_formula(spec, parts, *arrays, batch, torch.float32).gradients
        assert not is_bfloat16, name
        assert error < 10 * np.linalg.norm(rounded[name] - gradient), name


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", [*ALONE, *TOGETHER])
def test_gradients_are_those_of_the_formula(library, draw, by_formula, name, threads, tied):
    parts = (ALONE | TOGETHER)[name]
    check(library, draw, by_formula, replace(SPEC, tied=tied), parts, (3, 37, threads))


@pytest.mark.parametrize("name", [*ALONE, *TOGETHER])
def test_in_bfloat16_too(library, draw, by_formula, name):
    if not library.has_bfloat16:
        pytest.skip("this processor has no products of bfloat16")
    parts = (ALONE | TOGETHER)[name]
    check(library, draw, by_formula, SPEC, parts, (3, 37, 2), is_bfloat16=True)


@st.composite
def cases(draw):
    kv_heads, group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    context, vocab_size = draw(st.integers(1, 70)), draw(st.integers(2, 40))
    spec = ModelSpec(
        vocab_size,
        width=draw(st.integers(8, 50)),
        layers=draw(st.integers(1, 2)),
        heads=kv_heads * group,
        kv_heads=kv_heads,
        head_width=2 * draw(st.integers(4, 12)),
        mlp_width=draw(st.integers(1, 60)),
        context=context,
        tied=draw(st.booleans()),
    )
    ngram = None
    if draw(st.booleans()):
        orders = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3, unique=True)))
        heads = draw(st.integers(1, 3))
        moduli = draw(st.tuples(*[st.integers(1, 60)] * (heads * len(orders))))
        ngram = (orders, heads, moduli, draw(st.integers(1, 40)))
    schumann = draw(st.sampled_from([None, "static", "forget"]))
    decays = tuple(0.1 / (h + 1) for h in range(spec.heads)) if schumann == "static" else ()
    lags = tuple(draw(st.lists(st.integers(1, 17), max_size=4)))
    parts = (lags, draw(st.booleans()), schumann, decays, draw(st.integers(0, vocab_size - 1)))
    # Of gamma's and the forget gates' noise.
    noise_rows = draw(st.tuples(*[st.none() | st.integers(1, 80)] * 2))
    sizes = draw(st.integers(1, 5)), draw(st.integers(1, context)), draw(st.integers(1, 3))
    return spec, ngram, parts, noise_rows, sizes


# More rows than are taken through the products together, and fewer than the farthest tap in the
# last of them.
@example(
    (
        ModelSpec(9, 12, 1, 2, 1, 4, 8, 400),
        ((2, 3), 1, (11, 13), 8),
        ((1, 16), True, "forget", (), 0),
        (256, None),
        (4, 261, 2),
    )
)
@example(
    (
        ModelSpec(9, 12, 1, 2, 2, 4, 8, 600),
        None,
        ((300, 2), False, "static", (0.1, 0.01), 0),
        (None, None),
        (2, 600, 1),
    )
)
@given(cases())
@settings(max_examples=30)
def test_any_parts_together(library, draw, by_formula, case):
    # Made here: where types are checked, making them draws random numbers of its own.
    spec, ngram, (lags, has_gamma, schumann, *others), noise_rows, sizes = case
    tables = [
        noise(rows, spec.width) if rows and has_gates else None
        for rows, has_gates in zip(noise_rows, (has_gamma, schumann == "forget"), strict=True)
    ]
    ngram = NgramPart(*ngram) if ngram else None
    parts = Parts(ngram, lags, has_gamma, schumann, *others, *tables)
    check(library, draw, by_formula, spec, parts, sizes)


@pytest.mark.parametrize("is_bfloat16", [False, True])
@pytest.mark.parametrize(
    "mechanisms",
    [
        (Gamma(placebo=True),),
        (Schumann(placebo=True),),
        (Dampening(), Gamma(placebo=True), Schumann(placebo=True)),
        (Gamma(), Schumann(placebo=True)),
    ],
    ids=lambda mechanisms: "+".join(part.name for part in mechanisms),
)
def test_controls_are_those_of_the_torch_model(library, draw, by_torch, mechanisms, is_bfloat16):
    if is_bfloat16 and not library.has_bfloat16:
        pytest.skip("this processor has no products of bfloat16")
    # A document of more places than there are rows of noise.
    spec = ModelSpec(13, 12, 2, 2, 1, 4, 8, 300, eos_id=3, mechanisms=mechanisms)
    assert not uncompiled(mechanisms)
    parts = parts_of(spec)
    engine = draw.engine(library, spec, parts, 2, is_bfloat16=is_bfloat16)
    ids, targets = draw.batch(spec, 3, 300)
    ids[ids == 3] = 4
    ids[0, 20] = ids[1, ::50] = 3
    expected = by_torch(spec, engine.parameters, ids, targets, parts=parts)
    nats = engine.gradient(ids, targets, weight=1 / int((targets >= 0).sum()))
    tolerance = TOLERANCE[is_bfloat16]
    assert nats == pytest.approx(expected.nats, rel=tolerance)
    for place in parameter_places(spec, parts):
        found = engine.gradients[place.start : place.stop]
        gradient = expected.gradient[place.start : place.stop]
        norms = np.linalg.norm(gradient), 0.1 * np.linalg.norm(expected.gradient)
        assert np.linalg.norm(found - gradient) < tolerance * max(norms), place.name
        if "gamma" in place.name or place.name.endswith("gate"):
            assert np.linalg.norm(found - gradient) < 3 * tolerance * norms[0], place.name


@pytest.mark.parametrize("name", TOGETHER)
def test_scores_and_logits_are_those_of_the_formula(library, draw, by_formula, name):
    parts = TOGETHER[name]
    learning = draw.engine(library, SPEC, parts)
    # As from a file that is mapped into memory.
    table = learning.table.copy()
    table.flags.writeable = False
    engine = Engine(
        library, SPEC, parts, threads=2, is_bfloat16=False, learns=False,
        parameters=learning.parameters, table=table,
    )  # fmt: skip
    ids, targets = batch_with_documents(draw, SPEC, parts, 3, 37)
    expected = by_formula(SPEC, parts, engine.parameters, engine.table, (ids, targets))
    assert engine.score(ids, targets) == pytest.approx(expected.nats, rel=1e-6)
    assert learning.score(ids, targets) == pytest.approx(expected.nats, rel=1e-6)


@pytest.mark.parametrize("is_bfloat16", [False, True])
@pytest.mark.parametrize("name", TOGETHER)
def test_at_zero_it_is_the_plain_model(library, draw, name, is_bfloat16):
    if is_bfloat16 and not library.has_bfloat16:
        pytest.skip("this processor has no products of bfloat16")
    parts = TOGETHER[name]
    plain = Engine(library, SPEC, threads=1, is_bfloat16=is_bfloat16)
    engine = Engine(library, SPEC, parts, threads=1, is_bfloat16=is_bfloat16)
    size = plain.parameters.size
    plain.parameters[:] = engine.parameters[:size] = draw.parameters(SPEC)
    up = next(p for p in parameter_places(SPEC, parts) if p.name == "mechanisms.ngram.up")
    engine.parameters[up.start : up.stop] = 0.1
    batch = batch_with_documents(draw, SPEC, parts, 3, 37)
    weight = 0.01
    assert engine.gradient(*batch, weight=weight) == plain.gradient(*batch, weight=weight)
    # What is zero here learns: its gradient is not.
    assert np.any(engine.table_gradient())
    for place in parameter_places(SPEC, parts):
        if place.name.endswith(("taps", "gamma.0.weight", "strength")):
            assert np.any(engine.gradients[place.start : place.stop]), place.name


@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_threads_give_the_same_bits(library, draw, threads):
    parts = TOGETHER["all with forget"]
    batch = batch_with_documents(draw, SPEC, parts, 5, 37)
    found = []
    for _ in range(2):
        engine = draw.engine(library, SPEC, parts, threads)
        nats, _ = gradients_of(engine, SPEC, parts, batch)
        found.append((nats, engine.gradients, engine.table_gradient()))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])
    np.testing.assert_array_equal(found[0][2], found[1][2])


@pytest.mark.parametrize("is_bfloat16", [False, True])
@pytest.mark.parametrize("has_noise", [False, True])
def test_a_batch_that_was_not_finite_leaves_no_trace(library, draw, has_noise, is_bfloat16):
    if is_bfloat16 and not library.has_bfloat16:
        pytest.skip("this processor has no products of bfloat16")
    # Odd widths: the products' words of two numbers reach into what lies behind a row.
    spec = ModelSpec(33, 15, 2, 1, 1, 6, 21, 20)
    parts = replace(TOGETHER["all with forget"], ngram=replace(NGRAM, row_width=5))
    if has_noise:
        parts = replace(parts, gamma_noise=noise(8, 15), forget_noise=noise(11, 15))
    batch = batch_with_documents(draw, spec, parts, 1, 7)
    fresh = draw.engine(library, spec, parts, is_bfloat16=is_bfloat16)
    gradients_of(fresh, spec, parts, batch)
    engine = Engine(library, spec, parts, threads=1, is_bfloat16=is_bfloat16)
    engine.parameters[:] = np.nan
    assert np.isnan(engine.gradient(*draw.batch(spec, 6, 20), weight=1.0))
    engine.parameters[:], engine.table[:] = fresh.parameters, fresh.table
    engine.changed()
    gradients_of(engine, spec, parts, batch)
    np.testing.assert_array_equal(engine.gradients, fresh.gradients)
    np.testing.assert_array_equal(engine.table_gradient(), fresh.table_gradient())


@pytest.mark.parametrize(
    ("parts", "where"),
    [
        (Parts(ngram=NGRAM), "mechanisms.ngram"),
        (Parts(ngram=replace(NGRAM, moduli=(2, 3)), eos_id=0), "mechanisms.ngram.moduli"),
        (Parts(ngram=replace(NGRAM, moduli=(0, 3, 5, 7)), eos_id=0), "mechanisms.ngram.moduli"),
        (Parts(ngram=replace(NGRAM, moduli=(2**31, 1, 1, 1)), eos_id=0), "mechanisms.ngram.moduli"),
        (Parts(ngram=replace(NGRAM, multipliers=(1,)), eos_id=0), "mechanisms.ngram.multipliers"),
        # 23^14 < 2^64 < 23^15
        (Parts(ngram=replace(NGRAM, orders=(2, 15)), eos_id=0), "mechanisms.ngram.orders"),
        (Parts(ngram=replace(NGRAM, row_width=0), eos_id=0), "mechanisms.ngram"),
        (Parts(lags=(1, 0)), "mechanisms.dampening.lags"),
        (Parts(lags=(1,), eos_id=23), "mechanisms.eos-id"),
        (Parts(schumann="static", decays=(0.1,)), "mechanisms.schumann.decays"),
        (Parts(gamma_noise=noise(8)), "mechanisms.gamma"),
        (Parts(has_gamma=True, gamma_noise=noise(8, 35)), "mechanisms.gamma"),
        (Parts(has_gamma=True, gamma_noise=noise(0)), "mechanisms.gamma"),
        (Parts(schumann="static", decays=DECAYS, forget_noise=noise(8)), "mechanisms.schumann"),
        (Parts(schumann="forget", forget_noise=noise(8, 37)), "mechanisms.schumann"),
    ],
)
def test_parts_that_do_not_fit_are_named(library, parts, where):
    with pytest.raises(SettingsError) as caught:
        Engine(library, SPEC, parts, threads=1, is_bfloat16=False)
    assert caught.value.where == where
