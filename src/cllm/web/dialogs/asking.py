"""Yes or no, a name, and what is lost when a name is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from nicegui import run, ui

from cllm.errors import CllmError
from cllm.jobs.model_service import what_is_lost
from cllm.quantities import size
from cllm.web.layout import notify_error, sentence, text
from cllm.workspace.names import check_name
from cllm.workspace.workspace import Workspace


@contextmanager
def opened(title: str) -> Iterator[ui.dialog]:
    """A dialog to be filled; awaiting it gives what was submitted, None when it was closed."""
    with ui.dialog() as dialog, ui.card().classes("cllm-dialog"):
        dialog.props["aria-label"] = title
        text("h2", title, "cllm-dialog-title")
        yield dialog


async def answered(dialog: ui.dialog) -> Any:
    """Wait for a dialog's answer, None when it was closed; the dialog is gone then."""
    answer = await dialog
    # The page may have been left meanwhile.
    if not dialog.is_deleted and not dialog.client.is_deleted:
        dialog.delete()
    return answer


async def ask(
    title: str, note: str, *, yes: str, lines: Sequence[str] = (), loses: bool = False
) -> bool:
    """Ask for a yes; closing the dialog is a no. `lines` are listed; `loses` warns by colour."""
    with opened(title) as dialog:
        if lines:
            _listed(lines)
        ui.label(note)
        leave, _ = actions(dialog, yes, lambda: dialog.submit(True), loses=loses)
        leave.props("autofocus")
    answer = await answered(dialog)
    return answer is True


def name_problem(name: str) -> str | None:
    """What is wrong with a model's name, for the field that it is typed in."""
    try:
        check_name(name.strip(), "model")
    except CllmError as error:
        return " ".join(sentence(part) for part in (error.message, error.hint) if part)
    return None


def free_or_named(name: str | None) -> str | None:
    """The same where a name may be left out."""
    return name_problem(name) if name and name.strip() else None


async def ask_name(
    title: str,
    *,
    value: str,
    yes: str,
    note: str = "",
    problem: Callable[[str], str | None] = name_problem,
) -> str | None:
    """Ask for a model's name; what `problem` finds in it is told at once, at the field."""
    with opened(title) as dialog:
        if note:
            ui.label(note).classes("cllm-soft")
        field = ui.input("Name", value=value, validation=problem)
        field.props("outlined autofocus hide-bottom-space").classes("w-full")

        def submit() -> None:
            if field.validate():
                dialog.submit(field.value.strip())

        field.on("keydown.enter", submit)
        actions(dialog, yes, submit)
    answer = await answered(dialog)
    return None if answer is None else str(answer)


async def ask_overwrite(workspace: Workspace, name: str) -> bool:
    """Ask before `name` is replaced, and say what is lost with it."""
    try:
        lost = await run.io_bound(what_is_lost, workspace, name)
    except CllmError as error:
        notify_error(error)
        return False
    if lost is None:
        return True
    with opened(f"Replace {name}?") as dialog:
        ui.label("There is a model of that name. It goes to the trash with:")
        _listed(lost_lines(lost))
        leave, _ = actions(dialog, "Replace it", lambda: dialog.submit(True), loses=True)
        leave.props("autofocus")
    answer = await answered(dialog)
    return answer is True


def lost_lines(lost: Mapping[str, Any]) -> list[str]:
    """What somebody loses with a model, line by line."""
    when = datetime.fromisoformat(lost["modified"])
    lines = [f"{size(lost['num_bytes'])}, made {when:%-d %B %Y, %H:%M}"]
    if lost.get("bits_per_byte") is not None:
        lines.append(f"{lost['bits_per_byte']:.3f} bits per byte on text it has not seen")
    if lost.get("sources"):
        lines.append("what it learned from " + ", ".join(lost["sources"][:4]))
    talks = lost.get("conversations")
    if talks:
        lines.append(f"{talks} conversation{'s' if talks != 1 else ''} held with it")
    return lines


def _listed(lines: Sequence[str]) -> None:
    with ui.element("ul").classes("cllm-lost"):
        for line in lines:
            text("li", line)


def actions(
    dialog: ui.dialog, yes: str, submit: Any, *, loses: bool = False
) -> tuple[ui.button, ui.button]:
    """The foot of a dialog, and its buttons: leave, or do it; `loses` gives that a loud colour."""
    with ui.element("div").classes("cllm-dialog-actions"):
        leave = ui.button("Cancel", on_click=dialog.close).props("flat no-caps")
        do = ui.button(yes, on_click=submit).props("unelevated no-caps")
        if loses:
            do.props("color=negative text-color=dark")
    return leave, do
