"""What every test run has: shapes and types checked, a fresh home, the real command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

# Models in tests are tiny: more threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CLLM_TRAIN__THREADS", "1")

# Before cllm is imported: each module of it is checked against its annotations from here on.
install_import_hook("cllm", "beartype.beartype")

settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh CLLM_HOME, in the environment of this process and its children."""
    folder = tmp_path / "cllm-home"
    monkeypatch.setenv("CLLM_HOME", str(folder))
    monkeypatch.setenv("NO_COLOR", "1")
    return folder


@pytest.fixture
def cllm_command(home: Path) -> Command:
    """Run the installed command as a child process: `cllm_command("models", "list")`."""
    executable = Path(sys.executable).with_name("cllm")

    def run(
        *arguments: str | Path,
        stdin: str | None = None,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        assert home == Path(os.environ["CLLM_HOME"])
        return subprocess.run(
            [str(executable), *map(str, arguments)],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            env={**os.environ, "COLUMNS": "100", **(environment or {})},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=timeout_s,
            check=False,
        )

    return run
