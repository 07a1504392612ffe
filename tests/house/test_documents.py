"""The commands and Python examples of README and docs are run as they stand.

Each document runs from top to bottom in a folder and a CLLM_HOME of its own, where the model
`mine` and the texts of `write_texts` exist already. Only the length of a training is changed
(`--minutes 5` becomes four small steps). A block is left out only behind a comment that says why:
`<!-- not run: it waits for a person -->`.
"""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from pydoc_data.topics import topics

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DOCUMENTS = sorted(
    path
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "benchmarks/README.md"]
    if not {"generated", "_build"} & set(path.parts)
)
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>.+?) -->\n+)?"
    r"^(?P<fence>```+)(?P<kind>\w*)\n(?P<body>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)


def blocks(path: Path) -> list[tuple[str, str]]:
    """The (kind, code) of each block of a document that is to be run."""
    return [
        (match["kind"], shorten(match["body"]))
        for match in BLOCK.finditer(path.read_text(encoding="utf-8"))
        if match["kind"] in ("console", "python") and not match["reason"]
    ]


def shorten(code: str) -> str:
    code = re.sub(r"--minutes[ =][\d.]+", "--steps 4", code)
    return re.sub(r"\bminutes=[\d.]+", "steps=4", code)


def commands(body: str) -> list[str]:
    """The lines after `$ `, each with its continuation lines; the rest is output."""
    joined = body.replace("\\\n", " ")
    return [line[2:] for line in joined.splitlines() if line.startswith("$ ")]


def write_texts(folder: Path) -> None:
    """The texts that the documents speak of: my-texts/, book.txt, more.txt, held-out.txt."""
    (folder / "my-texts").mkdir(parents=True)
    names = [f"my-texts/chapter-{number}.txt" for number in range(6)]
    names += ["book.txt", "more.txt", "held-out.txt"]
    for number, name in enumerate(names):
        text = "\n\n".join(list(topics.values())[number :: len(names)])
        (folder / name).write_text(text[:20_000], encoding="utf-8")


def environment(home: Path) -> dict[str, str]:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    # Small batches and short samples: what is tested is that the example works.
    small = {"CLLM_TRAIN__BATCH_SIZE": "2", "CLLM_TRAIN__SAMPLE_TOKENS": "16"}
    # HOME too: an example may write to the person's own settings.
    here = {"CLLM_HOME": str(home), "HOME": str(home.parent), "PATH": path}
    return {**os.environ, **small, **here, "NO_COLOR": "1", "COLUMNS": "100"}


def run(arguments: list[str | Path], folder: Path, home: Path) -> None:
    done = subprocess.run(
        arguments,
        cwd=folder,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    shown = textwrap.shorten(" ".join(map(str, arguments)), 300)
    assert done.returncode == 0, f"{shown}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


@pytest.fixture(scope="module")
def home_with_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    write_texts(folder)
    command = [BIN / "cllm", "train", "my-texts", "--name", "mine", "--steps", "8", "--quiet"]
    run([*command, "--preset", "tiny"], folder, folder / "home")
    return folder / "home"


@pytest.mark.parametrize(
    "path",
    [path for path in DOCUMENTS if blocks(path)],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_the_examples_of_a_document_run(path: Path, tmp_path: Path, home_with_model: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(home_with_model, home)
    write_texts(tmp_path / "work")
    python = ""
    for kind, body in blocks(path):
        if kind == "python":
            # A later example goes on with the names of an earlier one.
            python += body
        else:
            for command in commands(body):
                run(["bash", "-euo", "pipefail", "-c", command], tmp_path / "work", home)
    if python:
        run([sys.executable, "-c", python], tmp_path / "work", home)


def test_what_is_not_run_says_why() -> None:
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        reasons = [match["reason"] for match in BLOCK.finditer(text) if match["reason"]]
        assert "<!-- not run:" not in BLOCK.sub("", text), f"{path}: a comment without its block"
        assert all(len(reason) >= 10 for reason in reasons), path
