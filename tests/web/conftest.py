"""The real app in a process of its own, and a real browser before it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright
from tests.random_models import random_weights, small_spec

from cllm.files import write_json
from cllm.model import save_model
from cllm.text.dialogue import detect_dialogue
from cllm.text.tokenizers import train_tokenizer
from cllm.workspace.workspace import Workspace

CHROMIUM = "/usr/bin/chromium"
# What app and browser need on a busy machine; nothing waits so long when all is well.
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)
WIDTHS = (390, 1200, 1920)
# What was just put there begins to move a frame later.
_STILL = """new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next)))
  .then(() => Promise.all(document.getAnimations()
    .filter((moving) => moving.effect.getComputedTiming().iterations !== Infinity)
    .map((moving) => moving.finished.catch(() => null)))).then(() => true)"""
TEXT = "The river ran past the old mill, and the mill stood still beside the river.\n" * 20
TURNS = "Anna: How is the mill?\nBert: It stands.\n\nAnna: And the river?\nBert: It runs.\n\n"
_START = "import sys; from cllm.cli.main import run; sys.exit(run(sys.argv[1:]))"
_START_APP = "import sys; from cllm.cli.app import app; app(browser=False, port=%d, json=True)"


def make_model(workspace: Workspace, name: str, *, knows_dialogue: bool) -> None:
    """A model with random weights whose tokens are the characters of the texts above."""
    # Of characters, so that whatever random weights write can be read.
    text = TEXT + TURNS
    tokenizer = train_tokenizer(
        "characters", lambda: iter([text]), vocab_size=30, num_characters=len(text), progress=None
    )
    spec = small_spec(tokenizer.vocab_size)
    dialogue = detect_dialogue(iter([TURNS * 200])) if knows_dialogue else None
    with workspace.models.write(name) as folder:
        save_model(folder, spec, random_weights(spec))
        tokenizer.save(folder, context=spec.context)
        write_json(folder / "training.json", {"dialogue": dialogue.to_json() if dialogue else None})


@dataclass
class App:
    """A running app: its process, its home, and where to open it."""

    home: Path
    url: str
    link: str
    process: subprocess.Popen[str]


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "CLLM_HOME": str(home), "NO_COLOR": "1", "CLLM_TRAIN__THREADS": "1"}


@contextlib.contextmanager
def open_app(home: Path, *, port: int = 0) -> Iterator[App]:
    """The app over a home, until the block ends; at a free port unless one is given."""
    process = subprocess.Popen(
        [sys.executable, "-c", _START_APP % port],
        env=environment(home),
        stdout=subprocess.PIPE,
        text=True,
        cwd=home.parent,
    )
    try:
        assert process.stdout is not None
        link = json.loads(process.stdout.readline())["address"]
        yield App(home, link.partition("?")[0].rstrip("/"), link, process)
    finally:
        process.terminate()
        process.wait(timeout=20)
        assert process.stdout is not None
        process.stdout.close()


def tales(seed: int = 0, lines: int = 400) -> str:
    rng = random.Random(seed)
    nouns, verbs = ["river", "lantern", "fox", "mountain"], ["sings", "sleeps", "waits"]
    return "\n".join(
        f"The {rng.choice(nouns)} {rng.choice(verbs)} near the {rng.choice(nouns)} {number}."
        for number in range(lines)
    )


def train(home: Path, name: str, *, steps: int = 6) -> None:
    """Make a small model as a person does."""
    home.mkdir(parents=True, exist_ok=True)
    text = home.parent / f"{name}.txt"
    text.write_text(tales(len(name)), encoding="utf-8")
    words = ["train", str(text), "--name", name, "--steps", str(steps), "--preset", "tiny"]
    more = ["--context", "32", "--train.batch-size", "4", "--quiet"]
    command(*words, *more, home=home)


def command(*words: str, home: Path) -> None:
    """Let `cllm` do something in a home."""
    line = [sys.executable, "-c", _START, *words]
    subprocess.run(line, env=environment(home), check=True, timeout=120, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def app_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a module's app; `model` puts one into it."""
    return tmp_path_factory.mktemp("web") / "cllm-home"


@pytest.fixture(scope="module")
def model(app_home: Path) -> str:
    """The name of a small model in the app's home."""
    train(app_home, "tales")
    return "tales"


@pytest.fixture(scope="module")
def app(app_home: Path) -> Iterator[App]:
    """One app for the tests of a module."""
    app_home.mkdir(parents=True, exist_ok=True)
    with open_app(app_home) as running:
        yield running


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    """The driver of browsers."""
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """The system's Chromium."""
    found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
    yield found
    found.close()


Tab = Callable[..., Page]


def entered(browser: Browser, app: App, **options: Any) -> Page:
    """A tab of its own profile that has come in through a link of the app."""
    context = browser.new_context(
        **{"viewport": {"width": 1200, "height": 800}, "base_url": app.url, **options}
    )
    context.set_default_timeout(PATIENCE_MS)
    cookies = getattr(app, "cookies", None)
    if cookies is not None:
        context.add_cookies(cookies)
        return context.new_page()
    page = context.new_page()
    page.goto(app.link)
    # A link opens once: others of the same app get its cookie.
    app.cookies = context.cookies()  # type: ignore[attr-defined]
    return page


@pytest.fixture
def page(browser: Browser, app: App) -> Iterator[Page]:
    """A tab of the module's app, light, 1200 × 800; nothing in it may ask elsewhere or fail."""
    tab = entered(browser, app)
    problems: list[str] = []
    watch(tab, app, problems)
    yield tab
    tab.context.close()
    assert problems == []


def watch(tab: Page, app: App, problems: list[str]) -> None:
    """Note requests to anywhere else, and errors of scripts."""
    inside = (app.url, app.url.replace("http", "ws"), "data:", "blob:")
    tab.on(
        "request",
        lambda request: None if request.url.startswith(inside) else problems.append(request.url),
    )
    tab.on("pageerror", lambda error: problems.append(str(error)))


def serious(page: Page, within: str | None = None) -> list[str]:
    """What axe finds that is serious or critical, with the elements; `within` a selector."""
    # What is still fading in has no contrast yet.
    page.evaluate(_STILL)
    found = Axe().run(page, context=within).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:160]} {node.get('failureSummary', '')[:200]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def is_within_width(page: Page) -> bool:
    """Whether nothing sticks out sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))
