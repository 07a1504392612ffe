"""The frame of every page: theme, widths, keyboard, what it asks for, who gets in."""

from __future__ import annotations

import os
import re
import stat
import time

import httpx
import pytest
from playwright.sync_api import expect
from tests.web.conftest import (
    WIDTHS,
    entered,
    is_within_width,
    make_model,
    open_app,
    serious,
    watch,
)

from cllm.jobs.model_service import note_used, write_defaults
from cllm.workspace.workspace import Workspace

PAGES = ("/models", "/training", "/chat", "/write", "/inside", "/benchmarks")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_shows_the_model_in_use_with_size_and_state(model, page, path):
    page.goto(path)
    switcher = page.get_by_role("button", name=re.compile("Model in use"))
    expect(switcher).to_contain_text(model)
    expect(switcher).to_contain_text("kB")
    expect(switcher).to_contain_text("ready")
    expect(page.locator(f'.cllm-nav a[href="{path}"]')).to_have_attribute("aria-current", "page")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out_and_axe_finds_nothing_serious(
    model, app, browser, tmp_path, scheme, width
):
    options = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    tab = entered(browser, app, **options)
    problems: list[str] = []
    watch(tab, app, problems)
    folder = os.environ.get("CLLM_SCREENSHOTS", str(tmp_path))
    for path in ("/models", "/training"):
        tab.goto(path)
        tab.locator("#content").wait_for()
        tab.wait_for_timeout(500)
        assert is_within_width(tab), path
        assert serious(tab) == [], path
        tab.screenshot(path=f"{folder}/{path.strip('/')}-{scheme}-{width}.png")
    tab.context.close()
    assert problems == []


def test_theme_follows_the_system_until_it_is_chosen(model, page):
    page.emulate_media(color_scheme="dark")
    page.goto("/models")
    body = page.locator("body")
    expect(body).to_have_css("background-color", "rgb(12, 16, 32)")
    page.emulate_media(color_scheme="light")
    expect(body).to_have_css("background-color", "rgb(248, 243, 232)")
    button = page.locator(".cllm-theme")
    button.click()
    expect(button).to_have_attribute("aria-label", "Theme: light")
    button.click()
    expect(button).to_have_attribute("aria-label", "Theme: dark")
    expect(body).to_have_css("background-color", "rgb(12, 16, 32)")
    page.reload()
    expect(body).to_have_css("background-color", "rgb(12, 16, 32)")
    page.locator(".cllm-theme").click()
    expect(page.locator(".cllm-theme")).to_have_attribute("aria-label", "Theme: as the system")


def test_keyboard_reaches_content_and_switcher(model, page):
    page.goto("/models")
    expect(page.get_by_role("heading", name="Models", exact=True)).to_be_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    switcher = page.get_by_role("button", name=re.compile("Model in use"))
    switcher.focus()
    page.keyboard.press("Enter")
    item = page.get_by_role("menuitem", name=re.compile(model)).or_(
        page.locator(".q-menu .q-item", has_text=model)
    )
    expect(item.first).to_be_visible()
    page.keyboard.press("Escape")
    expect(item.first).to_be_hidden()


def test_theme_button_and_links_answer_to_the_keyboard(model, page):
    page.goto("/models")
    button = page.locator(".cllm-theme")
    button.focus()
    page.keyboard.press("Enter")
    expect(button).to_have_attribute("aria-label", "Theme: light")
    page.keyboard.press("Space")
    expect(button).to_have_attribute("aria-label", "Theme: dark")
    page.keyboard.press("Enter")
    expect(button).to_have_attribute("aria-label", "Theme: as the system")
    page.locator('.cllm-nav a[href="/training"]').focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/training")


def test_link_is_answered_before_its_page_has_come(model, page):
    page.goto("/models")
    expect(page.get_by_role("heading", name="Models", exact=True)).to_be_visible()
    answered = page.evaluate("""() => {
        document.querySelector('.cllm-nav a[href="/training"]').click();
        return [document.documentElement.className,
            document.querySelector(".cllm-nav [aria-current]").textContent];
    }""")
    assert "is-leaving" in answered[0]
    assert answered[1] == "Train"
    expect(page.get_by_role("heading", name="Train a model")).to_be_visible()
    expect(page.locator("html")).not_to_have_class(re.compile("is-leaving"))


