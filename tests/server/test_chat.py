"""Conversations, in the model's own format or as a transcript."""

import json

import pytest

from cllm.config import GenerateSettings
from cllm.jobs.chat import Chat
from cllm.server.conversation import TRANSCRIPT
from cllm.text.chat_template import render_chat

SAID = [{"role": "user", "content": "How is the mill?"}]


def ask(client, path="/v1/chat/completions", **body):
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def deltas(client, **body):
    with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as answer:
        lines = [line[6:] for line in answer.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_a_model_of_dialogue_answers_as_it_does_in_the_terminal(client, workspace):
    settings = GenerateSettings(max_tokens=24, seed=4)
    talk = Chat("talk", settings, workspace=workspace, on_notice=lambda _: None)
    expected = "".join(talk.say(SAID[0]["content"]))
    answer = ask(client, model="talk", messages=SAID, max_completion_tokens=24, seed=4)
    assert answer["choices"][0]["message"]["content"] == expected
    pieces = deltas(client, model="talk", messages=SAID, max_tokens=24, seed=4)
    assert pieces[0]["choices"][0]["delta"]["role"] == "assistant"
    said = [piece["choices"][0]["delta"].get("content", "") for piece in pieces]
    assert "".join(said) == expected
    assert pieces[-1]["choices"][0]["finish_reason"] == answer["choices"][0]["finish_reason"]


def test_a_model_without_dialogue_goes_on_with_a_transcript(client):
    body = {"max_tokens": 20, "seed": 1, "temperature": 0.7}
    prompt = "Be brief.\n\nUser: Hello\nAssistant: Hi.\nUser: How is the mill?\nAssistant:"
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": [{"type": "text", "text": "How is "}, {"text": "the mill?"}]},
    ]
    answer = ask(client, model="story", messages=messages, **body)
    plain = ask(client, "/v1/completions", model="story", prompt=prompt, stop="\nUser:", **body)
    assert answer["choices"][0]["message"]["content"] == plain["choices"][0]["text"].lstrip()
    assert answer["usage"] == plain["usage"]


def test_the_oldest_turns_drop_out_where_the_context_ends(client):
    turns = [
        {"role": "user" if number % 2 == 0 else "assistant", "content": "the river " * 4}
        for number in range(41)
    ]
    system = {"role": "system", "content": "Be brief."}
    answer = ask(client, model="story", messages=[system, *turns], max_tokens=16)
    assert answer["usage"]["prompt_tokens"] <= 96 - 16
    rendered = render_chat(
        TRANSCRIPT.chat_template,
        [system, *turns[-1:]],
        add_generation_prompt=True,
        eos_token="<|endoftext|>",
    )
    shorter = ask(client, "/v1/completions", model="story", prompt=rendered, max_tokens=1)
    assert answer["usage"]["prompt_tokens"] >= shorter["usage"]["prompt_tokens"]


def test_the_form_of_a_json_schema_is_obeyed(client):
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
    schema["additionalProperties"] = False
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    answer = ask(client, messages=SAID, response_format=form, max_tokens=400, temperature=0)
    assert json.loads(answer["choices"][0]["message"]["content"])["n"] in (1, 2)
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_what_ends_a_turn_does_not_cut_a_form(client):
    """The model `talk` ends its turns with a line break, which may stand between braces."""
    schema = {"type": "object", "properties": {"n": {"const": 1}}, "required": ["n"]}
    form = {"schema": schema | {"additionalProperties": False}}
    body = {"messages": SAID, "response_format": {"type": "json_schema", "json_schema": form}}
    texts = [
        ask(client, **body, model="talk", temperature=1, seed=n, max_tokens=400)["choices"][0]
        for n in range(8)
    ]
    assert [json.loads(choice["message"]["content"]) for choice in texts] == [{"n": 1}] * 8


def test_logprobs_spell_the_text(client):
    body = {"messages": SAID, "max_tokens": 10, "logprobs": True, "top_logprobs": 3, "seed": 9}
    answer = ask(client, **body)
    found = answer["choices"][0]["logprobs"]["content"]
    assert len(found) == answer["usage"]["completion_tokens"]
    assert all(len(entry["top_logprobs"]) == 3 and entry["logprob"] <= 0 for entry in found)
    # A part of a character is told by its bytes alone.
    spelled = [(bytes(entry["bytes"]), entry["token"]) for entry in found]
    assert all(given.decode("utf-8", "replace") == token for given, token in spelled)
    streamed = [
        entry
        for piece in deltas(client, **body)
        for entry in (piece["choices"][0]["logprobs"] or {"content": []})["content"]
    ]
    assert streamed == found


@pytest.mark.parametrize(
    "body",
    [
        {"messages": []},
        {"messages": [{"role": "nobody", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        {"messages": SAID, "top_logprobs": 2},
        {"messages": SAID, "response_format": {"type": "poem"}},
        {"messages": SAID, "response_format": {"type": "json_schema"}},
        {
            "messages": SAID,
            "response_format": {"type": "json_schema", "json_schema": {"name": "x"}},
        },
        {"messages": SAID, "tool_choice": "required"},
        {"messages": SAID, "tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"messages": SAID, "function_call": {"name": "f"}},
    ],
)
def test_what_can_not_be_answered_is_refused(client, body):
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_tools_that_need_not_be_called_are_no_hindrance(client):
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    for choice in (None, "auto", "none"):
        asked = {"messages": SAID, "tools": tools, "tool_choice": choice, "max_tokens": 2}
        assert client.post("/v1/chat/completions", json=asked).status_code == 200


def test_a_response_is_the_same_turn(client):
    body = {"temperature": 0, "model": "talk"}
    turn = ask(client, messages=SAID, max_tokens=12, **body)["choices"][0]["message"]["content"]
    answer = ask(client, "/v1/responses", input=SAID[0]["content"], max_output_tokens=12, **body)
    assert answer["output"][0]["content"][0]["text"] == turn
    assert client.post("/v1/responses", json={"input": "x", "previous_response_id": "y"}).is_error
