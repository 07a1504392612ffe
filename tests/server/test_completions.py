"""A text goes on over HTTP exactly as it does from the command line."""

import gzip
import json
import math

import numpy as np
import pytest

from cllm.config import GenerateSettings
from cllm.jobs.generate import Wanted, generate
from cllm.model.files import load_weights
from cllm.model.transformer import Transformer

PROMPT = "The river ran"


def ask(client, **body):
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def stream(client, path="/v1/completions", **body):
    """The events of a stream; the last must be [DONE]."""
    with client.stream("POST", path, json={**body, "stream": True}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line[6:] for line in answer.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_the_text_is_that_of_the_command_line(client, workspace):
    settings = GenerateSettings(max_tokens=30, temperature=0.9, top_k=20, seed=5)
    found = generate("story", PROMPT, settings, workspace=workspace, wanted=Wanted(3))
    answer = ask(client, prompt=PROMPT, max_tokens=30, temperature=0.9, top_k=20, seed=5, n=3)
    choices = answer["choices"]
    assert [choice["text"] for choice in choices] == [sample.text for sample in found.samples]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    assert answer["usage"] == {
        "prompt_tokens": found.prompt_tokens,
        "completion_tokens": found.tokens,
        "total_tokens": found.prompt_tokens + found.tokens,
    }


def test_streamed_pieces_are_the_same_text(client):
    body = {"prompt": [PROMPT, "The mill"], "max_tokens": 40, "seed": 3, "n": 2}
    whole = ask(client, **body)
    pieces = stream(client, **body, stream_options={"include_usage": True})
    texts, finishes = [""] * 4, [None] * 4
    for piece in pieces[:-1]:
        assert piece["usage"] is None
        (choice,) = piece["choices"]
        texts[choice["index"]] += choice["text"]
        finishes[choice["index"]] = choice["finish_reason"]
    assert texts == [choice["text"] for choice in whole["choices"]]
    assert finishes == [choice["finish_reason"] for choice in whole["choices"]]
    assert pieces[-1]["choices"] == []
    assert pieces[-1]["usage"] == whole["usage"]


def test_text_token_ids_and_lists_of_them_are_the_same_prompt(client, served, workspace):
    from cllm.text.tokenizers import Tokenizer

    ids = [int(token) for token in Tokenizer.load(workspace.models.path("story")).encode(PROMPT)]
    prompts = (PROMPT, [PROMPT], ids, [ids])
    texts = [
        ask(client, prompt=prompt, max_tokens=12, temperature=0)["choices"][0]["text"]
        for prompt in prompts
    ]
    assert len(set(texts)) == 1


def test_a_stop_string_ends_the_text_before_it(client):
    text = ask(client, prompt=PROMPT, max_tokens=40, seed=1)["choices"][0]["text"]
    stop = text[len(text) // 2 :][:3]
    choice = ask(client, prompt=PROMPT, max_tokens=40, seed=1, stop=[stop])["choices"][0]
    assert choice["text"] == text[: text.index(stop)]
    assert choice["finish_reason"] == "stop"
    streamed = stream(client, prompt=PROMPT, max_tokens=40, seed=1, stop=stop)
    assert "".join(piece["choices"][0]["text"] for piece in streamed) == choice["text"]


def test_without_a_seed_each_request_draws_anew(client):
    body = {"prompt": PROMPT, "max_tokens": 40, "temperature": 1}
    texts = {ask(client, **body)["choices"][0]["text"] for _ in range(4)}
    assert len(texts) > 1


def test_logprobs_of_an_echoed_prompt_are_those_of_the_torch_model(client, workspace):
    import torch

    spec, weights = load_weights(workspace.models.path("story"))
    model = Transformer(spec, None).eval()
    model.load_weights(weights)
    body = {"prompt": PROMPT, "max_tokens": 3, "echo": True, "logprobs": 2, "temperature": 0}
    choice = ask(client, **body)["choices"][0]
    found = choice["logprobs"]
    assert choice["text"].startswith(PROMPT)
    from cllm.text.tokenizers import Tokenizer

    tokenizer = Tokenizer.load(workspace.models.path("story"))
    ids = [int(token) for token in tokenizer.encode(PROMPT)]
    with torch.no_grad():
        chances = model(torch.tensor([ids]))[0].double().log_softmax(-1).numpy()
    expected = [chances[place, token] for place, token in enumerate(ids[1:])]
    assert found["token_logprobs"][0] is None
    np.testing.assert_allclose(found["token_logprobs"][1 : len(ids)], expected, atol=1e-4)
    # Greedy: what is written is the likeliest.
    for value, top in list(zip(found["token_logprobs"], found["top_logprobs"], strict=True))[-3:]:
        assert value == pytest.approx(max(top.values()), abs=1e-5)
    assert found["text_offset"][: len(ids)] == [
        len("".join(found["tokens"][:place])) for place in range(len(ids))
    ]


def test_a_prompt_can_be_scored_without_writing(client):
    choice = ask(client, prompt=PROMPT, max_tokens=0, echo=True, logprobs=1)["choices"][0]
    longer = ask(client, prompt=PROMPT, max_tokens=1, echo=True, logprobs=1)["choices"][0]
    assert choice["text"] == PROMPT
    count = len(choice["logprobs"]["tokens"])
    assert choice["logprobs"]["token_logprobs"] == longer["logprobs"]["token_logprobs"][:count]


def test_the_best_of_several_has_the_highest_mean_logprob(client):
    body = {"prompt": PROMPT, "max_tokens": 12, "seed": 2, "logprobs": 0}
    every = ask(client, **body, n=6)["choices"]

    def mean(choice):
        return math.fsum(choice["logprobs"]["token_logprobs"]) / len(choice["logprobs"]["tokens"])

    best = ask(client, **body, n=2, best_of=6)["choices"]
    expected = sorted(every, key=mean, reverse=True)[:2]
    assert [choice["text"] for choice in best] == [choice["text"] for choice in expected]


def test_a_token_can_be_ruled_out(client):
    body = {"prompt": PROMPT, "max_tokens": 1, "temperature": 0, "logprobs": 0}
    first = ask(client, **body)["choices"][0]["logprobs"]["tokens"][0]
    found = client.post("/v1/embeddings", json={"input": first})
    assert found.status_code == 200
    banned = {str(token): -100 for token in range(200)}
    other = ask(client, **body, logit_bias=banned)["choices"][0]["logprobs"]["tokens"][0]
    allowed = ask(client, **body, logit_bias={str(token): -100 for token in range(200, 290)})
    assert {first, other, allowed["choices"][0]["logprobs"]["tokens"][0]} > {first}


def test_unknown_fields_are_ignored_and_aliases_known(client):
    body = {"prompt": PROMPT, "max_tokens": 8, "temperature": 0, "user": "me", "nonsense": [1]}
    texts = {
        ask(client, **body, model=name)["choices"][0]["text"]
        for name in ("story", "cllm", "", None)
    }
    assert len(texts) == 1
    assert ask(client, **body, model="cllm")["model"] == "story"


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"prompt": "x", "temperature": -1}, 400, "temperature"),
        ({"prompt": "x", "n": 0}, 400, "n"),
        ({"prompt": "x", "n": 3, "best_of": 2}, 400, "best_of"),
        ({"prompt": "x", "best_of": 2, "stream": True}, 400, "best_of"),
        ({"prompt": "x", "suffix": "y"}, 400, "suffix"),
        ({"prompt": [10**9]}, 400, "prompt"),
        ({"prompt": ["x"] * 65}, 400, "n"),
        ({"prompt": "x", "logit_bias": {"999999": 1}}, 400, "logit_bias"),
        ({"prompt": "x", "stop": ["a"] * 17}, 400, "stop"),
        ({"prompt": "mill " * 300, "echo": True, "logprobs": 1}, 400, "prompt"),
        ({"prompt": "x", "model": "nobody"}, 404, "model"),
        ({"prompt": "x", "model": "../../etc/passwd"}, 404, "model"),
    ],
)
def test_mistakes_are_told_in_the_form_of_openai(client, served, body, status, param):
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert error["param"] == param
    assert all(not model.num_users for model in served.service.pool.loaded())


