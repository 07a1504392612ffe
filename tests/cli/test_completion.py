"""Tab completion, tried in a real bash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cllm.jobs.workspace import open_workspace

Command = Callable[..., subprocess.CompletedProcess[str]]
EXECUTABLE = Path(sys.executable).with_name("cllm")

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "cllm.bash"
    command = [str(EXECUTABLE), "completion", "bash"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    path.write_text(done.stdout)
    return path


def _complete(script: Path, *words: str) -> set[str]:
    """What bash offers when Tab is pressed after these words."""
    quoted = " ".join(f"'{word}'" for word in words)
    program = f"""
source {script}
COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; COMP_LINE="${{COMP_WORDS[*]}}"
COMP_POINT=${{#COMP_LINE}}; _cllm; printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    path = f"{EXECUTABLE.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": path},
    )
    return {line.strip() for line in done.stdout.splitlines() if line.strip()}


@needs_bash
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("cllm", "tra"), {"train"}),
        (("cllm", "models", "l"), {"list"}),
        (("cllm", "train", "--step"), {"--steps"}),
        (("cllm", "train", "--tokenizer", "word"), {"wordpiece", "words"}),
    ],
)
def test_commands_flags_and_choices(
    script: Path, words: tuple[str, ...], offered: set[str]
) -> None:
    assert offered <= _complete(script, *words)


@needs_bash
def test_names_of_models(script: Path, home: Path) -> None:
    for name in ("tales", "stories"):
        with open_workspace().models.write(name) as folder:
            (folder / "config.json").write_text("{}")
    assert _complete(script, "cllm", "models", "show", "") == {"tales", "stories"}
    assert _complete(script, "cllm", "generate", "ta") == {"tales"}


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script(cllm_command: Command, shell: str) -> None:
    done = cllm_command("completion", shell)
    assert done.returncode == 0
    assert "corpora" in done.stdout
