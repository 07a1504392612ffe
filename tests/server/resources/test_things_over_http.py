"""Models, conversations and uploads over HTTP; the description of all of it."""

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cllm.files import write_folder, write_json


def make_model(workspace, name):
    with write_folder(workspace.models.root / name) as folder:
        write_json(folder / "config.json", {"max_position_embeddings": 64})
        write_json(folder / "training.json", {"figures": {"val_bits_per_byte": 2.5}})


def test_a_model_is_named_copied_deleted_and_brought_back(client, workspace):
    make_model(workspace, "a")
    assert client.get("/api/models/a").json()["bits_per_byte"] == 2.5
    assert client.post("/api/models/a/rename", json={"name": "b"}).json()["name"] == "b"
    assert client.get("/api/models/a").status_code == 404
    copied = client.post("/api/models/b/copy", json={"name": "c"})
    assert (copied.status_code, copied.json()["name"]) == (201, "c")
    assert client.post("/api/models/b/copy", json={"name": "c"}).status_code == 409
    over = client.post("/api/models/b/copy", json={"name": "c", "overwrite": True})
    assert over.status_code == 201
    assert client.post("/api/models/b/duplicate").json()["name"] == "b-2"
    assert client.post("/api/models/c/use").status_code == 204
    listed = client.get("/api/models").json()
    assert listed["last_used"] == "c"
    assert {model["name"] for model in listed["models"]} == {"b", "b-2", "c"}
    entry = client.delete("/api/models/c").json()
    assert [found["name"] for found in client.get("/api/trash").json()] == ["c", "c"]
    assert client.post(f"/api/trash/{entry['id']}/restore").json() == {"name": "c"}
    assert client.delete("/api/trash", params={"days": 0}).json() == {"removed": 1}
    assert client.delete("/api/models/b", params={"for_good": True}).json() is None
    assert client.delete("/api/models/b", params={"for_good": True}).status_code == 404
    assert client.get("/api/trash").json() == []
    assert client.put("/api/models/c/defaults", json={"temperature": 0.5}).status_code == 200
    assert client.get("/api/models/c/defaults").json() == {"temperature": 0.5}
    assert client.put("/api/models/c/defaults", json={"heat": 1}).status_code == 400


@pytest.mark.parametrize("name", ["..%2Fmodels", "%2e%2e", "a%00b", "%2Fetc", "a%5Cb", "x" * 300])
def test_a_name_never_becomes_a_path(client, workspace, name):
    make_model(workspace, "a")
    for method, path in [
        ("GET", f"/api/models/{name}"),
        ("DELETE", f"/api/models/{name}"),
        ("POST", f"/api/models/{name}/duplicate"),
        ("GET", f"/api/exports/{name}"),
        ("GET", f"/api/runs/{name}"),
        ("DELETE", f"/api/uploads/{name}"),
        ("POST", f"/api/trash/{name}/restore"),
        ("GET", f"/api/conversations/{name}"),
    ]:
        assert 400 <= client.request(method, path).status_code < 500
    for odd in ("../b", "/tmp/b", "b/c", ""):
        assert client.post("/api/models/a/rename", json={"name": odd}).status_code == 400
    assert client.get("/api/models/a").status_code == 200


def test_an_import_needs_one_place(client, tmp_path):
    for body in ({}, {"path": "/x", "upload": "y"}, {"path": "relative"}):
        assert client.post("/api/imports", json=body).status_code == 400
    (tmp_path / "x").mkdir()
    answer = client.post("/api/imports", json={"path": str(tmp_path / "x")})
    assert answer.status_code == 400 and "config.json" in answer.json()["error"]["message"]
    assert client.post("/api/imports", json={"path": "/nowhere"}).status_code == 404


def test_an_export_can_be_downloaded(client, workspace):
    folder = workspace.home / "exports"
    folder.mkdir(parents=True)
    (folder / "m-gguf.gguf").write_bytes(b"GGUF....")
    answer = client.get("/api/exports/m-gguf.gguf")
    assert answer.content == b"GGUF...."
    assert "m-gguf.gguf" in answer.headers["content-disposition"]


def test_a_conversation_with_branches(client):
    talk = client.post("/api/conversations", json={"title": "Foxes", "model": "m"}).json()["id"]
    path = f"/api/conversations/{talk}"
    ask = client.post(f"{path}/messages", json={"role": "user", "text": "q"}).json()
    one = client.post(f"{path}/messages", json={"role": "assistant", "text": "a red fox"}).json()
    two = client.post(
        f"{path}/messages", json={"role": "assistant", "text": "a2", "beside": one["id"]}
    ).json()
    assert two["parent"] == ask["id"] and two["siblings"] == [one["id"], two["id"]]
    assert client.post(f"{path}/messages/{one['id']}/select").json()["leaf"] == one["id"]
    page = client.get(f"{path}/messages", params={"limit": 1}).json()
    assert ([item["id"] for item in page["items"]], page["has_more"]) == ([one["id"]], True)
    above = client.get(f"{path}/messages", params={"before": one["id"]}).json()
    assert [item["id"] for item in above["items"]] == [ask["id"]]
    changed = client.patch(f"{path}/messages/{one['id']}", json={"text": "a blue fox"}).json()
    assert changed["text"] == "a blue fox"
    [found] = client.get("/api/conversations", params={"search": "blue"}).json()["items"]
    assert (found["conversation"]["id"], found["message"]) == (talk, one["id"])
    assert client.patch(path, json={"title": "Other"}).json()["title"] == "Other"
    export = client.get(f"{path}/export")
    assert export.headers["content-type"].startswith("text/markdown")
    assert "a blue fox" in export.text
    assert len(client.get(f"{path}/export", params={"form": "json"}).json()["messages"]) == 3
    assert client.delete(f"{path}/messages/{ask['id']}").json()["leaf"] is None
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404
    assert client.post(f"{path}/restore").json()["title"] == "Other"


