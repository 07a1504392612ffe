"""The cards of all models, read again only where something has changed on the disk."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from cllm.errors import CllmError
from cllm.jobs.model_service import ModelCard, list_cards, model_card
from cllm.workspace.workspace import Workspace

# A file that is changed in place does not change its folder's time: seen this much later.
_OLD_S = 120.0
_NAMES_S = 3.0

Stamp = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class _Held:
    card: ModelCard
    stamp: Stamp
    read_at: float


@final
class CardShelf:
    """What `list_cards` says, for pages that ask once a second.

    A look costs two `stat` calls a model: 1 ms for 200 models, where reading them takes 80.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._held: dict[str, _Held] = {}
        self._named: Sequence[str] = ()
        self._named_at: tuple[int | None, float] = (None, 0.0)
        self._lock = threading.Lock()

    def cards(self) -> tuple[ModelCard, ...]:
        """Every model, the last made first; which is in use is not their matter.

        Raises: StorageError.
        """
        with self._lock:
            now, known = time.monotonic(), self._held
            names = self._names()
            read = [] if known else list_cards(self._workspace)
            found = {card.name: card for card in read}
            self._held = {}
            for place, name in enumerate(names):
                held = known.get(name)
                # A part of them each time, so that no look takes long.
                is_old = held is not None and now - held.read_at > _OLD_S + place % 60
                if held is None or is_old or held.stamp != self._stamp(held.card):
                    held = self._read(name, found.get(name), now)
                if held is not None:
                    self._held[name] = held
            cards = [held.card for held in self._held.values()]
            return tuple(sorted(cards, key=lambda card: -card.modified))

    def _names(self) -> Sequence[str]:
        """The names in use, read anew where a folder came or went, and now and then."""
        stamp, now = _changed(str(self._workspace.models.root)), time.monotonic()
        # A folder that is copied in is there before the file that makes it a model.
        if stamp is None or stamp != self._named_at[0] or now - self._named_at[1] > _NAMES_S:
            self._named, self._named_at = self._workspace.models.names(), (stamp, now)
        return self._named

    def _read(self, name: str, card: ModelCard | None, now: float) -> _Held | None:
        try:
            card = card or model_card(self._workspace, name)
        except (CllmError, FileNotFoundError):
            # Removed while the others are looked at.
            return None
        return _Held(card, self._stamp(card), now)

    def _stamp(self, card: ModelCard) -> Stamp:
        """When what a card is made from was changed last."""
        folder = _changed(f"{self._workspace.models.root}/{card.name}")
        if not card.run:
            return (folder,)
        run = os.path.basename(card.run)  # noqa: PTH119 - a name, not a path
        return folder, _changed(f"{self._workspace.home}/runs/{run}/result.json")


def _changed(path: str) -> int | None:
    # Hundreds of times a second: `Path.stat` takes three times as long.
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116
    except OSError:
        return None
