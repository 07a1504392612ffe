"""Who may ask: names, origins, keys, cookies and links, for HTTP and WebSockets alike."""

import secrets
import shutil

import pytest
from tests.server.conftest import NAMES, ask_raw, running
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from cllm.errors import SettingsError
from cllm.jobs.serve import Serving, serve
from cllm.server.access import (
    Access,
    Asked,
    Entry,
    Refusal,
    is_loopback,
    make_access,
)
from cllm.workspace.workspace import Workspace

KEY = "a-long-secret-key"


def decide(access, headers=None, **more):
    asked = {"method": "POST", "path": "/v1/completions", "query": "", **more}
    return access.decide(Asked(headers={"host": "localhost:8000", **(headers or {})}, **asked))


def status(*args, **more):
    verdict = decide(*args, **more)
    return verdict.status if isinstance(verdict, Refusal) else None


@pytest.fixture
def open_to_all():
    return make_access("127.0.0.1", api_key=None)


@pytest.fixture
def keyed():
    return make_access("127.0.0.1", api_key=KEY)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.2", "::1", "[::1]"])
def test_loopback_needs_no_key(host):
    assert is_loopback(host)
    make_access(host, api_key=None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "10.0.0.1", "example.org", ""])
def test_any_other_address_needs_a_key(host):
    with pytest.raises(SettingsError, match="key"):
        make_access(host, api_key=None)
    assert make_access(host, api_key=KEY).api_key == KEY


@pytest.mark.parametrize("key", ["", "short", "pässword-länger"])
def test_a_weak_key_is_refused(key):
    with pytest.raises(SettingsError):
        make_access("127.0.0.1", api_key=key)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:8000"])
def test_known_names_are_answered(open_to_all, host):
    assert decide(open_to_all, {"host": host}) is None


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "localhost@evil.example",
        "127.0.0.1.evil.example",
        "192.168.1.5",
        "localhost:x",
        "localhost/x",
        "[::1",
    ],
)
def test_rebound_names_are_not(open_to_all, keyed, host):
    for method in ("GET", "POST"):
        assert status(open_to_all, {"host": host}, method=method) == 403
    shown = {"host": host, "authorization": f"Bearer {KEY}"}
    assert status(keyed, shown) == 403
    assert status(open_to_all, {"host": host}, is_websocket=True) == 403


@pytest.mark.parametrize("host", ["127.0.0.2", "::1", "0:0:0:0:0:0:0:1"])
def test_the_address_itself_is_known(host):
    access = make_access(host, api_key=None)
    shown = f"[{host}]:8000" if ":" in host else f"{host}:8000"
    assert decide(access, {"host": shown}) is None
    assert decide(access, {"host": "[::1]:8000"}) is None
    assert status(access, {"host": "127.0.0.3:8000"}) == 403


def test_other_names_and_addresses_are_known_where_they_were_given():
    access = make_access("0.0.0.0", api_key=KEY, names=("Mill.local",))
    shown = {"authorization": f"Bearer {KEY}"}
    for host in ("mill.local:8000", "192.168.1.5:8000", "localhost"):
        assert decide(access, {"host": host, **shown}) is None
    assert status(access, {"host": "evil.example", **shown}) == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://localhost:3000"},
        {"origin": "null"},
        {"origin": "file://"},
        {"origin": "http://localhost:8000", "sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_other_sites_change_nothing(open_to_all, headers):
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert status(open_to_all, headers, method=method) == 403
    assert status(open_to_all, headers, method="GET", is_websocket=True) == 403


def test_a_page_of_this_server_and_a_program_may_ask(open_to_all):
    own = {"origin": "http://localhost:8000", "sec-fetch-site": "same-origin"}
    assert decide(open_to_all, own) is None
    assert decide(open_to_all, own, is_websocket=True) is None
    assert decide(open_to_all) is None


def test_another_page_may_link_here_but_embed_nothing(open_to_all):
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert decide(open_to_all, link, method="GET") is None
    assert decide(open_to_all, link | {"sec-fetch-dest": "document"}, method="GET") is None
    image = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert status(open_to_all, image, method="GET") == 403
    # Also a page of this machine, to which the cookie would be sent, frames nothing of ours.
    for place in ("iframe", "frame", "embed", "object"):
        frame = {"sec-fetch-mode": "navigate", "sec-fetch-dest": place}
        for site in ("cross-site", "same-site"):
            assert status(open_to_all, frame | {"sec-fetch-site": site}, method="GET") == 403
        own = frame | {"sec-fetch-site": "same-origin"}
        assert decide(open_to_all, own, method="GET") is None


def test_a_key_is_asked_for_everywhere_but_of_health(keyed):
    for path in ("/", "/v1/models", "/props", "/metrics", "/openapi.json", "/api/runs", "//health"):
        assert status(keyed, method="GET", path=path) == 401
        assert decide(keyed, {"authorization": f"Bearer {KEY}"}, method="GET", path=path) is None
    assert decide(keyed, method="GET", path="/health") is None
    assert status(keyed, method="GET", path="/ws", is_websocket=True) == 401


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer ", f"Bearer {KEY}x", f"Basic {KEY}", KEY, "Bearer \xff", "é"]
)
def test_a_wrong_key_opens_nothing(keyed, given):
    assert status(keyed, {"authorization": given}) == 401


