"""Every benchmark is named, with what it answers, in benchmarks/README.md."""

from pathlib import Path

FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_each_benchmark_has_one_line_in_the_readme() -> None:
    lines = (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    for path in FOLDER.glob("*.py"):
        assert len([line for line in lines if line.startswith(f"| `{path.name}`")]) == 1, path.name
