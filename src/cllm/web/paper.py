"""The sheet that Write writes on: a text field over the same text with shaded tokens."""

from __future__ import annotations

import html
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import final

from nicegui import ui
from nicegui.events import GenericEventArguments

from cllm.errors import InputError
from cllm.web.token_text import Segment, tokens_html


@final
class Paper:
    """A document that a person and a model write in turn.

    What is typed lies in the browser; `on_change` gets it when the person pauses. The shades
    lie behind it, and stay as far as the text does.
    """

    def __init__(self, on_change: Callable[[str], Awaitable[None]], *, label: str) -> None:
        self._on_change = on_change
        self._client = ui.context.client
        self._root = ui.element("div").classes("cllm-paper")
        with self._root:
            # Both have the same type and width, so that their lines break alike.
            ui.html(
                '<div class="cllm-paper-shades cllm-text" aria-hidden="true"></div>'
                f'<textarea class="cllm-paper-field" aria-label="{html.escape(label)}" '
                'spellcheck="false" placeholder="Begin a text, or leave the sheet empty…">'
                "</textarea>",
                sanitize=False,
            ).classes("cllm-paper-sheet")
        self._root.on("paper", self._changed, ["detail"])
        self._call("attach")

    async def _changed(self, event: GenericEventArguments) -> None:
        detail = event.args.get("detail") if isinstance(event.args, dict) else event.args
        await self._on_change(str(detail))

    def show(self, parts: Sequence[Segment]) -> None:
        """Show a document, its model's tokens shaded."""
        self._call("show", "".join(piece for piece, _ in parts), tokens_html(parts))

    def grow(self, parts: Sequence[Segment]) -> None:
        """Add what was written."""
        if parts:
            self._call("grow", "".join(piece for piece, _ in parts), tokens_html(parts))

    def lock(self, is_locked: bool) -> None:
        """Whether the person must wait: while a model writes."""
        self._call("lock", is_locked)

    def focus(self) -> None:
        """Put the cursor at the end."""
        self._call("focus")

    async def text(self) -> str:
        """The text as it stands in the browser. Raises: InputError where that does not answer."""
        asked = f"return cllmWriting.text({self._root.id})"
        try:
            found = await self._client.run_javascript(asked, timeout=5.0)
        except TimeoutError:
            message = "the browser did not say in time what stands on the sheet"
            raise InputError(message, hint="Nothing was changed: try again.") from None
        return str(found or "")

    def _call(self, name: str, *arguments: object) -> None:
        given = json.dumps([self._root.id, *arguments])
        self._client.run_javascript(f"cllmWriting.{name}(...{given})")
