"""Models: cards, names, copies, the trash, comparing, taking in and giving away."""

from __future__ import annotations

import re
import resource
import shutil
from dataclasses import replace

import pytest
from playwright.sync_api import expect
from tests.web.conftest import PATIENCE_MS, make_model, serious

from cllm.infer.scheduler import BusyError
from cllm.jobs.model_service import delete_model, duplicate_model, list_trash, remove_deleted
from cllm.server.limits import default_limits
from cllm.server.pool import Pool
from cllm.web.dialogs.compare import _continue
from cllm.web.state import AppState
from cllm.web.writers import OpenWriter, Writers
from cllm.workspace.workspace import Workspace

LONG_MS = 3 * PATIENCE_MS


def card(page, name):
    return page.locator("article.cllm-model").filter(
        has=page.get_by_role("heading", name=name, exact=True)
    )


def choose(page, name, action):
    page.get_by_role("button", name=f"More for {name}", exact=True).click()
    # The menu of another card may still be fading away.
    page.locator(".q-menu .q-item", has_text=re.compile(f"^{action}$")).last.click()


@pytest.fixture
def models(model, app, page):
    """The page with the one model it began with."""
    home = app.home / "models"
    for folder in home.iterdir():
        if folder.name != model:
            shutil.rmtree(folder)
    page.goto("/models")
    expect(page.locator("article.cllm-model")).to_have_count(1)
    expect(card(page, model)).to_contain_text("in use")
    return page


def test_card_tells_size_data_figures_date_and_a_sample(model, models):
    shown = card(models, model)
    for name in ("Size", "Parameters", "Bits per byte", "Made", "Learned from"):
        expect(shown.locator("dt", has_text=re.compile(f"^{name}$"))).to_be_visible()
    expect(shown).to_contain_text("tales.txt")
    expect(shown).to_contain_text("in use")
    expect(shown.locator(".cllm-model-sample")).to_contain_text(re.compile(r"\w"))


def test_duplicate_rename_delete_and_undo(model, models, app):
    choose(models, model, "Duplicate")
    expect(card(models, "tales-2")).to_be_visible()
    choose(models, "tales-2", "Rename")
    dialog = models.get_by_role("dialog")
    dialog.get_by_label("Name").fill("bad/name")
    dialog.get_by_role("button", name="Rename").click()
    expect(dialog).to_contain_text("can't be the name of a model")
    dialog.get_by_label("Name").fill("songs")
    # What lies under the backdrop is not to be read now.
    assert serious(models, ".q-dialog") == []
    dialog.get_by_role("button", name="Rename").click()
    expect(card(models, "songs")).to_be_visible()
    expect(card(models, "tales-2")).to_have_count(0)
    # A taken name is told at the field, and what was typed stays.
    choose(models, "songs", "Rename")
    dialog.get_by_label("Name").fill(model)
    dialog.get_by_role("button", name="Rename").click()
    expect(dialog).to_contain_text(f"There is a model named {model} already.")
    expect(dialog.get_by_label("Name")).to_have_value(model)
    expect(models.get_by_text("--overwrite")).to_have_count(0)
    models.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert (app.home / "models" / "songs").is_dir()
    choose(models, "songs", "Delete")
    expect(card(models, "songs")).to_have_count(0)
    assert not (app.home / "models" / "songs").exists()
    models.get_by_role("button", name="Undo").click()
    expect(card(models, "songs")).to_be_visible()
    assert (app.home / "models" / "songs").is_dir()


def test_the_deleted_are_listed_brought_back_or_removed_for_good(model, models, app):
    for _ in range(2):
        choose(models, model, "Duplicate")
        expect(card(models, "tales-2")).to_be_visible()
        choose(models, "tales-2", "Delete")
        expect(card(models, "tales-2")).to_have_count(0)
    models.reload()
    trash = models.get_by_role("button", name=re.compile("Deleted models"))
    trash.click()
    dialog = models.get_by_role("dialog")
    rows = dialog.locator("li", has_text="tales-2")
    expect(rows.first).to_contain_text("kB")
    known = rows.count()
    assert known >= 2
    assert serious(models, ".q-dialog") == []
    rows.first.get_by_role("button", name="Bring back tales-2").click()
    expect(card(models, "tales-2")).to_be_visible()
    expect(dialog).to_have_count(0)
    trash.click()
    expect(rows).to_have_count(known - 1)
    dialog.get_by_role("button", name="Remove all for good").click()
    question = models.get_by_role("dialog").filter(has_text="can't be undone")
    expect(question).to_contain_text("tales-2")
    cancel = question.get_by_role("button", name="Cancel")
    expect(cancel).to_be_focused()
    assert serious(models, ".q-dialog") == []
    cancel.click()
    expect(question).to_have_count(0)
    assert any((app.home / "trash").iterdir())
    trash.click()
    dialog.get_by_role("button", name="Remove all for good").click()
    question.get_by_role("button", name="Remove", exact=True).click()
    expect(trash).to_be_hidden()
    assert not any((app.home / "trash").iterdir())
    assert (app.home / "models" / "tales-2").is_dir()


