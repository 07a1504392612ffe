"""What `write_gguf` writes, read by the gguf package; what it read back, against the model."""

import gguf
import numpy as np
import pytest
from gguf import quants
from model_folders import SHAPES, make_model, make_spec, make_tokenizer, make_weights

from cllm.errors import InputError, SettingsError
from cllm.export.gguf_reader import read_gguf
from cllm.export.gguf_writer import GGUF_DTYPES, write_gguf
from cllm.export.head_rows import to_halves, to_neighbours
from cllm.files import read_json
from cllm.model import initial_weights, load_weights, save_model
from cllm.model.mechanisms.choose import choose

BITS = {
    "f32": 32,
    "f16": 16,
    "bf16": 16,
    "q8_0": 8.5,
    "q5_1": 6,
    "q5_0": 5.5,
    "q4_1": 5,
    "q4_0": 4.5,
}


def field(reader: gguf.GGUFReader, name: str):
    return reader.get_field(name).contents()


def values_of(tensor: gguf.ReaderTensor) -> np.ndarray:
    return quants.dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1])


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gguf_package_reads_what_was_written(shape, tmp_path):
    tokenizer = make_model(tmp_path / "model", shape=shape)
    assert write_gguf(tmp_path / "model", tmp_path / "m.gguf") == [tmp_path / "m.gguf"]
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    spec, weights = load_weights(tmp_path / "model")
    kind = "llama" if shape.startswith("llama") else "qwen3"
    assert field(reader, "general.architecture") == kind
    assert field(reader, f"{kind}.context_length") == 128
    assert field(reader, f"{kind}.attention.head_count_kv") == spec.kv_heads
    assert field(reader, f"{kind}.rope.freq_base") == spec.rope_base
    assert field(reader, f"{kind}.attention.layer_norm_rms_epsilon") == np.float32(
        spec.norm_epsilon
    )
    assert field(reader, "tokenizer.ggml.pre") == "qwen2"
    tokens = field(reader, "tokenizer.ggml.tokens")
    assert tokens == [tokenizer.backend.id_to_token(i) for i in range(tokenizer.vocab_size)]
    assert field(reader, "tokenizer.ggml.token_type")[:2] == [gguf.TokenType.CONTROL, 1]
    assert field(reader, "tokenizer.ggml.eos_token_id") == 0
    assert not field(reader, "tokenizer.ggml.add_bos_token")
    found = {tensor.name: values_of(tensor) for tensor in reader.tensors}
    assert np.array_equal(found["token_embd.weight"], weights["embedding.weight"])
    assert ("output.weight" in found) == (not spec.tied)
    gate_up = np.concatenate([found["blk.1.ffn_gate.weight"], found["blk.1.ffn_up.weight"]])
    assert np.array_equal(gate_up, weights["blocks.1.feed_forward.gate_up.weight"])
    q = weights["blocks.0.attention.qkv.weight"][: spec.heads * spec.head_width]
    half = spec.head_width // 2
    if kind == "llama":
        # The second row in the file is the head's row D/2, which turns with its first.
        assert np.array_equal(found["blk.0.attn_q.weight"][1], q[half])
        assert np.array_equal(found["blk.0.attn_q.weight"][2], q[1])
    else:
        assert np.array_equal(found["blk.0.attn_q.weight"], q)


@pytest.mark.parametrize("dtype", GGUF_DTYPES)
def test_each_number_format_is_that_of_the_gguf_package(dtype, tmp_path):
    make_model(tmp_path / "model")
    write_gguf(tmp_path / "model", tmp_path / "m.gguf", dtype=dtype)
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    _, weights = load_weights(tmp_path / "model")
    kind = gguf.GGMLQuantizationType[dtype.upper()]
    for tensor in reader.tensors:
        wanted = kind if len(tensor.shape) == 2 else gguf.GGMLQuantizationType.F32
        assert tensor.tensor_type == wanted, tensor.name
    (table,) = [tensor for tensor in reader.tensors if tensor.name == "token_embd.weight"]
    assert table.n_bytes * 8 == table.n_elements * BITS[dtype]
    expected = quants.dequantize(quants.quantize(weights["embedding.weight"], kind), kind)
    assert np.array_equal(values_of(table), expected)
    ours = read_gguf(tmp_path / "m.gguf").read_weights()
    assert np.array_equal(ours["embedding.weight"], expected)
    assert np.array_equal(ours["norm.weight"], weights["norm.weight"])


