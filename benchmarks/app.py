"""What the browser app feels like: its start, its pages, its clicks while a training runs.

`cllm app` in a child process over a fresh home with one model (random weights of `--size`), and
Chromium before it. `ready`: from starting the process to the first page served. `interactive`:
from opening a page to the first click that the app answers, the browser's memory empty (`cold`)
and filled (`warm`). `click`: from a click to what it changes, seen inside the page, all answered
by the app: the theme and two menus. `page`: from opening a page to its first paint. `chat`: tokens
a second of one text after another. The last three idle, and again while a training begun in the
app uses both cores; `chat_share` is the ratio.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from cllm.jobs.bench_models import SIZES
from python_text import take
from serving import write_home
from surroundings import surroundings

CHROMIUM = "/usr/bin/chromium"
_PAGES = ("/models", "/chat", "/training", "/inside", "/benchmarks")
_PROMPT = "abcdefgh"
_TEXT_BYTES = 2_000_000
# Milliseconds from the page's beginning to the first click on the theme's button with an answer.
_INTERACTIVE = """
window.cllmReady = new Promise((done) => {
  let first = null;
  const look = setInterval(() => {
    const button = document.querySelector('header [aria-label^="Theme:"]');
    if (!button) return;
    const label = button.getAttribute('aria-label');
    first = first ?? label;
    if (label !== first) { clearInterval(look); done(performance.now()); } else button.click();
  }, 10);
});
"""
# Milliseconds from a click on the first element to when the second condition holds.
_REACTION = """
([clicked, expected, label]) => new Promise((done, fail) => {
  const button = document.querySelector(clicked);
  const before = label ? button.getAttribute('aria-label') : null;
  const start = performance.now();
  button.click();
  const look = () => {
    const isThere = label
      ? document.querySelector(clicked)?.getAttribute('aria-label') !== before
      : document.querySelector(expected) !== null;
    if (isThere) done(performance.now() - start);
    else if (performance.now() - start > 20000) fail(new Error('no answer to ' + clicked));
    else requestAnimationFrame(look);
  };
  look();
})
"""
_PAINT = """
() => new Promise((done) => {
  const look = () => {
    const paint = performance.getEntriesByName('first-contentful-paint')[0];
    if (paint) done(paint.startTime); else setTimeout(look, 5);
  };
  look();
})
"""
_THEME = 'header [aria-label^="Theme:"]'


@contextlib.contextmanager
def running(home: Path) -> Iterator[tuple[str, float]]:
    """The app's one-time address, and seconds until its first page was served."""
    command = [sys.executable, "-m", "cllm", "app", "--no-browser", "--port", "0", "--json"]
    start = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "CLLM_HOME": str(home)}
    ) as child:
        assert child.stdout is not None
        try:
            link = json.loads(child.stdout.readline())["address"]
            # The page for those who have no cookie costs as much as any: the app is up.
            httpx.get(link.partition("?")[0], trust_env=False)
            yield link, time.perf_counter() - start
        finally:
            child.terminate()


def interactive(browser: Browser, cookies: Any, address: str) -> tuple[float, float]:
    """Milliseconds until a page answers: the browser's memory empty, then filled."""
    context = browser.new_context()
    context.add_cookies(cookies)
    context.add_init_script(_INTERACTIVE)
    page = context.new_page()
    found: list[float] = []
    for _ in range(2):
        page.goto(address + "/models", wait_until="commit")
        found.append(float(page.evaluate("() => window.cllmReady")))
    context.close()
    return found[0], found[1]


def clicks(page: Page, address: str, count: int) -> list[float]:
    """Milliseconds from clicks to what they change."""
    page.goto(address + "/models")
    page.wait_for_selector('[aria-label^="More for"]')
    page.wait_for_timeout(1000)
    found: list[float] = []

    def react(clicked: str, expected: str, *, is_label: bool = False) -> None:
        found.append(float(page.evaluate(_REACTION, [clicked, expected, is_label])))
        page.wait_for_timeout(120)

    for _ in range(count):
        react(_THEME, "", is_label=True)
        react('header [aria-label^="Model in use"]', ".q-menu")
        page.keyboard.press("Escape")
        page.wait_for_selector(".q-menu", state="detached")
        react('[aria-label^="More for"]', ".q-menu")
        page.locator(".q-menu").get_by_text("Rename").click()
        page.wait_for_selector(".q-dialog")
        page.keyboard.press("Escape")
        page.wait_for_selector(".q-dialog", state="detached")
    return found


