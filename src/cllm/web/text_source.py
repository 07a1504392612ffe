"""Choosing what a model learns from: pasted text, files, a folder, or a prepared corpus."""

from __future__ import annotations

import json
from typing import Any, final

from nicegui import events, run, ui

from cllm.errors import CllmError, InputError
from cllm.jobs.corpora import list_corpora
from cllm.jobs.uploads import LIMIT_BYTES, Purpose, remove_upload
from cllm.quantities import size
from cllm.web.layout import notify_error, text
from cllm.workspace.uploads import UploadRecord
from cllm.workspace.workspace import Workspace

_ADDRESS = "files => '/api/uploads?purpose=%s&name=' + encodeURIComponent(files[0].name)"
# What is done with must be forgotten, or it would be sent again, or refused as one that is here.
_ANSWER = """info => {
  setTimeout(() => info.files.forEach((file) => getElement(%d).removeFile(file)));
  emit(info.xhr.responseText);
}"""
_WHY = "entries => emit(entries[0].failedPropValidation)"
# Pasted text goes the way of files: what a page's own connection carries has a limit of 1 MB.
_SEND = """
const field = document.getElementById("c%d"), text = field.value;
if (!text.trim()) return {};
if (field.cllmSent?.text === text) return { id: field.cllmSent.id };
try {
  const answer = await fetch("/api/uploads?purpose=text&name=pasted.txt",
    { method: "POST", body: text });
  const told = await answer.json();
  if (!answer.ok) return { error: told.error?.message ?? "" };
  field.cllmSent = { text, id: told.id };
  return { id: told.id };
} catch { return { error: "the text could not be handed over" }; }
"""
_COUNT = """(event) => {
  const num = event.target.value.length;
  event.target.nextElementSibling.textContent =
    num ? `${num.toLocaleString("en")} characters` : "";
}"""
_SEND_S = 120.0
_DROP = """
<div class="cllm-drop-head">
  <q-icon name="upload_file" class="cllm-drop-icon" />
  <div class="grow"><div>%s</div><div class="cllm-hint">%s</div></div>
  <q-spinner v-if="props.isUploading" size="22px" />
  <q-btn flat no-caps color="primary" label="Choose files" @click="props.pickFiles" />
  <label class="cllm-visually-hidden">Files<q-uploader-add-trigger /></label>
</div>
"""


@final
class DropPlace:
    """A place to drop files on, or to choose them; those that are taken in are listed."""

    def __init__(self, workspace: Workspace, *, purpose: Purpose, title: str, note: str) -> None:
        self.records: list[UploadRecord] = []
        self._num_coming = 0
        self._workspace, self._purpose = workspace, purpose
        self.field = ui.element("q-uploader").classes("cllm-drop w-full")
        self.field.props("flat auto-upload send-raw" + (" multiple" if purpose == "text" else ""))
        self.field.props[":max-file-size"] = str(LIMIT_BYTES)
        # Straight to where uploads are kept, block by block.
        self.field.props[":url"] = _ADDRESS % purpose
        self.field.on("uploading", self._await, js_handler="() => emit()")
        self.field.on("uploaded", self._take, js_handler=_ANSWER % self.field.id)
        self.field.on("failed", self._refuse, js_handler=_ANSWER % self.field.id)
        self.field.on("rejected", self._reject, js_handler=_WHY)
        self.field.add_slot("header", _DROP % (title, note))
        self.field.add_slot("list", "<div></div>")
        self.list = ui.element("ul").classes("cllm-files")

    def taken(self) -> list[UploadRecord]:
        """What was taken in. Raises: InputError while more is on its way."""
        if self._num_coming:
            raise InputError(
                "files are still being taken in", hint="Wait until they are listed, then try again."
            )
        return self.records

    def _await(self) -> None:
        self._num_coming += 1

    async def _take(self, event: events.GenericEventArguments) -> None:
        try:
            told = json.loads(event.args)
            record = await run.io_bound(self._workspace.uploads.get, told["id"])
        except CllmError as error:
            notify_error(error)
            return
        finally:
            self._num_coming -= 1
        if record is None:
            return
        self.records = [*self.records, record] if self._purpose == "text" else [record]
        self._draw()

    def _refuse(self, event: events.GenericEventArguments) -> None:
        self._num_coming -= 1
        try:
            message = json.loads(event.args)["error"]["message"]
        except (ValueError, KeyError, TypeError):
            message = "The file could not be taken in."
        _complain(str(message))

    def _reject(self, event: events.GenericEventArguments) -> None:
        is_large = event.args == "max-file-size"
        _complain("It was too large: 2 GB are taken." if is_large else "It is on its way already.")

    def _draw(self) -> None:
        self.list.clear()
        with self.list:
            for record in self.records:
                with ui.element("li"):
                    ui.icon("description").classes("cllm-soft")
                    ui.label(record.name).classes("grow cllm-cut")
                    ui.label(size(record.num_bytes)).classes("cllm-hint cllm-num")
                    away = ui.button(icon="close", on_click=lambda r=record: self._drop(r))
                    away.props("flat round dense size=sm")
                    away.props["aria-label"] = f"Leave out {record.name}"

    async def _drop(self, record: UploadRecord) -> None:
        self.records.remove(record)
        self._draw()
        await run.io_bound(remove_upload, self._workspace, record.id)


