"""One menu for all lines of a list: filled when it is opened, so that long lists stay light."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

from nicegui import ui

# A label and what it does; None draws a line between.
Entry = tuple[str, Callable[[], Any]] | None


@final
class SharedMenu:
    """To be made where it outlives what it is opened for."""

    def __init__(self) -> None:
        self._menu = ui.menu().props("auto-close no-parent-event")

    def open(self, target: str, entries: Sequence[Entry]) -> None:
        """Open it at the element that the selector `target` finds."""
        self._menu.clear()
        with self._menu:
            for entry in entries:
                if entry is None:
                    ui.separator()
                else:
                    menu_entry(*entry)
        self._menu.props["target"] = target
        self._menu.open()


def menu_entry(label: str, act: Callable[..., Any]) -> ui.menu_item:
    """A line of the menu that is being filled; the first one has the focus when it opens."""
    menu = ui.context.slot.parent
    is_first = not any(isinstance(child, ui.menu_item) for child in menu)
    entry = ui.menu_item(label, act).props("role=menuitem")
    return entry.props("data-autofocus") if is_first else entry
