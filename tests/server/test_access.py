"""Who may ask: names, origins, keys, cookies and links, for HTTP and WebSockets alike."""

import socket

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from cllm.errors import SettingsError
from cllm.server.access import Access, Asked, Entry, Refusal, is_loopback, make_access

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
    image = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert status(open_to_all, image, method="GET") == 403


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


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/..%2f..%2fetc%2fpasswd",
        "/v1/models/%2e%2e",
        "/api/models/..%2f..%2fcllm.db",
        "/v1/models/..%5c..%5cx",
        "/v1/models/%00",
    ],
)
def test_a_name_never_becomes_a_path(served, path):
    place = served.address.removeprefix("http://")
    host, port = place.split(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.split()[1] in (b"400", b"404")
    assert b"root:" not in answer
