"""The plan: every number is filled, grows the way that it should, and yields to the person."""

import math
from dataclasses import fields, replace

import psutil
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from cllm.config import ModelSettings, Settings, TrainSettings
from cllm.errors import InputError, SettingsError
from cllm.training.events import Plan
from cllm.training.plan import Facts, check_request, decide, describe
from cllm.training.scaling import ScalingLaw, scaling_law

SOME = Facts(
    vocab_size=65,
    train_tokens=1_000_000,
    train_bytes=1_000_000,
    engine="compiled",
    precision="float32",
    flops_per_s=5e10,
    train_s=60.0,
)
SECONDS = st.floats(1, 36_000)
# From a laptop's torch to more than any one processor does.
SPEED = st.floats(1e9, 1e12)


@st.composite
def all_facts(draw, least_tokens=64):
    tokens = draw(st.integers(least_tokens, 10**9))
    return replace(
        SOME,
        vocab_size=draw(st.integers(30, 50_000)),
        train_tokens=tokens,
        train_bytes=int(tokens * draw(st.floats(1, 6))),
        flops_per_s=draw(SPEED),
        train_s=draw(st.none() | SECONDS),
    )


def with_train(**values):
    return Settings(train=TrainSettings(**values))


@given(all_facts(), st.sampled_from(["muon", "adamw"]), st.none() | st.integers(0, 10_000))
def test_nothing_is_left_open_and_all_of_it_fits(facts, optimizer, steps):
    settings, spec = decide(with_train(optimizer=optimizer, steps=steps), facts)
    train, model = settings.train, settings.model
    assert (train.engine, train.precision) == ("compiled", "float32")
    assert train.batch_size >= 1 and train.threads >= 1
    assert 0 < train.learning_rate < 1 and 0 < train.matrix_rate < 1
    assert 0 <= train.momentum < 1 and 0 <= train.dropout < 1
    shape = ("width", "layers", "heads", "kv_heads", "head_width", "mlp_width", "context")
    assert all(getattr(model, name) == getattr(spec, name) >= 1 for name in shape)
    assert spec.context < facts.train_tokens
    assert spec.head_width % 2 == 0 and spec.heads % spec.kv_heads == 0
    again = decide(settings, facts)
    assert again == (settings, spec), "a resumed run decides as in its first life"


@given(all_facts(), SECONDS, SECONDS)
@example(
    replace(SOME, train_tokens=1_375_181, train_bytes=1_375_181, flops_per_s=3.93e10), 119.9, 120.0
)
def test_more_time_never_makes_a_smaller_model(facts, one, other):
    sizes = [
        decide(Settings(), replace(facts, train_s=seconds))[1].num_parameters
        for seconds in sorted((one, other))
    ]
    assert sizes[0] <= sizes[1]


@given(all_facts(), st.integers(64, 10**9))
@example(replace(SOME, train_tokens=609_233, train_s=44.3, flops_per_s=4.84e10), 425_967)
def test_a_smaller_corpus_never_gets_less_dropout(facts, tokens):
    assume(tokens <= facts.train_tokens)
    share = tokens / facts.train_tokens
    smaller = replace(facts, train_tokens=tokens, train_bytes=int(facts.train_bytes * share))
    dropouts = [decide(Settings(), some)[0].train.dropout for some in (facts, smaller)]
    assert dropouts[0] <= dropouts[1]


def test_dropout_comes_with_reading_the_same_text_again():
    fresh = replace(SOME, train_tokens=10**9, train_bytes=10**9)
    assert decide(Settings(), fresh)[0].train.dropout == 0
    worn = replace(SOME, train_tokens=20_000, train_bytes=20_000, train_s=3600.0)
    assert decide(Settings(), worn)[0].train.dropout > 0


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_a_few_steps_read_no_text_twice_and_drop_nothing(steps):
    facts = replace(SOME, train_tokens=100_000, train_bytes=100_000, train_s=None)
    settings, spec = decide(with_train(steps=steps), facts)
    assert steps * settings.train.batch_size * spec.context < facts.train_tokens
    assert settings.train.dropout == 0


@pytest.mark.parametrize(
    "given_values",
    [
        {"width": 72, "heads": 3},
        {"width": 96},
        {"width": 40, "layers": 5, "head_width": 20},
        {"preset": "tiny"},
        {"preset": "large", "layers": 2},
        {"context": 24},
        {"layers": 3},
        {"mlp_width": 96},
        {"kv_heads": 1},
        {"kv_heads": 2},
        {"head_width": 64},
        {"width": 64, "heads": 4, "kv_heads": 2, "context": 100},
    ],
    ids=str,
)
@pytest.mark.parametrize("seconds", [5.0, 600.0, None])
def test_the_shape_that_a_person_gives_is_kept(given_values, seconds):
    settings = Settings(model=ModelSettings(**given_values))
    check_request(settings)
    decided, spec = decide(settings, replace(SOME, train_s=seconds))
    for name, value in given_values.items():
        assert getattr(decided.model, name) == value
        assert name == "preset" or getattr(spec, name) == value


def test_a_preset_has_its_width_and_layers():
    """As the table of docs/guide/settings.md says."""
    rows = {"tiny": (64, 2), "small": (128, 4), "base": (256, 6), "mid": (384, 6)}
    for preset, (width, layers) in rows.items():
        spec = decide(Settings(model=ModelSettings(preset=preset)), SOME)[1]
        assert (spec.width, spec.layers) == (width, layers)


