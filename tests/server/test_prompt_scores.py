"""What a model thinks of a text that is there already."""

import numpy as np
import torch

from cllm.model.files import load_weights
from cllm.model.transformer import Transformer


def test_the_likeliest_token_has_one_log_probability(client, workspace):
    """Clients find greedy tokens by comparing it with that of the likeliest, exactly."""
    spec, weights = load_weights(workspace.models.path("story"))
    model = Transformer(spec, None).eval()
    model.load_weights(weights)
    ids = [7, 40]
    with torch.no_grad():
        while len(ids) < 60:
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    body = {"prompt": ids, "max_tokens": 0, "echo": True, "logprobs": 3}
    found = client.post("/v1/completions", json=body).json()["choices"][0]["logprobs"]
    likeliest = [max(top.values()) for top in found["top_logprobs"][2:]]
    assert found["token_logprobs"][2:] == likeliest
    assert len(set(likeliest)) > 10
    assert found["token_logprobs"][1] < max(found["top_logprobs"][1].values())
    assert np.isfinite(found["token_logprobs"][1:]).all()
