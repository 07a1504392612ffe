"""Train: the first model from nothing, and runs that are paused, resumed, stopped, killed."""

from __future__ import annotations

import json
import os
import re
import signal

import psutil
import pytest
from playwright.sync_api import expect
from tests.web.conftest import PATIENCE_MS, command, entered, open_app, serious, tales, train

LONG = 3 * PATIENCE_MS


def at_work(home):
    """The process of the training below a home."""
    for process in psutil.process_iter(["cmdline", "environ"]):
        known = process.info["environ"] or {}
        if known.get("CLLM_HOME") == str(home) and "train" in (process.info["cmdline"] or []):
            return process
    return None


@pytest.fixture(autouse=True)
def nothing_left(request):
    """End what a failed test leaves at work."""
    yield
    if "app" in request.fixturenames:
        found = at_work(request.getfixturevalue("app").home)
        if found is not None:
            found.kill()


def fill_in(page, name, *, steps):
    page.get_by_label("Text", exact=True).fill(tales(lines=600))
    page.get_by_label("Name", exact=True).fill(name)
    few_steps(page, steps)


def few_steps(page, steps):
    page.get_by_text("Choose more yourself").click()
    page.get_by_label("Context (tokens)").fill("32")
    page.get_by_label("Batch (windows)").fill("4")
    page.get_by_label("Steps, instead of a time").fill(str(steps))
    page.get_by_role("combobox", name="Size").click()
    page.get_by_role("option", name="Tiny").click()


def impossible_shape(page):
    page.get_by_text("Choose more yourself").click()
    page.get_by_label("Heads").fill("7")
    page.get_by_label("Width").fill("50")


def newest_run(home):
    return max((home / "runs").iterdir(), key=lambda folder: folder.stat().st_mtime)


def start(page):
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url("**/training?run=*")


def test_from_nothing_to_a_first_model(tmp_path, browser):
    with open_app(tmp_path / "home") as running:
        page = entered(browser, running, viewport={"width": 390, "height": 844})
        expect(page.get_by_role("heading", name="Create your first model")).to_be_visible()
        assert serious(page) == []
        fill_in(page, "first", steps=8)
        page.get_by_role("button", name="See the proposal").click()
        proposal = page.locator(".cllm-answer")
        expect(proposal).to_contain_text("Proposal for first", timeout=LONG)
        expect(proposal).to_contain_text("8 steps")
        start(page)
        expect(page.get_by_role("heading", name="Before and after")).to_be_visible(timeout=LONG)
        expect(page.get_by_role("heading", name="Is it copying?")).to_be_visible()
        assert (running.home / "models" / "first" / "model.safetensors").exists()
        assert serious(page) == []
        # Over: nothing is left of it, and it holds no memory.
        facts = page.locator(".cllm-live-facts")
        expect(facts.get_by_text("Time left")).to_be_hidden()
        expect(facts.get_by_text("Memory", exact=True)).to_be_hidden()
        page.get_by_role("button", name="Write with it").click()
        page.wait_for_url("**/write")
        page.context.close()


def test_files_are_taken_in_and_others_refused(model, page, tmp_path):
    good, bad = tmp_path / "notes.md", tmp_path / "picture.png"
    good.write_text("# Notes\n\n" + tales(), encoding="utf-8")
    bad.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    page.goto("/training")
    page.get_by_role("tab", name="Files").click()
    place = page.locator(".cllm-drop input[type=file]")
    place.set_input_files(good)
    files = page.locator(".cllm-files li")
    expect(files).to_have_count(1)
    expect(files).to_contain_text("notes.md")
    place.set_input_files(bad)
    refused = page.get_by_text(re.compile("picture.png"))
    expect(refused).to_be_visible()
    expect(files).to_have_count(1)
    assert serious(page) == []
    page.get_by_role("button", name="Leave out notes.md").click()
    expect(files).to_have_count(0)
    # It may be chosen again after all, and what was refused is not sent again with it.
    page.get_by_role("button", name="Close", exact=True).click()
    expect(refused).to_have_count(0)
    sent = []
    page.on("request", lambda request: sent.append(request.url))
    place.set_input_files(good)
    expect(files).to_contain_text("notes.md")
    assert [url for url in sent if "/api/uploads" in url and "picture" in url] == []
    expect(page.get_by_role("alert")).to_have_count(0)