def test_the_training_that_a_person_gives_is_kept():
    chosen = {
        "batch_size": 3, "learning_rate": 0.5, "matrix_rate": 0.25, "momentum": 0.0,
        "dropout": 0.0, "threads": 1, "accumulate": 2, "steps": 7, "clip": 0.1,
        "optimizer": "adamw", "context_ramp": False,
    }  # fmt: skip
    worn = replace(SOME, train_tokens=20_000, train_bytes=20_000, train_s=3600.0)
    train = decide(with_train(**chosen), worn)[0].train
    assert {name: getattr(train, name) for name in chosen} == chosen
    assert decide(with_train(dropout=0.35), SOME)[0].train.dropout == 0.35


@pytest.mark.parametrize(("tokens", "context"), [(9, 8), (40, 8), (63, 8), (64, 16), (100, 16)])
def test_a_very_short_text_gets_windows_that_fit_into_it(tokens, context):
    facts = replace(SOME, train_tokens=tokens, train_bytes=tokens)
    assert decide(Settings(), facts)[1].context == context


@given(all_facts(least_tokens=9))
def test_windows_fit_into_the_text_four_times_or_are_the_shortest(facts):
    context = decide(Settings(), facts)[1].context
    assert context == 8 or 4 * context <= facts.train_tokens


def test_text_for_no_window_at_all_is_refused():
    for tokens in range(9):
        with pytest.raises(InputError, match="too little text"):
            decide(Settings(), replace(SOME, train_tokens=tokens, train_bytes=tokens))


def test_a_context_longer_than_the_text_is_refused():
    settings = Settings(model=ModelSettings(context=100))
    assert decide(settings, replace(SOME, train_tokens=101))[1].context == 100
    with pytest.raises(SettingsError, match="longer than the training text"):
        decide(settings, replace(SOME, train_tokens=100))


def test_more_threads_than_processors_are_refused():
    cores = psutil.cpu_count()
    check_request(with_train(threads=cores))
    with pytest.raises(SettingsError, match=f"{cores + 1} threads") as caught:
        check_request(with_train(threads=cores + 1))
    assert caught.value.where == "train.threads"


@pytest.mark.parametrize(
    "model", [{"width": 64, "heads": 3}, {"head_width": 7}, {"heads": 4, "kv_heads": 3}]
)
def test_a_shape_that_does_not_fit_together_is_refused_before_any_text_is_read(model):
    with pytest.raises(SettingsError):
        check_request(Settings(model=ModelSettings(**model)))


@given(all_facts())
def test_what_is_shown_is_what_was_decided(facts):
    settings, spec = decide(with_train(minutes=3.0, accumulate=2), facts)
    plan = describe(settings, spec, facts)
    open_fields = {"total_steps", "expected_bits_per_byte", "measured_gain"}
    assert {f.name for f in fields(Plan) if getattr(plan, f.name) is None} <= open_fields
    assert plan.tokens_per_step == 2 * settings.train.batch_size * spec.context
    assert plan.num_parameters == sum(math.prod(s) for s in spec.parameter_shapes().values())
    assert plan.tokens_per_s > 0
    # Weights, gradients and two moments, four bytes each, and Python itself.
    assert plan.expected_memory_bytes > 16 * spec.num_parameters + (50 << 20)
    if facts.train_s is None:
        assert plan.expected_bits_per_byte is None
    else:
        assert 0 < plan.expected_bits_per_byte < math.inf
    assert 0 < plan.expected_spread < 1


POSITIVE = st.floats(0.01, 10)
LAWS = st.just(scaling_law()) | st.builds(
    ScalingLaw,
    floor=POSITIVE,
    size_factor=POSITIVE,
    size_power=st.floats(0.05, 1),
    data_factor=POSITIVE,
    data_power=st.floats(0.05, 1),
    repeats=st.floats(0.5, 50),
    spread=st.floats(0.01, 0.5),
)
BYTES = st.floats(1, 1e12)


@given(LAWS, BYTES, BYTES)
def test_text_that_is_read_again_is_worth_less_than_new_text(law, seen, text):
    worth = law.unique_bytes(seen, text)
    assert 0 < worth <= seen * (1 + 1e-9)
    assert worth <= (1 + law.repeats) * text * (1 + 1e-9)
    if seen <= text:
        assert worth == pytest.approx(seen)


@given(LAWS, BYTES, BYTES, BYTES)
def test_more_reading_and_more_text_never_make_it_worth_less(law, seen, more, text):
    low, high = sorted((seen, more))
    assert law.unique_bytes(low, text) <= law.unique_bytes(high, text) * (1 + 1e-9)
    assert law.unique_bytes(text, low) <= law.unique_bytes(text, high) * (1 + 1e-9)


@given(LAWS, st.tuples(BYTES, BYTES), st.tuples(BYTES, BYTES), BYTES)
def test_the_law_promises_no_less_for_more(law, sizes, seen, text):
    small, large = sorted(sizes)
    few, many = sorted(seen)
    least = law.bits_per_byte(large, many, text)
    assert least <= law.bits_per_byte(small, many, text) * (1 + 1e-9)
    assert least <= law.bits_per_byte(large, few, text) * (1 + 1e-9)
    assert least > law.floor * (1 - 1e-9)
