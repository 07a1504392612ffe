"""What one does with a model that needs a question: take in, save as, give away, compare."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal, cast, final, get_args

from nicegui import Client, run, ui

from cllm.errors import CllmError, InputError
from cllm.jobs.model_exchange import Target, export_model, export_path, import_model, quantise_model
from cllm.jobs.model_service import rename_model, save_as
from cllm.web.dialogs.asking import (
    actions,
    answered,
    ask_name,
    ask_overwrite,
    free_or_named,
    name_problem,
    opened,
)
from cllm.web.header import use
from cllm.web.layout import Loading, error_card, notify_error
from cllm.web.proposal import in_page_words
from cllm.web.state import AppState
from cllm.web.text_source import DropPlace

_TARGETS: dict[str, str] = {
    "hf": "Transformers (a Hugging Face folder)",
    "gguf": "llama.cpp, Ollama, LM Studio (GGUF)",
    "onnx": "ONNX Runtime",
    "numpy": "NumPy alone (a folder with one small program)",
}
_BITS = {8: "8 bits: a quarter of the size", 4: "4 bits: an eighth of the size"}


async def open_model_folder(state: AppState) -> None:
    """Take in a model of another program, from a folder or a GGUF file, and use it."""
    with opened("Open a model") as dialog:
        ui.label("A model folder as Transformers writes it, or a .gguf file.").classes("cllm-soft")
        place = ui.input("Folder or file on this machine", placeholder="~/models/my-model")
        place.props("outlined autofocus stack-label").classes("w-full")
        drop = DropPlace(
            state.workspace, purpose="model", title="Or drop a .gguf file", note="Up to 2 GB."
        )
        name = ui.input("Name", placeholder="Made from the folder's name", validation=free_or_named)
        name.props("outlined dense stack-label hide-bottom-space").classes("w-full")
        work = _Work(dialog, "Taking it in …")
        work.draw("Open it", lambda: _take_in(state, place.value, drop, name.value))
    made = await answered(dialog)
    if made is not None:
        await use(made)
        ui.navigate.to("/")


async def _take_in(
    state: AppState, place: str | None, drop: DropPlace, name: str | None
) -> str | None:
    """The name of the model that was made, None where the person would not overwrite one."""
    name = (name or "").strip() or None
    dropped = drop.taken()
    source = dropped[0].path if dropped else None
    if source is None:
        given = (place or "").strip()
        source = Path(given).expanduser()
        if not given or not source.is_absolute():
            raise InputError("no full path was given", hint="Begin with / or ~.")
    elif name is None:
        name = state.workspace.models.free_name(Path(dropped[0].name).stem)
    overwrite = name is not None and state.workspace.models.exists(name)
    if overwrite and not await ask_overwrite(state.workspace, str(name)):
        return None
    known = set(state.workspace.models.names())
    with state.working(f"Taking in {name or source.stem}", "/models"):
        await run.io_bound(import_model, state.workspace, source, name=name, overwrite=overwrite)
    new = set(state.workspace.models.names()) - known
    return name or (new.pop() if new else source.stem)


async def rename(state: AppState, name: str) -> str | None:
    """Ask for another name and give it."""

    def problem(new: str) -> str | None:
        found, new = name_problem(new), new.strip()
        if found is None and new != name and state.workspace.models.exists(new):
            return f"There is a model named {new} already. Choose another name."
        return found

    new = await ask_name(f"Rename {name}", value=name, yes="Rename", problem=problem)
    if new is None or new == name:
        return None
    return await _done(lambda: run.io_bound(rename_model, state.workspace, name, new), new)


async def copy_as(state: AppState, name: str) -> str | None:
    """Ask for a name and keep a copy under it; a taken one is asked about."""
    free = state.workspace.models.free_name(name)
    new = await ask_name(
        f"Save {name} as", value=free, yes="Save", note="A copy; the model itself stays."
    )
    if new is None:
        return None
    overwrite = new != name and state.workspace.models.exists(new)
    if overwrite and not await ask_overwrite(state.workspace, new):
        return None
    made = await _done(
        lambda: run.io_bound(save_as, state.workspace, name, new, overwrite=overwrite), new
    )
    if made is not None:
        ui.notify(f"Saved as {made}.", position="bottom")
    return made


async def export(state: AppState, name: str) -> None:
    """Write the model for another program, compare it there, and hand out the file."""
    assert set(_TARGETS) == set(get_args(Target))
    client = ui.context.client
    with opened(f"Export {name}") as dialog:
        ui.label("For which program? It is compared with the original before it is offered.")
        target = ui.radio(_TARGETS, value="hf").props('aria-label="Program" autofocus')

        async def write() -> bool:
            to = cast("Target", target.value)
            with state.working(f"Exporting {name}", "/models"):
                made = await run.io_bound(export_model, state.workspace, name, to)
            if made is not None:
                _hand_out(client, export_path(state.workspace, made["file"]))
            return made is not None

        _Work(dialog, "Writing and comparing …").draw("Export", write)
    await answered(dialog)


def _hand_out(asked: Client, file: Path) -> None:
    """Download a file in the page that asked for it; where that was left, in the newest one."""
    pages = (asked, *reversed(Client.instances.values()))
    shown = next((page for page in pages if page.has_socket_connection), asked)
    if not shown.is_deleted:
        with shown.content:
            ui.download.file(file, file.name)
            ui.notify(f"{file.name} is ready.", position="bottom")


async def squeeze(state: AppState, name: str) -> str | None:
    """Make a smaller model of one, under a name of its own."""
    with opened(f"Squeeze {name}") as dialog:
        ui.label("A smaller model is made beside it. It writes faster and knows a little less.")
        bits = ui.radio(_BITS, value=4).props('aria-label="Bits" autofocus')

        async def make() -> str:
            chosen = cast("Literal[4, 8]", bits.value)
            free = state.workspace.models.free_name(f"{name}-{chosen}bit")
            with state.working(f"Squeezing {name}", "/models"):
                await run.io_bound(
                    quantise_model, state.workspace, name, bits=chosen, new_name=free
                )
            return free

        _Work(dialog, "Squeezing and measuring …").draw("Squeeze", make)
    made = await answered(dialog)
    return cast("str | None", made)


@final
class _Work:
    """Work that a dialog does before it closes; what goes wrong is said there."""

    def __init__(self, dialog: ui.dialog, label: str) -> None:
        self._dialog, self._label = dialog, label

    def draw(self, yes: str, work: Callable[[], Awaitable[Any]]) -> None:
        """The place of what is told, and the foot; `work` returns something true to close it."""
        self._answer = ui.element("div").props("aria-live=polite").classes("w-full")
        self._buttons = actions(self._dialog, yes, lambda: self._do(work))

    async def _do(self, work: Callable[[], Awaitable[Any]]) -> None:
        self._answer.clear()
        with self._answer:
            waiting = Loading(self._label)
        self._busy(True)
        try:
            made = await work()
        except CllmError as error:
            if not self._answer.is_deleted:
                with self._answer:
                    error_card(in_page_words(error))
        else:
            if made:
                self._dialog.submit(made)
        finally:
            # The page may have been left meanwhile.
            if not waiting.is_deleted:
                waiting.delete()
                self._busy(False)

    def _busy(self, is_busy: bool) -> None:
        """While it works, neither a key nor a click beside the dialog closes it."""
        self._dialog.props.set_bool("persistent", is_busy)
        for button in self._buttons:
            button.set_enabled(not is_busy)


async def _done(work: Callable[[], Awaitable[Any]], name: str) -> str | None:
    try:
        await work()
    except CllmError as error:
        notify_error(in_page_words(error))
        return None
    return name