def test_training_does_not_start_without_files_that_are_on_their_way(model, app, page, tmp_path):
    def runs():
        return sorted((app.home / "runs").glob("*"))

    first, second = tmp_path / "first.md", tmp_path / "second.md"
    first.write_text(tales(seed=3), encoding="utf-8")
    second.write_text(tales(seed=4), encoding="utf-8")
    page.goto("/training?new=true")
    page.get_by_role("tab", name="Files").click()
    place = page.locator(".cllm-drop input[type=file]")
    files = page.locator(".cllm-files li")
    place.set_input_files(first)
    expect(files).to_have_count(1)
    held = []

    def hold(route):
        held.append(route)

    page.route("**/api/uploads*", hold)
    place.set_input_files(second)
    expect(page.locator(".cllm-drop .q-spinner")).to_be_visible()
    before = runs()
    alert = page.get_by_role("alert").filter(has_text="Files are still being taken in")
    for button in ("See the proposal", "Start training"):
        page.get_by_role("button", name=button).click()
        expect(page.locator(".cllm-answer").filter(has=alert)).to_be_visible()
    assert runs() == before
    held[0].continue_()
    expect(files).to_have_count(2)
    # One that fails is no longer waited for either.
    third = tmp_path / "third.md"
    third.write_text(tales(seed=5), encoding="utf-8")
    place.set_input_files(third)
    expect(page.locator(".cllm-drop .q-spinner")).to_be_visible()
    held[1].abort()
    expect(page.locator(".cllm-drop .q-spinner")).to_have_count(0)
    impossible_shape(page)
    page.get_by_role("button", name="See the proposal").click()
    expect(page.locator(".cllm-answer")).to_contain_text("7 heads do not divide the width 50.")


def test_long_text_is_taken_in_whole(model, app, page):
    text = tales(lines=40_000)
    assert len(text) > 1_200_000
    page.goto("/training?new=true")
    field = page.get_by_label("Text", exact=True)
    expect(field).to_be_visible()
    # As it is pasted; typing it would take a browser minutes.
    field.evaluate(
        "(field, text) => { field.value = text; field.dispatchEvent(new Event('input')); }", text
    )
    expect(page.get_by_text(f"{len(text):,} characters")).to_be_visible()
    impossible_shape(page)
    with page.expect_response(re.compile("/api/uploads")) as sent:
        page.get_by_role("button", name="See the proposal").click()
    assert sent.value.json()["num_bytes"] == len(text.encode())
    told = page.get_by_role("alert")
    # In the words of the page: it has no field for the width of a head, and no dotted names.
    expect(told).to_have_text(
        "7 heads do not divide the width 50.Choose heads that divide the width."
    )


