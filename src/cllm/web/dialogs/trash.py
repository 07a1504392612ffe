"""The deleted models: to bring one back, or to be rid of all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from nicegui import run, ui

from cllm.errors import CllmError
from cllm.jobs.model_service import list_trash, remove_deleted, restore
from cllm.quantities import size
from cllm.web.dialogs.asking import answered, ask, opened
from cllm.web.layout import notify_error, text
from cllm.workspace.trash import TrashEntry
from cllm.workspace.workspace import Workspace

# Models that are deleted are few; of more, the last are shown.
_MOST = 100
# As many names as can be taken in before one says yes.
_MOST_NAMED = 8


async def show_trash(workspace: Workspace) -> None:
    """List what was deleted, and do with it what the person chooses."""
    entries = await run.io_bound(list_trash, workspace) or []
    with opened("Deleted models") as dialog:
        ui.label("They go for good after 30 days.").classes("cllm-soft")
        _draw_entries(entries[:_MOST], dialog.submit)
        with ui.element("div").classes("cllm-dialog-actions"):
            if entries:
                remove = ui.button("Remove all for good", on_click=lambda: dialog.submit("all"))
                remove.props("flat no-caps color=negative")
            ui.button("Close", on_click=dialog.close).props("unelevated no-caps autofocus")
    answer = await answered(dialog)
    try:
        if answer == "all":
            await _empty(workspace, entries)
        elif answer is not None:
            name = await run.io_bound(restore, workspace, str(answer))
            ui.notify(f"{name} is back.", position="bottom")
    except CllmError as error:
        notify_error(error)


def _draw_entries(entries: Sequence[TrashEntry], bring_back: Callable[[str], None]) -> None:
    with ui.element("ul").classes("cllm-trash"):
        for entry in entries:
            when = datetime.fromtimestamp(entry.deleted)
            with ui.element("li"):
                with ui.element("div").classes("grow"):
                    text("div", entry.name)
                    note = f"{size(entry.num_bytes)}, {when:%-d %B, %H:%M}"
                    text("div", note, "cllm-hint")
                back = ui.button("Bring back", on_click=partial(bring_back, entry.id))
                back.props("flat no-caps dense")
                back.props["aria-label"] = f"Bring back {entry.name}"


async def _empty(workspace: Workspace, entries: Sequence[TrashEntry]) -> None:
    total = size(sum(entry.num_bytes for entry in entries))
    names = [entry.name for entry in entries]
    if len(names) == 1:
        what, lines = names[0], []
    else:
        what, lines = f"these {len(names)} models", names[:_MOST_NAMED]
        if len(names) > _MOST_NAMED:
            lines.append(f"and {len(names) - _MOST_NAMED} more")
    note = f"It frees {total}, and can't be undone."
    if await ask(f"Remove {what} for good?", note, yes="Remove", lines=lines, loses=True):
        await run.io_bound(remove_deleted, workspace, [entry.id for entry in entries])
