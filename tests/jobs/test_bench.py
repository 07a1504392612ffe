"""What `cllm bench` measures: sizes known by hand, medians, turns taken; never how fast it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cllm.errors import NotFoundError, SettingsError
from cllm.files import write_manifest
from cllm.jobs.bench import bench
from cllm.jobs.bench_models import (
    SIZES,
    folder_subject,
    num_bytes,
    random_weights,
    rounded,
    size_subject,
)
from cllm.jobs.bench_timing import Rates, in_rounds, writing_works
from cllm.jobs.opening import open_decoder
from cllm.model import ModelSpec, save_model
from cllm.text.tokenizers import train_tokenizer
from cllm.workspace.workspace import Workspace

# 512·64 + 2·(192·64 + 64·64 + 320·64 + 64·160 + 2·64 + 2·32) + 64, from the shape of tiny.
TINY_PARAMETERS = 127_424
TINY_IN_MATRICES = 126_976


def test_the_middle_and_the_spread():
    rates = Rates((2.0, 4.0, 3.0, 10.0, 1.0))
    assert rates.median == 3
    assert rates.spread == pytest.approx((10 - 1) / 2 / 3)
    assert rates.to_json() == {"median": 3, "least": 1, "greatest": 10, "rounds": 5}


def test_all_take_turns_and_the_first_round_is_thrown_away():
    calls = []

    def work(name, done, taken):
        def run(seconds):
            calls.append((name, seconds))
            is_first = sum(called == name for called, _ in calls) == 1
            return (1000.0, 1.0) if is_first else (done, taken)

        return run

    works = {"a": work("a", 6.0, 2.0), "b first token": work("b first token", 4.0, 2.0)}
    found = in_rounds(works, 24.0, rounds=3)
    assert [name for name, _ in calls] == ["a", "b first token"] * 4
    assert {seconds for _, seconds in calls} == {3.0}
    # Tokens by the second, and seconds by the first token.
    assert found == {"a": Rates((3.0,) * 3), "b first token": Rates((0.5,) * 3)}


@given(arrays(np.float32, (32, 40), elements=st.floats(-100, 100, width=32)))
def test_rounding_is_off_by_half_a_step_at_most(matrix):
    for kind, levels in (("int8", 127), ("int4", 7)):
        made = rounded({"m": matrix}, kind)["m"].dequantise()
        for columns in (slice(0, 32), slice(32, 40)):
            step = np.abs(matrix[:, columns]).max(axis=1, keepdims=True) / levels
            # The scale itself is kept in half precision (2⁻¹¹, or 2⁻²⁵ where it is tiny).
            slack = np.abs(matrix[:, columns]) * 2.0**-10 + levels * 2.0**-24
            assert (np.abs(made - matrix)[:, columns] <= step * 0.5001 + slack).all()


def test_bytes_of_each_format_of_tiny():
    subject = size_subject("tiny")
    assert subject.spec.num_parameters == TINY_PARAMETERS
    vectors = 4 * (TINY_PARAMETERS - TINY_IN_MATRICES)
    # Groups of 32 share a scale of two bytes.
    scales = TINY_IN_MATRICES // 32 * 2
    assert num_bytes(subject.weights("float32")) == 4 * TINY_PARAMETERS
    assert num_bytes(subject.weights("int8")) == TINY_IN_MATRICES + scales + vectors
    assert num_bytes(subject.weights("int4")) == TINY_IN_MATRICES // 2 + scales + vectors


def test_the_sizes_are_those_that_are_documented():
    specs = {name: size_subject(name).spec for name in SIZES}
    shapes = {name: (s.width, s.layers, s.vocab_size) for name, s in specs.items()}
    assert shapes == {
        "tiny": (64, 2, 512),
        "small": (128, 4, 2048),
        "mid": (384, 6, 8192),
        "large": (512, 8, 16384),
    }


def test_what_a_decoder_is_timed_on(tmp_path):
    """Each piece of work does what its name says, however little time it is given."""
    subject = size_subject("tiny")
    decoder, _ = open_decoder(subject.spec, subject.weights("float32"), tmp_path, num_slots=32)
    works = writing_works(decoder)
    assert list(works) == ["prefill", "first token", "decode", "batch 8", "batch 32"]
    done, taken = works["prefill"](0.0)
    assert (done, decoder.length(0)) == (256, 256) and taken > 0
    assert works["first token"](0.0)[0] == 1
    assert decoder.length(0) == 8
    for name, size in (("decode", 1), ("batch 8", 8), ("batch 32", 32)):
        done, taken = works[name](0.0)
        # At least a token each; all are equally far.
        assert done >= size and done % size == 0 and taken > 0
        assert {decoder.length(slot) for slot in range(size)} == {7 + done // size}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A home with a model; what is compiled and measured for it is kept there, too."""
    workspace = Workspace(tmp_path_factory.mktemp("bench"))
    tokenizer = train_tokenizer("bytes", lambda: iter(["x"]), vocab_size=None, num_characters=1)
    spec = ModelSpec(
        vocab_size=tokenizer.vocab_size, width=32, layers=1, heads=2, kv_heads=1, head_width=16,
        mlp_width=64, context=40,
    )  # fmt: skip
    folder = workspace.home / "models/mine"
    folder.mkdir(parents=True)
    save_model(folder, spec, random_weights(spec))
    tokenizer.save(folder, context=spec.context)
    write_manifest(folder)
    return workspace