def test_what_is_not_json_is_a_mistake_too(client):
    headers = {"Content-Type": "application/json"}
    answer = client.post("/v1/completions", content=b"{nonsense", headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_however_json_is_announced_it_is_read_the_same(client):
    body = json.dumps({"prompt": PROMPT, "max_tokens": 5, "seed": 1, "stop": "q", "unknown": [{}]})
    texts = []
    # The last is what curl says of what it is given with -d.
    curl = "application/x-www-form-urlencoded"
    for kind in ("application/json", "application/json; charset=utf-8", "application/x+json", curl):
        answer = client.post("/v1/completions", content=body, headers={"Content-Type": kind})
        assert answer.status_code == 200
        texts.append(answer.json()["choices"][0]["text"])
    texts.append(client.post("/v1/completions", content=body).json()["choices"][0]["text"])
    assert len(set(texts)) == 1
    for kind in ("text/plain", "application/json"):
        answer = client.post("/v1/completions", content=body[:-1], headers={"Content-Type": kind})
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_body_that_is_not_announced_as_json_is_told_so(client):
    headers = {"Content-Type": "text/plain"}
    for path, body in (("/v1/completions", b"prompt=x"), ("/api/conversations", b'{"title": "x"}')):
        answer = client.post(path, content=body, headers=headers)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert "JSON" in error["message"]
        assert "Content-Type: application/json" in error["hint"]


def test_json_of_another_kind_is_told_what_it_lacks(client):
    for kind in ("application/json", "application/x-www-form-urlencoded"):
        headers = {"Content-Type": kind}
        answer = client.post("/v1/completions", content=b"[]", headers=headers)
        assert answer.status_code == 400
        assert "dictionary" in answer.json()["error"]["message"]
        body = b'{"max_tokens": "many"}'
        answer = client.post("/v1/completions", content=body, headers=headers)
        assert answer.json()["error"]["param"] == "max_tokens"


def test_a_packed_body_is_refused_by_its_name(client):
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    body = gzip.compress(b'{"prompt": "x"}')
    answer = client.post("/v1/completions", content=body, headers=headers)
    assert answer.status_code == 415
    assert "Content-Encoding" in answer.json()["error"]["message"]


def test_a_model_that_is_not_there_is_told_in_openais_words(client):
    for name in ("gone", "openai/gone", "gone:latest"):
        answer = client.post("/v1/completions", json={"model": name, "prompt": "x"})
        assert answer.status_code == 404
        error = answer.json()["error"]
        assert (error["code"], error["param"]) == ("model_not_found", "model")
        assert name in error["message"]


def test_usage_counts_what_the_model_saw(client, served):
    model = served.service.pool.loaded()[0]
    prompt = [1] * (model.context + 30)
    answer = client.post("/v1/completions", json={"prompt": prompt, "max_tokens": 1})
    assert answer.json()["usage"]["prompt_tokens"] == model.context


def test_parts_of_a_character_are_named_by_their_bytes(client):
    """As OpenAI writes them, so that each has an entry of its own."""
    body = {"prompt": "a 👍 b", "max_tokens": 0, "echo": True, "logprobs": 5}
    found = client.post("/v1/completions", json=body).json()["choices"][0]["logprobs"]
    spelt = b"".join(
        bytes(int(byte, 16) for byte in token.removeprefix("bytes:\\x").split("\\x"))
        if token.startswith("bytes:")
        else token.encode()
        for token in found["tokens"]
    )
    assert spelt.decode() == "a 👍 b"
    for token, value, top in zip(
        found["tokens"][1:], found["token_logprobs"][1:], found["top_logprobs"][1:], strict=True
    ):
        assert top[token] == value
        assert len(top) in (5, 6)


def test_nothing_to_be_written_has_the_same_bounds(client):
    for body in ({"prompt": ["x"] * 65}, {"prompt": ["x"] * 2, "n": 64}):
        answer = client.post("/v1/completions", json=body | {"max_tokens": 0})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "n"
    body = {"prompt": "x", "max_tokens": 0, "best_of": 5, "echo": True}
    assert len(client.post("/v1/completions", json=body).json()["choices"]) == 1


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("completions", {"prompt": 5}, "prompt"),
        ("completions", {"prompt": "x", "stop": 5}, "stop"),
        ("completions", {"prompt": "x", "logprobs": 1000}, "logprobs"),
        ("completions", {"prompt": "x", "logit_bias": {"9" * 5000: 1}}, "logit_bias"),
        ("chat/completions", {"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ("chat/completions", {"messages": [{"role": "user"}], "max_tokens": 0}, "max_tokens"),
    ],
)
def test_the_field_that_is_wrong_is_named_as_it_is(client, path, body, param):
    answer = client.post(f"/v1/{path}", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
