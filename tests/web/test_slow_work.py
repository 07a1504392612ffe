"""Work that takes its time, and what a person does meanwhile; settings that are moved quickly."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.web import conftest
from tests.web.conftest import PATIENCE_MS, make_model, open_app, serious

from cllm.jobs.model_service import note_used
from cllm.workspace.workspace import Workspace

LONG_MS = 4 * PATIENCE_MS
# The app begins no work before the gate is there, and notes each that is asked for.
_SLOW = """
import pathlib, time
from cllm.errors import InputError
from cllm.web.dialogs import models
from cllm.web.writers import OpenWriter
place = pathlib.Path.cwd()
def slowly(work):
    def do(*args, **named):
        with (place / "asked").open("a") as asked:
            print(work.__name__, file=asked)
        while not (place / "gate").exists():
            time.sleep(0.02)
        if (place / "refuse").exists():
            raise InputError("it was refused")
        return work(*args, **named)
    return do
for name in ("export_model", "import_model", "quantise_model"):
    setattr(models, name, slowly(getattr(models, name)))
OpenWriter.find_beams = slowly(OpenWriter.find_beams)
"""


@pytest.fixture(scope="module")
def app_home(tmp_path_factory):
    """A home with two models."""
    home = tmp_path_factory.mktemp("slow") / "cllm-home"
    for name in ("other", "story"):
        make_model(Workspace(home), name, knows_dialogue=False)
    note_used(Workspace(home), "story")
    return home


@pytest.fixture(scope="module")
def app(app_home):
    """An app whose work waits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conftest, "_START_APP", _SLOW + conftest._START_APP)
        with open_app(app_home) as running:
            yield running


@pytest.fixture
def place(app_home):
    """Where the gate is; it is shut again when a test ends."""
    for name in ("asked", "refuse", "gate"):
        (app_home.parent / name).unlink(missing_ok=True)
    yield app_home.parent
    (app_home.parent / "gate").touch()


def work_on(page, name, action):
    page.goto("/models")
    page.get_by_role("button", name=f"More for {name}", exact=True).click()
    page.locator(".q-menu .q-item", has_text=re.compile(f"^{action}$")).last.click()
    return page.get_by_role("dialog")


def test_export_is_done_once_and_no_key_or_click_loses_it(page, place, tmp_path):
    dialog = work_on(page, "story", "Export")
    dialog.get_by_role("radio", name=re.compile("NumPy")).click()
    do = dialog.get_by_role("button", name="Export")
    do.dblclick()
    expect(dialog.get_by_text("Writing and comparing …")).to_be_visible()
    expect(do).to_be_disabled()
    expect(page.locator(".cllm-running")).to_contain_text("Exporting story")
    page.keyboard.press("Escape")
    page.mouse.click(5, 400)
    page.wait_for_timeout(500)
    expect(dialog).to_be_visible()
    with page.expect_download(timeout=LONG_MS) as coming:
        (place / "gate").touch()
    coming.value.save_as(tmp_path / "story.zip")
    # So begins a zip file, its local header of PKWARE's APPNOTE 4.3.7.
    assert (tmp_path / "story.zip").read_bytes()[:4] == b"PK\x03\x04"
    expect(dialog).to_have_count(0)
    assert (place / "asked").read_text().split() == ["export_model"]


def test_export_comes_to_where_its_page_was_left_for(page, place):
    dialog = work_on(page, "story", "Export")
    dialog.get_by_role("radio", name=re.compile("NumPy")).click()
    dialog.get_by_role("button", name="Export").click()
    expect(dialog.get_by_text("Writing and comparing …")).to_be_visible()
    page.goto("/write")
    expect(page.locator(".cllm-running")).to_contain_text("Exporting story")
    # Until the page that was left is gone for good.
    page.wait_for_timeout(5000)
    with page.expect_download(timeout=LONG_MS) as coming:
        (place / "gate").touch()
    assert coming.value.suggested_filename == "story-numpy.zip"
    expect(page.get_by_text("story-numpy.zip is ready.")).to_be_visible()


def test_squeezing_that_is_refused_can_be_tried_again(page, place, app_home):
    (place / "refuse").touch()
    dialog = work_on(page, "story", "Squeeze")
    dialog.get_by_role("radio", name=re.compile("^8 bits")).click()
    do = dialog.get_by_role("button", name="Squeeze", exact=True)
    do.dblclick()
    expect(page.locator(".cllm-running")).to_contain_text("Squeezing story")
    (place / "gate").touch()
    expect(dialog.get_by_role("alert")).to_have_text("It was refused.")
    (place / "refuse").unlink()
    do.dblclick()
    expect(dialog).to_have_count(0, timeout=LONG_MS)
    expect(page.get_by_role("heading", name="story-8bit", exact=True)).to_be_visible()
    assert sorted(path.name for path in (app_home / "models").glob("story-*")) == ["story-8bit"]
    assert (place / "asked").read_text().split() == ["quantise_model"] * 2


