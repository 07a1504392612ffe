"""Chat, and Write with it, as a person sees them in a browser."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from tests.web.conftest import WIDTHS, is_within_width, make_model, serious

from cllm.jobs.model_service import note_used, write_defaults
from cllm.workspace.workspace import Workspace


@pytest.fixture(scope="module")
def app_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose model in use knows dialogue; another does not."""
    home = tmp_path_factory.mktemp("chat") / "cllm-home"
    made = Workspace(home)
    make_model(made, "story", knows_dialogue=False)
    make_model(made, "talk", knows_dialogue=True)
    note_used(made, "talk")
    # With random weights a text might end before its first word.
    for name in ("talk", "story"):
        write_defaults(made, name, {"logit_bias": ["#0=-inf", "\n=-inf"], "max_tokens": 40})
    return home


def opened(page: Page, path: str) -> None:
    """Go to a page and wait until its controls are there."""
    page.goto(path)
    expect(page.locator(".cllm-presets")).to_be_attached()


def say(page: Page, text: str) -> None:
    before = page.locator(".is-assistant").count()
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")
    expect(page.locator(".is-assistant")).to_have_count(before + 1)
    # The figures stand below a reply that is whole.
    expect(page.locator(".is-assistant").last.locator(".cllm-figures")).to_contain_text("seed")


def test_a_conversation_is_written_kept_branched_and_found_again(page: Page) -> None:
    opened(page, "/chat")
    say(page, "How is the mill?")
    first = page.locator(".is-assistant .cllm-text").inner_text()
    page.get_by_label("Another answer").click()
    expect(page.get_by_text("2/2")).to_be_visible()
    page.get_by_label("The version before").click()
    expect(page.get_by_text("1/2")).to_be_visible()
    assert page.locator(".is-assistant .cllm-text").inner_text() == first
    page.reload()
    expect(page.locator(".cllm-said")).to_have_text("How is the mill?")
    opened(page, "/chat")
    expect(page.locator(".cllm-said")).to_have_count(0)
    page.get_by_label("Search conversations").fill("mill")
    page.locator(".cllm-list-open").first.click()
    expect(page.locator(".cllm-said")).to_have_text("How is the mill?")
    assert page.locator(".is-assistant .cllm-text").inner_text() == first


def test_turns_that_no_longer_fit_are_told(page: Page) -> None:
    opened(page, "/chat")
    say(page, "How is the mill?")
    expect(page.locator(".cllm-unseen")).to_have_count(0)
    say(page, "And the river beside the mill?")
    say(page, "And the river?")
    # The model's context is 96 characters.
    expect(page.locator(".cllm-unseen")).to_have_text(
        re.compile(r"^[2-4] older turns no longer fit the model's context: it answers without them")
    )


def test_a_token_says_what_else_might_have_come(page: Page) -> None:
    opened(page, "/chat")
    say(page, "And the river?")
    page.locator(".cllm-token").first.hover()
    card = page.locator(".cllm-card-token")
    expect(card.locator("li")).to_have_count(5)
    # By keyboard, too.
    page.mouse.move(0, 0)
    page.locator(".is-assistant .cllm-text").focus()
    page.keyboard.press("ArrowRight")
    expect(card).to_be_visible()
    page.keyboard.press("Escape")
    expect(card).to_have_count(0)


def test_a_conversation_is_renamed_deleted_and_brought_back(page: Page) -> None:
    opened(page, "/chat")
    say(page, "A question to be renamed")
    page.get_by_label("More for A question to be renamed").click()
    page.get_by_text("Rename", exact=True).click()
    name = page.get_by_label("Name", exact=True)
    expect(name).to_be_focused()
    page.keyboard.press("Escape")
    expect(name).to_have_count(0)
    more = page.get_by_label("More for A question to be renamed")
    expect(more).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_text("Rename", exact=True).click()
    name.fill("On rivers")
    page.locator(".cllm-dialog").get_by_role("button", name="Rename").click()
    item = page.locator(".cllm-list-title", has_text="On rivers")
    expect(item).to_be_visible()
    page.get_by_label("More for On rivers").click()
    page.get_by_text("Delete", exact=True).click()
    expect(item).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(item).to_be_visible()


def test_settings_stay_with_their_conversation(page: Page, app_home: Path) -> None:
    page.set_viewport_size({"width": 1920, "height": 1080})
    opened(page, "/chat")
    say(page, "Be exact")
    page.get_by_role("button", name="Exact", exact=True).click()
    expect(page.get_by_role("button", name="Exact", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    address = page.url
    opened(page, "/chat")
    expect(page.get_by_role("button", name="Balanced", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    page.goto(address)
    expect(page.get_by_role("button", name="Exact", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )


def test_a_document_goes_on_in_place_and_is_taken_back(page: Page) -> None:
    opened(page, "/write")
    sheet = page.get_by_label("The text", exact=True)
    sheet.fill("The river ")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("button", name="Take back")).to_be_visible()
    whole = sheet.input_value()
    assert whole.startswith("The river ")
    assert len(whole) > len("The river ")
    # The shades lie behind the same text.
    assert page.locator(".cllm-paper-shades").inner_text().rstrip() == whole.rstrip()
    # What was typed and what goes on with it are one text.
    expect(page.locator(".cllm-list-title", has_text="The river")).to_have_count(1)
    expect(page.locator(".cllm-list-title", has_text="Untitled")).to_have_count(0)
    page.reload()
    expect(sheet).to_have_value(whole)
    page.get_by_role("button", name="Take back").click()
    expect(sheet).to_have_value("The river ")
    page.reload()
    page.get_by_role("button", name="Bring back").click()
    expect(sheet).to_have_value(whole)


def test_the_likeliest_ways_on_can_be_taken(page: Page) -> None:
    opened(page, "/write")
    sheet = page.get_by_label("The text", exact=True)
    sheet.fill("The mill ")
    page.get_by_role("button", name="Likeliest ways on").click()
    choices = page.locator(".cllm-beam-text")
    expect(choices).to_have_count(4)
    chosen = choices.first.locator(".cllm-text").text_content()
    choices.first.click()
    expect(sheet).to_have_value("The mill " + (chosen or ""))


def test_chat_says_why_a_model_of_texts_does_not_answer(page: Page) -> None:
    opened(page, "/chat")
    expect(page.get_by_label("Message", exact=True)).to_be_visible()
    page.locator(".cllm-switcher").click()
    page.locator(".cllm-menu-row", has_text="story").click()
    expect(page.get_by_text("story continues texts")).to_be_visible()
    expect(page.get_by_text("It has no chat template")).to_be_visible()
    expect(page.get_by_label("Message", exact=True)).to_be_hidden()
    page.get_by_role("button", name="Write with it").click()
    expect(page.get_by_label("The text", exact=True)).to_be_visible()
    page.locator(".cllm-switcher").click()
    page.locator(".cllm-menu-row", has_text="talk").click()
    opened(page, "/chat")
    expect(page.get_by_label("Message", exact=True)).to_be_visible()


@pytest.mark.parametrize("path", ["/chat", "/write"])
@pytest.mark.parametrize("width", WIDTHS)
def test_at_every_width_nothing_sticks_out_and_axe_finds_nothing(
    page: Page, path: str, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(path)
    field = "Message" if path == "/chat" else "The text"
    expect(page.get_by_label(field, exact=True)).to_be_visible()
    if path == "/chat":
        say(page, "How is the mill?")
    assert is_within_width(page)
    assert serious(page) == []
