"""Folders for transformers, and from it: its own models are the measure."""

import json

import numpy as np
import pytest
import torch
import transformers
from model_folders import SHAPES, TEXT, make_model
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch_file

from cllm.errors import InputError, IntegrityError
from cllm.export.huggingface import HUGGINGFACE_DTYPES, write_huggingface
from cllm.export.huggingface_reader import read_huggingface
from cllm.export.trials import make_texts
from cllm.model import Transformer, load_model, load_weights, save_model

TOLERANCE = {"float32": 1e-5, "float16": 2e-2, "bfloat16": 2e-1}
SIZES = {
    "vocab_size": 330,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def foreign_model(kind: str, **more):
    """A model as transformers makes it, every weight random."""
    torch.manual_seed(1)
    config = {"qwen3": transformers.Qwen3Config, "llama": transformers.LlamaConfig}[kind]
    model = transformers.AutoModelForCausalLM.from_config(config(**(SIZES | more))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


def save_foreign(model, folder, tokenizer_folder, **options) -> None:
    model.save_pretrained(folder, **options)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((tokenizer_folder / name).read_bytes())


def logits_of(found) -> tuple[np.ndarray, torch.Tensor]:
    """What our model of an import computes for some ids, and those."""
    ours = Transformer(found.spec).eval()
    ours.load_weights(found.read_weights())
    ids = torch.arange(1, 101).reshape(2, 50) * 3 % found.spec.vocab_size
    with torch.no_grad():
        return ours(ids).numpy(), ids


@pytest.mark.parametrize("dtype", HUGGINGFACE_DTYPES)
@pytest.mark.parametrize("shape", ["grouped", "llama-untied"])
def test_transformers_opens_the_folder_and_computes_the_same(shape, dtype, tmp_path):
    make_model(tmp_path / "model", shape=shape)
    written = write_huggingface(tmp_path / "model", tmp_path / "out", dtype=dtype)
    assert all(path.is_file() for path in written)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert str(theirs.dtype) == f"torch.{dtype}"
    ids = torch.arange(1, 97).reshape(2, 48) * 3 % 330
    with torch.no_grad():
        ours = load_model(tmp_path / "model")(ids)
        difference = (theirs.float()(ids).logits - ours).abs().max()
    assert difference < TOLERANCE[dtype]


def test_the_tokeniser_of_the_folder_splits_1000_texts_as_ours(tmp_path):
    tokenizer = make_model(tmp_path / "model")
    write_huggingface(tmp_path / "model", tmp_path / "out")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    texts = make_texts(tokenizer.spellings, np.random.default_rng(0))
    found = theirs(texts, add_special_tokens=False)["input_ids"]
    assert found == [ids.tolist() for ids in tokenizer.encode_batch(texts)]


def test_bfloat16_is_rounded_as_torch_rounds(tmp_path):
    make_model(tmp_path / "model")
    write_huggingface(tmp_path / "model", tmp_path / "out", dtype="bfloat16")
    whole = load_torch_file(tmp_path / "model" / "model.safetensors")
    half = load_torch_file(tmp_path / "out" / "model.safetensors")
    assert half.keys() == whole.keys()
    assert all(torch.equal(half[name], whole[name].bfloat16()) for name in whole)


def test_weights_beyond_float16_are_refused(tmp_path):
    make_model(tmp_path / "model")
    spec, weights = load_weights(tmp_path / "model")
    weights["norm.weight"][3] = 1e6
    save_model(tmp_path / "model", spec, weights)
    with pytest.raises(InputError, match="float16"):
        write_huggingface(tmp_path / "model", tmp_path / "out", dtype="float16")


def test_a_llama_whose_heads_do_not_divide_its_width_is_refused(tmp_path):
    """As transformers refuses it; llama.cpp does not."""
    make_model(tmp_path / "model", shape="llama-odd")
    with pytest.raises(InputError, match="6 heads"):
        write_huggingface(tmp_path / "model", tmp_path / "out")
    transformers.Qwen3Config(hidden_size=64, num_attention_heads=6, head_dim=16)
    with pytest.raises(Exception, match="not a multiple"):
        transformers.LlamaConfig(hidden_size=64, num_attention_heads=6, head_dim=16)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "llama-odd"])
