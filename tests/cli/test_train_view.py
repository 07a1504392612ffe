"""What a person sees of a run, from a recorded stream of events on real prepared text."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import io
import json
import os
import pty
import re
import struct
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len

from cllm.cli.output import Output
from cllm.cli.train_view import TrainView
from cllm.config import TextSettings
from cllm.jobs.events import (
    Advised,
    Continued,
    Event,
    Finished,
    Paused,
    Plan,
    Planned,
    Prepared,
    Preparing,
    Sampled,
    Stepped,
    TrainResult,
    Validated,
)
from cllm.text.corpus import Corpus
from cllm.text.prepare import prepare

PROMPT = "Once upon a time"
BEFORE = " qZx wk\x1b[31m trhen"
AFTER = " there was a sailor.\nHe went to sea."
PLAN = Plan(
    num_parameters=1_234_567,
    vocab_size=300,
    train_tokens=45_678,
    width=128,
    layers=4,
    heads=4,
    context=256,
    batch_size=32,
    tokens_per_step=8192,
    learning_rate=1e-3,
    precision="bfloat16",
    threads=2,
    total_steps=100,
    minutes=None,
    engine="compiled",
    optimizer="muon",
    dropout=0.0,
    tokens_per_s=50_000.0,
    expected_bits_per_byte=1.9,
    expected_spread=0.05,
    expected_memory_bytes=300 << 20,
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    base = tmp_path_factory.mktemp("view")
    texts = base / "texts"
    texts.mkdir()
    (texts / "story.txt").write_text("".join(f"Sailor {n} went to sea.\n" for n in range(900)))
    (texts / "same.txt").write_text((texts / "story.txt").read_text())
    (texts / "notes.md").write_text("# Notes\n\n" + "The sea is wide and blue today. " * 60)
    (texts / "picture.bin").write_bytes(bytes(range(256)) * 40)
    settings = TextSettings(tokenizer="characters")
    return prepare([texts], settings, base / "corpus")


def _result() -> TrainResult:
    history: list[tuple[int, float | None, float | None]] = []
    for step in range(1, 101):
        history.append((step, 8.0 / step**0.5, None))
        if step % 20 == 0:
            history.append((step, None, 8.5 / step**0.5))
    return TrainResult(
        model="tales",
        run="20261122-143015-tales",
        steps=100,
        tokens=819_200,
        tokens_per_s=23_456.7,
        num_parameters=1_234_567,
        vocab_size=300,
        val_bits_per_byte=1.5231,
        val_nats_per_token=2.914,
        val_tokens=900,
        val_bytes=1200,
        seconds_total=301.2,
        seconds_to_first_step=3.2,
        seconds_training=290.0,
        peak_rss_bytes=812_000_000,
        state="finished",
        best_step=80,
        prompt=PROMPT,
        first_sample=BEFORE,
        last_sample=AFTER,
        copying={"longest": "went to sea", "longest_characters": 11, "share": 0.25},
        plot="/somewhere/loss.png",
        advice=["Overfitting: the best state is kept."],
        history=history,
    )


def _events(corpus: Corpus) -> Iterator[Event]:
    for stage in ("reading", "tokenizer", "encoding"):
        for done in range(0, 1001, 50):
            yield Preparing(stage, done, 1000)
    yield Prepared(corpus)
    yield Planned(PLAN, "20261122-143015-tales", "tales")
    yield Advised("Only 20,000 bytes of text.")
    yield Sampled(0, PROMPT, BEFORE)
    for step in range(1, 101):
        if step % 20 == 0:
            yield Validated(step, 3.0, 1.75, True)
        yield Stepped(
            step, 100, step / 100, step * 0.1, (100 - step) * 0.1, 2.5, 1.6, 23_456.7, 1e-3
        )
        if step == 50:
            yield Sampled(50, PROMPT, " half way")
        if step == 60:
            yield Paused(60)
            yield Continued(60)
    yield Finished(_result())


def _show(corpus: Corpus, output: Output) -> None:
    with TrainView(output) as view:
        for event in _events(corpus):
            view.observe(event)


def _on_terminal(corpus: Corpus, width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Everything a real (pseudo-)terminal of that width receives."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    received: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):
            while data := os.read(master, 65536):
                received.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    with monkeypatch.context() as patch:
        patch.setenv("TERM", "xterm-256color")
        patch.delenv("COLUMNS", raising=False)
        with os.fdopen(slave, "w", encoding="utf-8") as stream:
            patch.setattr(sys, "stdout", stream)
            _show(corpus, Output())
    reader.join(timeout=30)
    os.close(master)
    return b"".join(received).decode()


def test_in_a_pipe_there_are_plain_lines(corpus: Corpus, capfd: pytest.CaptureFixture[str]) -> None:
    _show(corpus, Output())
    out = capfd.readouterr().out
    assert "\x1b" not in out
    assert "\r" not in out
    progress = [line for line in out.splitlines() if "tokens/s  " in line]
    assert len(progress) == 10
    assert progress[0].split()[:5] == ["10%", "step", "10", "of", "100"]
    assert "loss 2.50  1.60 bits/byte (unseen 1.75)  23,457 tokens/s  0:08 left" in progress[1]
    assert [line for line in out.splitlines() if line.endswith("…")] == [
        "Reading the text …",
        "Building the vocabulary …",
        "Turning text into tokens …",
    ]


def test_what_was_read_is_told(corpus: Corpus, capfd: pytest.CaptureFixture[str]) -> None:
    _show(corpus, Output())
    lines = capfd.readouterr().out.splitlines()
    start = lines.index("Text")
    rows = {line.split()[0]: line.split() for line in lines[start + 1 : start + 6]}
    assert rows["markdown"][1:3] == ["1", "1"]
    assert rows["text"][1] == "2"
    assert any("duplicates dropped: 1 exact" in line for line in lines)
    assert any("picture.bin" in line and "skipped" in line for line in lines)
    tokens = f"{corpus.train.num_tokens:,} tokens to learn from"
    assert any(tokens in line for line in lines)


def test_plan_samples_and_end_are_told(corpus: Corpus, capfd: pytest.CaptureFixture[str]) -> None:
    _show(corpus, Output())
    out = capfd.readouterr().out
    for part in (
        "1,234,567 parameters: 4 layers × 128 wide, 4 heads",
        "32 windows of 256 tokens, 8,192 tokens a step",
        "after 100 steps",
        "note: Only 20,000 bytes of text.",
        "before any training",
        "Once upon a time half way",
        "1.523 on text it has not seen (2.914 nats per token)",
        "the best state, of step 80, is kept",
        "/somewhere/loss.png",
        "25% of the sample stands word for word in the training text",
        "the longest stretch has 11 characters",
        "cllm generate tales --prompt 'Once upon a time'",
        "cllm chat tales",
    ):
        assert part in out
    end = out[out.index("Before and after") :]
    assert end.index("qZx") < end.index("there was a sailor")


def test_a_pause_from_the_app_is_told_between_the_steps(
    corpus: Corpus, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _show(corpus, Output())
    lines = capfd.readouterr().out.splitlines()
    [at] = [number for number, line in enumerate(lines) if "Paused after step 60;" in line]
    assert "everything is saved" in lines[at]
    assert lines[at - 1].split()[:3] == ["60%", "step", "60"]
    assert lines[at + 1].strip() == "Going on after step 60."
    assert lines[at + 2].split()[:3] == ["70%", "step", "70"]
    shown = _on_terminal(corpus, 80, monkeypatch)
    # The bar is gone while it stands still, and comes back.
    before, _, after = shown.partition("Paused after step 60")
    assert "tokens/s" not in before.rsplit("\x1b[2K", 1)[-1]
    assert "61%" not in before
    assert "tokens/s" in after


@pytest.mark.parametrize("width", [80, 120])
def test_on_a_terminal_nothing_is_wider_than_it(
    corpus: Corpus, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = _on_terminal(corpus, width, monkeypatch)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert "100%" in text
    assert "Before and after" in text
    assert "┤" in text
    assert max(cell_len(line) for line in text.splitlines()) <= width


def test_a_models_text_can_not_steer_the_terminal(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b[31m trhen" not in _on_terminal(corpus, 80, monkeypatch)


def test_quiet_and_json(corpus: Corpus, capfd: pytest.CaptureFixture[str]) -> None:
    _show(corpus, Output(quiet=True))
    assert capfd.readouterr() == ("", "")
    output = Output(as_json=True)
    _show(corpus, output)
    output.result(_result().to_json())
    out, err = capfd.readouterr()
    assert json.loads(out)["val_bits_per_byte"] == 1.5231
    assert "Before and after" in err


def test_a_reader_that_goes_away_does_not_stop_the_training(corpus: Corpus) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    output = Output()
    output.stream = Gone()
    _show(corpus, output)


def test_without_held_out_text_nothing_is_invented(
    corpus: Corpus, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bare = dataclasses.replace(
        _result(),
        val_bits_per_byte=None,
        val_nats_per_token=None,
        copying=None,
        plot=None,
        best_step=None,
        first_sample="",
        last_sample="",
        history=[],
        advice=[],
        prompt="",
    )
    with TrainView(Output()) as view:
        view.observe(Finished(bare))
    out = capfd.readouterr().out
    assert "None" not in out
    assert "bits per byte" not in out
    assert "copying" not in out
    assert "cllm chat tales" in out
