"""The README's map names every file of the code, with what it holds."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_map_is_up_to_date() -> None:
    command = [sys.executable, ROOT / "tools" / "map.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_map_names_every_file() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    files = [path for path in (ROOT / "src/cllm").rglob("*.py") if not path.name.startswith("__")]
    assert [path.name for path in files if f" {path.name} " not in readme] == []