def test_a_written_folder_is_read_back_as_it_was(shape, tmp_path):
    tokenizer = make_model(tmp_path / "model", shape=shape)
    write_huggingface(tmp_path / "model", tmp_path / "out")
    found = read_huggingface(tmp_path / "out")
    spec, weights = load_weights(tmp_path / "model")
    assert found.spec == spec
    again = found.read_weights()
    assert all(np.array_equal(again[name], weights[name]) for name in weights)
    assert found.tokenizer.kind == "bpe"
    assert found.tokenizer.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_models_of_transformers_compute_the_same_here(kind, tied, dtype, tmp_path):
    make_model(tmp_path / "model")
    rope = {"rope_theta": 300_000.0, "rope_type": "default"}
    model = foreign_model(kind, tie_word_embeddings=tied, rope_parameters=rope)
    model = model.to(getattr(torch, dtype))
    save_foreign(model, tmp_path / "theirs", tmp_path / "model", max_shard_size="40KB")
    assert (tmp_path / "theirs" / "model.safetensors.index.json").is_file()
    found = read_huggingface(tmp_path / "theirs")
    assert found.spec.has_head_norm == (kind == "qwen3")
    assert found.spec.rope_base == 300_000.0
    ours, ids = logits_of(found)
    # Not `model.float()`: its rotary frequencies were rounded with the weights.
    again = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "theirs", dtype=torch.float32
    )
    with torch.no_grad():
        theirs = again(ids).logits.numpy()
    assert np.abs(ours - theirs).max() < 2e-5


def test_older_configurations_are_read(tmp_path):
    """`rope_theta` at the top, no head_dim, no number of key-value heads, a tied head stored."""
    make_model(tmp_path / "model")
    model = foreign_model("llama", num_key_value_heads=4, tie_word_embeddings=True)
    save_foreign(model, tmp_path / "theirs", tmp_path / "model")
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    for name in ("rope_parameters", "head_dim", "num_key_value_heads", "dtype"):
        config.pop(name, None)
    config |= {"rope_theta": 10_000.0, "rope_scaling": None, "sliding_window": None}
    (tmp_path / "theirs" / "config.json").write_text(json.dumps(config))
    found = read_huggingface(tmp_path / "theirs")
    ours, ids = logits_of(found)
    with torch.no_grad():
        assert np.abs(ours - model(ids).logits.numpy()).max() < 2e-5


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rotary scaling"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "rotary scaling"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "rotary scaling"),
        ({"use_sliding_window": True, "sliding_window": 64}, "sliding window"),
        ({"sliding_window": 64}, "sliding window"),
        ({"layer_types": ["sliding_attention", "full_attention"]}, "sliding_attention"),
        ({"attention_bias": True}, "biases of attention"),
        ({"mlp_bias": True}, "biases of the feed-forward"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"partial_rotary_factor": 0.5}, "partly rotated"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"auto_map": {"AutoModel": "modeling.Model"}}, "code of its own"),
        ({"architectures": ["Qwen3ForSequenceClassification"]}, "Qwen3ForSequenceClassification"),
        ({"model_type": "gpt2"}, "gpt2"),
        ({"model_type": "cllm"}, "CLLM"),
    ],
)
def test_what_we_lack_is_refused_by_name(change, named, tmp_path):
    make_model(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    config.pop("use_sliding_window")
    path.write_text(json.dumps(config | change))
    with pytest.raises(InputError, match=named):
        read_huggingface(tmp_path / "model")


def test_a_window_that_is_switched_off_is_no_window(tmp_path):
    make_model(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text()) | {"sliding_window": 4096, "use_sliding_window": False}
    path.write_text(json.dumps(config))
    read_huggingface(tmp_path / "model")


def test_pickles_are_not_read(tmp_path):
    make_model(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(InputError) as caught:
        read_huggingface(tmp_path / "model")
    assert "safetensors" in str(caught.value.hint)


def test_tensors_of_parts_that_we_lack_are_refused_by_name(tmp_path):
    from safetensors.numpy import save_file

    make_model(tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    extra = {"model.layers.0.self_attn.q_proj.bias": np.zeros(64, np.float32)}
    save_file(load_file(path) | extra, path)
    with pytest.raises(InputError, match=r"q_proj\.bias"):
        read_huggingface(tmp_path / "model")


def test_shards_outside_of_the_folder_are_not_read(tmp_path):
    make_model(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "other.safetensors")
    index = {"weight_map": {"model.norm.weight": "../other.safetensors"}}
    (tmp_path / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(IntegrityError, match="no file of this folder"):
        read_huggingface(tmp_path / "model")
