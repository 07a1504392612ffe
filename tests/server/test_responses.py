"""`/v1/responses`: the form of the text."""

import json

import pytest

SCHEMA = {
    "type": "object",
    "properties": {"n": {"enum": [1, 2]}, "place": {"enum": ["mill", "river"]}},
    "required": ["n", "place"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "name": "mills", "schema": SCHEMA, "strict": True}


def ask(client, form, **body):
    whole = {"input": "How is the mill?", "temperature": 0, "max_output_tokens": 400, **body}
    return client.post("/v1/responses", json=whole | {"text": {"format": form}})


def text_of(response):
    return response["output"][0]["content"][0]["text"]


@pytest.mark.parametrize("model", ["story", "talk"])
def test_a_json_schema_is_obeyed(client, model):
    answer = ask(client, FORM, model=model).json()
    found = json.loads(text_of(answer))
    assert set(found) == {"n", "place"}
    assert found["n"] in (1, 2)
    assert found["place"] in ("mill", "river")
    assert answer["status"] == "completed"
    assert answer["text"]["format"] == FORM


def test_what_ends_a_turn_does_not_cut_a_form(client):
    """The model `talk` ends its turns with a line break, which may stand between braces."""
    schema = {"type": "object", "properties": {"n": {"const": 1}}, "required": ["n"]}
    form = {"type": "json_schema", "name": "n", "schema": schema | {"additionalProperties": False}}
    texts = [
        text_of(ask(client, form, model="talk", temperature=1, seed=n).json()) for n in range(8)
    ]
    assert [json.loads(text) for text in texts] == [{"n": 1}] * 8


def test_a_streamed_text_has_the_same_form(client):
    whole = ask(client, FORM).json()
    events = [
        json.loads(line[6:])
        for line in ask(client, FORM, stream=True).text.splitlines()
        if line.startswith("data: ")
    ]
    assert events[0]["response"]["text"]["format"] == FORM
    written = "".join(event["delta"] for event in events if event["type"].endswith("text.delta"))
    assert written == text_of(whole)
    assert events[-1]["response"]["text"]["format"] == FORM


def test_an_object_is_written_where_any_will_do(client):
    answer = ask(client, {"type": "json_object"}, max_output_tokens=20).json()
    assert text_of(answer).startswith("{")
    assert answer["text"]["format"] == {"type": "json_object"}


@pytest.mark.parametrize("text", [None, {}, {"format": None}, {"format": {"type": "text"}}])
def test_without_a_form_the_text_is_free(client, text):
    body = {"input": "How is the mill?", "temperature": 0, "max_output_tokens": 8}
    free = client.post("/v1/responses", json=body).json()
    answer = client.post("/v1/responses", json=body | {"text": text}).json()
    assert text_of(answer) == text_of(free)
    assert answer["text"] == {"format": {"type": "text"}}


@pytest.mark.parametrize(
    "form",
    [
        {"type": "poem"},
        {"type": "json_schema"},
        {"type": "json_schema", "name": "x", "schema": {"type": "mill"}},
        {"type": "json_schema", "name": "x", "schema": {"minimum": "x"}},
    ],
)
def test_a_form_that_is_not_known_is_refused(client, served, form):
    answer = ask(client, form)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == "text"
    assert error["message"]
    assert all(not model.num_users for model in served.service.pool.loaded())


@pytest.mark.parametrize("odd", ["NaN", r'"\ud800"', "1e400"])
@pytest.mark.parametrize("place", ["name", "description", "schema"])
def test_what_json_can_not_say_breaks_nothing(client, place, odd):
    fields = {"type": '"json_schema"', "schema": '{"enum": ["mill"]}'}
    fields |= {place: f'{{"enum": ["mill"], "default": {odd}}}' if place == "schema" else odd}
    form = ", ".join(f'"{name}": {value}' for name, value in fields.items())
    body = f'{{"input": "x", "max_output_tokens": 30, "text": {{"format": {{{form}}}}}}}'
    answer = client.post(
        "/v1/responses", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (200, 400), answer.text
    assert answer.json()
