"""What computes a run: chosen by rules, measured once, and the same whichever it is."""

import json

import numpy as np
import pytest

from cllm.config import ModelSettings, TrainSettings
from cllm.errors import NativeError, SettingsError
from cllm.jobs.compute import choose_compute
from cllm.model import spec_from_settings
from cllm.native import load_library
from cllm.native.stream import Choice, Stream
from cllm.training import precision, speed

SETTINGS = TrainSettings(threads=1)
SPEC = spec_from_settings(
    ModelSettings(width=32, layers=2, heads=4, kv_heads=2, context=16), 60, "tiny"
)


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """The library, found or compiled: no test below should wait for a compiler of its own."""
    library = load_library(tmp_path_factory.mktemp("native"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cllm.native.load_library", lambda cache: library)
        yield


@pytest.fixture
def measured(monkeypatch):
    """What was measured so far; measuring takes no time here."""
    seen = []

    def measure_precision(library):
        seen.append("precision")
        return "float32"

    def measure_speed(make, settings):
        seen.append("speed")
        return 1e9 * len(seen)

    monkeypatch.setattr(precision, "measure_precision", measure_precision)
    monkeypatch.setattr(speed, "measure_speed", measure_speed)
    return seen


@pytest.fixture
def without_engine(monkeypatch):
    # In the place of what `compiled_once` put there.
    monkeypatch.setattr("cllm.native.load_library", load_library)
    monkeypatch.setenv("CLLM_NATIVE", "off")


def facts(home):
    return json.loads((home / "machine.json").read_text(encoding="utf-8"))["facts"]


def test_the_compiled_engine_is_chosen_and_needs_no_advice(tmp_path, measured):
    compute, advice = choose_compute(tmp_path, SETTINGS)
    assert (compute.kind, compute.precision, advice) == ("compiled", "float32", None)


def test_what_was_measured_is_not_measured_again(tmp_path, measured):
    first, _ = choose_compute(tmp_path, SETTINGS)
    again, _ = choose_compute(tmp_path, SETTINGS)
    assert measured == ["precision", "speed"]
    assert first.flops_per_s == again.flops_per_s == 2e9
    assert sorted(facts(tmp_path).values(), key=str) == [2e9, "float32"]


def test_another_number_of_threads_or_format_is_measured_for_itself(tmp_path, measured):
    choose_compute(tmp_path, SETTINGS)
    choose_compute(tmp_path, TrainSettings(threads=2))
    assert measured == ["precision", "speed", "speed"]
    compute, _ = choose_compute(tmp_path, TrainSettings(threads=1, precision="bfloat16"))
    assert compute.precision == "bfloat16"
    assert measured == ["precision", *["speed"] * 3]


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", "null", "{}", '{"facts": []}', '{"facts": null}', '{"facts": "text"}'],
)
def test_a_damaged_file_is_measured_anew(tmp_path, measured, damage):
    choose_compute(tmp_path, SETTINGS)
    (tmp_path / "machine.json").write_text(damage, encoding="utf-8")
    choose_compute(tmp_path, SETTINGS)
    assert measured == ["precision", "speed"] * 2
    assert len(facts(tmp_path)) == 2


def test_switched_off_torch_does_the_work_and_one_line_says_so(tmp_path, measured, without_engine):
    compute, advice = choose_compute(tmp_path, SETTINGS)
    assert (compute.kind, compute.precision) == ("torch", "float32")
    assert "\n" not in advice
    assert "slower" in advice and "CLLM_NATIVE=off" in advice


def test_asking_for_torch_is_no_reason_for_advice(tmp_path, measured):
    compute, advice = choose_compute(tmp_path, TrainSettings(engine="torch", threads=1))
    assert (compute.kind, advice) == ("torch", None)


def test_what_was_asked_for_by_name_is_never_replaced(tmp_path, without_engine):
    with pytest.raises(NativeError, match="CLLM_NATIVE=off"):
        choose_compute(tmp_path, TrainSettings(engine="compiled", threads=1))


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_the_compiled_engine_runs_on_the_processor_alone(tmp_path, device):
    settings = TrainSettings(engine="compiled", device=device, threads=1)
    with pytest.raises(SettingsError, match=device) as caught:
        choose_compute(tmp_path, settings)
    assert caught.value.where == "train.engine"
    assert not (tmp_path / "machine.json").exists()


def test_a_misspelt_switch_is_refused_not_taken_for_off(tmp_path, without_engine, monkeypatch):
    monkeypatch.setenv("CLLM_NATIVE", "nonsense")
    with pytest.raises(SettingsError, match="nonsense"):
        choose_compute(tmp_path, SETTINGS)


@pytest.fixture(scope="module")
def computes(tmp_path_factory):
    """Weights, and what computes with them: the compiled engine and torch."""
    random = np.random.default_rng(0)
    weights = {
        name: (1 + 0.3 * values if values.ndim == 1 else 0.3 * values).astype(np.float32)
        for name, shape in SPEC.parameter_shapes().items()
        for values in [random.standard_normal(shape)]
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "measure_speed", lambda make, settings: 1e9)
        made = [
            choose_compute(
                tmp_path_factory.mktemp("home"),
                TrainSettings(threads=1, precision="float32", engine=engine),
            )[0]
            for engine in ("auto", "torch")
        ]
    assert [compute.kind for compute in made] == ["compiled", "torch"]
    return weights, made


def greedy(decoder, prompt, count):
    stream = Stream(
        slot=0,
        pending=list(prompt),
        max_tokens=count,
        choice=Choice(temperature=0.0),
        uniforms=np.zeros(count),
        seen=np.zeros(decoder.vocab_size, np.int32),
        written=np.zeros(decoder.vocab_size, np.int32),
    )
    while stream.finish is None:
        decoder.write([stream], max_seconds=10.0)
    return stream.ids


@pytest.mark.parametrize("prompt", [[3], [5, 9, 2, 40], list(range(30))], ids=len)
def test_both_write_the_same_text(computes, prompt):
    """More tokens than fit into the window, so that it moves on."""
    weights, made = computes
    texts = [greedy(compute.decoder(SPEC, weights), prompt, 40) for compute in made]
    assert texts[0] == texts[1]
    assert len(texts[0]) == 40
    assert len(set(texts[0])) > 3, "a text that says nothing would prove nothing"


def test_both_give_the_same_score(computes):
    weights, made = computes
    random = np.random.default_rng(1)
    ids = random.integers(0, 60, (5, 16)).astype(np.int32)
    targets = random.integers(-1, 60, (5, 16)).astype(np.int32)
    ours, theirs = (compute.reader(SPEC, weights).score(ids, targets) for compute in made)
    assert ours == pytest.approx(theirs, abs=1e-4 * (targets >= 0).sum())
