"""The maps are as the code is: rooms in the README, every file on the page of its own."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_maps_are_up_to_date() -> None:
    command = [sys.executable, ROOT / "tools" / "map.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_map_names_every_file() -> None:
    page = (ROOT / "docs/map.md").read_text(encoding="utf-8")
    files = [path for path in (ROOT / "src/cllm").rglob("*.py") if not path.name.startswith("__")]
    assert [path.name for path in files if f" {path.name} " not in page] == []


def test_the_readme_names_every_room() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rooms = [path.parent.name for path in (ROOT / "src/cllm").glob("*/__init__.py")]
    assert [room for room in rooms if f"  {room}/ " not in readme] == []
