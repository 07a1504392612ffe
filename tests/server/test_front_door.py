"""The app's door: every address, the WebSocket, one-time links, second starts."""

import base64
import contextlib
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import time
from types import SimpleNamespace

import httpx
import pytest
from tests.server.conftest import NAMES, ask_raw, make_model
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from cllm.jobs.running_app import RunningApp, running_app
from cllm.server.access import OPENER_PATH
from cllm.workspace.workspace import Workspace


@pytest.fixture(scope="module")
def opened_app(tmp_path_factory):
    """The app in a process of its own, as a person starts it, and a browser's way in."""
    home = tmp_path_factory.mktemp("opened") / "home"
    make_model(Workspace(home), "story")
    with app_process(home, "--port", "0") as (link, _):
        address = link.partition("/?")[0]
        with httpx.Client(base_url=address, timeout=30) as browser:
            entered = browser.get(link)
            assert entered.status_code == 303
            name, _, value = entered.headers["set-cookie"].partition(";")[0].partition("=")
            yield SimpleNamespace(
                home=home,
                link=link,
                address=address,
                browser=browser,
                name=name,
                cookie=f"{name}={value}",
            )


@contextlib.contextmanager
def app_process(home, *flags):
    """`cllm app` with these flags: the link that it says, and its process."""
    command = "import sys; from cllm.cli.main import run; sys.exit(run(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "app", "--no-browser", "--json", *flags],
        env={**os.environ, "CLLM_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield json.loads(process.stdout.readline())["address"], process
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()
        process.stderr.close()


POLLING = "/_nicegui_ws/socket.io/?EIO=4&transport=polling"
PLACES = ("/", "/chat", "/static/app.css", POLLING, "/v1/models", "/openapi.json", "/nothing")


@pytest.mark.parametrize("place", PLACES)
def test_every_address_of_the_app_is_behind_the_door(opened_app, place):
    with httpx.Client(base_url=opened_app.address, timeout=30) as stranger:
        refused = stranger.get(place)
        assert refused.status_code == 401
        assert refused.json()["error"]["type"] == "authentication_error"
        assert "set-cookie" not in refused.headers
    rebound = opened_app.browser.get(place, headers={"Host": "evil.example"})
    assert rebound.status_code == 403
    embedded = {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}
    assert opened_app.browser.get(place, headers=embedded).status_code == 403
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        foreign = {"Origin": "http://evil.example"}
        answer = opened_app.browser.request(method, place, headers=foreign, content=b"x")
        assert answer.status_code == 403
    own = opened_app.browser.get(place)
    assert own.status_code in (200, 302, 307, 404) or (place == POLLING and own.status_code == 400)
    assert own.headers["x-content-type-options"] == "nosniff"
    assert own.headers["x-frame-options"] == "SAMEORIGIN"
    assert "access-control-allow-origin" not in own.headers


def test_the_pages_websocket_needs_the_cookie_and_the_own_origin(opened_app):
    place = opened_app.address.replace("http", "ws") + POLLING.replace("polling", "websocket")
    shown = {"Cookie": opened_app.cookie}
    for headers, origin in (
        ({}, opened_app.address),
        ({"Cookie": f"{opened_app.name}=nonsense"}, opened_app.address),
        (shown, "http://evil.example"),
        (shown, "http://127.0.0.1:1"),
        (shown, "null"),
        (shown | {"Host": "evil.example"}, None),
    ):
        with pytest.raises(InvalidStatus) as refused:
            connect(place, additional_headers=headers, origin=origin)
        assert refused.value.response.status_code == 403
    with connect(place, additional_headers=shown, origin=opened_app.address) as socket_io:
        # Socket.IO's first word: the session is open.
        assert str(socket_io.recv(timeout=10)).startswith("0{")


@pytest.mark.parametrize(
    ("query", "cookie", "theme", "title"),
    [
        ("used link", "", None, "This link has been used"),
        ("", "", None, "This browser is not let in"),
        ("", "{name}=of-an-app-before", None, "This browser is not let in"),
        ("", "cllm-dark=1", "dark", "This browser is not let in"),
        ("", "cllm-dark=0", "light", "This browser is not let in"),
    ],
)
def test_a_browser_that_is_not_let_in_is_told_why(opened_app, query, cookie, theme, title):
    asked = opened_app.link if query else f"{opened_app.address}/chat"
    headers = {"Accept": "text/html,*/*;q=0.8", "Cookie": cookie.replace("{name}", opened_app.name)}
    answer = httpx.get(asked, headers=headers, timeout=30)
    assert answer.status_code == 401
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in answer.headers
    page = answer.text
    assert f"<h1>{title}</h1>" in page
    assert "<code>cllm app</code>" in page
    assert (f'data-theme="{theme}"' in page) == (theme is not None)
    # Nothing runs, nothing is fetched, and nothing of the request comes back.
    assert "<script" not in page
    assert not re.findall(r"(?:src|href|url|@import)[=(\s]+[\"']?(?!data:)\w", page)
    assert opened_app.link.partition("token=")[2] not in page
    style = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert f"'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert opened_app.browser.get(opened_app.link).headers["location"] == "/"


def test_a_second_start_opens_the_app_that_runs(opened_app):
    assert stat.S_IMODE((opened_app.home / "app.json").stat().st_mode) == 0o600
    with app_process(opened_app.home) as (link, process):
        assert process.wait(30) == 0
        assert link.startswith(opened_app.address + "/?token=")
        assert link != opened_app.link
    assert httpx.get(link, timeout=30).status_code == 303
    assert httpx.get(link, timeout=30).status_code == 401
    # A wish for another port is a wish for another app.
    with app_process(opened_app.home, "--port", "0") as (link, process):
        assert not link.startswith(opened_app.address + "/")
        assert process.poll() is None


def test_a_second_start_may_choose_the_model(opened_app):
    make_model(Workspace(opened_app.home), "talk")
    with app_process(opened_app.home, "--port", "0") as (link, process):
        address = link.partition("/?")[0]
        port = address.rpartition(":")[2]
        with app_process(opened_app.home, "--port", port, "--model", "talk") as (_, second):
            assert second.wait(30) == 0
        with httpx.Client(base_url=address, timeout=30) as browser:
            browser.get(link)
            end = time.monotonic() + 30
            while browser.get("/api/models").json()["last_used"] != "talk":
                assert time.monotonic() < end
                time.sleep(0.05)
        assert process.poll() is None


def test_only_the_secret_of_the_file_gets_a_link(opened_app):
    for headers in ({}, {"Authorization": "Bearer nonsense"}):
        assert opened_app.browser.post(OPENER_PATH, headers=headers, json={}).status_code == 401
    assert opened_app.browser.get(OPENER_PATH).status_code == 401
    opener = RunningApp("http://127.0.0.1:9/", "x", os.getpid(), 0.0)
    assert not opener.is_alive()
    assert opener.link(OPENER_PATH) is None


def test_an_app_that_was_killed_is_not_found_again(tmp_path):
    home = tmp_path / "home"
    with app_process(home, "--port", "0") as (_, process):
        assert running_app(Workspace(home)).pid == process.pid
        process.kill()
        process.wait()
        assert (home / "app.json").exists()
        assert running_app(Workspace(home)) is None


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_static_files_are_those_of_the_folder_alone(opened_app, name):
    host = opened_app.address.removeprefix("http://")
    for place in (f"/static/{name}", f"/static/..%2f{name}", f"/_nicegui/{name}"):
        request = (
            f"GET {place} HTTP/1.1\r\nHost: {host}\r\nCookie: {opened_app.cookie}\r\n"
            "Accept: application/json\r\nConnection: close\r\n\r\n"
        )
        answer = ask_raw(opened_app.address, request.encode())
        assert answer.split()[1] in (b"400", b"404"), answer[:400]
        for secret in (b"root:", b"SQLite", str(opened_app.home).encode(), b"Traceback"):
            assert secret not in answer


def test_the_app_logs_no_secret(tmp_path):
    home = tmp_path / "home"
    with app_process(home, "--port", "0") as (link, process):
        token = link.partition("token=")[2]
        entered = httpx.get(link, timeout=30)
        cookie = entered.headers["set-cookie"].partition("=")[2].partition(";")[0]
        httpx.get(link, timeout=30, headers={"Accept": "text/html"})
        httpx.get(link + "%zz", timeout=30)
        opener = running_app(Workspace(home)).opener
        process.terminate()
        shown, wrong = process.communicate(timeout=30)
    for secret in (token, cookie, opener):
        assert len(secret) > 40
        assert secret not in shown + wrong
