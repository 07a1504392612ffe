"""What other programs' clients make of the server."""

import asyncio
import base64
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest

from cllm.server.access import make_access

PROMPT = "The river ran"
SAID = [{"role": "user", "content": "How is the mill?"}]


@pytest.fixture(autouse=True)
def no_other_settings(monkeypatch):
    """What a person has set up for other servers does not count here."""
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "LITELLM_", "LANGCHAIN_", "LANGSMITH_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "*")


def expected(served, path="/v1/completions", **body):
    return httpx.post(served.address + path, json=body, timeout=60).json()


def text_of(served, **body):
    return expected(served, **body)["choices"][0]["text"]


def turn_of(served, **body):
    answer = expected(served, "/v1/chat/completions", **body)
    return answer["choices"][0]["message"]["content"]


@pytest.fixture
def client(served):
    made = openai.OpenAI(base_url=f"{served.address}/v1", api_key="any", max_retries=0)
    with made:
        yield made


def test_openai_completes(client, served):
    body = {"model": "story", "prompt": PROMPT, "max_tokens": 20, "seed": 1, "n": 2}
    answer = client.completions.create(**body, logprobs=2, echo=True)
    assert answer.choices[0].text == PROMPT + text_of(served, **body)
    assert answer.choices[0].logprobs.token_logprobs[0] is None
    assert answer.usage.completion_tokens > 0
    pieces = client.completions.create(
        **body | {"n": 1}, stream=True, stream_options={"include_usage": True}
    )
    found = list(pieces)
    assert "".join(piece.choices[0].text for piece in found[:-1]) == text_of(
        served, **body | {"n": 1}
    )
    assert found[-1].usage.completion_tokens > 0


def test_openai_chats(client, served):
    body = {"model": "talk", "messages": SAID, "max_completion_tokens": 16, "seed": 1}
    turn = turn_of(served, **body)
    answer = client.chat.completions.create(**body, logprobs=True, top_logprobs=2)
    assert answer.choices[0].message.content == turn
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 2
    pieces = client.chat.completions.create(**body, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == turn
    with client.chat.completions.stream(**body) as events:
        said = [event.delta for event in events if event.type == "content.delta"]
    assert "".join(said) == turn


def test_openai_embeds_lists_and_responds(client, served):
    vectors = client.embeddings.create(model="story", input=["The river", "The mill"])
    plain = expected(served, "/v1/embeddings", model="story", input="The mill")
    # This client asks for base64 and unpacks it.
    assert vectors.data[1].embedding == plain["data"][0]["embedding"]
    assert [model.id for model in client.models.list()] == ["story", "talk"]
    assert client.models.retrieve("talk").id == "talk"
    body = {"model": "talk", "input": "How is the mill?", "max_output_tokens": 12}
    answer = client.responses.create(**body, temperature=0)
    turn = turn_of(served, model="talk", messages=SAID, max_tokens=12, temperature=0)
    assert answer.output_text == turn
    events = list(client.responses.create(**body, temperature=0, stream=True))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == turn
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.output_text == turn


def test_openai_raises_its_own_errors(client):
    with pytest.raises(openai.NotFoundError, match="nobody") as found:
        client.completions.create(model="nobody", prompt="x")
    assert (found.value.code, found.value.type) == ("model_not_found", "invalid_request_error")
    with pytest.raises(openai.BadRequestError, match="temperature") as found:
        client.completions.create(model="story", prompt="x", temperature=-1)
    assert found.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="../x", prompt="x")
    with pytest.raises(openai.NotFoundError, match="nobody"):
        client.chat.completions.create(model="nobody", messages=SAID, stream=True)
    with pytest.raises(openai.NotFoundError, match="nobody"):
        client.models.retrieve("nobody")
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model="story", input=[])
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="talk", input="x", previous_response_id="resp_1")


