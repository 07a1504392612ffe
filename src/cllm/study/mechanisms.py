"""The study of the mechanisms: a screen of all, then a confirmation of a set, then a report."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cllm.config import ModelSettings, Settings, TrainSettings
from cllm.errors import InterruptedRunError, NotFoundError, SettingsError, TrainingError
from cllm.files import read_json, write_json
from cllm.jobs.mechanisms import catalogue_records, set_records
from cllm.jobs.workspace import open_workspace
from cllm.study.arms import Arm, Words, arms
from cllm.study.children import clean, corpus_name, is_prepared, prepare_corpus, run_all
from cllm.study.findings import Findings, equal_steps, find
from cllm.study.plan import (
    MOST_SEEDS,
    Cell,
    Engine,
    Round,
    Run,
    StudySettings,
    expected_s,
    plan_confirm,
    plan_screen,
    rounds,
)
from cllm.study.report import write_report
from cllm.study.results import Results, Row, only_one
from cllm.study.surroundings import num_cores, surroundings
from cllm.study.texts import Text, check_places, texts

Part = Literal["screen", "confirm", "report"]
EVERY_PHASE: tuple[Part, ...] = ("screen", "confirm", "report")
# What may change between two starts of one study: more runs of the same kind.
_MAY_CHANGE = {"seeds", "confirm_seeds", "only", "sets"}


@dataclass(frozen=True, slots=True)
class Preparing:
    """A text is prepared with a tokeniser, or the engine of each arm is found."""

    what: str


@dataclass(frozen=True, slots=True)
class Planned:
    """All runs that are still to be made, and the seconds they take where that is known."""

    num_runs: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Begun:
    """A phase begins: its runs in all, and those done before."""

    phase: str
    num_runs: int
    num_done: int


@dataclass(frozen=True, slots=True)
class Ran:
    """A run has ended; `left_s` is the time that the rest of its phase takes."""

    label: str
    bits_per_byte: float | None
    error: str | None
    num_done: int
    num_runs: int
    left_s: float


Event = Preparing | Planned | Begun | Ran
Observe = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Done:
    """A finished study: what it found and where its report lies."""

    findings: Findings
    measured: dict[str, Any]
    report: Path


def study_mechanisms(
    places: Sequence[str],
    *,
    folder: Path,
    settings: StudySettings,
    phases: Sequence[Part],
    command: Sequence[str],
    observe: Observe,
) -> Done:
    """Make the runs of the phases that are not there yet, and report on all there are.

    Raises: CllmError before any run; InterruptedRunError when stopped, with every finished run
    kept.
    """
    folder = folder.expanduser().absolute()
    _check(places, settings)
    records, sets = catalogue_records(), set_records()
    screened = arms(records, sets, settings.only)
    confirmed = arms(records, sets, settings.sets)
    results = Results(folder / "results.jsonl")
    is_report_alone = tuple(phases) == ("report",)
    if not is_report_alone:
        with only_one(folder):
            study = _Study(folder, settings, places, results, observe)
            try:
                study.begin(command)
                study.run(
                    screened if "screen" in phases else [],
                    confirmed if "confirm" in phases else [],
                )
            except KeyboardInterrupt:
                raise InterruptedRunError(
                    f"stopped; the {len(results.done())} runs that are done are kept",
                    where=folder,
                    hint="The same command goes on from there.",
                ) from None
    rows = results.rows()
    if is_report_alone and not rows:
        hint = "Make the runs first: cllm study mechanisms"
        raise NotFoundError("there are no results of a study", where=folder, hint=hint)
    manifest = read_json(folder / "study.json")
    findings = find(rows)
    measured = write_report(folder, findings, rows, manifest, records)
    return Done(findings, measured, folder / "report.md")


def _check(places: Sequence[str], settings: StudySettings) -> None:
    check_places(places)
    cores = num_cores()
    if settings.parallel is not None and settings.parallel > cores:
        raise SettingsError(
            f"{settings.parallel} runs at a time are more than the {cores} cores here",
            where="--parallel",
            hint="They would wait for each other.",
        )
    if max(settings.seeds * 2, settings.confirm_seeds) > MOST_SEEDS:
        raise SettingsError("that is too many seeds", where="--seeds")


class _Study:
    """A study at work in its folder."""

    def __init__(
        self,
        folder: Path,
        settings: StudySettings,
        places: Sequence[str],
        results: Results,
        observe: Observe,
    ) -> None:
        self._folder, self._home = folder, folder / "home"
        self._settings, self._results, self._observe = settings, results, observe
        self._places = list(places)
        self._texts: list[Text] = []

    def begin(self, command: Sequence[str]) -> None:
        """Write down what is studied. Raises: SettingsError when the folder holds another study."""
        path, known = self._folder / "study.json", None
        self._texts = texts(self._places, self._folder)
        fixed = {
            "texts": {text.name: list(text.places) for text in self._texts},
            "settings": dataclasses.asdict(self._settings),
        }
        if path.exists():
            known = read_json(path)
            _check_same(known, fixed, self._folder)
        start = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **surroundings()}
        starts = [*(known["starts"] if known else []), start]
        write_json(path, {"version": 1, "command": list(command), **fixed, "starts": starts})
        clean(self._home)

    def run(self, screened: Sequence[Arm], confirmed: Sequence[Arm]) -> None:
        """Screen these arms and confirm those: every run that is not there yet."""
        parallel = self._settings.parallel or num_cores()
        alone = self._settings.parallel or 1
        first, everywhere = self._texts[:1], self._texts
        screen = self._rounds(screened, first, self._settings.screen_preset, parallel)
        confirm = self._rounds(confirmed, everywhere, self._settings.confirm_preset, alone)
        runs = plan_screen(screen, self._settings, text=first[0].name, threads=_threads(parallel))
        by_time = self._confirm_runs(confirm, alone)
        by_tokens: list[Run] = []
        if self._settings.steps is None:
            # As many as there will be; their steps are known when the runs by time are done.
            by_tokens = self._confirm_runs(confirm, alone, defaultdict(lambda: 1))
        self._announce([(runs, parallel), (by_time, alone), (by_tokens, alone)])
        self._run(runs, parallel)
        self._run(by_time, alone)
        if by_tokens:
            self._run(self._confirm_runs(confirm, alone, self._equal_steps(by_tokens)), alone)

    def _confirm_runs(
        self, made: Sequence[Round], parallel: int, steps: Mapping[Cell, int] | None = None
    ) -> list[Run]:
        names, threads = [text.name for text in self._texts], _threads(parallel)
        return plan_confirm(made, self._settings, texts=names, threads=threads, steps=steps)

    def _equal_steps(self, runs: Sequence[Run]) -> dict[Cell, int]:
        """Steps for equal tokens, by what the plain runs reached. Raises: TrainingError."""
        found = equal_steps(self._results.rows())
        for run in runs:
            if run.cell not in found:
                hint = f"What they said is in {self._results.path}."
                raise TrainingError("every plain run failed", where=run.text, hint=hint)
        return found

    def _announce(self, parts: Sequence[tuple[Sequence[Run], int]]) -> None:
        """Tell how many runs there will be and how long they take together."""
        done, count, seconds = self._results.done(), 0, 0.0
        for runs, parallel in parts:
            waiting = [run for run in runs if run.id not in done]
            count += len(waiting)
            seconds += expected_s(waiting, parallel)
        if count:
            self._observe(Planned(count, None if self._settings.steps else seconds))

    def _rounds(
        self, chosen: Sequence[Arm], wanted: Sequence[Text], preset: str, parallel: int
    ) -> list[Round]:
        """Prepare the texts; find which engine computes each arm. Raises: CllmError."""
        vocab = {"bpe": self._settings.bpe_vocab, "words": self._settings.words_vocab}
        kinds = sorted({arm.tokenizer for arm in chosen})
        for text, kind in itertools.product(wanted, kinds):
            if not is_prepared(self._home, text.name, kind):
                self._observe(Preparing(f"{text.name} ({kind})"))
                prepare_corpus(self._home, text.name, text.places, kind, vocab[kind])
        if chosen:
            self._observe(Preparing("the arms"))
        looked = _Engines(self._home, wanted[0].name, preset, _threads(parallel))
        return rounds(chosen, looked.of)

    def _run(self, runs: Sequence[Run], parallel: int) -> None:
        before = self._results.done()
        waiting = [run for run in runs if run.id not in before]
        if not waiting:
            return
        before_it = num_done = len(runs) - len(waiting)
        began = time.monotonic()
        self._observe(Begun(_title(runs), len(runs), num_done))

        def ended(run: Run, row: Row) -> None:
            nonlocal num_done
            self._results.append(row)
            num_done += 1
            each_s = (time.monotonic() - began) / (num_done - before_it)
            left_s = each_s * (len(runs) - num_done)
            figure, error = row.get("val_bits_per_byte"), row.get("error")
            self._observe(Ran(run.label, figure, error, num_done, len(runs), left_s))

        run_all(waiting, self._settings, self._home, parallel=parallel, ended=ended)


class _Engines:
    """Asks `cllm train --plan` what computes an arm, which also says whether it can be."""

    def __init__(self, home: Path, text: str, preset: str, threads: int) -> None:
        self._workspace, self._text = open_workspace(home), text
        self._preset, self._threads = preset, threads

    def of(self, arm: Arm) -> Engine:
        """The compiled engine where it has both the arm and its placebo. Raises: CllmError.

        What each engine reaches on this machine is measured here too, while nothing else runs.
        """
        engines = [self._of(items, arm.tokenizer) for items in (arm.items, arm.placebo)]
        return "compiled" if engines == ["compiled", "compiled"] else "torch"

    def _of(self, items: tuple[str, ...], tokenizer: Words) -> str:
        from cllm.jobs.train import plan

        settings = Settings.model_validate(
            {
                "model": ModelSettings.model_validate(
                    {"preset": self._preset, "mechanisms": items}
                ),
                "train": TrainSettings(steps=1, threads=self._threads),
            }
        )
        corpus = corpus_name(self._text, tokenizer)
        planned = plan(
            [corpus],
            name="study",
            settings=settings,
            workspace=self._workspace,
            observe=_hush,
        )
        return planned.engine


def _hush(event: object) -> None:
    del event


def _threads(parallel: int) -> int:
    return max(1, num_cores() // parallel)


def _title(runs: Sequence[Run]) -> str:
    phase, budget = runs[0].phase, runs[0].budget
    return phase if phase == "screen" else f"{phase} at equal {budget}"


def _check_same(known: dict[str, Any], fixed: dict[str, Any], folder: Path) -> None:
    """Raises: SettingsError naming what differs from the study that the folder holds."""
    pairs = [("texts", known["texts"], fixed["texts"])]
    with suppress(KeyError):
        pairs += [
            (name, known["settings"][name], value)
            for name, value in fixed["settings"].items()
            if name not in _MAY_CHANGE
        ]
    for name, before, now in pairs:
        if before != now:
            raise SettingsError(
                f"this study was begun with other {name.replace('_', ' ')}: {before}, not {now}",
                where=folder,
                hint="Use the same, or give another folder with --folder.",
            )
