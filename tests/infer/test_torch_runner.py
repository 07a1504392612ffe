"""The runner over real models: the cache changes nothing but the time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm.config import GenerateSettings
from cllm.errors import IntegrityError
from cllm.infer.engine import generate_tokens
from cllm.infer.torch_runner import TorchRunner
from cllm.model import ModelSpec, initial_weights, save_model

SPEC = ModelSpec(
    vocab_size=61,
    width=32,
    layers=2,
    heads=4,
    kv_heads=2,
    head_width=8,
    mlp_width=64,
    context=24,
    tied=False,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    save_model(path, SPEC, initial_weights(SPEC, 3))
    return path


@pytest.fixture(scope="module")
def runner(folder):
    return TorchRunner.load(folder)


def uncached_greedy(model, prompt, count):
    """Every token from a fresh pass over what the window holds by the engine's rule."""
    window, written = list(prompt[-SPEC.context :]), []
    for _ in range(count):
        with torch.inference_mode():
            written.append(int(model(torch.tensor([window]))[0, -1].argmax()))
        window.append(written[-1])
        if len(window) > SPEC.context:
            window = window[-(SPEC.context // 2) :]
    return written


@settings(max_examples=10)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=40), st.integers(1, 40))
def test_cached_greedy_writing_equals_uncached(runner, prompt, count):
    greedy = GenerateSettings(temperature=0, max_tokens=count)
    cached = list(generate_tokens(runner, prompt, greedy, eos_id=None))
    assert cached == uncached_greedy(runner.model, prompt, count)


def test_decoding_gives_the_logits_of_reading_at_once(runner):
    ids = list(range(1, 21))
    runner.prefill(ids[:5])
    steps = [runner.decode(token_id) for token_id in ids[5:]]
    for end, logits in enumerate(steps, start=6):
        np.testing.assert_allclose(logits, runner.prefill(ids[:end]), atol=1e-5)


def test_a_new_prefill_forgets_the_old(runner):
    alone = runner.prefill([7, 8])
    runner.prefill(list(range(20)))
    np.testing.assert_array_equal(runner.prefill([7, 8]), alone)


def test_threads_are_left_as_they_were(runner):
    before = torch.get_num_threads()
    runner.prefill([1])
    runner.decode(2)
    assert torch.get_num_threads() == before


def test_transformers_writes_the_same(folder, runner):
    transformers = pytest.importorskip("transformers")
    peer = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompt = [5, 17, 42, 9]
    expected = peer.generate(
        torch.tensor([prompt]),
        max_new_tokens=16,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )[0, len(prompt) :].tolist()
    greedy = GenerateSettings(temperature=0, max_tokens=16)
    assert list(generate_tokens(runner, prompt, greedy, eos_id=None)) == expected


def test_a_damaged_model_is_named(folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(IntegrityError, match="damaged") as caught:
        TorchRunner.load(tmp_path)
    assert "model.safetensors" in str(caught.value)