@pytest.mark.parametrize(
    "search", ["%00", "a%00b", '"', "%25", "NEAR(", "%ED%A0%80", "'", "x" * 2000]
)
def test_whatever_is_searched_the_server_answers(client, search):
    client.post("/api/conversations", json={"title": "x"})
    assert client.get(f"/api/conversations?search={search}").status_code in (200, 400)


@pytest.mark.parametrize(
    "text", [r'"\ud800"', r'"a\u0000b"', "1", "null", "[]", '"' + "x" * 200_000 + '"']
)
def test_whatever_is_said_the_server_answers(client, text):
    talk = client.post("/api/conversations", json={}).json()["id"]
    content = f'{{"role": "user", "text": {text}}}'
    headers = {"Content-Type": "application/json"}
    answer = client.post(f"/api/conversations/{talk}/messages", content=content, headers=headers)
    assert answer.status_code in (201, 400)
    settings = f'{{"settings": {{"a": {text}, "b": NaN}}}}'
    answer = client.post("/api/conversations", content=settings, headers=headers)
    assert answer.status_code == 400
    assert client.get("/api/conversations").status_code == 200


@pytest.mark.parametrize("number", ["0", "-1", "9" * 30, "x", "1.5"])
def test_numbers_out_of_bounds_are_refused(client, number):
    talk = client.post("/api/conversations", json={}).json()["id"]
    path = f"/api/conversations/{talk}/messages"
    assert client.delete(f"{path}/{number}").status_code == 400
    assert client.get(path, params={"before": number}).status_code == 400
    if number != "0":
        assert client.get("/api/runs", params={"offset": number}).status_code == 400
    assert client.get("/api/runs", params={"limit": number}).status_code == 400


def test_a_file_is_handed_in_in_pieces(client, workspace):
    def pieces():
        for number in range(3000):
            yield f"line {number} of the text\n".encode() * 40

    answer = client.post("/api/uploads", params={"name": "../My text.txt"}, content=pieces())
    assert answer.status_code == 201, answer.text
    record = answer.json()
    size = sum(map(len, pieces()))
    assert (record["name"], record["kind"], record["num_bytes"]) == ("My text.txt", "text", size)
    assert "path" not in record
    path = workspace.uploads.get(record["id"]).path
    assert path.stat().st_size == size and path.is_relative_to(workspace.home / "uploads")
    assert client.get("/api/uploads").json() == [record]
    assert client.delete(f"/api/uploads/{record['id']}").status_code == 204
    assert client.get("/api/uploads").json() == []


def test_a_file_that_nothing_reads_or_that_breaks_off_leaves_nothing(client, workspace):
    answer = client.post("/api/uploads", params={"name": "a.txt"}, content=b"\x89PNG\r\n\x1a\n...")
    assert answer.status_code == 400 and "PNG" in answer.json()["error"]["message"]

    def broken():
        yield b"half of"
        raise KeyError

    with pytest.raises(KeyError):
        client.post("/api/uploads", params={"name": "a.txt"}, content=broken())
    assert client.get("/api/uploads").json() == []
    for _ in range(100):
        left = list(workspace.uploads.root.iterdir())
        if not left:
            break
        client.get("/api/uploads")
    assert left == []


def test_who_sends_nothing_for_a_while_is_told_so(client, workspace, monkeypatch):
    from cllm.server.resources import uploads

    monkeypatch.setattr(uploads, "IDLE_S", 0.2)
    server = client.base_url
    with socket.create_connection((server.host, server.port), timeout=30) as slow:
        slow.sendall(
            b"POST /api/uploads?name=a.txt HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 1000\r\n\r\nsome"
        )
        assert slow.recv(100).startswith(b"HTTP/1.1 408 ")
    assert client.get("/api/uploads").json() == []
    assert list(workspace.uploads.root.iterdir()) == []


def test_the_end_of_an_upload_holds_nobody_up(client, monkeypatch):
    from cllm.text import detect

    begun, may_end = threading.Event(), threading.Event()

    def detect_slowly(content):
        begun.set()
        assert may_end.wait(30)
        return "text"

    monkeypatch.setattr(detect, "detect_kind", detect_slowly)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(client.post, "/api/uploads", params={"name": "a.txt"}, content=b"x")
        try:
            assert begun.wait(30)
            assert client.get("/api/uploads", timeout=10).json() == []
        finally:
            may_end.set()
        assert coming.result().status_code == 201


def test_every_route_is_described(client):
    described = client.get("/openapi.json").json()
    ours = {path: about for path, about in described["paths"].items() if path.startswith("/api/")}
    assert len(ours) == 34
    for path, methods in ours.items():
        for method, route in methods.items():
            assert route["description"].strip(), (path, method)
            assert route["tags"]
    body = described["paths"]["/api/uploads"]["post"]["requestBody"]["content"]
    assert list(body) == ["application/octet-stream"]
    assert "TrainingStatus" in json.dumps(described["paths"]["/api/runs/{run}"])


def test_the_routes_load_no_torch():
    import subprocess
    import sys

    code = (
        "import sys, cllm.server.resources\n"
        "heavy = {'torch', 'numba', 'matplotlib', 'onnx'} & sys.modules.keys()\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