def test_keys_and_links_are_compared_in_constant_time(keyed, monkeypatch):
    compared = []
    equal = secrets.compare_digest

    def note(one, other):
        compared.append((bytes(one), bytes(other)))
        return equal(one, other)

    monkeypatch.setattr(secrets, "compare_digest", note)
    assert status(keyed, {"authorization": "Bearer wrong"}) == 401
    assert compared == [(b"wrong", KEY.encode())]
    token = keyed.new_link("http://localhost/").partition("token=")[2]
    assert status(keyed, method="GET", query="token=wrong") == 401
    assert (b"wrong", token.encode()) in compared
    assert status(keyed, {"cookie": "cllm=wrong"}) == 401
    assert (b"wrong", str(keyed.session).encode()) in compared


def test_a_link_opens_once_and_becomes_a_cookie():
    access = Access()
    token = access.new_link("http://localhost:8000/").partition("token=")[2]
    assert status(access, method="GET", path="/") == 401
    assert status(access, method="POST", path="/", query=f"token={token}") == 401
    verdict = decide(access, method="GET", path="/models", query=f"a=1&token={token}&b=2")
    assert verdict == Entry("/models?a=1&b=2")
    assert status(access, method="GET", path="/", query=f"token={token}") == 401
    assert decide(access, {"cookie": f"x=y; cllm={access.session}"}) is None
    assert status(access, {"cookie": "cllm=nonsense"}) == 401
    assert decide(access, {"cookie": f"cllm={access.session}"}, is_websocket=True) is None
    # Nor is the cookie's secret that of the link.
    assert access.session != token
    # Whoever is in already only loses the token in the address.
    again = {"cookie": f"cllm={access.session}"}
    assert decide(access, again, method="GET", query=f"token={token}&b=2") == Entry(
        "/v1/completions?b=2"
    )


def test_links_that_nobody_opens_are_forgotten_in_the_end():
    access = Access()
    links = [access.new_link("http://localhost/").partition("token=")[2] for _ in range(9)]
    opened = [
        isinstance(decide(access, method="GET", path="/", query=f"token={link}"), Entry)
        for link in links
    ]
    assert opened == [False, *[True] * 8]


@pytest.mark.parametrize(
    "jar",
    ['a={"x":1}; {0}', "a=b c; {0}", "{0}; =; ;", "{1}=old; {0}", 'é"; {0}', "$Version=1; {0}"],
)
def test_what_else_is_in_the_jar_does_not_matter(jar):
    access = Access()
    access.new_link("http://localhost/")
    own = jar.replace("{0}", f"cllm={access.session}").replace("{1}", "cllm")
    assert decide(access, {"cookie": own}) is None
    assert status(access, {"cookie": jar.replace("{0}", "cllm=x").replace("{1}", "cllm")}) == 401
    assert status(access, {"cookie": f"cllm2={access.session}"}) == 401


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\evil.example", "/x\r\nSet-Cookie: a"])
def test_a_link_leads_nowhere_else(path):
    access = Access()
    token = access.new_link("http://localhost/").partition("token=")[2]
    verdict = decide(access, method="GET", path=path, query=f"token={token}")
    assert isinstance(verdict, Entry)
    assert not verdict.location.startswith(("//", "/\\"))
    assert "\r" not in verdict.location


def test_secrets_are_not_shown(keyed):
    keyed.new_link("http://localhost/")
    assert KEY not in repr(keyed)
    assert str(keyed.session) not in repr(keyed)


def test_the_server_asks_for_all_this(bounded, capfd):
    access = make_access("127.0.0.1", api_key=KEY)
    served = bounded(access=access)
    body = {"prompt": "x", "max_tokens": 1}
    bearer = {"Authorization": f"Bearer {KEY}"}
    with served.client() as client:
        assert client.post("/v1/completions", json=body).status_code == 401
        assert client.post("/v1/completions", json=body, headers=bearer).status_code == 200
        foreign = bearer | {"Origin": "http://evil.example"}
        assert client.post("/v1/completions", json=body, headers=foreign).status_code == 403
        rebound = bearer | {"Host": "evil.example"}
        assert client.get("/v1/models", headers=rebound).status_code == 403
        assert "access-control-allow-origin" not in client.get("/health", headers=foreign).headers
        link = access.new_link(f"{served.address}/v1/models")
        entered = client.get(link)
        assert entered.status_code == 303
        cookie = entered.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert client.get(entered.headers["location"]).status_code == 200
        client.cookies.clear()
        assert client.get(link).status_code == 401
    shown = capfd.readouterr()
    assert KEY not in shown.out + shown.err
    assert link.partition("token=")[2] not in shown.out + shown.err


