"""What `import cllm` and `cllm --help` may load: a command must start in a blink."""

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "numba", "numpy", "tokenizers", "matplotlib", "transformers", "sqlalchemy"}
SHOW = "import json, sys; print('\\n' + json.dumps(sorted(sys.modules)))"
HELP = """
from cllm.cli.main import run
assert run({arguments!r}) == 0
"""


def loaded(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{SHOW}"], capture_output=True, text=True, check=True
    )
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return {name.partition(".")[0] for name in names} | {
        name for name in names if name.startswith("cllm.")
    }


def test_import_loads_nothing_heavy() -> None:
    names = loaded("import cllm")
    assert "cllm" in names
    assert names & HEAVY == set()


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["train", "--help"], ["generate", "--help"]]
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    names = loaded(HELP.format(arguments=arguments))
    assert "cllm.cli.main" in names
    assert names & HEAVY == set()