def test_what_is_deleted_while_somebody_is_asked_stays_in_the_trash(model, models, app):
    workspace = Workspace(app.home)
    delete_model(workspace, duplicate_model(workspace, model).name)
    models.reload()
    models.get_by_role("button", name=re.compile("Deleted models")).click()
    models.get_by_role("dialog").get_by_role("button", name="Remove all for good").click()
    question = models.get_by_role("dialog").filter(has_text="can't be undone")
    expect(question).to_be_visible()
    later = delete_model(workspace, duplicate_model(workspace, model).name)
    question.get_by_role("button", name="Remove", exact=True).click()
    expect(models.get_by_role("button", name="Deleted models (1)")).to_be_visible()
    assert list_trash(workspace) == [later]
    assert remove_deleted(workspace, [later.id]) == 1


def test_a_disk_too_full_for_the_trash_asks_before_it_removes_for_good(model, models, app):
    choose(models, model, "Duplicate")
    expect(card(models, "tales-2")).to_be_visible()
    pid = app.process.pid
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        choose(models, "tales-2", "Delete")
        question = models.get_by_role("dialog").filter(has_text="too full")
        question.get_by_role("button", name="Cancel").click()
        expect(question).to_have_count(0)
        assert (app.home / "models" / "tales-2").is_dir()
        choose(models, "tales-2", "Delete")
        question.get_by_role("button", name="Remove", exact=True).click()
        expect(card(models, "tales-2")).to_have_count(0)
        assert not (app.home / "models" / "tales-2").exists()
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


def test_overwriting_asks_and_names_what_is_lost(model, models, app):
    choose(models, model, "Duplicate")
    expect(card(models, "tales-2")).to_be_visible()
    before = (app.home / "models" / "tales-2").stat().st_ino
    choose(models, model, "Save as")
    models.get_by_role("dialog").get_by_label("Name").fill("tales-2")
    models.get_by_role("button", name="Save", exact=True).click()
    question = models.get_by_role("dialog").filter(has_text="Replace tales-2?")
    expect(question).to_contain_text("kB")
    expect(question).to_contain_text("bits per byte")
    question.get_by_role("button", name="Cancel").click()
    expect(question).to_be_hidden()
    assert (app.home / "models" / "tales-2").stat().st_ino == before
    choose(models, model, "Save as")
    models.get_by_role("dialog").get_by_label("Name").fill("tales-2")
    models.get_by_role("button", name="Save", exact=True).click()
    models.get_by_role("button", name="Replace it").click()
    expect(models.get_by_text("Saved as tales-2.")).to_be_visible()
    assert (app.home / "models" / "tales-2").stat().st_ino != before
    assert any(path.is_dir() for path in (app.home / "trash").iterdir())


def test_another_model_is_used_from_its_card_and_the_header(model, models):
    choose(models, model, "Duplicate")
    models.get_by_role("button", name="Use it: tales-2").click()
    switcher = models.get_by_role("button", name=re.compile("Model in use"))
    expect(switcher).to_contain_text("tales-2")
    expect(switcher).to_contain_text("ready")
    switcher.click()
    models.locator(".q-menu .q-item").filter(has=models.get_by_text(model, exact=True)).click()
    expect(switcher.locator(".cllm-switcher-name")).to_have_text(model)
    models.reload()
    expect(switcher.locator(".cllm-switcher-name")).to_have_text(model)


def test_two_models_are_compared_and_write_the_same(model, models):
    choose(models, model, "Duplicate")
    expect(card(models, "tales-2")).to_be_visible()
    choose(models, model, "Compare with another")
    dialog = models.get_by_role("dialog")
    expect(dialog.get_by_role("columnheader", name="tales-2")).to_be_visible()
    dialog.get_by_label("The same beginning for both").fill("The fox")
    dialog.get_by_role("button", name="Let both write").click()
    samples = dialog.locator(".cllm-sample")
    expect(samples.nth(1)).to_have_text(re.compile("^The fox.+", re.S))
    # A copy with the same seed.
    assert samples.nth(0).inner_text() == samples.nth(1).inner_text()


def test_export_is_downloaded_and_opened_again(model, models, tmp_path):
    choose(models, model, "Export")
    dialog = models.get_by_role("dialog")
    dialog.get_by_role("radio", name=re.compile("GGUF")).click()
    with models.expect_download(timeout=120_000) as coming:
        dialog.get_by_role("button", name="Export").click()
    file = tmp_path / "tales.gguf"
    coming.value.save_as(file)
    assert file.read_bytes()[:4] == b"GGUF"
    models.get_by_role("button", name="Open a model", exact=True).click()
    dialog = models.get_by_role("dialog")
    dialog.locator("input[type=file]").set_input_files(file)
    expect(dialog.locator(".cllm-files li")).to_contain_text("tales.gguf")
    dialog.get_by_label("Name").fill("back")
    dialog.get_by_role("button", name="Open it").click()
    switcher = models.get_by_role("button", name=re.compile("Model in use"))
    expect(switcher).to_contain_text("back", timeout=120_000)