def test_a_websocket_needs_the_key_too(bounded):
    served = bounded(access=make_access("127.0.0.1", api_key=KEY))
    for headers in ({}, {"Authorization": "Bearer nonsense"}):
        with pytest.raises(InvalidStatus) as refused:
            connect(served.address.replace("http", "ws") + "/x", additional_headers=headers)
        assert refused.value.response.status_code == 403


def test_other_refusals_are_told_to_browsers_too(bounded):
    served = bounded(access=make_access("127.0.0.1", api_key=KEY))
    with served.client(headers={"Accept": "text/html"}) as browser:
        assert "A key is needed" in browser.get("/").text
        assert "Not by this name" in browser.get("/", headers={"Host": "evil.example"}).text
        framed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
        assert "Not from another site" in browser.get("/", headers=framed).text
        assert browser.post("/v1/completions").json()["error"]["type"] == "authentication_error"


def test_an_address_for_others_is_not_served_without_a_key(workspace):
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        with pytest.raises(SettingsError, match="key"):
            serve(workspace, Serving(host=host, port=0))


def test_a_request_has_exactly_one_host(served):
    place = served.address.removeprefix("http://").encode()
    end = b"\r\nConnection: close\r\n\r\n"
    for hosts, expected in (
        (b"Host: " + place, b"200"),
        (b"Host: " + place + b"\r\nHost: evil.example", b"403"),
        (b"Host: evil.example\r\nHost: " + place, b"403"),
        (b"X-Forwarded-Host: " + place + b"\r\nHost: evil.example", b"403"),
        (b"Host:", b"403"),
        (b"X: y", b"403"),
    ):
        answer = ask_raw(served.address, b"GET /health HTTP/1.1\r\n" + hosts + end)
        assert answer.split()[1] in (expected, b"400"), hosts
    # The name in an absolute address does not stand for the one in the header.
    absolute = b"GET http://" + place + b"/health HTTP/1.1\r\nHost: evil.example"
    assert ask_raw(served.address, absolute + end).split()[1] == b"403"


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize(
    ("method", "place"),
    [
        ("GET", "/v1/models/{}"),
        ("GET", "/api/models/{}"),
        ("DELETE", "/api/models/{}"),
        ("POST", "/api/models/{}/duplicate"),
        ("GET", "/api/runs/{}"),
        ("GET", "/api/conversations/{}"),
        ("POST", "/api/trash/{}/restore"),
    ],
)
def test_a_name_never_becomes_a_path(served, workspace, method, place, name):
    host = served.address.removeprefix("http://")
    line = f"{method} {place.format(name)} HTTP/1.1\r\nHost: {host}\r\n"
    length = "Content-Length: 0\r\nConnection: close\r\n\r\n"
    answer = ask_raw(served.address, (line + length).encode())
    assert answer.split()[1] in (b"400", b"404", b"405", b"422"), answer
    for secret in (b"root:", b"SQLite", str(workspace.home).encode(), b"Traceback"):
        assert secret not in answer


@pytest.mark.parametrize("name", ["../x", "..", "a/b", "\0", "/etc", "a" * 65, "⁄etc", "con", ""])
def test_a_new_name_is_checked_too(client, name):
    for place in ("rename", "copy"):
        answer = client.post(f"/api/models/story/{place}", json={"name": name})
        assert answer.status_code in (400, 409, 422), answer.text


def test_an_error_tells_no_place_on_this_machine(tmp_path, workspace):
    home = tmp_path / "a-home-of-mine"
    shutil.copytree(workspace.home / "models", home / "models")
    weights = home / "models" / "story" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (home / "models" / "talk" / "config.json").write_text("{")
    with running(Workspace(home), default_model="story") as served, served.client() as client:
        for model in ("story", "talk", "nobody"):
            for place in ("/v1/completions", "/v1/chat/completions", "/v1/embeddings"):
                turns = [{"role": "user", "content": "x"}]
                body = {"model": model, "prompt": "x", "messages": turns, "input": "x"}
                answer = client.post(place, json=body)
                assert answer.status_code in (404, 500)
                assert answer.json()["error"]["message"]
                assert "a-home-of-mine" not in answer.text
