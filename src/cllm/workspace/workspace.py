"""The workspace: one folder with everything a person made, and the database beside it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cllm.workspace.corpora import CorpusStore
from cllm.workspace.home import home_folder
from cllm.workspace.models import ModelStore

if TYPE_CHECKING:
    from cllm.workspace.runs import RunStore


class Workspace:
    """Models, corpora and runs below `home` (default: CLLM_HOME). Nothing is made until needed."""

    def __init__(self, home: Path | None = None) -> None:
        self.home = home_folder() if home is None else home.expanduser().absolute()
        self.models = ModelStore(self.home / "models")
        self.corpora = CorpusStore(self.home / "corpora")

    @cached_property
    def runs(self) -> RunStore:
        """The runs; the database library is loaded only by those who ask."""
        from cllm.workspace.database import Database
        from cllm.workspace.runs import RunStore

        return RunStore(self.home / "runs", Database(self.home / "cllm.db"))
