"""Where everything is kept: the folder CLLM_HOME."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def home_folder() -> Path:
    """CLLM_HOME, or the platform's folder for application data. It may not exist yet."""
    chosen = os.environ.get("CLLM_HOME", "").strip()
    if chosen:
        return Path(chosen).expanduser().absolute()
    return platformdirs.user_data_path("cllm", appauthor=False)
