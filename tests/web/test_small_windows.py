"""Small windows and keyboards: nothing is out of sight, out of reach, or lost on the way."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from tests.web.conftest import (
    PATIENCE_MS,
    App,
    entered,
    is_within_width,
    make_model,
    open_app,
    serious,
    watch,
)

from cllm.jobs.model_service import note_used, write_defaults
from cllm.web.header import running
from cllm.web.state import Activity, Glance
from cllm.workspace.workspace import Workspace

LONG_NAME = "a-model-with-a-rather-long-name"
PHONE = {"width": 390, "height": 844}
# The header with a training in it, as `running` tells of one.
_AT_WORK = """() => {
  const link = document.querySelector(".cllm-running");
  link.classList.remove("hidden");
  const told = { name: "a-model-with-a-rather-long-name:", state: " 45%", left: ", 3:20 left",
    more: " +1" };
  for (const [part, text] of Object.entries(told))
    link.querySelector(`.cllm-running-${part}`).textContent = text;
}"""


BOTH_THEMES = pytest.mark.parametrize("phone", ["light", "dark"], indirect=True)


@pytest.fixture(scope="module")
def app_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two models that chat."""
    made = Workspace(tmp_path_factory.mktemp("small") / "cllm-home")
    for name in ("talk", LONG_NAME):
        make_model(made, name, knows_dialogue=True)
        write_defaults(made, name, {"logit_bias": ["#0=-inf"], "max_tokens": 4})
    note_used(made, "talk")
    return made.home


