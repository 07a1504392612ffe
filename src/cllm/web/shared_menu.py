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
                    ui.menu_item(*entry)
        self._menu.props["target"] = target
        self._menu.open()
