"""Texts as vectors."""

import base64
import json
import socket
import threading
import time
import tracemalloc

import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from tests.server.conftest import TEXT, make_model, running

from cllm.errors import InputError
from cllm.infer.torch_decoder import TorchDecoder
from cllm.model.files import load_weights
from cllm.model.transformer import Transformer
from cllm.server import embeddings
from cllm.text.tokenizers import Tokenizer
from cllm.workspace.workspace import Workspace

TEXTS = ["The river", "the old mill stood still"]
WIDTH = 32


def counts(client):
    """How many requests for vectors ended how."""
    return {
        sample.labels["outcome"]: sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
        if sample.name == "cllm_requests_total" and sample.labels["endpoint"] == "embeddings"
    }


def grown(client, before, outcome):
    return counts(client).get(outcome, 0) - before.get(outcome, 0)


def test_an_embedding_is_the_mean_of_the_torch_models_last_states(client, workspace):
    folder = workspace.models.path("story")
    spec, weights = load_weights(folder)
    model = Transformer(spec, None).eval()
    model.load_weights(weights)
    decoder, tokenizer = TorchDecoder(model, 1), Tokenizer.load(folder)
    found = client.post("/v1/embeddings", json={"model": "story", "input": TEXTS}).json()
    packed = client.post(
        "/v1/embeddings", json={"model": "story", "input": TEXTS, "encoding_format": "base64"}
    ).json()
    num_tokens = 0
    for text, entry, other in zip(TEXTS, found["data"], packed["data"], strict=True):
        ids = np.asarray(tokenizer.encode(text), np.int32)
        num_tokens += len(ids)
        expected = decoder.observe(ids).hidden[-1].mean(axis=0)
        np.testing.assert_allclose(entry["embedding"], expected, rtol=1e-3, atol=1e-3)
        assert (
            np.frombuffer(base64.b64decode(other["embedding"]), "<f4").tolist()
            == (entry["embedding"])
        )
    assert found["usage"] == {"prompt_tokens": num_tokens, "total_tokens": num_tokens}


def test_texts_that_have_no_vector_are_refused(client):
    for given in ([], [[]], [[10**6]], "the mill " * 200):
        answer = client.post("/v1/embeddings", json={"input": given})
        assert answer.status_code == 400, given
        assert answer.json()["error"]["message"]


def test_an_empty_text_is_refused_and_counted(client, served):
    before = counts(client)
    for given in ("", [""], ["The river", ""]):
        answer = client.post("/v1/embeddings", json={"input": given})
        assert answer.status_code == 400, given
        assert answer.json()["error"]["param"] == "input"
    assert grown(client, before, "refused") == 3
    assert grown(client, before, "done") == 0
    assert all(not model.num_users for model in served.service.pool.loaded())


def test_more_dimensions_than_the_model_has_are_refused(client):
    body = {"input": "The river"}
    whole = client.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
    assert len(whole) == WIDTH
    for count in (1, 5, WIDTH):
        found = client.post("/v1/embeddings", json={**body, "dimensions": count}).json()
        assert found["data"][0]["embedding"] == whole[:count]
    answer = client.post("/v1/embeddings", json={**body, "dimensions": WIDTH + 1})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == "dimensions"
    assert str(WIDTH) in error["message"].split()


def test_json_is_read_however_it_is_announced(client):
    content = json.dumps({"input": TEXTS})
    expected = client.post("/v1/embeddings", json={"input": TEXTS}).json()
    # What curl says of what it is given with -d.
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = client.post("/v1/embeddings", content=content, headers=headers)
    assert answer.status_code == 200
    assert answer.json() == expected


def test_the_answer_is_as_described(client):
    described = client.get("/openapi.json").json()
    schemas = described["components"]["schemas"]
    answers = described["paths"]["/v1/embeddings"]["post"]["responses"]
    found = client.post("/v1/embeddings", json={"input": TEXTS}).json()

    def named(schema):
        return schemas[schema["$ref"].split("/")[-1]]["properties"]

    whole = named(answers["200"]["content"]["application/json"]["schema"])
    assert set(whole) == set(found)
    assert set(named(whole["usage"])) == set(found["usage"])
    [entry, _] = found["data"]
    of_entry = named(whole["data"]["items"])
    assert set(of_entry) == set(entry) == {"object", "index", "embedding"}
    numbers = {"items": {"type": "number"}, "type": "array"}
    assert of_entry["embedding"]["anyOf"] == [numbers, {"type": "string"}]


def test_a_failure_is_counted(client, monkeypatch):
    before = counts(client)

    def fail(*_):
        raise RuntimeError("as a bug would")

    monkeypatch.setattr(embeddings, "mean_state", fail)
    assert client.post("/v1/embeddings", json={"input": TEXTS}).status_code == 500
    assert grown(client, before, "failed") == 1

    def refuse(*_):
        raise InputError("too long", where="input")

    monkeypatch.setattr(embeddings, "mean_state", refuse)
    assert client.post("/v1/embeddings", json={"input": TEXTS}).status_code == 400
    assert grown(client, before, "refused") == 1


def test_nothing_is_computed_for_a_client_that_has_left(client, served, monkeypatch):
    client.post("/v1/embeddings", json={"input": TEXTS})
    before, has_begun, num_read = counts(client), threading.Event(), 0

    def read_slowly(*_):
        nonlocal num_read
        num_read += 1
        has_begun.set()
        time.sleep(0.05)
        return np.zeros(WIDTH, np.float32)

    monkeypatch.setattr(embeddings, "mean_state", read_slowly)
    content = json.dumps({"input": ["The river"] * 400}).encode()
    host, port = served.address.removeprefix("http://").split(":")
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(content)}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as leaving:
        leaving.sendall(head.encode() + content)
        assert has_begun.wait(30)
    deadline = time.monotonic() + 10
    while not grown(client, before, "given up") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert grown(client, before, "given up") == 1
    assert num_read < 200
    assert all(not model.num_users for model in served.service.pool.loaded())


def test_neither_vectors_nor_scores_of_a_prompt_need_the_attention(tmp_path):
    workspace = Workspace(tmp_path / "home")
    context, layers, heads = 768, 2, 4
    make_model(workspace, "long", context=context)
    attention = 4 * layers * heads * context**2
    text = (TEXT * 2)[:1500]
    asked = [
        ("/v1/embeddings", {"input": text}),
        ("/v1/completions", {"prompt": text, "max_tokens": 0, "echo": True, "logprobs": 1}),
    ]
    with running(workspace, default_model="long") as served, served.client() as client:
        for path, body in asked:
            used = client.post(path, json=body).json()["usage"]
            assert context / 2 < used["prompt_tokens"] <= context
            tracemalloc.start()
            try:
                assert client.post(path, json=body).status_code == 200
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            length = used["prompt_tokens"]
            assert peak < attention * (length / context) ** 2 / 2, path
