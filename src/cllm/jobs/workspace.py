"""Open the workspace: where models, runs and corpora are kept."""

from __future__ import annotations

from pathlib import Path

from cllm.workspace.home import home_folder
from cllm.workspace.workspace import Workspace

__all__ = ["Workspace", "home_folder", "open_workspace"]


def open_workspace(home: Path | None = None) -> Workspace:
    """The workspace in `home`, or in CLLM_HOME, or in the platform's data folder."""
    return Workspace(home)
