"""The page of a browser that is not let in: readable, in both themes, at every width."""

import pytest
from playwright.sync_api import Browser, expect
from tests.web.conftest import WIDTHS, App, is_within_width, serious, watch


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_browser_without_the_cookie_sees_what_to_do(
    browser: Browser, app: App, scheme: str, width: int
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme=scheme,  # type: ignore[arg-type]
        java_script_enabled=False,
    )
    tab = context.new_page()
    problems: list[str] = []
    watch(tab, app, problems)
    tab.goto(f"{app.url}/chat")
    expect(tab.get_by_role("heading", level=1)).to_have_text("This browser is not let in")
    expect(tab.get_by_text("cllm app").first).to_be_visible()
    paper = {"light": "rgb(248, 243, 232)", "dark": "rgb(12, 16, 32)"}[scheme]
    expect(tab.locator("body")).to_have_css("background-color", paper)
    assert problems == []
    context.close()


def test_axe_finds_nothing_on_it(browser: Browser, app: App) -> None:
    # Its own policy lets no script run, axe neither.
    context = browser.new_context(bypass_csp=True, color_scheme="dark")
    tab = context.new_page()
    for width in WIDTHS:
        tab.set_viewport_size({"width": width, "height": 800})
        tab.goto(f"{app.url}/inside")
        assert is_within_width(tab)
        assert serious(tab) == []
    context.close()


def test_a_tab_whose_app_was_started_anew_is_told_after_a_reload(
    browser: Browser, app: App
) -> None:
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(app.link)
    expect(tab.locator(".cllm-header")).to_be_visible()
    (own,) = [
        cookie
        for cookie in context.cookies()
        if cookie["httpOnly"] and cookie["name"] != "cllm-session"
    ]
    assert own["sameSite"] == "Strict"
    assert own["path"] == "/"
    context.add_cookies([{**own, "value": "of-the-app-before"}])  # type: ignore[typeddict-item]
    tab.reload()
    expect(tab.get_by_role("heading", level=1)).to_have_text("This browser is not let in")
    tab.goto(app.link)
    expect(tab.get_by_role("heading", level=1)).to_have_text("This link has been used")
    context.close()
