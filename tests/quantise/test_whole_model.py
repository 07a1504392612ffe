"""`cllm quantize` on a model that was really trained, a few steps long; used like any other."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from cllm.cli.main import run
from cllm.files import check_manifest
from cllm.model.files import load_weights
from cllm.model.packed import Packed
from cllm.workspace.workspace import Workspace

COMMAND = Path(sys.executable).with_name("cllm")
WORDS = ["river", "ran", "past", "the", "old", "mill", "under", "bridge", "quiet", "sea"]


def prose(count: int) -> str:
    rng = random.Random(2)
    return "\n".join(" ".join(rng.choices(WORDS, k=rng.randint(4, 9))) for _ in range(count))


@pytest.fixture(scope="module")
def trained_home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    text = home / "prose.txt"
    text.write_text(prose(2_000))
    shape = "--preset tiny --context 32 --train.precision float32 --vocab-size 290 --json"
    steps = "--train.batch-size 16 --train.learning-rate 3e-3 --train.sample-tokens 4 --steps 60"
    done = subprocess.run(
        [COMMAND, "train", text, "--name", "plain", *f"{shape} {steps}".split()],
        env={**os.environ, "CLLM_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def cllm(trained_home, monkeypatch, capfd):
    monkeypatch.setenv("CLLM_HOME", str(trained_home))
    monkeypatch.setenv("NO_COLOR", "1")

    def call(*arguments):
        code = run([str(argument) for argument in arguments])
        return code, *capfd.readouterr()

    return call


def test_four_bits_are_measured_and_used_like_any_model(cllm, trained_home):
    code, shown, problem = cllm("quantize", "plain", "--bits", 4, "--json")
    assert code == 0, problem
    result = json.loads(shown)
    folder = trained_home / "models" / "plain-4bit"
    assert result["model"] == "plain-4bit" and result["source"] == "plain"
    assert result["num_bytes"] == (folder / "model.safetensors").stat().st_size
    assert result["num_bytes"] < result["num_bytes_before"] / 4
    assert result["bits_per_byte"] == pytest.approx(result["bits_per_byte_before"], rel=0.02)
    assert 0 < result["kl_nats"] < 0.05
    assert result["tokens_per_s"] > 0
    check_manifest(folder)
    packed = [value for value in load_weights(folder)[1].values() if isinstance(value, Packed)]
    assert {value.kind for value in packed} == {"int4"} and len(packed) == 9
    code, text, _ = cllm("generate", "plain-4bit", "--prompt", "the ", "--temperature", 0)
    assert code == 0 and set(text.split()) & set(WORDS)
    listed = json.loads(cllm("models", "show", "plain-4bit", "--json")[1])
    original = json.loads(cllm("models", "show", "plain", "--json")[1])
    assert listed["problem"] is None
    assert listed["num_parameters"] == original["num_parameters"]
    assert "quantised" in (folder / "README.md").read_text()
    scores = [
        json.loads(cllm("eval", name, trained_home / "prose.txt", "--json")[1])["bits_per_byte"]
        for name in ("plain", "plain-4bit")
    ]
    assert scores[1] == pytest.approx(scores[0], rel=0.02)


def test_fewer_bits_make_smaller_files_that_lie_further_off(cllm):
    results = {
        bits: json.loads(cllm("quantize", "plain", "--bits", bits, "--yes", "--json")[1])
        for bits in (8, 3, 2)
    }
    sizes = [results[bits]["num_bytes"] for bits in (8, 3, 2)]
    assert sizes == sorted(sizes, reverse=True)
    divergences = [results[bits]["kl_nats"] for bits in (8, 3, 2)]
    assert divergences == sorted(divergences)
    assert results[2]["bits_per_weight"] < 2.7


def test_a_budget_is_kept_and_one_too_small_names_the_smallest(cllm, trained_home):
    name = ["--name", "fitted", "--overwrite", "--json"]
    code, shown, problem = cllm("quantize", "plain", "--bytes", "45kB", *name)
    assert code == 0, problem
    result = json.loads(shown)
    size = (trained_home / "models" / "fitted" / "model.safetensors").stat().st_size
    assert result["num_bytes"] == size <= 45_000
    assert len(set(result["matrices"].values())) > 1
    code, _, problem = cllm("quantize", "plain", "--bytes", "10kB", "--name", "small")
    assert code == 2 and "the smallest file" in problem
    least = int(problem.split("Give at least ")[1].split(", or")[0].replace(",", ""))
    code, shown, _ = cllm("quantize", "plain", "--bytes", least, "--name", "least", "--json")
    assert code == 0 and json.loads(shown)["num_bytes"] == least


def test_calibrating_on_other_text_and_on_none(cllm, trained_home, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text(prose(300))
    code, _, problem = cllm(
        "quantize", "plain", "--bits", 2, "--calibrate", other, "--name", "c", "--json"
    )
    assert code == 0, problem
    card = (trained_home / "models" / "c" / "README.md").read_text()
    assert str(other) in card
    # Copied in from elsewhere: nothing tells what it was trained on.
    store = Workspace(trained_home).models
    with store.write("foreign") as folder:
        for path in store.path("plain").iterdir():
            if path.name not in ("training.json", "manifest.json"):
                (folder / path.name).write_bytes(path.read_bytes())
    code, shown, problem = cllm("quantize", "foreign", "--bits", 4)
    assert code == 0, problem
    assert "texts that the model wrote itself" in shown + problem


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "in one of two ways"),
        (["--bits", "4", "--bytes", "1MB"], "in one of two ways"),
        (["--bits", "2", "--method", "gptq"], "can't make 2 bits"),
        (["--bits", "8", "--method", "lattice"], "can't make 8 bits"),
        (["--bytes", "1MB", "--method", "gptq"], "chooses the method"),
        (["--bytes", "much"], "no size"),
        (["--bits", "4", "--name", "plain"], "already"),
        (["--bits", "4", "--calibrate", "/nowhere/at/all", "--name", "n"], "/nowhere/at/all"),
    ],
)
def test_what_can_not_be_is_refused_before_any_work(cllm, trained_home, flags, message):
    before = sorted(path.name for path in (trained_home / "models").iterdir())
    code, shown, problem = cllm("quantize", "plain", *flags)
    assert code == 2 and message in problem, (shown, problem)
    assert sorted(path.name for path in (trained_home / "models").iterdir()) == before


def test_what_is_quantised_is_not_quantised_again(cllm):
    assert cllm("quantize", "plain", "--bits", 8, "--name", "once", "--overwrite")[0] == 0
    code, _, problem = cllm("quantize", "once", "--bits", 4)
    assert code == 2 and "quantised already" in problem
