"""The installed command as people and programs meet it: exit codes, streams, messages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]
EXECUTABLE = Path(sys.executable).with_name("cllm")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tran"], "Did you mean 'train'?"),
        (["--verison"], "Did you mean '--version'?"),
        (["zzz"], "There are: train, generate"),
        (["models", "lst"], 'Did you mean "list"?'),
        (["models", "show"], "requires an argument"),
        (["models", "path", "a", "b"], "Unused"),
        (["models", "list", "--jsno"], "Did you mean --json?"),
        (["train", "x", "--stpes", "3"], "Did you mean --steps?"),
        (["train", "x", "--model.widht", "3"], "Did you mean --model.width?"),
        (["train", "x", "--steps", "many"], "--steps"),
        (["train", "x", "--steps", "-1"], "--steps"),
        (["train", "x", "--tokenizer", "nope"], "--tokenizer"),
        (["train", "x", "--model.width", "0"], "--model.width"),
        (["train", "x", "--config", "none.toml"], "none.toml"),
        (["train"], "cllm train FOLDER"),
        (["train", "x", "--name", "../x"], "can't be the name of a model"),
        (["train", "x", "--name", "a b"], "For example: a-b"),
        (["train", "x", "--name", ""], "can't be the name of a model"),
        (["models", "path", "../../etc"], "can't be the name of a model"),
        (["models", "show", "none"], "there is no model named 'none'"),
        (["models", "rm", "none", "--yes"], "there is no model named 'none'"),
        (["corpora", "show", "none"], "there is no corpus named 'none'"),
        (["corpora", "add", "../x", "y"], "can't be the name of a corpus"),
        (["runs", "show", "none"], "there is no run 'none'"),
        (["runs", "resume", "latest"], "there is no run yet"),
        (["tokenize", "none", "text"], "there is no model named 'none'"),
        (["completion", "csh"], "bash"),
    ],
)
def test_bad_input_ends_with_2_and_a_message(
    cllm_command: Command, arguments: list[str], message: str
) -> None:
    done = cllm_command(*arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr


def test_bad_input_makes_nothing(cllm_command: Command, home: Path) -> None:
    cllm_command("train", "nothing-here", "--name", "../../x")
    cllm_command("models", "path", "x")
    cllm_command("corpora", "add", "c", home.parent / "nothing-here")
    files = [path for path in home.parent.rglob("*") if path.is_file()]
    assert files == []


@pytest.mark.parametrize(
    "arguments", [[], ["--help"], ["train", "--help"], ["models"], ["runs", "list", "-h"]]
)
def test_help_ends_with_0(cllm_command: Command, arguments: list[str]) -> None:
    done = cllm_command(*arguments)
    assert done.returncode == 0
    assert "Usage: cllm" in done.stdout
    assert "\x1b" not in done.stdout


def test_version(cllm_command: Command) -> None:
    import cllm

    assert cllm_command("--version").stdout.strip() == cllm.__version__


def test_python_m_is_the_same_command(home: Path) -> None:
    command = [sys.executable, "-m", "cllm", "models", "list", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("what", ["models", "runs", "corpora"])
def test_an_empty_list(cllm_command: Command, what: str) -> None:
    assert cllm_command(what, "list", "--json").stdout == "[]\n"
    assert "yet" in cllm_command(what, "list").stdout


def test_a_failure_of_our_own_ends_with_1_and_is_kept(home: Path) -> None:
    code = """
import sys
from cllm.jobs import models
def fail(workspace):
    raise RuntimeError("something broke")
