"""The plain model is Qwen3: compared with transformers, weight for weight."""

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from cllm.config import ModelSettings
from cllm.errors import IntegrityError, SettingsError
from cllm.model import (
    KeyValueCache,
    Transformer,
    initial_weights,
    load_model,
    save_model,
    spec_from_settings,
)

SHAPES = {
    "tied": {"preset": "tiny"},
    "grouped": {"width": 96, "heads": 6, "kv_heads": 2, "head_width": 32, "layers": 3},
    "untied": {"width": 64, "heads": 2, "layers": 2, "tied": False, "rope_base": 500_000.0},
}


def make_model(shape: str, seed: int = 1) -> Transformer:
    spec = spec_from_settings(ModelSettings(**SHAPES[shape]), 300, "tiny")
    model = Transformer(spec).eval()
    model.load_weights(initial_weights(spec, seed))
    generator = torch.Generator().manual_seed(seed)
    # Gains of 1 would hide a norm that forgets them.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.copy_(1 + 0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def random_ids(model: Transformer, rows: int = 2, length: int = 100) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, model.spec.vocab_size, (rows, length), generator=generator)


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_equal_those_of_transformers_opening_the_folder(shape, tmp_path):
    model = make_model(shape)
    save_model(tmp_path, model.spec, model.weights())
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert type(reference).__name__ == "Qwen3ForCausalLM"
    ids = random_ids(model)
    with torch.no_grad():
        ours, theirs = model(ids), reference(ids).logits
    assert (ours - theirs).abs().max() < 1e-5
    assert sum(p.numel() for p in reference.parameters()) == model.spec.num_parameters


@pytest.mark.parametrize("shape", SHAPES)
def test_saved_and_loaded_weights_are_the_same(shape, tmp_path):
    model = make_model(shape)
    save_model(tmp_path, model.spec, model.weights())
    again = load_model(tmp_path)
    assert again.spec == model.spec
    for (name, ours), (_, theirs) in zip(
        model.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize("shape", SHAPES)
def test_one_token_at_a_time_equals_all_at_once(shape):
    model = make_model(shape)
    ids = random_ids(model, rows=1, length=40)
    cache = KeyValueCache(model.spec)
    with torch.no_grad():
        whole = model(ids)
        parts = [model(ids[:, :7], cache)]
        parts += [model(ids[:, i : i + 1], cache) for i in range(7, 40)]
    assert (torch.cat(parts, dim=1) - whole).abs().max() < 1e-5


def test_a_later_token_changes_nothing_before_it():
    model = make_model("grouped")
    ids = random_ids(model, rows=1)
    changed = ids.clone()
    changed[0, 60] = (changed[0, 60] + 1) % model.spec.vocab_size
    with torch.no_grad():
        before, after = model(ids), model(changed)
    assert torch.equal(before[:, :60], after[:, :60])
    assert not torch.equal(before[:, 60:], after[:, 60:])


def test_gradients_agree_with_finite_differences():
    spec = spec_from_settings(
        ModelSettings(width=8, heads=2, layers=1, context=6, mlp_width=8), 7, "tiny"
    )
    model = Transformer(spec)
    model.load_weights(initial_weights(spec, 0))
    model = model.double()
    ids = torch.tensor([[1, 2, 3, 4, 5, 6]])
    names, values = zip(*model.named_parameters(), strict=True)

    def loss(*weights):
        state = dict(zip(names, weights, strict=True))
        logits = torch.func.functional_call(model, state, (ids[:, :-1],))
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())

    inputs = tuple(value.detach().requires_grad_() for value in values)
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_list_of_parameters_is_that_of_the_model(shape):
    model = make_model(shape)
    found = {name: tuple(value.shape) for name, value in model.named_parameters()}
    assert list(found.items()) == list(model.spec.parameter_shapes().items())
    assert sum(value.numel() for value in model.parameters()) == model.spec.num_parameters


def test_each_block_begins_as_the_identity():
    spec = spec_from_settings(ModelSettings(**SHAPES["grouped"]), 300, "tiny")
    model = Transformer(spec).eval()
    model.load_weights(initial_weights(spec, 0))
    ids = random_ids(model)
    with torch.no_grad():
        plain = torch.nn.functional.linear(model.norm(model.embedding(ids)), model.embedding.weight)
        assert torch.equal(model(ids), plain)


@pytest.mark.parametrize("shape", SHAPES)
def test_heads_of_the_first_block_begin_by_looking_back(shape):
    """Head h puts most of its weight on the token h + 1 places back, whatever the tokens are."""
    spec = spec_from_settings(ModelSettings(**SHAPES[shape]), 300, "tiny")
    model = Transformer(spec).eval()
    model.load_weights(initial_weights(spec, 0))
    attention = model.blocks[0].attention
    group = spec.heads // spec.kv_heads
    with torch.no_grad():
        x = model.blocks[0].attention_norm(model.embedding(random_ids(model, length=48)))
        heads = attention.qkv(x).view(2, 48, -1, spec.head_width)
        q, k, _ = heads.split((spec.heads, spec.kv_heads, spec.kv_heads), dim=2)
        q = model.rotary(attention.q_norm(q).transpose(1, 2), 0)
        k = model.rotary(attention.k_norm(k).transpose(1, 2), 0).repeat_interleave(group, 1)
        scores = (q @ k.mT) * spec.head_width**-0.5
        for head in range(spec.heads):
            back = head // group + 1
            by_distance = [scores[:, head].diagonal(-n, 1, 2).mean() for n in range(12)]
            assert int(np.argmax(by_distance)) == back


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    one, two, other = make_model("tied", 1), make_model("tied", 1), make_model("tied", 2)
    assert torch.equal(one.embedding.weight, two.embedding.weight)
    assert not torch.equal(one.embedding.weight, other.embedding.weight)


def test_settings_that_do_not_fit_are_refused_by_name():
    with pytest.raises(SettingsError, match=r"model\.heads.*do not divide"):
        spec_from_settings(ModelSettings(width=100, heads=3), 300, "tiny")
    with pytest.raises(SettingsError, match=r"model\.head-width.*odd"):
        spec_from_settings(ModelSettings(width=9, heads=1), 300, "tiny")
    with pytest.raises(SettingsError, match=r"model\.kv-heads"):
        spec_from_settings(ModelSettings(width=96, heads=6, kv_heads=4), 300, "tiny")


def test_damaged_weights_are_named(tmp_path):
    model = make_model("tied")
    save_model(tmp_path, model.spec, model.weights())
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        load_model(tmp_path)
    path.write_bytes(whole)
    tensors = load_file(path)
    del tensors["model.norm.weight"]
    save_file(tensors, path)
    with pytest.raises(IntegrityError, match=r"lack model\.norm\.weight"):
        load_model(tmp_path)
    path.unlink()
    with pytest.raises(IntegrityError, match="missing"):
        load_model(tmp_path)