def test_taking_in_is_told_in_the_header(page, place, tmp_path):
    (place / "refuse").touch()
    page.goto("/models")
    page.get_by_role("button", name="Open a model", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Folder or file on this machine").fill(str(tmp_path))
    dialog.get_by_label("Name").fill("taken")
    dialog.get_by_role("button", name="Open it").click()
    expect(page.locator(".cllm-running")).to_contain_text("Taking in taken")
    page.keyboard.press("Escape")
    (place / "gate").touch()
    expect(dialog.get_by_role("alert")).to_have_text("It was refused.")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def begun_text(page):
    page.goto("/write")
    expect(page.locator(".cllm-presets")).to_be_attached()
    page.get_by_label("The text").fill("The river ")
    page.wait_for_url("**/write?conversation=*")
    return page.url.rpartition("=")[2]


def likeliest(page):
    begun_text(page)
    page.get_by_role("button", name="Likeliest ways on").click()
    return page.get_by_role("dialog")


def test_a_search_that_was_left_does_not_come_back(page, place):
    dialog = likeliest(page)
    expect(dialog.get_by_text("Following…")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    (place / "gate").touch()
    page.wait_for_timeout(2000)
    expect(dialog).to_have_count(0)
    # Nor does it hinder the next one.
    page.get_by_role("button", name="Likeliest ways on").click()
    dialog.locator(".cllm-beam-text").first.click()
    expect(dialog).to_have_count(0)
    expect(page.get_by_label("The text")).to_have_value(re.compile("^The river .+", re.S))


def test_a_search_that_fails_says_why_and_can_be_tried_again(page, place):
    (place / "gate").touch()
    (place / "refuse").touch()
    dialog = likeliest(page)
    expect(dialog.get_by_role("alert")).to_have_text("It was refused.")
    expect(dialog.get_by_text("Following…")).to_have_count(0)
    (place / "refuse").unlink()
    dialog.get_by_role("button", name="Search").click()
    expect(dialog.locator(".cllm-beam-text").first).to_be_visible()
    expect(dialog.get_by_role("alert")).to_have_count(0)


def kept(app_home: Path, conversation: str) -> dict[str, object]:
    return dict(Workspace(app_home).conversations.get(conversation).settings)


def test_what_a_slider_shows_is_what_is_kept(page, place, app_home):
    held = begun_text(page)
    page.get_by_role("button", name="How it is written").click()
    slider = page.get_by_role("slider", name="Temperature")
    box = slider.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    for share in (0.9, 0.3, 0.7):
        page.mouse.move(box["x"] + box["width"] / 2, middle)
        page.mouse.down()
        # Faster than it is told: at the last moments it is still on its way.
        for step in range(1, 9):
            at = 0.5 + (share - 0.5) * step / 8
            page.mouse.move(box["x"] + box["width"] * at, middle)
        page.mouse.up()
        page.wait_for_timeout(800)
        shown = page.locator(".cllm-control-value").first.inner_text()
        assert float(shown) == pytest.approx(2 * share, abs=0.1)
        assert kept(app_home, held)["temperature"] == float(shown)


def test_a_preset_leaves_the_focus_and_what_is_open(page, place, app_home):
    held = begun_text(page)
    page.get_by_role("button", name="How it is written").click()
    page.get_by_text("More controls").click()
    expect(page.get_by_role("slider", name="Top k")).to_be_visible()
    daring = page.get_by_role("button", name="Daring")
    daring.focus()
    page.keyboard.press("Enter")
    expect(daring).to_have_attribute("aria-pressed", "true")
    expect(daring).to_be_focused()
    temperature = page.get_by_role("slider", name="Temperature")
    expect(temperature).to_have_attribute("aria-valuenow", "1.2")
    expect(page.locator(".cllm-control-value").first).to_have_text("1.2")
    thumb = temperature.locator("xpath=descendant-or-self::*[@tabindex='0']")
    thumb.focus()
    page.keyboard.press("ArrowRight")
    expect(daring).to_have_attribute("aria-pressed", "false")
    expect(thumb).to_be_focused()
    page.get_by_role("button", name="Draw a seed").click()
    expect(page.get_by_role("switch", name="Another seed each time")).not_to_be_checked()
    expect(page.get_by_role("slider", name="Top k")).to_be_visible()
    assert serious(page) == []
    page.wait_for_timeout(500)
    found = kept(app_home, held)
    assert (found["temperature"], found["min_p"], found["new_seed"]) == (1.25, 0.06, False)
    assert str(found["seed"]) == page.get_by_label("Seed", exact=True).input_value()
