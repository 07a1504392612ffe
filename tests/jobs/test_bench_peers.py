"""Other programs beside ours: who is here, what a child answers, what a ratio means."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from cllm.jobs import bench_turns
from cllm.jobs.bench import bench
from cllm.jobs.bench_figures import BenchResult
from cllm.jobs.bench_models import random_weights, rounded
from cllm.jobs.bench_peers import PEERS, PeerProgram, installed_peers
from cllm.jobs.bench_timing import in_rounds
from cllm.jobs.bench_turns import Program, ProgramError, peak_bytes
from cllm.model import ModelSpec, save_model
from cllm.model.files import save_quantised
from cllm.model.mechanisms.choose import choose, with_mechanisms
from cllm.text.tokenizers import train_tokenizer
from cllm.workspace.workspace import Workspace

ECHO = """
import sys
from cllm.jobs.bench_turns import serve

def shout(word, times):
    print("chatter of a library")
    return {"said": word * times}

def fail():
    sys.exit("the disk has a hole")

def crash(number):
    import os
    os.kill(os.getpid(), number)

def sleep():
    import time
    time.sleep(600)

serve({"shout": shout, "fail": fail, "crash": crash, "sleep": sleep})
"""


@pytest.fixture
def child(tmp_path: Path):
    (tmp_path / "echo.py").write_text(ECHO, encoding="utf-8")
    program = Program("echo", folder=tmp_path)
    yield program
    program.end()


def test_a_child_answers_whatever_else_it_prints(child: Program) -> None:
    assert child("shout", word="ab", times=2) == {"said": "abab"}
    assert child("shout", word="c", times=1) == {"said": "c"}


def test_a_child_that_ends_is_heard_with_its_last_words(child: Program) -> None:
    with pytest.raises(ProgramError, match="the disk has a hole"):
        child("fail")
    with pytest.raises(ProgramError):
        child("shout", word="x", times=1)


@pytest.mark.parametrize(
    ("number", "words"),
    [(11, "it was ended by SIGSEGV"), (9, "it was ended by SIGKILL, for want of memory perhaps")],
)
def test_a_child_that_crashes_is_told_of(child: Program, number: int, words: str) -> None:
    with pytest.raises(ProgramError) as caught:
        child("crash", number=number)
    assert str(caught.value) == words


def test_a_child_that_hangs_is_ended(child: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    assert child("shout", word="x", times=1) == {"said": "x"}
    monkeypatch.setattr(bench_turns, "PATIENCE_S", 0.2)
    with pytest.raises(ProgramError, match=r"no answer within 0\.2 s"):
        child("sleep")


def test_a_work_whose_program_ends_is_left_out_and_the_others_go_on() -> None:
    calls = []

    def breaks(seconds: float) -> tuple[float, float]:
        calls.append(seconds)
        if len(calls) == 3:
            raise ProgramError("gone")
        return 1.0, 1.0

    shares: list[float] = []
    works = {"ours": lambda seconds: (6.0, 2.0), "theirs": breaks}
    found = in_rounds(works, 4.0, rounds=3, on_round=shares.append)
    assert found["ours"].values == (3.0, 3.0, 3.0)
    assert "theirs" not in found
    assert len(calls) == 3
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_the_peak_of_a_small_child_of_a_large_parent_is_its_own() -> None:
    held = np.ones(60_000_000 // 8)
    code = "from cllm.jobs.bench_turns import peak_bytes; print(peak_bytes())"
    small = int(
        subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout
    )
    code = f"x = bytearray(50_000_000); x[::4096] = b'a' * len(x[::4096]); {code}"
    large = int(
        subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout
    )
    assert small < 45e6
    assert 48e6 < large - small < 60e6
    assert peak_bytes() > held.nbytes


def test_what_is_missing_is_named_with_the_command_that_brings_it() -> None:
    away = PeerProgram("X", ("x-pack", "y"), ("no_such_module",), "cllm.jobs.none", {})
    assert away.version is None
    assert away.to_json() == {"name": "X", "version": None, "install": "pip install x-pack y"}
    assert [peer.name for peer in PEERS] == ["llama.cpp", "transformers", "ONNX Runtime"]
    onnx = next(peer for peer in PEERS if peer.name == "ONNX Runtime")
    import onnxruntime

    assert onnx.version is not None
    assert onnx.version.startswith(f"onnxruntime {onnxruntime.__version__}, onnx ")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("peers"))
    put(workspace, "mine", (), None)
    return workspace


@pytest.fixture(scope="module")
def result(workspace: Workspace) -> BenchResult:
    return bench("mine", workspace=workspace, seconds=1.0, threads=1, peers=True)


def test_all_that_are_installed_take_turns_with_ours(
    workspace: Workspace, result: BenchResult
) -> None:
    assert result.programs is not None
    [model] = result.models
    here = {peer.name for peer in installed_peers()}
    # The test environment has these two.
    assert {"transformers", "ONNX Runtime"} <= here
    assert [program["name"] for program in result.programs] == [peer.name for peer in PEERS]
    assert {peer.program for peer in model.peers} == here
    assert {(p.program, p.format, p.against) for p in model.peers} >= {
        ("transformers", "float32", "float32"),
        ("transformers", "bfloat16", "float32"),
        ("ONNX Runtime", "float32", "float32"),
    }
    by_format = {figures.format: figures for figures in model.formats}
    for peer in model.peers:
        assert peer.problem is None
        ours = by_format[peer.against]
        wanted = {"prefill", "decode"} | ({"training"} if peer.program == "transformers" else set())
        assert set(peer.rates) == set(peer.ratios) == set(peer.threads) == wanted
        assert set(peer.threads.values()) == {1}
        # A ratio is that of the same round.
        assert peer.ratios["decode"].values == pytest.approx(
            np.divide(ours.decode.values, peer.rates["decode"].values)
        )
        assert peer.peak_bytes is not None and 20e6 < peer.peak_bytes < 2e9
        assert ours.peak_bytes is not None and 20e6 < ours.peak_bytes < 1e9
    # Nothing of it stays.
    assert not list(workspace.home.glob(".bench*"))


def test_it_is_plain_values_with_one_name_a_figure(result: BenchResult) -> None:
    value = json.loads(json.dumps(result.to_json()))
    [model] = value["models"]
    peer = next(peer for peer in model["peers"] if peer["program"] == "transformers")
    for work in ("prefill", "decode", "training"):
        assert peer[f"{work}_tokens_per_s"]["rounds"] == 5
        assert peer[f"{work}_times"]["median"] > 0
    assert value["programs"][1]["version"].startswith("transformers ")


def test_without_being_asked_nothing_else_is_measured(workspace: Workspace) -> None:
    result = bench("mine", workspace=workspace, seconds=1.0)
    assert result.programs is None
    assert result.models[0].peers == []
    assert result.models[0].formats[0].peak_bytes is None


def put(workspace: Workspace, name: str, mechanisms: tuple[str, ...], kind: str | None) -> None:
    """A model of random weights, with mechanisms or in fewer bits."""
    tokenizer = train_tokenizer("bytes", lambda: iter(["x"]), vocab_size=None, num_characters=1)
    plain = ModelSpec(
        vocab_size=tokenizer.vocab_size, width=32, layers=1, heads=2, kv_heads=1, head_width=16,
        mlp_width=64, context=24,
    )  # fmt: skip
    spec = with_mechanisms(plain, choose(mechanisms or ("none",)), None)
    with workspace.models.write(name) as folder:
        if kind == "int8":
            save_quantised(folder, spec, rounded({**random_weights(spec)}, "int8"))
        else:
            save_model(folder, spec, random_weights(spec))
        tokenizer.save(folder, context=spec.context)


def test_a_model_that_no_other_program_runs_says_why(workspace: Workspace) -> None:
    put(workspace, "special", ("cymatic",), None)
    [model] = bench("special", workspace=workspace, seconds=1.0, threads=1, peers=True).models
    assert model.peers == []
    assert model.peers_notice is not None and "cymatic" in model.peers_notice
    assert model.formats[0].decode.median > 0


ONNX = next(peer for peer in PEERS if peer.name == "ONNX Runtime")


def test_a_quantised_model_is_compared_as_it_is_stored(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cllm.jobs.bench.installed_peers", lambda: [ONNX])
    put(workspace, "squeezed", (), "int8")
    [model] = bench("squeezed", workspace=workspace, seconds=1.0, threads=1, peers=True).models
    assert [figures.format for figures in model.formats] == ["as stored"]
    [peer] = model.peers
    assert peer.against == "as stored"
    assert set(peer.ratios) == {"prefill", "decode"}
    assert model.training is None


def test_a_peer_that_breaks_is_told_and_the_rest_is_measured(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = PeerProgram("Broken", ("b",), ("json",), "cllm.jobs.none", {"float32": "float32"})
    monkeypatch.setattr("cllm.jobs.bench.installed_peers", lambda: [broken, ONNX])
    [model] = bench("mine", workspace=workspace, seconds=1.0, threads=1, peers=True).models
    bad, good = model.peers
    assert (bad.program, bad.rates) == ("Broken", {})
    assert bad.problem is not None and "cllm.jobs.none" in bad.problem
    assert (good.program, good.problem) == ("ONNX Runtime", None)
    assert good.ratios["decode"].median > 0


def test_terminated_it_takes_its_children_and_files_along(workspace: Workspace) -> None:
    arguments = [sys.executable, "-m", "cllm", "bench", "--peers", "--seconds", "600"]
    environment = {**os.environ, "CLLM_HOME": str(workspace.home)}
    process = subprocess.Popen(
        arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    started = time.monotonic()
    while not (children := psutil.Process(process.pid).children(recursive=True)):
        assert time.monotonic() - started < 60
        time.sleep(0.05)
    assert list(workspace.home.glob(".bench.*"))
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    assert not list(workspace.home.glob(".bench.*"))
