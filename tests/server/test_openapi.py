"""The description of the API is true: what follows it, and what does not, never breaks it."""

import itertools
import json
import time
import warnings
from dataclasses import dataclass, replace

import pytest
from tests.server.conftest import LIMITS, TEXT, make_model, running

from cllm.jobs.training_service import TrainingRequest, start_training
from cllm.jobs.uploads import save_text
from cllm.workspace.workspace import Workspace

# Each answers after a process of its own, of about two seconds.
SLOW = {
    "/api/plan",
    "/api/imports",
    "/api/models/{name}/export",
    "/api/models/{name}/quantise",
}
# What JSON can say and a person hardly means; the last two are no JSON of ours.
ODD = [
    *("null", "true", "-1", "0", "9223372036854775808", "1e308", '""', '"' + "x" * 5000 + '"'),
    *(r'"\u0000"', '"../x"', '"é\u202e "', "[]", "[[]]", "{}", '{"a": {"b": [null]}}'),
    *("NaN", r'"\ud800"'),
]
ODD_WORDS = ["", "%00", "..%2Fx", "-1", "9" * 30, "x" * 300, "%FF", "%C3%A9", "a%20b", "%22"]


@dataclass(frozen=True)
class Place:
    """A server over a workspace of every kind of thing, and what the things are called."""

    served: object
    workspace: Workspace
    known: dict


@pytest.fixture
def place(home):
    """A training seems to be at work, so that none is started."""
    workspace = Workspace(home)
    make_model(workspace, "story")
    settings = {"model.preset": "tiny", "model.context": 32, "train.batch_size": 4}
    settings |= {"train.sample_tokens": 4, "train.steps": 3, "train.precision": "float32"}
    run = start_training(workspace, TrainingRequest(name="made", text=TEXT, settings=settings)).id
    deadline = time.monotonic() + 120
    while workspace.runs.get(run).is_active:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert workspace.runs.get(run).state == "finished"
    talk = workspace.conversations.create(title="Mills", model="story").id
    message = workspace.conversations.add(talk, "user", "How is the mill?").id
    workspace.models.copy("story", "gone")
    from cllm.jobs.model_service import delete_model

    entry = delete_model(workspace, "gone").id
    known = {"run": run, "conversation": talk, "message": message, "name": "story"}
    known |= {"upload": save_text(workspace, TEXT).id, "entry": entry}
    time.sleep(1.1)  # ids of runs are seconds; "latest" is to be this one
    at_work = workspace.runs.create("other", {}).id
    limits = replace(LIMITS, most_tokens=16)
    with running(workspace, limits=limits, default_model="story") as served:
        yield Place(served, workspace, known)
    workspace.runs.update(at_work, state="finished")
    assert [record.id for record in workspace.runs.list()][-1] == run


def test_every_route_is_described(client):
    described = client.get("/openapi.json").json()
    paths = described["paths"]
    for path in (
        "/v1/models",
        "/v1/completions",
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/health",
        "/props",
        "/metrics",
        "/api/runs",
        "/api/models",
        "/api/conversations",
    ):
        assert path in paths, path
    routes = {
        f"{method} {path}": about
        for path, methods in paths.items()
        for method, about in methods.items()
    }
    assert [route for route, about in routes.items() if not about.get("description")] == []
    # Errors are told in OpenAI's form everywhere, never in the framework's own.
    assert [route for route, about in routes.items() if "422" in about["responses"]] == []
    error = {"$ref": "#/components/schemas/ErrorAnswer"}
    for about in routes.values():
        assert about["responses"]["4XX"]["content"]["application/json"]["schema"] == error
    # No page of documentation that fetches from elsewhere.
    assert client.get("/docs").status_code == 404


def requests_of(described, known):
    """(method, path, JSON body or None): each parameter in turn something odd."""
    for path, methods in described["paths"].items():
        for method, about in methods.items():
            if path in SLOW:
                continue
            named = [item for item in about.get("parameters", ()) if item["in"] == "path"]
            real = {item["name"]: known.get(item["name"], "x") for item in named}
            is_safe = method != "delete"
            body = about.get("requestBody", {}).get("content", {})
            for item, word in itertools.product(named, ODD_WORDS):
                yield method, path.format(**real | {item["name"]: word}), "{}" if body else None
            place = path.format(**real) if is_safe else path.format(**dict.fromkeys(real, "0"))
            is_endless = path.endswith("/events") or path == "/v1/responses"
            for item in about.get("parameters", ()):
                if item["in"] == "query" and not is_endless:
                    for word in ODD_WORDS:
                        yield method, f"{place}?{item['name']}={word}", "{}" if body else None
            if "application/json" in body:
                yield from ((method, place, text) for text in [*ODD, "{", ""])
                for fields in bodies(described, body["application/json"]["schema"]):
                    yield method, place, fields


