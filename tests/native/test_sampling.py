"""The choice of tokens in compiled code against the samplers in float64, and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm.infer import samplers
from cllm.native.stream import Choice, choose_tokens

# What sums of float32 may be off from those of float64.
CLOSE = 1e-6


@st.composite
def choices(draw, size):
    # Not round: a truncation may not end between two sums that differ in their last bits.
    share = st.integers(1, 10**6).map(lambda n: (n + 0.3) / (10**6 + 1))
    return Choice(
        temperature=draw(st.sampled_from([0.0, 0.3, 0.8, 1.0, 1.7])),
        top_k=draw(st.none() | st.integers(1, size + 3)),
        top_p=draw(st.none() | share),
        min_p=draw(st.none() | share.map(lambda p: p / 3)),
        typical_p=draw(st.none() | share),
        repetition_penalty=draw(st.sampled_from([1.0, 1.3])),
        frequency_penalty=draw(st.sampled_from([0.0, 0.5])),
        presence_penalty=draw(st.sampled_from([0.0, -0.25])),
        bias=draw(
            st.dictionaries(
                st.integers(1, size - 1), st.sampled_from([-np.inf, -1.0, 2.5]), max_size=4
            )
            if size > 1
            else st.just({})
        ),
    )


@st.composite
def cases(draw):
    size = draw(st.sampled_from([1, 2, 17, 33, 128, 300, 1000, 3000]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    logits = rng.normal(0, draw(st.sampled_from([0.1, 1.0, 4.0])), size).astype(np.float32)
    if draw(st.booleans()):
        # Many equal ones.
        logits = np.round(logits * 4) / np.float32(4)
    seen = 2 * (rng.random(size) < 0.2).astype(np.int32)
    written = np.minimum(seen, rng.integers(0, 3, size)).astype(np.int32)
    mask = rng.integers(0, 2**32, (size + 31) // 32, np.uint32) if draw(st.booleans()) else None
    if mask is not None:
        mask[0] |= 1
    return logits, draw(choices(size)), {"seen": seen, "written": written, "mask": mask}, rng


def exact_distribution(logits, choice, given):
    """Probabilities in float64; of a temperature of 0, all on one token."""
    rest = samplers.keep_masked(samplers.add_bias(logits.astype(float), choice.bias), given["mask"])
    rest = samplers.penalise(rest, choice, seen=given["seen"], written=given["written"])
    if choice.temperature == 0:
        return np.arange(len(rest)) == samplers.greedy(rest)
    return samplers.distribution(rest, choice)


@given(cases())
@settings(max_examples=400)
def test_numbers_choose_the_tokens_of_the_exact_samplers(library, case):
    logits, choice, circumstances, rng = case
    total = np.cumsum(exact_distribution(logits, choice, circumstances))
    total = total / total[-1]
    uniforms = rng.random(64)
    ids = choose_tokens(library, logits, choice, uniforms, **circumstances)
    assert np.all(ids >= np.searchsorted(total, uniforms - CLOSE, side="right"))
    assert np.all(ids <= np.searchsorted(total, uniforms + CLOSE, side="right"))


def plain(size):
    return {"seen": np.zeros(size, np.int32), "written": np.zeros(size, np.int32)}


@pytest.mark.parametrize("size", [5, 200, 5000])
@pytest.mark.parametrize(
    "choice",
    [Choice(temperature=0.7), Choice(top_k=40), Choice(top_p=0.9), Choice(typical_p=0.8)],
)
def test_the_running_total_passes_each_token_where_it_should(library, size, choice):
    logits = np.random.default_rng(size).normal(0, 2, size).astype(np.float32)
    chances = samplers.distribution(logits.astype(float), choice)
    possible = np.flatnonzero(chances > 4 * CLOSE)
    ends = np.cumsum(chances)[possible]
    begins = ends - chances[possible]
    for uniforms in (begins + CLOSE, ends - CLOSE):
        found = choose_tokens(library, logits, choice, uniforms, **plain(size))
        assert found.tolist() == possible.tolist()


@pytest.mark.parametrize("size", [3, 16, 300, 4096])
def test_of_equal_logits_the_lowest_ids_stay(library, size):
    logits, uniforms = np.full(size, 2.5, np.float32), np.arange(0, 1, 1 / 64)
    greedy = choose_tokens(library, logits, Choice(temperature=0.0), uniforms, **plain(size))
    assert set(greedy.tolist()) == {0}
    two = choose_tokens(library, logits, Choice(top_k=2), uniforms, **plain(size))
    assert two.tolist() == [0] * 32 + [1] * 32
    # Each has 1 / size: the share of two and a half tokens needs a third one.
    for name in ("top_p", "typical_p"):
        some = choose_tokens(library, logits, Choice(**{name: 2.5 / size}), uniforms, **plain(size))
        assert set(some.tolist()) == {0, 1, 2}


def test_truncations_of_a_distribution_by_hand(library):
    # 8, 4, 2, 1 and 1 sixteenths; the entropy is 1.875 bits, the tokens' surprises are
    # 1, 2, 3, 4 and 4 bits.
    logits = np.log(np.array([8, 4, 2, 1, 1], np.float32))
    uniforms = np.arange(0.5, 16) / 16

    def kept(**choice):
        ids = choose_tokens(library, logits, Choice(**choice), uniforms, **plain(5))
        return set(ids.tolist())

    assert kept() == {0, 1, 2, 3, 4}
    assert kept(top_p=0.7) == {0, 1}
    assert kept(top_p=0.76) == {0, 1, 2}
    assert kept(min_p=0.2) == {0, 1, 2}
    assert kept(top_k=4) == {0, 1, 2, 3}
    assert kept(typical_p=0.2) == {1}
    assert kept(typical_p=0.3) == {0, 1}
    assert kept(typical_p=0.8) == {0, 1, 2}
    # The two likeliest are 2/3 and 1/3 of what is left.
    assert kept(top_k=2, top_p=0.6) == {0}


def test_an_infinite_bias_and_a_mask_rule_out(library):
    logits, uniforms = np.zeros(70, np.float32), np.arange(0.5, 80) / 80
    mask = np.array([1 << 5, 1 << 31, 1], np.uint32)
    masked = choose_tokens(library, logits, Choice(), uniforms, **plain(70), mask=mask)
    assert set(masked.tolist()) == {5, 63, 64}
    choice = Choice(bias={63: -np.inf, 64: np.log(3.0)})
    biased = choose_tokens(library, logits, choice, uniforms, **plain(70), mask=mask)
    assert np.bincount(biased, minlength=70)[[5, 64]].tolist() == [20, 60]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_where_no_token_may_come_none_is_chosen(library, temperature):
    choice, uniforms = Choice(temperature=temperature), np.array([0.0, 0.5])
    for logits in (np.full(40, -np.inf, np.float32), np.full(40, np.nan, np.float32)):
        chosen = choose_tokens(library, logits, choice, uniforms, **plain(40))
        assert chosen.tolist() == [-1, -1]
    nothing = np.zeros(2, np.uint32)
    chosen = choose_tokens(
        library, np.zeros(40, np.float32), choice, uniforms, **plain(40), mask=nothing
    )
    assert chosen.tolist() == [-1, -1]


@pytest.mark.parametrize("temperature", [1e-300, 1e-30, 1e30, 1e300])
def test_extreme_temperatures_are_those_of_their_limits(library, temperature):
    logits = np.array([1.0, 3.0, 2.0, -np.inf], np.float32)
    uniforms = np.array([0.1, 0.5, 0.9])
    ids = choose_tokens(library, logits, Choice(temperature=temperature), uniforms, **plain(4))
    assert ids.tolist() == ([1, 1, 1] if temperature < 1 else [0, 1, 2])


@pytest.mark.parametrize(
    "choice",
    [
        Choice(bias={9: 1.0}),
        Choice(bias={-1: 1.0}),
        Choice(bias={1: np.inf}),
        Choice(bias={1: np.nan}),
        Choice(temperature=-0.5),
        Choice(temperature=np.nan),
        Choice(top_k=0),
    ],
)
def test_what_has_no_meaning_is_refused(library, choice):
    with pytest.raises(ValueError, match=r"bias|temperature|likeliest"):
        choose_tokens(library, np.zeros(9, np.float32), choice, np.zeros(1), **plain(9))
