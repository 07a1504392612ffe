"""Log-probabilities over HTTP: every token once, exact, and placed where it stands."""

import json
import math

import pytest
from tests.random_models import random_weights, small_spec
from tests.server.conftest import running

from cllm.model import save_model
from cllm.text.tokenizers import train_tokenizer
from cllm.workspace.workspace import Workspace

PROMPT = "The river ran"
# The end of a text, of the tokenisers that are ours.
EOS = "0"


def ask(client, **body):
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"]


def home_with(root, name, tokenizer, *, seed=0):
    """A home with one small model of random weights."""
    workspace = Workspace(root)
    spec = small_spec(tokenizer.vocab_size, layers=1, context=64)
    with workspace.models.write(name) as folder:
        save_model(folder, spec, random_weights(spec, seed))
        tokenizer.save(folder, context=spec.context)
    return workspace


@pytest.fixture(scope="module")
def bytewise(tmp_path_factory):
    """A server for a model with few tokens, each a byte."""
    tokenizer = train_tokenizer("bytes", lambda: iter(["x"]), vocab_size=None, num_characters=1)
    workspace = home_with(tmp_path_factory.mktemp("bytewise"), "bytes", tokenizer, seed=3)
    with running(workspace, default_model="bytes") as found, found.client() as client:
        yield client


def test_more_alternatives_than_tokens_end_no_text(tmp_path):
    letters = "the old mill stood"
    tokenizer = train_tokenizer(
        "characters", lambda: iter([letters]), vocab_size=None, num_characters=len(letters)
    )
    assert tokenizer.vocab_size < 20
    workspace = home_with(tmp_path, "letters", tokenizer)
    with running(workspace, default_model="letters") as served, served.client() as client:
        [choice] = ask(client, prompt="the", max_tokens=5, seed=1, logprobs=100)
        [plain] = ask(client, prompt="the", max_tokens=5, seed=1)
    assert choice["text"] == plain["text"]
    for found in choice["logprobs"]["top_logprobs"]:
        # All that there are are certain together.
        assert math.fsum(math.exp(value) for value in found.values()) == pytest.approx(1, abs=1e-5)


def test_the_likeliest_token_has_the_likeliest_value_to_the_last_bit(client):
    [choice] = ask(client, prompt=PROMPT, max_tokens=20, temperature=0, logprobs=1, echo=True)
    found = choice["logprobs"]
    pairs = list(zip(found["token_logprobs"], found["top_logprobs"], strict=True))
    # What is written without chance is always the likeliest.
    written = pairs[-20:]
    assert [value for value, _ in written] == [max(top.values()) for _, top in written]
    assert all(value <= max(top.values()) for value, top in pairs[1:])


def test_a_token_that_is_not_among_the_likeliest_is_told_too(client):
    [choice] = ask(client, prompt=PROMPT, max_tokens=40, temperature=3, logprobs=1, seed=3)
    found = choice["logprobs"]
    assert any(len(top) == 2 for top in found["top_logprobs"])
    for token, value, top in zip(
        found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True
    ):
        assert top[token] >= value


@pytest.mark.parametrize("is_streamed", [False, True])
def test_the_token_that_ends_a_text_is_scored_with_it(client, is_streamed):
    body = {"prompt": PROMPT, "max_tokens": 5, "logprobs": 1, "echo": True}
    [alone] = ask(client, **body | {"max_tokens": 0})
    ending = body | {"logit_bias": {EOS: 100}, "stream": is_streamed}
    if is_streamed:
        with client.stream("POST", "/v1/completions", json=ending) as answer:
            lines = [line[6:] for line in answer.iter_lines() if line.startswith("data: {")]
        choices = [choice for line in lines for choice in json.loads(line)["choices"]]
    else:
        choices = ask(client, **ending)
    assert "".join(choice["text"] for choice in choices) == PROMPT
    assert choices[-1]["finish_reason"] == "stop"
    tokens = [token for choice in choices for token in choice["logprobs"]["tokens"]]
    values = [value for choice in choices for value in choice["logprobs"]["token_logprobs"]]
    offsets = [at for choice in choices for at in choice["logprobs"]["text_offset"]]
    assert tokens == [*alone["logprobs"]["tokens"], ""]
    assert values[:-1] == alone["logprobs"]["token_logprobs"]
    # The model's own, before the bias.
    assert values[-1] < -0.1
    assert offsets == [*alone["logprobs"]["text_offset"], len(PROMPT)]


def test_a_text_that_ends_at_once_is_as_good_as_its_end_is_likely(client):
    body = {"prompt": PROMPT, "max_tokens": 3, "seed": 5, "logprobs": 0}
    body |= {"logit_bias": {EOS: 5}, "best_of": 8}
    every = ask(client, **body, n=8)

    def mean(choice):
        values = choice["logprobs"]["token_logprobs"]
        return math.fsum(values) / len(values)

    assert "" in [choice["text"] for choice in every]
    [best] = ask(client, **body, n=1)
    assert mean(best) == max(map(mean, every))


def test_tokens_that_share_a_character_stand_where_it_does(bytewise):
    text = "a🙂é b"
    [choice] = ask(bytewise, prompt=text, max_tokens=0, echo=True, logprobs=0)
    found = choice["logprobs"]
    assert found["text_offset"] == [0, 1, 1, 1, 1, 2, 2, 3, 4]
    assert choice["text"] == text
    body = {"messages": [{"role": "user", "content": "é"}], "max_tokens": 12, "logprobs": True}
    answer = bytewise.post("/v1/chat/completions", json=body | {"top_logprobs": 2, "seed": 4})
    [choice] = answer.json()["choices"]
    spelled = [entry["bytes"] for entry in choice["logprobs"]["content"]]
    assert all(len(one) == 1 for one in spelled)
    written = bytes(one[0] for one in spelled).decode("utf-8", "replace")
    assert written.lstrip() == choice["message"]["content"]
    for entry in choice["logprobs"]["content"]:
        assert len(entry["top_logprobs"]) == 2
        # The end of the text has no bytes.
        assert all(len(other["bytes"]) <= 1 for other in entry["top_logprobs"])