@pytest.fixture
def phone(browser: Browser, app: App, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A tab as wide as a phone, light unless a test asks for both themes."""
    tab = entered(browser, app, viewport=PHONE, color_scheme=getattr(request, "param", "light"))
    problems: list[str] = []
    watch(tab, app, problems)
    yield tab
    tab.context.close()
    assert problems == []


def message(page: Page) -> Locator:
    return page.get_by_label("Message", exact=True)


def chat(page: Page) -> None:
    page.goto("/chat")
    expect(page.locator(".cllm-presets")).to_be_attached()
    expect(message(page)).to_be_visible()


def is_whole(part: Locator) -> bool:
    """Whether all of a text is in sight."""
    return bool(
        part.evaluate("""(element) => {
            const box = element.getBoundingClientRect();
            const frame = element.closest("a, button").getBoundingClientRect();
            return box.width > 0 && element.scrollWidth <= Math.ceil(box.width)
              && box.left >= frame.left && box.right <= frame.right && frame.right <= innerWidth;
        }""")
    )


def contrast(part: Locator, behind: Locator) -> float:
    """Of a text on its ground, as WCAG 2.1 defines it."""

    def luminance(colour: str) -> float:
        shares = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (
            share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4
            for share in shares
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    text = luminance(part.evaluate("(element) => getComputedStyle(element).color"))
    ground = luminance(behind.evaluate("(element) => getComputedStyle(element).backgroundColor"))
    return (max(text, ground) + 0.05) / (min(text, ground) + 0.05)


@BOTH_THEMES
def test_model_and_work_are_readable_in_a_narrow_header(phone: Page) -> None:
    phone.goto("/models")
    note = phone.locator(".cllm-switcher-note")
    expect(note).to_have_text(re.compile(r"kB · ready"))
    phone.evaluate(_AT_WORK)
    for width in (320, 390, 1024):
        phone.set_viewport_size({"width": width, "height": 844})
        for part in (
            note,
            phone.locator(".cllm-running-state"),
            phone.locator(".cllm-running-more"),
        ):
            assert is_whole(part), width
        assert is_within_width(phone), width
        assert serious(phone, ".cllm-header") == []


def test_header_tells_of_the_newest_work_and_that_there_is_more() -> None:
    work = (Activity("Exporting a", "/models"), Activity("Reading b", "/inside", 0.25))
    told = running(Glance((), None, "none", None, None, work))
    assert told is not None
    assert (told.name, told.state, told.num_more) == ("Reading b", "25%", 1)
    alone = running(Glance((), None, "none", None, None, work[:1]))
    assert alone is not None
    assert (alone.words, alone.progress, alone.num_more) == ("Exporting a", None, 0)


@BOTH_THEMES
def test_model_menu_is_within_the_window_and_answers_to_keys(phone: Page) -> None:
    phone.goto("/models")
    switcher = phone.locator(".cllm-switcher")
    switcher.focus()
    phone.keyboard.press("Enter")
    menu = phone.get_by_role("menu")
    lines = phone.get_by_role("menuitem")
    expect(lines.first).to_be_focused()
    box = menu.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE["width"]
    assert serious(phone) == []
    for key, at in (("ArrowDown", 1), ("End", 3), ("ArrowDown", 0), ("ArrowUp", 3), ("Home", 0)):
        phone.keyboard.press(key)
        expect(lines.nth(at)).to_be_focused()
    phone.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    expect(switcher).to_be_focused()
    phone.keyboard.press("ArrowDown")
    expect(lines.first).to_be_focused()
    phone.keyboard.press("End")
    phone.keyboard.press("Enter")
    phone.wait_for_url("**/training")


@pytest.mark.parametrize("name", ["Conversations", "How it is written"])
def test_columns_open_and_close_by_keyboard(phone: Page, name: str) -> None:
    chat(phone)
    opener = phone.get_by_role("button", name=name, exact=True)
    column = phone.get_by_role("complementary", name=name)
    expect(column).to_be_hidden()
    for key in ("Escape", "Enter"):
        opener.focus()
        phone.keyboard.press("Enter")
        expect(opener).to_have_attribute("aria-expanded", "true")
        close = column.get_by_role("button", name="Close", exact=True)
        expect(close).to_be_focused()
        assert serious(phone) == []
        phone.keyboard.press(key)
        expect(column).to_be_hidden()
        expect(opener).to_be_focused()


def test_a_slider_that_has_the_focus_says_what_it_is(phone: Page) -> None:
    chat(phone)
    phone.get_by_role("button", name="How it is written").click()
    slider = phone.get_by_role("slider", name="Temperature")
    expect(slider).to_have_count(1)
    slider.focus()
    expect(slider).to_be_focused()
    expect(slider).to_have_attribute("aria-valuenow", "0.8")
    phone.keyboard.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuenow", "0.85")
    expect(phone.get_by_role("slider", name="Temperature")).to_have_count(1)


def test_what_is_deleted_by_keyboard_is_brought_back_by_keyboard(phone: Page) -> None:
    chat(phone)
    message(phone).fill("Delete me")
    message(phone).press("Enter")
    expect(phone.locator(".is-assistant")).to_have_count(1)
    phone.get_by_role("button", name="Conversations", exact=True).click()
    more = phone.get_by_label("More for Delete me")
    more.focus()
    phone.keyboard.press("Enter")
    expect(phone.get_by_role("menuitem", name="Rename")).to_be_focused()
    phone.keyboard.press("End")
    phone.keyboard.press("Enter")
    undo = phone.get_by_role("button", name="Undo")
    expect(undo).to_be_focused()
    expect(undo).to_have_accessible_description(re.compile("Delete me.* was deleted"))
    bar = phone.locator(".cllm-undo")
    for button in bar.locator(".q-btn").all():
        assert contrast(button, bar) >= 4.5
    composer = phone.locator(".cllm-composer").bounding_box()
    box = bar.bounding_box()
    assert composer is not None
    assert box is not None
    assert box["y"] + box["height"] <= composer["y"]
    phone.keyboard.press("Enter")
    expect(more).to_be_visible()
    phone.wait_for_function("document.activeElement !== document.body")
    more.click()
    phone.get_by_role("menuitem", name="Delete").click()
    expect(bar).to_be_visible()
    bar.get_by_role("button", name="Close").click()
    phone.wait_for_function("document.activeElement !== document.body")


def test_what_is_not_sent_yet_outlives_a_reload_and_a_way_back(phone: Page) -> None:
    chat(phone)
    message(phone).fill("Not sent")
    phone.reload()
    expect(message(phone)).to_have_value("Not sent")
    phone.locator('.cllm-tabs a[href="/models"]').click()
    expect(phone.get_by_role("heading", name="Models", exact=True)).to_be_visible()
    phone.go_back()
    expect(message(phone)).to_have_value("Not sent")
    message(phone).press("Enter")
    expect(phone.locator(".cllm-said")).to_have_text("Not sent")
    expect(message(phone)).to_have_value("")
    chat(phone)
    phone.wait_for_timeout(1000)
    expect(message(phone)).to_have_value("")


def test_a_pasted_text_stays_until_it_is_taken_away(phone: Page) -> None:
    phone.goto("/training")
    text, name = phone.get_by_label("Text", exact=True), phone.get_by_label("Name", exact=True)
    text.fill("The river ran.")
    name.fill("mine")
    phone.goto("/models")
    phone.goto("/training")
    expect(text).to_have_value("The river ran.")
    expect(name).to_have_value("mine")
    expect(phone.get_by_text("14 characters")).to_be_visible()
    text.fill("")
    name.fill("")
    phone.reload()
    expect(text).to_be_visible()
    phone.wait_for_timeout(1000)
    expect(text).to_have_value("")
    expect(name).to_have_value("")


@BOTH_THEMES
def test_a_warning_is_readable_and_above_the_composer(phone: Page) -> None:
    phone.goto("/chat?conversation=gone")
    told = phone.locator(".q-notification.bg-warning")
    expect(told).to_be_visible()
    assert contrast(told.locator(".q-notification__message"), told) >= 4.5
    expect(message(phone)).to_be_visible()
    assert serious(phone) == []
    composer, box = phone.locator(".cllm-composer").bounding_box(), told.bounding_box()
    assert composer is not None
    assert box is not None
    assert box["y"] + box["height"] <= composer["y"]


@BOTH_THEMES
def test_an_unknown_address_leads_to_the_start(phone: Page) -> None:
    # It is shown in the theme of the page before.
    phone.goto("/models")
    expect(phone.locator(".cllm-header")).to_be_visible()
    answer = phone.goto("/nowhere")
    assert answer is not None
    assert answer.status == 404
    expect(phone.get_by_role("heading", level=1)).to_have_text("There is no such page")
    paper = phone.evaluate("getComputedStyle(document.body).backgroundColor")
    dusk = phone.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert paper == ("rgb(12, 16, 32)" if dusk else "rgb(248, 243, 232)")
    assert is_within_width(phone)
    phone.get_by_role("link", name="to the start").click()
    expect(phone.locator(".cllm-header")).to_be_visible()


def test_an_unknown_address_of_the_api_is_answered_in_json(phone: Page, app: App) -> None:
    cookies = {cookie["name"]: cookie["value"] for cookie in phone.context.cookies()}
    for path in ("/v1/nothing", "/api/nothing"):
        answer = httpx.get(app.url + path, cookies=cookies, headers={"Accept": "text/html"})
        assert answer.status_code == 404
        assert answer.json()["error"]["message"]


def test_only_a_model_with_gates_has_a_tab_for_them(phone: Page) -> None:
    phone.goto("/inside?show=gates")
    expect(phone.get_by_role("tab", name="Reading a text")).to_have_attribute(
        "aria-selected", "true"
    )
    expect(phone.get_by_role("tab", name="Gates")).to_have_count(0)


def test_pages_are_no_higher_than_what_they_show(phone: Page) -> None:
    phone.set_viewport_size({"width": 1200, "height": 2400})
    for path in ("/models", "/training", "/benchmarks"):
        phone.goto(path)
        phone.locator("#content").wait_for()
        assert phone.evaluate("document.documentElement.scrollHeight <= innerHeight"), path


def test_without_the_app_a_page_says_so_and_hides_nothing(tmp_path: Path, browser: Browser) -> None:
    made = Workspace(tmp_path / "home")
    make_model(made, "talk", knows_dialogue=True)
    note_used(made, "talk")
    access = ["clipboard-read", "clipboard-write"]
    with open_app(made.home) as running_app:
        tab = entered(browser, running_app, viewport=PHONE, permissions=access)
        chat(tab)
        message(tab).fill("Not sent")
    told = tab.locator("#popup")
    expect(told).to_be_visible(timeout=PATIENCE_MS)
    expect(tab.get_by_role("button", name=re.compile("not connected"))).to_be_visible()
    expect(tab.get_by_role("button", name="Send")).to_be_disabled()
    header, composer = tab.locator(".cllm-header").bounding_box(), message(tab).bounding_box()
    box = told.bounding_box()
    assert header is not None
    assert composer is not None
    assert box is not None
    assert header["y"] + header["height"] <= box["y"]
    assert box["y"] + box["height"] <= composer["y"]
    tab.get_by_role("button", name="Copy what I wrote").click()
    expect(tab.get_by_role("button", name="Copied")).to_be_visible()
    assert tab.evaluate("navigator.clipboard.readText()") == "Not sent"
    assert serious(tab) == []
    with open_app(made.home, port=int(running_app.url.rpartition(":")[2])):
        expect(told).to_contain_text("cllm app")
        assert serious(tab) == []
    tab.context.close()


def test_a_slider_says_whether_it_can_be_moved(phone: Page) -> None:
    phone.goto("/training?new=true")
    slider = phone.get_by_role("slider", name="Time to train")
    expect(slider).to_be_enabled()
    # As the toolkit disables it, and enables it again.
    told = phone.locator(".cllm-budget .q-slider")
    told.evaluate("(element) => element.setAttribute('aria-disabled', 'true')")
    expect(slider).to_be_disabled()
    told.evaluate("(element) => element.removeAttribute('aria-disabled')")
    expect(slider).to_be_enabled()
