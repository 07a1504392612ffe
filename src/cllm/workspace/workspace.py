"""The workspace: one folder with everything a person made, and the database beside it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cllm.workspace.corpora import CorpusStore
from cllm.workspace.home import home_folder
from cllm.workspace.models import ModelStore

if TYPE_CHECKING:
    from cllm.workspace.conversations import ConversationStore
    from cllm.workspace.database import Database
    from cllm.workspace.preferences import Preferences
    from cllm.workspace.runs import RunStore
    from cllm.workspace.trash import Trash
    from cllm.workspace.uploads import UploadStore


class Workspace:
    """Models, corpora and runs below `home` (default: CLLM_HOME). Nothing is made until needed."""

    def __init__(self, home: Path | None = None) -> None:
        self.home = home_folder() if home is None else home.expanduser().absolute()
        self.models = ModelStore(self.home / "models")
        self.corpora = CorpusStore(self.home / "corpora")

    @cached_property
    def runs(self) -> RunStore:
        """The runs; the database library is loaded only by those who ask."""
        from cllm.workspace.runs import RunStore

        return RunStore(self.home / "runs", self._database)

    @cached_property
    def conversations(self) -> ConversationStore:
        """The conversations, in the database."""
        from cllm.workspace.conversations import ConversationStore

        return ConversationStore(self._database)

    @cached_property
    def preferences(self) -> Preferences:
        """What is remembered from one session to the next, in the database."""
        from cllm.workspace.preferences import Preferences

        return Preferences(self._database)

    @cached_property
    def trash(self) -> Trash:
        """What was deleted and can still be brought back."""
        from cllm.workspace.trash import Trash

        return Trash(self.home / "trash")

    @cached_property
    def uploads(self) -> UploadStore:
        """The files that were handed in, to be trained on or imported."""
        from cllm.workspace.uploads import UploadStore

        return UploadStore(self.home / "uploads")

    @cached_property
    def _database(self) -> Database:
        from cllm.workspace.database import Database

        return Database(self.home / "cllm.db")