@pytest.mark.parametrize("model", [None, "mine"])
def test_a_whole_measurement(workspace, model):
    seen = []
    result = bench(
        model,
        workspace=workspace,
        presets=() if model else ("tiny",),
        seconds=1.0,
        on_progress=lambda *facts: seen.append(facts),
    )
    assert {facts[:3] for facts in seen} == {(model or "tiny", 0, 1)}
    shares = [share for *_, share in seen]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
    (figures,) = result.models
    assert figures.prompt_tokens == (40 if model else 256)
    assert figures.threads == 1
    assert figures.notice is None
    assert [found.format for found in figures.formats] == ["float32", "int8", "int4"]
    for found in figures.formats:
        rates = [found.prefill, found.decode, found.first_token_s, *found.batches.values()]
        assert [len(rate.values) for rate in rates] == [5] * 5
        assert min(value for rate in rates for value in rate.values) > 0
        # A whole process: Python and numpy are in it.
        assert 15e6 < found.process_bytes < 1e9
    assert figures.training is not None and figures.training.median > 0
    assert figures.trainer.startswith("compiled")
    assert 0 <= result.busy_before <= 1


def test_without_a_compiler_it_says_so_and_measures_torch(workspace, monkeypatch):
    monkeypatch.setenv("CLLM_NATIVE", "off")
    (figures,) = bench("mine", workspace=workspace, seconds=1.0).models
    assert "slower" in figures.notice
    assert [found.format for found in figures.formats] == ["float32"]
    assert figures.trainer.startswith("torch")


def test_a_context_is_not_longer_than_what_is_measured(workspace):
    subject = folder_subject("mine", workspace.home / "models/mine")
    assert (subject.spec.context, subject.formats) == (40, ("float32", "int8", "int4"))


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"presets": ["tny"]}, NotFoundError, "no preset 'tny'"),
        ({"seconds": 0.1}, SettingsError, "0.1 is not between"),
        ({"seconds": float("nan")}, SettingsError, "nan is not between"),
        ({"threads": 0}, SettingsError, "0 threads"),
        ({"model": "mine", "presets": ["tiny"]}, SettingsError, "not both"),
        ({"model": "none"}, NotFoundError, "no model named 'none'"),
    ],
    ids=["preset", "seconds", "nan", "threads", "both", "model"],
)
def test_what_can_not_be_measured_is_refused(workspace, arguments, kind, message):
    with pytest.raises(kind, match=message):
        bench(arguments.pop("model", None), workspace=workspace, **arguments)