models.list_models = fail
from cllm.cli.main import run
sys.exit(run(["models", "list"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "failure of cllm itself" in done.stderr
    assert "Traceback" not in done.stderr
    (log,) = (home / "logs").iterdir()
    assert str(log) in done.stderr
    assert "RuntimeError: something broke" in log.read_text()
    assert "Traceback" in log.read_text()


def test_ctrl_c_anywhere_ends_with_130(home: Path) -> None:
    code = """
import os, signal, sys
# A shell ignores it in what it starts in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
from cllm.jobs import models
models.list_models = lambda workspace: os.kill(os.getpid(), signal.SIGINT)
from cllm.cli.main import run
sys.exit(run(["models", "list"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "stopped\n")


def test_a_reader_that_goes_away_is_no_failure(home: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [str(EXECUTABLE), "models", "list", "--json"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_that_can_not_show_a_letter_gets_a_question_mark(
    cllm_command: Command,
) -> None:
    done = cllm_command("models", "path", "Мир", environment={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 2
    assert "???" in done.stderr


class _Trained:
    """One tiny model, trained by the real command, that the tests below look at."""

    def __init__(self, base: Path) -> None:
        self.home = base / "home"
        self.text = base / "My Notes.txt"
        self.text.write_text("".join(f"Line {n} of a small text.\n" for n in range(2000)))
        self.environment = {**os.environ, "CLLM_HOME": str(self.home), "FORCE_COLOR": "1"}

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(EXECUTABLE), *map(str, arguments)],
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=300,
            check=False,
        )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> _Trained:
    made = _Trained(tmp_path_factory.mktemp("trained"))
    shape = ("--preset", "tiny", "--context", "32", "--train.batch-size", "4", "--steps", "4")
    done = made.run("train", made.text, *shape, "--json")
    assert done.returncode == 0, done.stderr
    made.result = json.loads(done.stdout.splitlines()[-1])  # type: ignore[attr-defined]
    made.stdout, made.stderr = done.stdout, done.stderr  # type: ignore[attr-defined]
    return made


def test_train_names_the_model_and_prints_one_json_line(trained: _Trained) -> None:
    result = trained.result  # type: ignore[attr-defined]
    assert len(trained.stdout.splitlines()) == 1  # type: ignore[attr-defined]
    assert result["model"] == "My-Notes"
    assert result["steps"] == 4
    promised = {"run", "tokens", "tokens_per_s", "num_parameters", "val_bits_per_byte"}
    promised |= {"val_nats_per_token", "seconds_total", "seconds_to_first_step", "peak_rss_bytes"}
    assert promised <= set(result)
    assert "Plan" in trained.stderr  # type: ignore[attr-defined]
    assert "\x1b" not in trained.stderr  # type: ignore[attr-defined]
    assert "\r" not in trained.stderr  # type: ignore[attr-defined]


def test_an_existing_model_is_refused_before_any_work(trained: _Trained) -> None:
    before = trained.run("runs", "list", "--json").stdout
    done = trained.run("train", trained.text, "--name", "My-Notes", "--steps", "1")
    assert done.returncode == 2
    assert "--overwrite" in done.stderr
    assert done.stdout == ""
    assert trained.run("runs", "list", "--json").stdout == before


def test_lists_are_one_line_of_json(trained: _Trained) -> None:
    (model,) = json.loads(trained.run("models", "list", "--json").stdout)
    assert (model["name"], model["problem"]) == ("My-Notes", None)
    (run,) = json.loads(trained.run("runs", "list", "--json").stdout)
    assert {"id", "model", "state", "steps", "val_bits_per_byte", "started"} <= set(run)
    assert (run["state"], run["steps"]) == ("finished", 4)
    shown = json.loads(trained.run("runs", "show", "latest", "--json").stdout)
    assert shown["settings"]["model"]["preset"] == "tiny"


def test_the_path_is_printed_alone(trained: _Trained) -> None:
    path = Path(trained.run("models", "path", "My-Notes").stdout.removesuffix("\n"))
    assert path == trained.home / "models" / "My-Notes"
    assert (path / "model.safetensors").is_file()


def test_readable_tables_have_no_control_codes(trained: _Trained) -> None:
    for arguments in (["models", "list"], ["runs", "list"], ["models", "show", "My-Notes"]):
        done = trained.run(*arguments)
        assert done.returncode == 0
        assert "My-Notes" in done.stdout
        assert "\x1b" not in done.stdout


def test_tokenize_there_and_back(trained: _Trained) -> None:
    text = "Line 7 – ünusual 🙂"
    result = json.loads(trained.run("tokenize", "My-Notes", text, "--json").stdout)
    assert set(result) == {"ids", "tokens", "num_tokens", "text"}
    assert result["num_tokens"] == len(result["ids"]) == len(result["tokens"])
    ids = " ".join(map(str, result["ids"]))
    assert trained.run("tokenize", "My-Notes", text, "--ids").stdout == ids + "\n"
    assert trained.run("tokenize", "My-Notes", ids, "--decode").stdout == text + "\n"
    assert trained.run("tokenize", "My-Notes", "99999999", "--decode").returncode == 2
    assert trained.run("tokenize", "My-Notes", "words", "--decode").returncode == 2


def test_copy_list_damage_and_remove(trained: _Trained) -> None:
    assert trained.run("models", "cp", "My-Notes", "copy").returncode == 0
    assert trained.run("models", "cp", "My-Notes", "copy").returncode == 2
    weights = trained.home / "models" / "copy" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 0xFF
    weights.write_bytes(bytes(data))
    shown = trained.run("models", "show", "copy", "--json")
    assert shown.returncode == 2
    assert "SHA-256" in json.loads(shown.stdout)["problem"]
    assert "SHA-256" in shown.stderr
    assert trained.run("models", "rm", "copy").returncode == 2
    assert weights.exists()
    assert trained.run("models", "rm", "copy", "--yes").returncode == 0
    assert not weights.parent.exists()


def test_a_corpus_is_kept_by_name_and_trained_on(trained: _Trained) -> None:
    added = trained.run(
        "corpora", "add", "notes", trained.text, "--tokenizer", "characters", "--json"
    )
    assert added.returncode == 0, added.stderr
    assert json.loads(added.stdout)["tokenizer"] == "characters"
    assert trained.run("corpora", "add", "notes", trained.text).returncode == 2
    (listed,) = json.loads(trained.run("corpora", "list", "--json").stdout)
    assert listed["name"] == "notes"
    assert listed["problem"] is None
    arguments = ("--preset", "tiny", "--context", "32", "--steps", "1", "--json", "--quiet")
    done = trained.run("train", "notes", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout)["model"] == "notes"
    assert trained.run("corpora", "rm", "notes", "--yes").returncode == 0
    assert trained.text.exists()


def test_ctrl_c_while_training_says_how_to_go_on(trained: _Trained) -> None:
    shape = ("--preset", "tiny", "--context", "32", "--train.batch-size", "2")
    command = [str(EXECUTABLE), "train", str(trained.text), *shape, "--steps", "1000000"]
    with subprocess.Popen(
        [*command, "--name", "stopped"],
        env=trained.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "before any training" in line:
                break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    (run,) = [
        run
        for run in json.loads(trained.run("runs", "list", "--json").stdout)
        if run["model"] == "stopped"
    ]
    assert run["state"] == "interrupted"
    assert f"cllm runs resume {run['id']}" in errors
    assert "Traceback" not in errors
