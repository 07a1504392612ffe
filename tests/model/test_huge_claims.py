"""A configuration that claims a model of terabytes is refused before anything is allocated."""

import json

import pytest

from cllm.errors import IntegrityError
from cllm.model import initial_weights, save_model
from cllm.model.files import CONFIG, load_weights
from cllm.model.spec import ModelSpec

SPEC = ModelSpec(64, 32, 2, 2, 2, 16, 64, 32)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_position_embeddings", 10**11),
        ("max_position_embeddings", 0),
        ("num_hidden_layers", 10**9),
        ("vocab_size", 10**12),
        ("hidden_size", 10**9),
        ("intermediate_size", 10**12),
        ("num_attention_heads", 10**9),
        ("head_dim", -16),
    ],
)
def test_a_claim_of_terabytes_is_refused(name, value, tmp_path):
    save_model(tmp_path, SPEC, initial_weights(SPEC, 0))
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(config | {name: value}))
    with pytest.raises(IntegrityError):
        load_weights(tmp_path)