def test_openai_is_told_that_a_key_is_needed_and_that_the_queue_is_full(bounded):
    locked = bounded(access=make_access("127.0.0.1", api_key="a-long-secret-key"))
    address = f"{locked.address}/v1"
    with (
        openai.OpenAI(base_url=address, api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()
    with openai.OpenAI(base_url=address, api_key="a-long-secret-key", max_retries=0) as friend:
        assert friend.models.list().data
    busy = bounded(most_waiting=0)
    with openai.OpenAI(base_url=f"{busy.address}/v1", api_key="any", max_retries=0) as client:
        for more in ({}, {"stream": True}):
            with pytest.raises(openai.RateLimitError) as found:
                client.completions.create(model="story", prompt=PROMPT, **more)
            assert int(found.value.response.headers["retry-after"]) >= 1


def test_openai_says_it_in_its_many_ways(client, served):
    turn = turn_of(served, model="talk", messages=SAID, max_tokens=12, temperature=0)
    body = {"model": "talk", "temperature": 0, "max_completion_tokens": 12}
    parts = [{"type": "text", "text": "How is "}, {"type": "text", "text": "the mill?"}]
    messages = [{"role": "user", "content": parts}]
    answer = client.chat.completions.create(**body, messages=messages)
    assert answer.choices[0].message.content == turn
    # What these models have nothing to do with is passed over.
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    answer = client.chat.completions.create(
        **body,
        messages=SAID,
        tools=[tool],
        tool_choice="auto",
        user="somebody",
        metadata={"a": "b"},
        store=False,
        parallel_tool_calls=False,
        extra_body={"of_the_future": {"x": 1}},
    )
    assert answer.choices[0].message.content == turn
    assert answer.choices[0].message.tool_calls is None
    several = client.chat.completions.create(
        model="talk", messages=SAID, n=3, seed=4, temperature=1, max_tokens=8
    )
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in several.choices}) > 1
    pieces = list(
        client.chat.completions.create(
            **body, messages=SAID, stream=True, stream_options={"include_usage": True}
        )
    )
    assert pieces[-1].choices == [] and pieces[-1].usage == answer.usage
    assert all(piece.usage is None for piece in pieces[:-1])


def test_openai_ends_where_it_is_told_to(client, served):
    body = {"model": "story", "prompt": PROMPT, "temperature": 0, "max_tokens": 30}
    whole = client.completions.create(**body).choices[0].text
    one, other = whole[5:7], whole[12:15]
    for stop in (one, [one], [other, one], ["never said \u2603", one]):
        words = [stop] if isinstance(stop, str) else stop
        first = min(whole.find(word) for word in words if word in whole)
        answer = client.completions.create(**body, stop=stop).choices[0]
        assert (answer.text, answer.finish_reason) == (whole[:first], "stop")
        pieces = client.completions.create(**body, stop=stop, stream=True)
        assert "".join(piece.choices[0].text for piece in pieces) == answer.text
    assert client.completions.create(**body).choices[0].finish_reason == "length"


def test_openai_reads_how_likely_each_token_was(client):
    body = {"model": "story", "prompt": PROMPT, "temperature": 0, "max_tokens": 6}
    found = client.completions.create(**body, logprobs=3).choices[0]
    assert len(found.logprobs.tokens) == 6
    for token, value, best in zip(
        found.logprobs.tokens,
        found.logprobs.token_logprobs,
        found.logprobs.top_logprobs,
        strict=True,
    ):
        # The likeliest was taken, and no more is certain than all.
        assert value == pytest.approx(max(best.values()), abs=1e-5)
        assert best[token] == pytest.approx(value, abs=1e-5)
        assert sum(math.exp(one) for one in best.values()) <= 1 + 1e-6
    pieces = list(client.completions.create(**body, logprobs=3, stream=True))
    streamed = [
        value for piece in pieces if piece.choices for value in _values(piece.choices[0].logprobs)
    ]
    assert streamed == pytest.approx(found.logprobs.token_logprobs, abs=1e-4)
    answer = client.chat.completions.create(
        model="talk", messages=SAID, max_tokens=4, temperature=0, logprobs=True, top_logprobs=1
    )
    for item in answer.choices[0].logprobs.content:
        assert item.top_logprobs[0].logprob == pytest.approx(item.logprob, abs=1e-5)
        assert item.bytes is None or bytes(item.bytes).decode(errors="replace") == item.token


def _values(logprobs):
    return logprobs.token_logprobs if logprobs else []


def test_openai_embeds_in_both_forms_and_under_an_alias(client):
    packed = client.embeddings.create(model="story", input=["The river"])
    plain = client.embeddings.create(model="story", input=["The river"], encoding_format="float")
    raw = client.embeddings.with_raw_response.create(
        model="story", input="The river", encoding_format="base64"
    )
    text = json.loads(raw.text)["data"][0]["embedding"]
    numbers = np.frombuffer(base64.b64decode(text), dtype="<f4")
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-7)
    assert numbers.tolist() == packed.data[0].embedding
    assert packed.usage.total_tokens == plain.usage.total_tokens > 0
    # `cllm` stands for the default model.
    alias = client.embeddings.create(model="cllm", input=["The river"])
    assert alias.data[0].embedding == packed.data[0].embedding and alias.model == "story"
    body = {"prompt": PROMPT, "temperature": 0, "max_tokens": 8}
    named = client.completions.create(model="story", **body)
    assert client.completions.create(model="cllm", **body).choices[0].text == named.choices[0].text


