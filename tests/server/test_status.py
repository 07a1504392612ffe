"""Models, properties and figures."""

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.server.conftest import make_model, running

from cllm.workspace.workspace import Workspace


def test_the_models_are_listed(client):
    listed = client.get("/v1/models").json()
    assert [entry["id"] for entry in listed["data"]] == ["story", "talk"]
    assert client.get("/v1/models/talk").json() == listed["data"][1]
    assert client.get("/v1/models/cllm").json() == listed["data"][0]
    assert client.get("/v1/models/nobody").status_code == 404


def test_health_properties_and_what_is_not_there(client):
    assert client.get("/health").json() == {"status": "ok"}
    client.post("/v1/completions", json={"model": "talk", "prompt": "x", "max_tokens": 1})
    properties = client.get("/props").json()
    assert properties["default_model"] == "story"
    loaded = {model["name"]: model for model in properties["loaded_models"]}
    assert loaded["talk"]["context"] == 96
    assert loaded["talk"]["is_chat"]
    missing = client.get("/v1/nonsense")
    assert missing.status_code == 404
    assert missing.json()["error"]["type"] == "invalid_request_error"


def test_head_answers_as_get_does_without_the_body(client):
    for path in ("/health", "/v1/models", "/v1/models/story", "/props", "/api/models", "/nonsense"):
        whole, head = client.get(path), client.head(path)
        assert head.status_code == whole.status_code
        assert head.headers["content-type"] == whole.headers["content-type"]
        assert head.content == b""
    # Nobody asks for the head of a text.
    assert client.head("/v1/completions").status_code == 405
    # The connection is as good as before.
    assert client.get("/health").json() == {"status": "ok"}


def test_a_folder_that_is_no_model_is_none(tmp_path):
    place = Workspace(tmp_path / "home")
    make_model(place, "one")
    (place.home / "models" / "empty").mkdir()
    (place.home / "models" / "link").symlink_to("/usr", target_is_directory=True)
    with running(place) as served, served.client() as client:
        for name in ("empty", "link"):
            assert client.get(f"/v1/models/{name}").status_code == 404
            assert client.get(f"/api/models/{name}").status_code == 404
            assert write(client, name).status_code == 404


@pytest.fixture
def own(tmp_path):
    """A server over models of its own, which may be renamed and deleted."""
    place = Workspace(tmp_path / "home")
    for number, name in enumerate(("one", "two")):
        make_model(place, name, seed=number)
    with running(place, default_model="two") as served, served.client() as found:
        yield found


def write(client, model):
    body = {"model": model, "prompt": "The river", "max_tokens": 4, "seed": 1}
    return client.post("/v1/completions", json=body)


def loaded(client):
    return {model["name"] for model in client.get("/props").json()["loaded_models"]}


def test_a_deleted_model_is_let_go_and_comes_back(own):
    before = write(own, "one").json()["choices"][0]["text"]
    assert loaded(own) == {"one"}
    entry = own.delete("/api/models/one").json()
    assert loaded(own) == set()
    missing = write(own, "one")
    assert missing.status_code == 404
    error = missing.json()["error"]
    assert error["param"] == "model"
    assert "'one'" in error["message"]
    assert "two" in missing.json()["error"]["hint"]
    assert own.post(f"/api/trash/{entry['id']}/restore").status_code == 200
    assert write(own, "one").json()["choices"][0]["text"] == before


def test_a_renamed_model_answers_to_its_new_name_alone(own):
    before = write(own, "one").json()["choices"][0]["text"]
    assert own.post("/api/models/one/rename", json={"name": "uno"}).status_code == 200
    assert loaded(own) == set()
    assert write(own, "one").status_code == 404
    assert "uno" in write(own, "one").json()["error"]["hint"]
    assert write(own, "uno").json()["choices"][0]["text"] == before


def test_an_overwritten_model_writes_as_the_new_one(own):
    old, new = (write(own, name).json()["choices"][0]["text"] for name in ("one", "two"))
    assert old != new
    body = {"name": "one", "overwrite": True}
    assert own.post("/api/models/two/copy", json=body).status_code == 201
    assert loaded(own) == {"two"}
    assert write(own, "one").json()["choices"][0]["text"] == new


def test_chosen_defaults_hold_from_the_next_text_on(own):
    assert write(own, "one").status_code == 200
    body = {"model": "one", "prompt": "The river", "seed": 1}
    own.put("/api/models/one/defaults", json={"max_tokens": 3})
    assert own.post("/v1/completions", json=body).json()["usage"]["completion_tokens"] <= 3


def figures(client):
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (sample.name, sample.labels.get("outcome")): sample.value
        for family in families
        for sample in family.samples
        if sample.labels.get("endpoint", "completions") == "completions"
    }


def test_the_figures_count_what_was_written(client):
    client.post("/v1/completions", json={"prompt": "x", "max_tokens": 1})
    before = figures(client)
    answer = client.post("/v1/completions", json={"prompt": "The river", "max_tokens": 7}).json()
    after = figures(client)

    def grown(name, outcome=None):
        return after[name, outcome] - before[name, outcome]

    assert grown("cllm_generation_tokens_total") == answer["usage"]["completion_tokens"]
    assert grown("cllm_prompt_tokens_total") == answer["usage"]["prompt_tokens"]
    assert grown("cllm_time_to_first_token_seconds_count") == 1
    assert grown("cllm_requests_total", "done") == 1
    for name in ("cllm_requests_running", "cllm_texts_running", "cllm_texts_waiting"):
        assert after[name, None] == 0