def test_page_says_when_the_app_is_gone_and_when_it_is_back(tmp_path, browser):
    home = tmp_path / "home"
    with open_app(home) as running:
        tab = entered(browser, running)
        field = tab.get_by_label("Text", exact=True)
        field.fill("Not to be lost.")
        tab.get_by_label("Name", exact=True).fill("kept")
    told = tab.locator("#popup")
    expect(told).to_be_visible()
    expect(told).to_contain_text("The app does not answer.")
    assert serious(tab) == []
    with open_app(home, port=int(running.url.rpartition(":")[2])) as again:
        expect(told).to_contain_text("The app was started anew.")
        expect(field).to_have_value("Not to be lost.")
        come_back(tab, again)
        expect(field).to_have_value("Not to be lost.")
        expect(tab.get_by_text("15 characters")).to_be_visible()
        expect(tab.get_by_label("Name", exact=True)).to_have_value("kept")
        # Once taken away, it stays away.
        field.fill("")
        tab.reload()
        expect(field).to_be_visible()
        expect(field).to_have_value("")
    tab.context.close()


def come_back(tab, app):
    """Open the address of an app that was started anew; the old tab is loaded anew then."""
    tab.evaluate("window.isOld = true")
    tab.context.new_page().goto(app.link)
    tab.wait_for_function("!window.isOld && window.socket?.connected")
    expect(tab.locator("#popup")).to_be_hidden()


@pytest.fixture
def talking(tmp_path):
    """A home whose model chats."""
    made = Workspace(tmp_path / "home")
    make_model(made, "talk", knows_dialogue=True)
    write_defaults(made, "talk", {"logit_bias": ["#0=-inf"], "max_tokens": 4})
    note_used(made, "talk")
    return made.home


def test_what_is_said_to_an_app_that_is_gone_stays_and_is_sent_later(talking, browser):
    with open_app(talking) as running:
        tab = entered(browser, running)
        tab.goto("/chat")
        field = tab.get_by_label("Message", exact=True)
        field.fill("How is")
    expect(tab.locator("#popup")).to_be_visible()
    field.fill("How is the mill?")
    with open_app(talking, port=int(running.url.rpartition(":")[2])) as again:
        come_back(tab, again)
        expect(field).to_have_value("How is the mill?")
        field.press("Enter")
        expect(tab.locator(".cllm-said")).to_have_text("How is the mill?")
        expect(field).to_have_value("")
        tab.wait_for_url("**/chat?conversation=*")
        tab.reload()
        expect(tab.locator(".cllm-said")).to_have_text("How is the mill?")
        expect(field).to_have_value("")
    tab.context.close()


def test_what_is_written_without_the_app_is_kept_in_its_document(talking, browser):
    with open_app(talking) as running:
        tab = entered(browser, running)
        tab.goto("/write")
        # The last that is drawn, when the page listens.
        expect(tab.locator(".cllm-presets")).to_be_attached()
        sheet = tab.get_by_label("The text")
        sheet.fill("The river ran")
        tab.wait_for_url("**/write?conversation=*")
    expect(tab.locator("#popup")).to_be_visible()
    sheet.fill("The river ran past the mill.")
    held = tab.url.rpartition("=")[2]
    with open_app(talking, port=int(running.url.rpartition(":")[2])) as again:
        come_back(tab, again)
        expect(sheet).to_have_value("The river ran past the mill.")
        tab.wait_for_timeout(2000)
        expect(sheet).to_have_value("The river ran past the mill.")
        branch = Workspace(talking).conversations.branch(held)
        assert "".join(part.text for part in branch) == "The river ran past the mill."
    tab.context.close()


def test_page_goes_on_after_its_connection_was_lost(model, page):
    page.goto("/models")
    button = page.locator(".cllm-theme")
    expect(button).to_be_visible()
    page.wait_for_function("window.socket?.connected")
    page.evaluate("window.socket.io.engine.close()")
    page.wait_for_function("window.socket?.connected")
    expect(page.locator("#popup")).to_be_hidden()
    before = button.get_attribute("aria-label")
    button.click()
    expect(button).not_to_have_attribute("aria-label", before)
    page.reload()
    while button.get_attribute("aria-label") != "Theme: as the system":
        before = button.get_attribute("aria-label")
        button.click()
        expect(button).not_to_have_attribute("aria-label", before)


def test_only_who_opened_it_gets_in(model, app):
    assert httpx.get(f"{app.url}/models").status_code == 401
    assert httpx.get(f"{app.url}/models?token=guessed").status_code == 401
    headers = {"Host": "rebound.example"}
    assert httpx.get(f"{app.url}/models", headers=headers).status_code == 403


def test_key_of_the_cookies_is_for_the_owner_alone(model, app):
    key = app.home / "browser.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(key.read_text()) >= 32


def test_app_serves_its_first_page_soon(tmp_path):
    # Three seconds are promised on an idle machine; here other work may go on.
    began = time.monotonic()
    with open_app(tmp_path / "home") as running:
        answer = httpx.get(running.link, follow_redirects=True)
        assert answer.status_code == 200
        assert "Create your first model" in answer.text
    assert time.monotonic() - began < 30