def test_rows_that_are_no_whole_blocks_are_kept_in_float16(tmp_path):
    tokenizer = make_tokenizer()
    spec = make_spec(tokenizer.vocab_size, "llama-untied")
    odd = type(spec)(**{name: getattr(spec, name) for name in spec.__slots__} | {"mlp_width": 100})
    (tmp_path / "model").mkdir()
    save_model(tmp_path / "model", odd, make_weights(odd))
    tokenizer.save(tmp_path / "model")
    write_gguf(tmp_path / "model", tmp_path / "m.gguf", dtype="q4_0")
    kinds = {one.name: one.tensor_type for one in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    assert kinds["blk.0.ffn_down.weight"] == gguf.GGMLQuantizationType.F16
    assert kinds["blk.0.ffn_up.weight"] == gguf.GGMLQuantizationType.Q4_0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["bpe", "bytes"])
def test_a_written_model_is_read_back_as_it_was(shape, kind, tmp_path):
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    tokenizer = make_model(tmp_path / "model", shape=shape, kind=kind, chat_template=template)
    write_gguf(tmp_path / "model", tmp_path / "m.gguf")
    found = read_gguf(tmp_path / "m.gguf")
    spec, weights = load_weights(tmp_path / "model")
    assert found.spec == spec
    again = found.read_weights()
    assert list(again) == list(weights)
    assert all(np.array_equal(again[name], weights[name]) for name in weights)
    assert found.tokenizer.kind == kind
    assert found.tokenizer.backend.get_vocab() == tokenizer.backend.get_vocab()
    assert found.chat_template == template
    text = "The quick fox 日本 <|endoftext|>\n\t12"
    assert found.tokenizer.encode(text).tolist() == tokenizer.encode(text).tolist()


def test_halves_and_neighbours_by_hand():
    # One head of 4 rows, then another.
    rows = np.arange(8, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)
    turned = to_neighbours(rows, 4)
    assert turned[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert np.array_equal(to_halves(turned, 4), rows)
    wide = np.random.default_rng(0).standard_normal((24, 2)).astype(np.float32)
    assert np.array_equal(to_halves(to_neighbours(wide, 12), 12), wide)


@pytest.mark.parametrize("kind", ["words", "characters", "wordpiece", "unigram"])
def test_tokenisers_that_llama_cpp_lacks_are_refused_by_name(kind, tmp_path):
    make_model(tmp_path / "model", kind=kind)
    with pytest.raises(InputError, match=repr(kind)):
        write_gguf(tmp_path / "model", tmp_path / "m.gguf")
    assert not (tmp_path / "m.gguf").exists()


def test_mechanisms_are_refused_by_name(tmp_path):
    tokenizer = make_tokenizer("bytes")
    (tmp_path / "model").mkdir()
    plain = make_spec(tokenizer.vocab_size)
    names = {name: getattr(plain, name) for name in plain.__slots__}
    spec = type(plain)(**names | {"mechanisms": choose(("dampening",))})
    save_model(tmp_path / "model", spec, initial_weights(spec, 0))
    tokenizer.save(tmp_path / "model")
    with pytest.raises(InputError, match="dampening"):
        write_gguf(tmp_path / "model", tmp_path / "m.gguf")


def test_an_unknown_format_is_refused_with_those_there_are(tmp_path):
    make_model(tmp_path / "model")
    with pytest.raises(SettingsError) as caught:
        write_gguf(tmp_path / "model", tmp_path / "m.gguf", dtype="q4_K")
    assert "q4_0" in str(caught.value.hint)


def test_weights_beyond_float16_are_refused(tmp_path):
    make_model(tmp_path / "model")
    spec, weights = load_weights(tmp_path / "model")
    weights["embedding.weight"][3, 3] = 1e6
    save_model(tmp_path / "model", spec, weights)
    with pytest.raises(InputError, match="float16"):
        write_gguf(tmp_path / "model", tmp_path / "m.gguf", dtype="f16")
    write_gguf(tmp_path / "model", tmp_path / "m.gguf", dtype="bf16")


def test_the_config_of_a_model_without_head_norms_is_that_of_a_llama(tmp_path):
    make_model(tmp_path / "model", shape="llama")
    config = read_json(tmp_path / "model" / "config.json")
    assert config["model_type"] == "llama"
    assert config["architectures"] == ["LlamaForCausalLM"]