def pages(page: Page, address: str, count: int) -> list[float]:
    """Milliseconds to the first paint of each page."""
    found: list[float] = []
    for _ in range(count):
        for path in _PAGES:
            page.goto(address + path)
            found.append(float(page.evaluate(_PAINT)))
    return found


def chat(client: httpx.Client, seconds: float) -> float:
    """Tokens a second of one text after another."""
    start, num_tokens, seed = time.perf_counter(), 0, 0
    while time.perf_counter() - start < seconds:
        body = {"prompt": _PROMPT, "max_tokens": 256, "temperature": 1.0, "seed": seed}
        answer = client.post("/v1/completions", json=body)
        answer.raise_for_status()
        num_tokens += answer.json()["usage"]["completion_tokens"]
        seed += 1
    return num_tokens / (time.perf_counter() - start)


def _in_training(client: httpx.Client) -> str:
    """Start a training and wait for its first steps; returns its run."""
    body = {"text": take(_TEXT_BYTES), "name": "other", "settings": {"train.minutes": 30}}
    started = client.post("/api/runs", json=body)
    started.raise_for_status()
    run = str(started.json()["id"])
    while not client.get(f"/api/runs/{run}").json()["step"]:
        time.sleep(0.2)
    return run


def measure(arguments: argparse.Namespace, home: Path) -> dict[str, Any]:
    """All of it."""
    write_home(arguments.size, home)
    readies: list[float] = []
    for _ in range(arguments.rounds):
        with running(home) as (_, seconds):
            readies.append(seconds)
    with running(home) as (link, _), sync_playwright() as driver:
        address = link.partition("?")[0].rstrip("/")
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context: BrowserContext = browser.new_context()
        page = context.new_page()
        page.goto(link)
        cookies = context.cookies()
        jar = {str(cookie["name"]): str(cookie["value"]) for cookie in cookies}
        opened = [interactive(browser, cookies, address) for _ in range(arguments.rounds)]
        with httpx.Client(
            base_url=address, cookies=jar, timeout=120, trust_env=False, verify=False
        ) as client:
            chat(client, 1)
            idle = _look(page, client, address, arguments)
            run = _in_training(client)
            busy = _look(page, client, address, arguments)
            state = client.get(f"/api/runs/{run}").json()["state"]
            assert state == "training", f"the training was to be at work: {state}"
            client.post(f"/api/runs/{run}/stop").raise_for_status()
            while client.get(f"/api/runs/{run}").json()["state"] == "training":
                time.sleep(0.5)
        browser.close()
    return {
        "size": arguments.size,
        "ready_s": statistics.median(readies),
        "interactive_cold_ms": statistics.median(cold for cold, _ in opened),
        "interactive_warm_ms": statistics.median(warm for _, warm in opened),
        "idle": idle,
        "training": busy,
        "chat_share": busy["chat_tokens_per_s"] / idle["chat_tokens_per_s"],
    }


def _look(
    page: Page, client: httpx.Client, address: str, arguments: argparse.Namespace
) -> dict[str, float]:
    reactions = sorted(clicks(page, address, arguments.clicks))
    paints = sorted(pages(page, address, arguments.rounds))
    speeds = [chat(client, arguments.seconds) for _ in range(arguments.rounds)]
    return {
        "clicks": len(reactions),
        "click_median_ms": statistics.median(reactions),
        "click_95_ms": reactions[int(0.95 * (len(reactions) - 1))],
        "click_most_ms": reactions[-1],
        "page_median_ms": statistics.median(paints),
        "page_most_ms": paints[-1],
        "chat_tokens_per_s": statistics.median(speeds),
    }


def main() -> None:
    """Measure, and print one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clicks", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    os.environ.setdefault("NO_PROXY", "*")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        found = measure(arguments, Path(folder) / "home")
    print(json.dumps({**found, "surroundings": surroundings()}))


if __name__ == "__main__":
    main()