@final
class TextSource:
    """The four ways to say what text; `chosen` gives the fields of a TrainingRequest."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.corpus: ui.select | None = None

    def draw(self) -> None:
        """Draw it."""
        with ui.tabs().props("no-caps align=left dense outside-arrows").classes("w-full") as tabs:
            for name, label in (("text", "Paste"), ("files", "Files"), ("folder", "Folder")):
                ui.tab(name, label)
            corpora = ui.tab("corpus", "Prepared")
        self.tabs = tabs
        with ui.tab_panels(tabs, value="text", animated=False).classes("w-full") as panels:
            panels.props("keep-alive")
            with ui.tab_panel("text"):
                self.text = ui.element("textarea").classes("cllm-paste")
                self.text.props('rows=9 aria-label="Text" spellcheck=false')
                self.text.props["placeholder"] = (
                    "Paste stories, notes, chats, poems, code: any text that "
                    "the model should learn to write like."
                )
                self.text.on("input", js_handler=_COUNT)
                text("div", "", "cllm-hint cllm-paste-count").props("aria-live=off")
            with ui.tab_panel("files"):
                self.drop = DropPlace(
                    self._workspace,
                    purpose="text",
                    title="Drop files here",
                    note="Text, Markdown, PDF, Word, EPUB, HTML, JSON Lines, CSV, code.",
                )
            with ui.tab_panel("folder"):
                self.folder = ui.input(placeholder="~/Documents/notes")
                self.folder.props('outlined dense aria-label="Folder or file"').classes("w-full")
                ui.label(
                    "A folder or file on this machine. All text in it is read, also below it."
                ).classes("cllm-hint q-mt-sm")
            with ui.tab_panel("corpus") as panel:
                ui.label("Text that was read, cleaned and split before.").classes("cllm-hint")
        corpora.set_visibility(False)
        self._corpora, self._panel = corpora, panel

    async def load(self) -> None:
        """Offer the prepared corpora, where there are some."""
        found = await run.io_bound(list_corpora, self._workspace) or []
        sound = [record for record in found if not record["problem"]]
        if not sound:
            return
        self._corpora.set_visibility(True)
        options = {r["name"]: f"{r['name']} ({size(r['num_bytes'])})" for r in sound}
        with self._panel:
            self.corpus = ui.select(options, value=sound[0]["name"])
            self.corpus.props('outlined dense aria-label="Corpus"').classes("w-full q-mt-sm")

    async def chosen(self) -> dict[str, Any]:
        """What stands in the open tab, as fields of a TrainingRequest. Raises: InputError."""
        match self.tabs.value:
            case "files":
                return {"uploads": tuple(record.id for record in self.drop.taken())}
            case "folder":
                return {"folder": (self.folder.value or "").strip() or None}
            case "corpus" if self.corpus is not None:
                return {"corpus": self.corpus.value}
        sent = await ui.run_javascript(_SEND % self.text.id, timeout=_SEND_S)
        if "error" in sent:
            raise InputError(sent["error"], hint="Try again, or save it as a file and choose that.")
        return {"uploads": (sent["id"],)} if "id" in sent else {}


def _complain(message: str) -> None:
    ui.notify(message, type="negative", position="bottom", close_button="Close")
