"""Models without norms of queries and keys: everything but the compiled training has them."""

import pytest
from model_folders import make_spec, make_weights

from cllm.errors import NativeError
from cllm.files import read_json, write_json
from cllm.model import initial_weights, load_weights, save_model
from cllm.model.files import read_spec
from cllm.training.compiled_parts import require_head_norm


def test_a_llama_has_the_parameters_of_a_qwen_but_those_norms():
    llama, qwen = make_spec(300, "llama"), make_spec(300)
    missing = set(qwen.parameters()) - set(llama.parameters())
    assert missing == {
        f"blocks.{layer}.attention.{name}_norm.weight" for layer in (0, 1) for name in "qk"
    }
    assert set(initial_weights(llama, 0)) == set(llama.parameters())


def test_a_saved_llama_is_read_as_one(tmp_path):
    spec = make_spec(300, "llama")
    save_model(tmp_path, spec, make_weights(spec))
    assert load_weights(tmp_path)[0] == spec
    config = read_json(tmp_path / "config.json")
    assert config["model_type"] == "llama"
    # One of our own type, with mechanisms or packed, says so by itself.
    own = {"model_type": "cllm", "mechanisms": [], "has_head_norm": False}
    write_json(tmp_path / "config.json", config | own)
    assert read_spec(tmp_path) == spec


def test_the_compiled_engine_does_not_train_it():
    require_head_norm(make_spec(300))
    with pytest.raises(NativeError, match="norms of queries and keys"):
        require_head_norm(make_spec(300, "llama"))