def bodies(described, schema):
    """Bodies in which one field is odd and the needed ones are plain."""
    schema = described["components"]["schemas"].get(schema.get("$ref", "").split("/")[-1], schema)
    plain = {"prompt": '"x"', "input": '"x"', "role": '"user"', "text": '"x"', "name": '"x y"'}
    plain |= {"messages": '[{"role": "user", "content": "x"}]'}
    needed = {name: plain[name] for name in schema.get("required", ())}
    for name, odd in itertools.product(schema.get("properties", ()), ODD):
        fields = needed | {name: odd}
        yield "{" + ", ".join(f'"{key}": {value}' for key, value in fields.items()) + "}"


def test_nothing_odd_breaks_a_route(place):
    headers = {"Content-Type": "application/json"}
    num_asked = 0
    with place.served.client(headers=headers) as client:
        described = client.get("/openapi.json").json()
        for method, path, body in requests_of(described, place.known):
            content = None if body is None else body.encode()
            answer = client.request(method, path, content=content)
            assert answer.status_code < 500, (method, path, body, answer.text)
            if answer.status_code >= 400:
                assert answer.json()["error"]["message"], (method, path, body)
            num_asked += 1
        assert num_asked > 1000
        assert client.get("/health").status_code == 200
    talk = place.workspace.conversations.tree(place.known["conversation"])
    assert place.known["message"] in [message.id for message in talk]
    place.workspace.models.check("story")
    assert all(model.num_users == 0 for model in place.served.service.pool.loaded())


@pytest.mark.long
def test_whatever_follows_the_description_is_answered_as_described(place):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import schemathesis
        from hypothesis import HealthCheck, Phase, given, settings
        from hypothesis import strategies as st
        from jsonschema import Draft202012Validator
        from schemathesis import checks

    schema = schemathesis.openapi.from_url(f"{place.served.address}/openapi.json")
    checks.load_all_checks()
    kinds = ["status_code", "content_type", "response_headers", "response_schema"]
    wanted = [checks.CHECKS.get_one(f"{kind}_conformance") for kind in kinds]
    wanted.insert(0, checks.CHECKS.get_one("not_a_server_error"))
    raw = place.served.client().get("/openapi.json").json()
    curve = {"$ref": "#/components/schemas/Curve", "components": raw["components"]}

    def check(operation):
        @settings(
            max_examples=8 if operation.path in SLOW else 60,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.data())
        def run(data):
            case = data.draw(operation.as_strategy())
            is_deletion = operation.method.lower() == "delete"
            for name in case.path_parameters or {}:
                if not is_deletion and name in place.known and data.draw(st.booleans()):
                    case.path_parameters[name] = place.known[name]
            if operation.path.endswith("/events"):
                # Of a run at work, they would go on.
                case.path_parameters["run"] = place.known["run"]
            tame(case.body)
            answer = case.call(timeout=120)
            chosen = wanted
            if operation.path.endswith("/curve") and answer.status_code == 200:
                # The peer takes pairs of two types for a mistake.
                Draft202012Validator(curve).validate(answer.json())
                chosen = wanted[:-1]
            case.validate_response(answer, checks=chosen)

        run()

    num_checked = 0
    for found in schema.get_all_operations():
        check(found.ok())
        num_checked += 1
        if not place.workspace.models.exists("story"):
            # It has another name now, but is asked for again.
            make_model(place.workspace, "story")
    assert num_checked >= 50
    assert place.served.service.metrics.running._value.get() == 0
    assert all(model.num_users == 0 for model in place.served.service.pool.loaded())
    names = place.workspace.models.names()
    assert {"story", "made"} <= {*names}
    for name in names:
        place.workspace.models.check(name)


def tame(body):
    """Nothing that takes long, and no place of this machine."""
    if not isinstance(body, dict):
        return
    for name in ("folder", "path"):
        if isinstance(body.get(name), str):
            body[name] = body[name].lstrip("/~")
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        if isinstance(body.get(name), int):
            body[name] = min(body[name], 16)


def test_the_description_is_json_that_any_program_reads(client):
    text = client.get("/openapi.json").text
    described = json.loads(text, parse_constant=pytest.fail)
    assert described["openapi"].startswith("3.")

    def references(value):
        if isinstance(value, dict):
            yield from ([value["$ref"]] if "$ref" in value else [])
            value = list(value.values())
        if isinstance(value, list):
            for item in value:
                yield from references(item)

    for reference in references(described):
        found = described
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
