"""The decoder over real models: what it remembers changes nothing but the time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.observations import assert_only
from tests.random_models import random_weights

from cllm.errors import IntegrityError
from cllm.infer.torch_decoder import TorchDecoder
from cllm.infer.writing import write
from cllm.model import ModelSpec, Transformer, initial_weights, save_model
from cllm.model.mechanisms.catalogue import NAMES
from cllm.model.mechanisms.choose import choose, with_mechanisms
from cllm.model.mechanisms.mechanism import needs_of
from cllm.native.stream import Choice, Feed, Stream

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
GREEDY = Choice(temperature=0.0)


def decoder_of(spec, num_slots=1):
    model = Transformer(spec).eval()
    model.load_weights(random_weights(spec, spread=0.4))
    return TorchDecoder(model, num_slots)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    save_model(path, SPEC, initial_weights(SPEC, 3))
    return path


@pytest.fixture(scope="module")
def decoder():
    return decoder_of(SPEC, 3)


def fresh(decoder, ids, slot=0):
    decoder.truncate(slot, 0)
    return decoder.feed([Feed(slot, ids)])[0]


def greedy(decoder, prompt, count):
    stream = Stream(
        slot=0,
        pending=list(prompt),
        max_tokens=count,
        choice=GREEDY,
        uniforms=np.zeros(count),
        seen=np.zeros(decoder.vocab_size, np.int32),
        written=np.zeros(decoder.vocab_size, np.int32),
    )
    decoder.truncate(0, 0)
    write(decoder, [stream], max_seconds=1000.0)
    return stream.ids


def plain_greedy(model, prompt, count):
    """Every token from a fresh pass over all before it."""
    text = list(prompt)
    for _ in range(count):
        with torch.inference_mode():
            text.append(int(model(torch.tensor([text]))[0, -1].argmax()))
    return text[len(prompt) :]


@settings(max_examples=10)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=20), st.data())
def test_greedy_writing_equals_reading_anew_for_each_token(decoder, prompt, data):
    count = data.draw(st.integers(1, SPEC.context - len(prompt) + 1))
    found = greedy(decoder, prompt, count)
    assert found == plain_greedy(decoder.model, prompt, count)


@pytest.mark.parametrize("cut", [1, 5, 19])
def test_how_the_text_was_fed_changes_nothing(decoder, cut):
    ids = list(range(1, 21))
    whole = fresh(decoder, ids)
    decoder.truncate(0, 0)
    decoder.feed([Feed(0, ids[:cut])])
    every = decoder.feed([Feed(0, ids[cut:])], every=True)
    assert every.shape == (20 - cut, SPEC.vocab_size)
    np.testing.assert_allclose(every[-1], whole, atol=1e-5)
    np.testing.assert_allclose(every[0], fresh(decoder, ids[: cut + 1]), atol=1e-5)


def test_slots_know_nothing_of_each_other(decoder):
    for slot in range(3):
        decoder.truncate(slot, 0)
    first = decoder.feed([Feed(0, [1, 2, 3]), Feed(2, [9])])
    second = decoder.feed([Feed(2, [8, 7]), Feed(0, [4])])
    np.testing.assert_allclose(second[1], fresh(decoder, [1, 2, 3, 4]), atol=1e-5)
    np.testing.assert_allclose(second[0], fresh(decoder, [9, 8, 7]), atol=1e-5)
    np.testing.assert_allclose(first[1], fresh(decoder, [9]), atol=1e-5)


def test_what_was_cut_off_or_copied_is_as_if_fed(decoder):
    fresh(decoder, [5, 6, 7, 8])
    assert decoder.truncate(0, 2)
    assert decoder.length(0) == 2
    assert decoder.copy(0, 1, 1)
    np.testing.assert_allclose(
        decoder.feed([Feed(0, [1]), Feed(1, [9])]),
        [fresh(decoder, [5, 6, 1], 2), fresh(decoder, [5, 9], 2)],
        atol=1e-5,
    )


def windowed_logits(model, ids):
    """The logits after a long text by the definition: sinks, then the window, each key with the
    position of its place; every token sees what the window held when it came."""
    spec, sinks = model.spec, 4
    caches = [[] for _ in range(spec.layers)]
    rotary = model.rotary

    def turn(vectors, position):
        return rotary(vectors[:, :, None], position)[:, :, 0]

    with torch.inference_mode():
        for token in ids:
            x = model.embedding(torch.tensor([[token]]))
            for block, cache in zip(model.blocks, caches, strict=True):
                attention = block.attention
                heads = attention.qkv(block.attention_norm(x)).view(1, -1, spec.head_width)
                q, k, v = heads.split((spec.heads, spec.kv_heads, spec.kv_heads), dim=1)
                cache.append((attention.k_norm(k), v))
                if len(cache) > spec.context:
                    del cache[sinks]
                q = turn(attention.q_norm(q), len(cache) - 1)
                keys = torch.stack([turn(k, at) for at, (k, _) in enumerate(cache)], 2)
                values = torch.stack([v for _, v in cache], 2)
                group = spec.heads // spec.kv_heads
                keys, values = (part.repeat_interleave(group, 1) for part in (keys, values))
                scores = (keys @ q[..., None])[..., 0] / spec.head_width**0.5
                mixed = (scores.softmax(-1)[..., None] * values).sum(2)
                x = x + attention.out(mixed.reshape(1, 1, -1))
                x = x + block.feed_forward(block.feed_forward_norm(x))
        return model.head(model.norm(x))[0, 0].numpy()


@pytest.mark.parametrize("length", [24, 25, 40, 80])
def test_beyond_the_context_sinks_and_the_latest_tokens_stay(decoder, length):
    ids = np.random.default_rng(length).integers(0, 61, length).tolist()
    expected = windowed_logits(decoder.model, ids)
    np.testing.assert_allclose(fresh(decoder, ids), expected, atol=2e-5)


def test_beyond_the_context_it_can_not_go_back(decoder):
    fresh(decoder, [1] * 30)
    assert decoder.length(0) == 30
    assert decoder.truncate(0, 30)
    assert decoder.copy(0, 1, 30)
    np.testing.assert_array_equal(*decoder.feed([Feed(0, [2]), Feed(1, [2])]))
    assert not decoder.copy(0, 1, 20)
    assert (decoder.length(0), decoder.length(1)) == (31, 0)
    assert not decoder.truncate(0, 29)
    assert decoder.length(0) == 0
    np.testing.assert_allclose(
        decoder.feed([Feed(0, [3, 4])])[0], fresh(decoder, [3, 4], 2), atol=1e-5
    )


@pytest.mark.parametrize("context", [1, 2, 3, 4, 5])
def test_the_smallest_contexts_work(context):
    decoder = decoder_of(ModelSpec(**{**vars_of(SPEC), "context": context}))
    assert len(greedy(decoder, [1], 12)) == 12


def vars_of(spec):
    return {name: getattr(spec, name) for name in spec.__slots__}


@pytest.mark.parametrize("name", [name for name in NAMES if not needs_of(choose((name,)))])
def test_any_mechanism_goes_on_beyond_the_context(name):
    spec = with_mechanisms(SPEC, choose((name,)), None)
    decoder = decoder_of(spec)
    ids = np.random.default_rng(1).integers(1, 61, 40).tolist()
    whole = fresh(decoder, ids)
    assert np.isfinite(whole).all()
    decoder.truncate(0, 0)
    for token in ids:
        [by_one] = decoder.feed([Feed(0, [token])])
    np.testing.assert_allclose(by_one, whole, atol=1e-4)


@pytest.mark.parametrize("feeds", [[Feed(0, [])], [Feed(0, [1]), Feed(0, [2])]])
def test_a_feed_without_tokens_or_a_slot_of_its_own_is_refused(decoder, feeds):
    with pytest.raises(ValueError, match="slot of its own"):
        decoder.feed(feeds)


def test_threads_are_left_as_they_were(decoder):
    before = torch.get_num_threads()
    fresh(decoder, [1])
    fresh(decoder, [1, 2])
    assert torch.get_num_threads() == before


def test_transformers_writes_the_same(folder):
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
    assert greedy(TorchDecoder.load(folder), prompt, 16) == expected


def test_what_it_computes_is_laid_open(folder):
    """Attention and hidden states as transformers gives them; inputs that give the products."""
    transformers = pytest.importorskip("transformers")
    peer = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    ids = np.array([5, 17, 42, 9, 3, 3], np.int32)
    with torch.inference_mode():
        theirs = peer(
            torch.from_numpy(ids)[None].long(), output_attentions=True, output_hidden_states=True
        )
    decoder = TorchDecoder.load(folder)
    seen = decoder.observe(ids)
    np.testing.assert_allclose(seen.logits, theirs.logits[0], atol=1e-5)
    for layer, weights in enumerate(theirs.attentions):
        np.testing.assert_allclose(seen.attention[layer], weights[0], atol=1e-5)
    for before in range(SPEC.layers):
        np.testing.assert_allclose(seen.hidden[before], theirs.hidden_states[before][0], atol=1e-5)
    parameters = dict(decoder.model.named_parameters())
    assert set(seen.inputs) == {name for name, value in parameters.items() if value.dim() == 2} - {
        "embedding.weight"
    }
    np.testing.assert_allclose(
        seen.inputs["head.weight"] @ parameters["head.weight"].detach().numpy().T,
        seen.logits,
        atol=1e-5,
    )
    down = seen.inputs["blocks.1.feed_forward.down.weight"]
    out = seen.inputs["blocks.1.attention.out.weight"]
    added = [
        rows @ parameters[f"blocks.1.{name}.weight"].detach().numpy().T
        for rows, name in ((out, "attention.out"), (down, "feed_forward.down"))
    ]
    np.testing.assert_allclose(seen.hidden[1] + sum(added), seen.hidden[2], atol=1e-5)


@pytest.mark.parametrize("kept", ["hidden", "attention", "logits", "inputs"])
def test_only_what_is_to_be_kept_is_laid_open(decoder, kept):
    ids = np.array([5, 17, 42, 9, 3, 3], np.int32)
    whole, seen = decoder.observe(ids), decoder.observe(ids, keep={kept})
    assert_only(kept, seen, whole)


@pytest.mark.parametrize("length", [0, 25])
def test_what_does_not_fit_the_context_is_not_observed(decoder, length):
    with pytest.raises(ValueError, match="context"):
        decoder.observe(np.zeros(length, np.int32))


def test_a_damaged_model_is_named(folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(IntegrityError, match="damaged") as caught:
        TorchDecoder.load(tmp_path)
    assert "model.safetensors" in str(caught.value)