def test_what_is_no_model_is_refused_in_words(model, models, tmp_path):
    models.get_by_role("button", name="Open a model", exact=True).click()
    dialog = models.get_by_role("dialog")
    dialog.get_by_label("Folder or file on this machine").fill(str(tmp_path / "nothing"))
    dialog.get_by_role("button", name="Open it").click()
    expect(dialog.get_by_role("alert")).to_contain_text("There is no such file or folder")


def test_squeezed_model_is_made_beside_it_and_writes(model, models, app):
    choose(models, model, "Squeeze")
    dialog = models.get_by_role("dialog")
    dialog.get_by_role("radio", name=re.compile("^8 bits")).click()
    dialog.get_by_role("button", name="Squeeze", exact=True).click()
    small = card(models, "tales-8bit")
    expect(small).to_contain_text("squeezed", timeout=LONG_MS)
    expect(dialog).to_have_count(0)
    weights = [app.home / "models" / name / "model.safetensors" for name in (model, "tales-8bit")]
    whole, squeezed = (path.stat().st_size for path in weights)
    assert squeezed < whole
    choose(models, model, "Compare with another")
    dialog.get_by_label("The same beginning for both").fill("The fox")
    dialog.get_by_role("button", name="Let both write").click()
    expect(dialog.locator(".cllm-sample").nth(1)).to_have_text(re.compile("^The fox.+", re.S))


@pytest.mark.parametrize("action", ["Rename", "Save as", "Squeeze", "Export"])
def test_dialog_is_opened_and_left_by_keyboard(model, models, action):
    more = models.get_by_role("button", name=f"More for {model}", exact=True)
    more.focus()
    models.keyboard.press("Enter")
    item = models.locator(".q-menu .q-item", has_text=re.compile(f"^{action}$"))
    expect(item).to_be_visible()
    item.focus()
    models.keyboard.press("Enter")
    dialog = models.get_by_role("dialog")
    expect(dialog).to_be_visible()
    assert serious(models, ".q-dialog") == []
    models.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(more).to_be_focused()


def test_gone_folder_and_new_one_are_seen_without_asking(model, models, app):
    home = app.home / "models"
    shutil.copytree(home / model, home / "copied-in")
    expect(card(models, "copied-in")).to_be_visible()
    shutil.rmtree(home / "copied-in")
    expect(card(models, "copied-in")).to_have_count(0)


@pytest.fixture
def narrow(tmp_path, monkeypatch):
    """A home of two models with memory for one of them."""
    home = Workspace(tmp_path / "narrow")
    for name in ("one", "two"):
        make_model(home, name, knows_dialogue=False)
    writers = Writers(home)
    with writers.using("one") as writer:
        room = writer.served.num_bytes * 3 // 2
    writers.close()
    limits = replace(default_limits(), memory_bytes=room)
    monkeypatch.setattr("cllm.web.writers.own_pool", lambda home: Pool(home, limits))
    writers = Writers(home)
    yield AppState(home, writers)
    writers.close()


def test_a_model_is_not_closed_while_it_is_compared(narrow, monkeypatch):
    whole = _continue(narrow, "one", "The ")
    go_on = OpenWriter.go_on
    refused = []

    def disturbed(self, *args, **named):
        answer = go_on(self, *args, **named)
        try:
            narrow.writers.get("two")
        except BusyError as error:
            refused.append(error.message)
        return answer

    monkeypatch.setattr(OpenWriter, "go_on", disturbed)
    assert _continue(narrow, "one", "The ") == whole
    assert refused == ["other models are in use, and there is no memory for one more"]
    # Afterwards it is nobody's.
    assert narrow.writers.get("two").name == "two"


def test_damaged_model_says_what_to_do_and_is_not_offered(model, models, app):
    home = app.home / "models"
    shutil.copytree(home / model, home / "torn")
    (home / "torn" / "model.safetensors").write_bytes(b"torn")
    shown = card(models, "torn")
    expect(shown).to_contain_text("This model's file is damaged: train it again or delete it.")
    details = shown.get_by_text("truncated or altered")
    expect(details).to_be_hidden()
    shown.get_by_text("Details").click()
    expect(details).to_be_visible()
    expect(shown.get_by_role("button", name="Use it")).to_have_count(0)
    assert serious(models) == []
    shown.get_by_role("button", name="Delete: torn").click()
    expect(shown).to_have_count(0)