def test_openai_can_be_asked_by_many_at_once(served):
    async def ask():
        async with openai.AsyncOpenAI(
            base_url=f"{served.address}/v1", api_key="any", max_retries=0
        ) as client:
            body = {"model": "story", "prompt": PROMPT, "max_tokens": 12, "temperature": 0}
            answers = [client.completions.create(**body) for _ in range(8)]
            return {answer.choices[0].text for answer in await asyncio.gather(*answers)}

    expected_text = text_of(served, model="story", prompt=PROMPT, max_tokens=12, temperature=0)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(asyncio.run, ask()).result() == {expected_text}


@pytest.mark.long
def test_langchain_talks_and_embeds(served):
    from langchain_openai import ChatOpenAI, OpenAI

    address = f"{served.address}/v1"
    chat = ChatOpenAI(
        model="talk", base_url=address, api_key="any", temperature=0, max_tokens=12, max_retries=0
    )
    turn = turn_of(served, model="talk", messages=SAID, temperature=0, max_tokens=12)
    assert chat.invoke("How is the mill?").content == turn
    assert "".join(piece.content for piece in chat.stream("How is the mill?")) == turn
    writer = OpenAI(
        model="story", base_url=address, api_key="any", temperature=0, max_tokens=12, max_retries=0
    )
    text = text_of(served, model="story", prompt=PROMPT, temperature=0, max_tokens=12)
    assert writer.invoke(PROMPT) == text


def test_curl_completes_and_streams(served):
    body = {"prompt": PROMPT, "max_tokens": 12, "temperature": 0}
    text = text_of(served, **body)

    def curl(**more):
        data = json.dumps(body | more)
        command = ["curl", "-sSN", "--noproxy", "*", f"{served.address}/v1/completions"]
        command += ["-H", "Content-Type: application/json", "-d", data]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert json.loads(curl())["choices"][0]["text"] == text
    lines = [line[6:] for line in curl(stream=True).splitlines() if line]
    assert lines[-1] == "[DONE]"
    pieces = [json.loads(line)["choices"][0]["text"] for line in lines[:-1]]
    assert "".join(pieces) == text


@pytest.mark.long
def test_litellm_completes_and_streams(served, monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    litellm.telemetry = False
    place = {"api_base": f"{served.address}/v1", "api_key": "any"}
    body = {"messages": SAID, "max_tokens": 12, "temperature": 0}
    turn = turn_of(served, model="talk", **body)
    answer = litellm.completion(model="openai/talk", **body, **place)
    assert answer.choices[0].message.content == turn
    pieces = litellm.completion(model="openai/talk", stream=True, **body, **place)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == turn
    vectors = litellm.embedding(model="openai/story", input=["The mill"], **place)
    plain = expected(served, "/v1/embeddings", model="story", input="The mill")
    assert vectors.data[0]["embedding"] == plain["data"][0]["embedding"]
    with pytest.raises(litellm.exceptions.NotFoundError):
        litellm.completion(model="openai/nobody", **body, **place, max_retries=0)


@pytest.mark.long
def test_llm_prompts(served, tmp_path):
    models = f"""
- model_id: mine
  model_name: talk
  api_base: "{served.address}/v1"
- model_id: mine-base
  model_name: story
  api_base: "{served.address}/v1"
  completion: true
"""
    (tmp_path / "extra-openai-models.yaml").write_text(models)
    environment = {**os.environ, "LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "any"}
    program = Path(sys.executable).with_name("llm")

    def ask(model, text, *flags):
        command = [program, "-m", model, *flags, "-o", "temperature", "0", "-o", "max_tokens", "12"]
        done = subprocess.run(
            [*command, text],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    turn = turn_of(served, model="talk", messages=SAID, temperature=0, max_tokens=12)
    assert ask("mine", "How is the mill?") == turn.strip()
    assert ask("mine", "How is the mill?", "--no-stream") == turn.strip()
    text = text_of(served, model="story", prompt=PROMPT, temperature=0, max_tokens=12)
    assert ask("mine-base", PROMPT) == text.strip()