def test_prepared_corpus_is_trained_on(model, app, page, tmp_path):
    text = tmp_path / "songs.txt"
    text.write_text(tales(seed=5), encoding="utf-8")
    command("corpora", "add", "songs", str(text), home=app.home)
    page.goto("/training?new=true")
    page.get_by_role("tab", name="Prepared").click()
    expect(page.get_by_role("combobox", name="Corpus")).to_be_visible()
    expect(page.locator(".q-tab-panel")).to_contain_text("songs (")
    page.get_by_label("Name", exact=True).fill("sung")
    few_steps(page, 8)
    start(page)
    state = page.locator(".cllm-heading [role=status]")
    expect(state).to_have_text("Finished", timeout=LONG)
    expect(page.locator(".cllm-live-facts")).to_contain_text("Loss, held out")
    chart = page.get_by_role("img", name=re.compile("^Bits per byte over steps; on the text"))
    expect(chart).to_be_visible()
    page.get_by_role("button", name="Loss", exact=True).click()
    expect(page.get_by_role("img", name=re.compile("^Loss in nats a token"))).to_be_visible()
    # 4 decimals of the very figures that the run wrote down.
    lines = (newest_run(app.home) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    nats = [row["train_nats"] for row in map(json.loads, lines) if "train_nats" in row]
    told = page.locator(".cllm-chart").get_attribute("aria-label")
    assert f"{nats[0]:.2f} at step 1" in told
    assert f"{nats[-1]:.3f} at 8" in told


def test_nothing_to_learn_from_is_said_once_and_is_in_view(model, page):
    page.set_viewport_size({"width": 390, "height": 600})
    page.goto("/training")
    page.get_by_role("button", name="Start training").click()
    told = page.get_by_role("alert")
    expect(told).to_have_count(1)
    expect(told).to_contain_text("There is no text to train on")
    expect(told).to_be_focused()
    expect(told).to_be_in_viewport(ratio=1)


@pytest.mark.parametrize("button", ["See the proposal", "Start training"])
def test_wrong_name_is_told_at_its_field(model, page, button):
    page.goto("/training?new=true")
    name = page.get_by_label("Name", exact=True)
    name.fill("bad/name")
    page.get_by_label("Text", exact=True).fill(tales())
    page.get_by_role("button", name=button).click()
    expect(name).to_be_focused()
    field = page.locator(".q-field", has=name)
    expect(field).to_contain_text("can't be the name of a model.")
    expect(field).to_contain_text("For example: bad-name.")
    expect(page.locator(".cllm-answer")).to_be_empty()
    assert serious(page) == []


def test_too_little_text_is_warned_of(model, page):
    page.goto("/training?new=true")
    page.get_by_label("Text", exact=True).fill(tales(lines=20))
    page.get_by_role("button", name="See the proposal").click()
    proposal = page.locator(".cllm-answer")
    expect(proposal).to_contain_text("Proposal for", timeout=LONG)
    expect(proposal).to_contain_text("too little text to learn to write from")


def test_only_what_counts_can_be_chosen(model, page):
    page.goto("/training?new=true")
    few_steps(page, 8)
    given_way = page.locator(".cllm-budget .q-slider.disabled")
    expect(given_way).to_have_count(1)
    expect(page.locator(".cllm-budget-time")).to_have_text("8 steps")
    page.get_by_role("radio", name=f"Continue {model}").click()
    for gone in ("Size", "Tokens are", "Layers", "Vocabulary (tokens)", "Mechanisms"):
        expect(page.get_by_label(gone)).to_be_hidden()
    expect(page.get_by_label("Batch (windows)")).to_be_visible()
    name = page.get_by_label("Name", exact=True)
    expect(name).to_have_attribute("placeholder", re.compile(f"^{model}-[0-9]+$"))
    page.get_by_role("radio", name="Start a new model").click()
    page.get_by_label("Steps, instead of a time").fill("")
    expect(page.get_by_label("Layers")).to_be_visible()
    expect(page.locator(".cllm-budget-time")).to_have_text("5 min")
    expect(given_way).to_have_count(0)


def test_unknown_run_leads_to_all(model, page):
    page.goto("/training?run=nothing")
    expect(page.get_by_role("heading", name="There is no such run")).to_be_visible()
    page.get_by_role("link", name="All runs").click()
    expect(page.get_by_role("heading", name="Runs so far")).to_be_visible()


def test_run_is_paused_resumed_and_stopped_with_what_it_reached(model, app, page):
    page.goto("/training")
    expect(page.get_by_role("radio", name=f"Continue {model}")).to_be_visible()
    fill_in(page, "long", steps=1_000_000)
    start(page)
    state = page.locator(".cllm-heading [role=status]")
    expect(state).to_contain_text("Training", timeout=LONG)
    expect(page.locator(".cllm-running")).to_contain_text("long")
    step = page.locator(".cllm-live-facts div", has_text=re.compile("^Step")).locator("dd")
    expect(step).to_have_text(re.compile(r"\d"), timeout=LONG)
    page.get_by_role("button", name="Pause").click()
    expect(state).to_contain_text("Paused", timeout=LONG)
    # Any page tells of it.
    page.goto("/training?new=true")
    expect(page.locator(".cllm-note-line")).to_contain_text("long is paused")
    page.goto("/models")
    expect(page.locator(".cllm-running")).to_contain_text("long: paused")
    page.locator(".cllm-running").click()
    page.get_by_role("button", name="Resume").click()
    expect(state).to_contain_text("Training", timeout=LONG)
    page.get_by_role("button", name="Stop and keep").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop and keep").click()
    expect(state).to_have_text("Finished", timeout=LONG)
    assert (app.home / "models" / "long" / "model.safetensors").exists()


def test_killed_run_says_so_and_goes_on(model, app, page):
    page.goto("/training?new=true")
    fill_in(page, "killed", steps=1_000_000)
    start(page)
    state = page.locator(".cllm-heading [role=status]")
    expect(state).to_contain_text("Training", timeout=LONG)
    at_work(app.home).send_signal(signal.SIGKILL)
    expect(state).to_have_text("Crashed", timeout=LONG)
    told = page.get_by_role("alert")
    expect(told).to_contain_text("The training has crashed.")
    expect(told).to_contain_text("Its process has ended without a word")
    assert serious(page) == []
    page.get_by_role("button", name="Continue").click()
    expect(state).to_contain_text("Training", timeout=LONG)
    page.get_by_role("button", name="Stop and keep").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop and keep").click()
    expect(state).to_have_text("Finished", timeout=LONG)


def test_taken_name_is_asked_about_before_training(model, app, page):
    before = (app.home / "models" / model / "model.safetensors").stat().st_mtime_ns
    page.goto("/training?new=true")
    page.get_by_label("Text", exact=True).fill(tales())
    page.get_by_label("Name", exact=True).fill(model)
    page.get_by_role("button", name="Start training").click()
    question = page.get_by_role("dialog").filter(has_text=f"Replace {model}?")
    expect(question).to_contain_text("what it learned from tales.txt")
    question.get_by_role("button", name="Cancel").click()
    assert "run=" not in page.url
    assert (app.home / "models" / model / "model.safetensors").stat().st_mtime_ns == before


def test_training_outlives_the_app(tmp_path, browser):
    home = tmp_path / "home"
    train(home, "tales")
    with open_app(home) as running:
        page = entered(browser, running)
        page.goto("/training")
        fill_in(page, "on", steps=1_000_000)
        start(page)
        state = page.locator(".cllm-heading [role=status]")
        expect(state).to_contain_text("Training", timeout=LONG)
        page.context.close()
    process = at_work(home)
    assert process is not None and process.is_running()
    try:
        with open_app(home) as running:
            page = entered(browser, running)
            expect(page.locator(".cllm-running")).to_contain_text("on:")
            page.context.close()
    finally:
        os.kill(process.pid, signal.SIGKILL)
