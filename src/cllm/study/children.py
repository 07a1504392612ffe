"""Runs of a study as child processes: the command a person would type, several side by side."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from cllm.config import Settings, dotted_fields, environment_name
from cllm.errors import InputError
from cllm.jobs.stopping import listen_for_stop
from cllm.jobs.workspace import Workspace, open_workspace
from cllm.study.plan import Run, StudySettings
from cllm.study.results import Row, has_figure

_KEPT = (
    "val_bits_per_byte",
    "steps",
    "tokens",
    "tokens_per_s",
    "num_parameters",
    "seconds_total",
    "seconds_to_first_step",
    "seconds_training",
    "peak_rss_bytes",
)
_MOST_POINTS = 100
# A run by time that takes this much longer hangs.
_PATIENCE = 5.0
_PATIENCE_S = 300.0


def command(run: Run, settings: StudySettings) -> list[str]:
    """The command line of a run, with every number that all arms must share."""
    minutes = ["--minutes", f"{run.seconds / 60:.6g}"]
    length = minutes if run.steps is None else ["--steps", str(run.steps)]
    own = [part for item in run.items for part in ("--with", item)]
    return [
        *_cllm("train", corpus_name(run.text, run.tokenizer)),
        *("--name", run.model, "--overwrite", "--json", "--quiet"),
        *("--preset", run.preset, "--context", str(settings.context)),
        *("--train.batch-size", str(settings.batch_size), "--train.sample-tokens", "0"),
        *("--train.engine", run.engine, "--train.threads", str(run.threads)),
        *("--train.seed", str(run.seed), *length, *own),
    ]


def corpus_name(text: str, tokenizer: str) -> str:
    """The prepared corpus of a text in the study's home."""
    return f"study-{text}-{tokenizer}"


def is_prepared(home: Path, text: str, tokenizer: str) -> bool:
    """Whether a text is prepared with a tokeniser already."""
    return open_workspace(home).corpora.exists(corpus_name(text, tokenizer))


def prepare_corpus(
    home: Path, text: str, places: Sequence[str], tokenizer: str, vocab_size: int
) -> None:
    """Prepare a text once with a tokeniser. Raises: InputError with what the command says.

    A text too short for the vocabulary gets the one that the command chooses for it.
    """
    name = corpus_name(text, tokenizer)
    arguments = ["corpora", "add", name, *places, "--json", "--quiet", "--tokenizer", tokenizer]
    with _Children() as children:
        done = children.run(_cllm(*arguments, "--vocab-size", str(vocab_size)), home, None)
        if done.returncode != 0:
            done = children.run(_cllm(*arguments), home, None)
    if done.returncode != 0:
        raise InputError(_complaint(done.stderr), where=", ".join(places))


def run_all(
    runs: Sequence[Run],
    settings: StudySettings,
    home: Path,
    *,
    parallel: int,
    ended: Callable[[Run, Row], None],
) -> None:
    """Make all runs, `parallel` at a time; `ended` is told of each in this thread.

    Raises: KeyboardInterrupt at Ctrl-C or SIGTERM, when every child has ended.
    """
    waiting, active = list(reversed(runs)), dict[Future[Row], Run]()
    with listen_for_stop(), ThreadPoolExecutor(parallel) as pool, _Children() as children:
        while waiting or active:
            while waiting and len(active) < parallel:
                run = waiting.pop()
                active[pool.submit(_one, children, run, settings, home)] = run
            # Not for ever: a signal is only heard between two waits on some systems.
            done, _ = wait(active, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in done:
                run = active.pop(future)
                row = future.result()
                if has_figure(row):
                    row["curve"] = _curve(home / "runs" / row.pop("run"))
                _remove(open_workspace(home), run.model)
                ended(run, row)


def clean(home: Path) -> None:
    """Remove what runs that were killed have left; the corpora stay."""
    workspace = open_workspace(home)
    for model in list(workspace.models.names()):
        workspace.models.remove(model)
    for record in workspace.runs.list():
        if not record.is_active:
            workspace.runs.remove(record.id)


def _remove(workspace: Workspace, model: str) -> None:
    if workspace.models.exists(model):
        workspace.models.remove(model)
    for record in workspace.runs.list():
        if record.model == model:
            workspace.runs.remove(record.id)


def _one(children: _Children, run: Run, settings: StudySettings, home: Path) -> Row:
    """One run from its start to its line of results, without its curve."""
    began = time.time()
    timeout = None if run.steps is not None else run.seconds * _PATIENCE + _PATIENCE_S
    row = run.to_json() | {"began": began}
    try:
        done = children.run(command(run, settings), home, timeout, threads=run.threads)
        if done.returncode != 0:
            return row | {"error": _complaint(done.stderr)}
        figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return row | {"error": f"it was still running after {timeout:.0f} s"}
    except (ValueError, IndexError):
        return row | {"error": "the command printed no result"}
    return row | {"run": figures["run"]} | {key: figures[key] for key in _KEPT}


def _complaint(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip()]
    return " ".join(lines[-3:]).removeprefix("Error: ") or "it ended without a word"


def _curve(folder: Path) -> list[tuple[int, float, float]]:
    """(step, seconds, held-out bits per byte) along a run, at most `_MOST_POINTS` of them."""
    points, elapsed_s = [], 0.0
    path = folder / "metrics.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        figures = json.loads(line)
        elapsed_s = figures.get("elapsed_s", elapsed_s)
        if figures.get("val_bits_per_byte") is not None:
            points.append((figures["step"], elapsed_s, figures["val_bits_per_byte"]))
    every = -(-len(points) // _MOST_POINTS) or 1
    return points[::-every][::-1]


def _cllm(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cllm", *arguments]


def _environment(home: Path, threads: int) -> dict[str, str]:
    """The person's environment without their settings, which would decide for some arms."""
    twins = {environment_name(name) for name, _ in dotted_fields(Settings)}
    kept = {key: value for key, value in os.environ.items() if key not in twins}
    return kept | {"CLLM_HOME": str(home), "OMP_NUM_THREADS": str(threads), "NO_COLOR": "1"}


class _Children:
    """Child processes that end when the block does, however it ends."""

    def __init__(self) -> None:
        self._alive: set[subprocess.Popen[str]] = set()
        self._lock, self._is_over = threading.Lock(), False

    def __enter__(self) -> _Children:
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._is_over = True
            for process in self._alive:
                with contextlib.suppress(OSError):
                    process.kill()

    def run(
        self, arguments: list[str], home: Path, timeout_s: float | None, *, threads: int = 1
    ) -> subprocess.CompletedProcess[str]:
        """Run one to its end. Raises: subprocess.TimeoutExpired, when it was killed."""
        home.mkdir(parents=True, exist_ok=True)
        with self._started(arguments, home, threads) as process:
            try:
                out, error = process.communicate(timeout=timeout_s)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(arguments, process.returncode, out, error)

    @contextlib.contextmanager
    def _started(
        self, arguments: list[str], home: Path, threads: int
    ) -> Iterator[subprocess.Popen[str]]:
        with self._lock:
            if self._is_over:
                raise InterruptedError
            process = subprocess.Popen(
                arguments,
                cwd=home,
                env=_environment(home, threads),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                # Ctrl-C is for this process, which then ends its children.
                start_new_session=True,
            )
            self._alive.add(process)
        try:
            with process:
                yield process
        finally:
            with self._lock:
                self._alive.discard(process)
