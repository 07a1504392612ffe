"""Chat and Write where something comes between: another text, another window, a refusal."""

import dataclasses
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from tests.random_models import random_weights
from tests.web.conftest import App, entered, make_model

from cllm.jobs.model_service import note_used, write_defaults
from cllm.model import save_model
from cllm.model.files import read_spec
from cllm.workspace.workspace import Workspace

# So long and slow a reply is, that there is time for something else before it ends.
_LONG = 20_000
_WIDE = {"width": 256, "layers": 12, "heads": 4, "kv_heads": 4, "head_width": 64, "mlp_width": 1024}


@pytest.fixture(scope="module")
def app_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a model that writes on until it is stopped, and one that is soon done."""
    home = tmp_path_factory.mktemp("interrupted") / "cllm-home"
    made = Workspace(home)
    make_model(made, "talk", knows_dialogue=True)
    talk = made.models.path("talk")
    with made.models.write("long") as folder:
        for name in ("tokenizer.json", "tokenizer_config.json", "training.json"):
            shutil.copy(talk / name, folder)
        spec = dataclasses.replace(read_spec(talk), **_WIDE)
        save_model(folder, spec, random_weights(spec))
    for name, num in (("talk", 30), ("long", _LONG)):
        write_defaults(made, name, {"logit_bias": ["#0=-inf", "\n=-inf"], "max_tokens": num})
    note_used(made, "talk")
    return made.home


@pytest.fixture
def other(browser: Browser, app: App, page: Page) -> Iterator[Page]:
    """Another window of the same person."""
    window = entered(browser, app)
    yield window
    window.context.close()


def opened(page: Page, path: str, model: str = "talk") -> None:
    page.goto(path)
    expect(page.locator(".cllm-presets")).to_be_attached()
    switcher = page.locator(".cllm-switcher")
    if model not in switcher.inner_text():
        switcher.click()
        page.locator(".cllm-menu-row", has_text=model).click()
        expect(switcher).to_contain_text(model)
        page.goto(path)
        expect(page.locator(".cllm-presets")).to_be_attached()


def field(page: Page) -> Locator:
    return page.get_by_label("Message", exact=True)


def sheet(page: Page) -> Locator:
    return page.get_by_label("The text", exact=True)


def typed(page: Page, home: Path, text: str) -> None:
    """Type into the sheet and leave it; it is kept then."""
    sheet(page).fill(text)
    sheet(page).blur()
    end = time.monotonic() + 30
    while text not in texts(home) and time.monotonic() < end:
        page.wait_for_timeout(100)
    assert text in texts(home)


def texts(home: Path) -> set[str]:
    """What is kept of all messages, read past the app."""
    with sqlite3.connect(home / "cllm.db") as database:
        return {text for (text,) in database.execute("select text from messages")}


_LISTENS_LATE = """
let ours;
Object.defineProperty(window, "cllmWriting", {
  get: () => ours,
  set: (given) => {
    ours = { ...given, attach: (id) => setTimeout(() => given.attach(id), 2500) };
  },
});
"""


def test_what_is_typed_before_the_page_listens_is_kept(page: Page, app_home: Path) -> None:
    page.add_init_script(_LISTENS_LATE)
    page.goto("/write")
    sheet(page).fill("Typed at once")
    assert "Typed at once" not in texts(app_home)
    end = time.monotonic() + 30
    while "Typed at once" not in texts(app_home) and time.monotonic() < end:
        page.wait_for_timeout(100)
    assert "Typed at once" in texts(app_home)


def say(page: Page, text: str) -> None:
    before = page.locator(".is-assistant").count()
    field(page).fill(text)
    page.keyboard.press("Enter")
    expect(page.locator(".is-assistant")).to_have_count(before + 1)


def delete(page: Page, title: str) -> None:
    page.get_by_label(f"More for {title}").click()
    page.get_by_text("Delete", exact=True).click()
    expect(page.locator(".cllm-list-title", has_text=title)).to_have_count(0)


def test_a_text_that_is_being_written_does_not_run_into_another(page: Page, app_home: Path) -> None:
    opened(page, "/write")
    typed(page, app_home, "Bees")
    page.get_by_role("button", name="New text").click()
    expect(sheet(page)).to_have_value("")
    opened(page, "/write", "long")
    typed(page, app_home, "Ants")
    page.get_by_role("button", name="Continue").click()
    expect(sheet(page)).to_have_value(re.compile("Ants."))
    page.locator(".cllm-list-title", has_text="Untitled").first.click()
    expect(sheet(page)).to_have_value("Bees")
    expect(page.get_by_role("button", name="Continue")).to_be_visible()
    expect(sheet(page)).to_be_editable()
    page.wait_for_timeout(500)
    assert sheet(page).input_value() == "Bees"
    page.get_by_role("button", name="New text").click()
    expect(sheet(page)).to_have_value("")
    page.wait_for_timeout(500)
    assert sheet(page).input_value() == ""
    # It is found again whole, and once.
    page.locator(".cllm-list-title", has_text="Ants").click()
    expect(sheet(page)).to_have_value(re.compile("Ants."))
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Take back")).to_be_visible()
    whole = sheet(page).input_value()
    page.reload()
    expect(sheet(page)).to_have_value(whole)


def test_two_clicks_on_another_way_are_one(page: Page) -> None:
    # Long, so that the first click's text is still being written at the second.
    opened(page, "/write", "long")
    sheet(page).fill("Larks ")
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Another way").dblclick()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Take back")).to_be_visible()
    expect(page.get_by_text("2/2")).to_be_visible()
    whole = sheet(page).input_value()
    page.reload()
    expect(sheet(page)).to_have_value(whole)
    expect(page.get_by_text("2/2")).to_be_visible()


def test_a_click_that_also_ends_the_typing_counts(page: Page) -> None:
    opened(page, "/write")
    sheet(page).fill("Wrens ")
    page.get_by_role("button", name="Continue").hover()
    # As slowly as a hand: what was typed is kept before the button is let go.
    page.mouse.down()
    page.wait_for_timeout(600)
    page.mouse.up()
    expect(sheet(page)).to_have_value(re.compile("Wrens ."))
    expect(page.get_by_role("button", name="Take back")).to_be_visible()


def test_the_next_message_can_be_typed_while_a_reply_comes(page: Page) -> None:
    opened(page, "/chat", "long")
    say(page, "How is the mill?")
    expect(page.get_by_label("Stop", exact=True)).to_be_visible()
    expect(field(page)).to_have_value("")
    expect(field(page)).to_be_focused()
    page.keyboard.type("And the river?")
    page.keyboard.press("Enter")
    page.get_by_label("Stop", exact=True).click()
    expect(page.get_by_label("Send", exact=True)).to_be_visible()
    expect(page.locator(".is-assistant").last).to_contain_text("stopped")
    expect(field(page)).to_have_value("And the river?")
    page.locator(".cllm-switcher").click()
    page.locator(".cllm-menu-row", has_text="talk").click()
    expect(page.get_by_placeholder("Message talk")).to_have_value("And the river?")
    field(page).press("Enter")
    expect(page.locator(".is-assistant")).to_have_count(2)
    expect(page.locator(".cllm-said").last).to_have_text("And the river?")
    expect(page.get_by_label("Send", exact=True)).to_be_visible()
    expect(field(page)).to_be_focused()


def test_two_windows_on_a_text_keep_the_words_of_both(
    page: Page, other: Page, app_home: Path
) -> None:
    opened(page, "/write")
    typed(page, app_home, "The river ran")
    page.wait_for_url("**/write?conversation=*")
    opened(other, page.url)
    expect(sheet(other)).to_have_value("The river ran")
    typed(page, app_home, "The river rose")
    typed(other, app_home, "The river fell")
    assert {"The river rose", "The river fell"} <= texts(app_home)
    other.get_by_label("The version before").click()
    expect(sheet(other)).to_have_value("The river rose")


def test_a_text_deleted_in_another_window_is_kept_anew(
    page: Page, other: Page, app_home: Path
) -> None:
    opened(page, "/write")
    sheet(page).fill("Moss ")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("button", name="Take back")).to_be_visible()
    opened(other, "/write")
    delete(other, "Moss")
    typed(page, app_home, "Moss and fern")
    expect(page.get_by_text("This text was deleted in another window.")).to_be_visible()
    page.reload()
    expect(sheet(page)).to_have_value("Moss and fern")
    # Of what is gone, a list that still names it says so.
    other.get_by_role("button", name="Undo").click()
    expect(other.locator(".cllm-list-title", has_text="Moss")).to_be_visible()
    page.reload()
    delete(other, "Moss")
    page.get_by_label("More for Moss").click()
    page.get_by_text("Delete", exact=True).click()
    expect(page.get_by_text("It may have been deleted in another window.")).to_be_visible()
    expect(page.get_by_label("More for Moss")).to_have_count(0)


def test_a_message_that_is_refused_can_be_sent_again(page: Page, other: Page) -> None:
    opened(page, "/chat")
    say(page, "Where is the fox?")
    expect(page.locator(".is-assistant")).to_contain_text("seed")
    opened(other, "/chat")
    delete(other, "Where is the fox?")
    field(page).fill("Still there?")
    page.keyboard.press("Enter")
    expect(page.get_by_text("It may have been deleted in another window.")).to_be_visible()
    expect(field(page)).to_have_value("Still there?")
    page.get_by_role("button", name="New chat").click()
    expect(page.get_by_text("Say something to talk")).to_be_visible()
    field(page).press("Enter")
    expect(page.locator(".cllm-said")).to_have_text("Still there?")


def test_an_edited_message_outlives_a_reply_that_is_being_written(page: Page, other: Page) -> None:
    opened(page, "/chat", "long")
    say(page, "How is the owl?")
    page.get_by_label("Stop", exact=True).click()
    expect(page.locator(".is-assistant")).to_contain_text("stopped")
    page.get_by_label("Edit").click()
    edited = page.get_by_role("dialog").get_by_label("Message")
    edited.fill("How is the old owl?")
    # Another window of the same conversation is quicker.
    opened(other, page.url, "long")
    expect(other.locator(".is-assistant")).to_have_count(1)
    say(other, "And the mouse?")
    expect(other.get_by_label("Edit").first).to_be_disabled()
    expect(other.get_by_label("Another answer").first).to_be_disabled()
    page.get_by_role("dialog").get_by_role("button", name="Send").click()
    expect(page.get_by_text("The last text is still being written.")).to_be_visible()
    expect(edited).to_have_value("How is the old owl?")
    other.get_by_label("Stop", exact=True).click()
    expect(other.get_by_label("Edit").first).to_be_enabled()
    # The dialog is not a part of the messages, which were drawn anew by now.
    expect(page.locator(".cllm-said")).to_have_count(2)
    expect(edited).to_have_value("How is the old owl?")
    page.get_by_role("dialog").get_by_role("button", name="Send").click()
    expect(page.locator(".cllm-said")).to_have_count(1)
    expect(page.locator(".cllm-said")).to_have_text("How is the old owl?")
    page.get_by_label("Stop", exact=True).click()


def test_deleting_a_chat_stops_its_reply_and_undo_has_what_was_written(page: Page) -> None:
    opened(page, "/chat", "long")
    say(page, "Where is the heron?")
    expect(page.locator(".is-assistant .cllm-text")).to_contain_text(re.compile(r"\S"))
    delete(page, "Where is the heron?")
    # Of the text that was stopped for this, nobody is told.
    expect(page.get_by_text("Say something to long")).to_be_visible()
    expect(page.locator(".q-notification")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    page.locator(".cllm-list-title", has_text="Where is the heron?").click()
    expect(page.locator(".is-assistant")).to_contain_text("stopped")
    expect(page.locator(".is-assistant .cllm-text")).to_contain_text(re.compile(r"\S"))
    expect(page.get_by_label("Stop", exact=True)).to_have_count(0)
