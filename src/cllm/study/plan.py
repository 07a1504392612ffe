"""Which runs a study makes, in which order, and how long they take."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cllm.study.arms import PLAIN, Arm, Role, Words

Phase = Literal["screen", "confirm"]
Engine = Literal["compiled", "torch"]
Budget = Literal["time", "tokens"]
# Text, engine and tokeniser: what runs must share to be compared.
Cell = tuple[str, Engine, Words]

# The confirmation's seeds lie above all that a screen may use.
FIRST_CONFIRM_SEED = 2001
MOST_SEEDS = 500
# What a run needs beside its time: the process that starts and ends, measured by this project.
_AROUND_S = 1.0


@dataclass(frozen=True, slots=True)
class StudySettings:
    """What decides the runs of a study. `steps` replaces the seconds, for a quick check."""

    seconds: float = 30.0
    steps: int | None = None
    seeds: int = 2
    confirm_seeds: int = 5
    only: tuple[str, ...] = ()
    sets: tuple[str, ...] = ("crystal",)
    parallel: int | None = None
    screen_preset: str = "tiny"
    confirm_preset: str = "small"
    context: int = 128
    batch_size: int = 16
    bpe_vocab: int = 1024
    words_vocab: int = 4096


@dataclass(frozen=True, slots=True)
class Run:
    """One training run. `steps` is None for a run by time."""

    phase: Phase
    budget: Budget
    text: str
    tokenizer: Words
    engine: Engine
    arm: str
    role: Role
    items: tuple[str, ...]
    seed: int
    seconds: float
    steps: int | None
    preset: str
    threads: int

    @property
    def id(self) -> str:
        """A name that no other run of the study has."""
        parts = [self.phase, self.budget, self.text, self.tokenizer, self.engine]
        return " ".join([*parts, self.arm, self.role, str(self.seed)])

    @property
    def cell(self) -> Cell:
        """What it shares with the runs that it is compared with."""
        return self.text, self.engine, self.tokenizer

    @property
    def model(self) -> str:
        """The name of the model it trains."""
        return "study-" + hashlib.sha256(self.id.encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """What it is called while it runs."""
        arm = "plain" if self.role == "plain" else self.arm
        return f"{arm}{' (placebo)' if self.role == 'placebo' else ''}, seed {self.seed}"

    def to_json(self) -> dict[str, Any]:
        """Its fields and its id, as a line of results begins."""
        return {"id": self.id, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Round:
    """The arms that are compared with one plain model: of one engine and one tokeniser."""

    engine: Engine
    tokenizer: Words
    arms: tuple[Arm, ...]


def rounds(arms: Iterable[Arm], engine_of: Callable[[Arm], Engine]) -> list[Round]:
    """Arms by the engine that has both them and their placebo, and by tokeniser."""
    found: dict[tuple[Engine, Words], list[Arm]] = {}
    for arm in arms:
        found.setdefault((engine_of(arm), arm.tokenizer), []).append(arm)
    return [Round(*key, tuple(members)) for key, members in found.items()]


def plan_screen(
    rounds: Sequence[Round], settings: StudySettings, *, text: str, threads: int
) -> list[Run]:
    """Every arm, its placebo and the plain model, seed by seed, each seed in a mixed order."""
    seeds = range(1, settings.seeds + 1)
    return _plan("screen", seeds, [text], rounds, settings, threads)


def plan_confirm(
    rounds: Sequence[Round],
    settings: StudySettings,
    *,
    texts: Sequence[str],
    threads: int,
    steps: Mapping[Cell, int] | None = None,
) -> list[Run]:
    """Plain model, sets and placebos on each text with seeds that no screen has used.

    At equal time; or at equal tokens, with `steps` for each cell.
    """
    seeds = range(FIRST_CONFIRM_SEED, FIRST_CONFIRM_SEED + settings.confirm_seeds)
    return _plan("confirm", seeds, texts, rounds, settings, threads, steps)


def expected_s(runs: Sequence[Run], parallel: int) -> float:
    """Seconds that so many runs take; of runs by steps alone only what is around them."""
    return sum(run.seconds + _AROUND_S for run in runs) / parallel


def _plan(
    phase: Phase,
    seeds: Sequence[int],
    texts: Sequence[str],
    rounds: Sequence[Round],
    settings: StudySettings,
    threads: int,
    steps: Mapping[Cell, int] | None = None,
) -> list[Run]:
    """All runs, seed by seed; as long as the settings say where `steps` is not given."""
    runs: list[Run] = []
    for seed in seeds:
        block: list[Run] = []
        for text, group in itertools.product(texts, rounds):
            cell = text, group.engine, group.tokenizer
            length = settings.steps if steps is None else steps[cell]
            same = _Same(phase, text, group, settings, threads, length)
            block.append(same.plain(seed))
            block += [run for arm in group.arms for run in same.pair(arm, seed)]
        runs += _mixed(block, f"{phase} {seed}")
    return runs


class _Same:
    """What the runs of one round have in common."""

    def __init__(
        self,
        phase: Phase,
        text: str,
        group: Round,
        settings: StudySettings,
        threads: int,
        steps: int | None,
    ) -> None:
        self._phase, self._text, self._group = phase, text, group
        self._settings, self._threads, self._steps = settings, threads, steps

    def plain(self, seed: int) -> Run:
        return self._run("plain", "plain", PLAIN, seed)

    def pair(self, arm: Arm, seed: int) -> list[Run]:
        return [
            self._run(arm.name, "arm", arm.items, seed),
            self._run(arm.name, "placebo", arm.placebo, seed),
        ]

    def _run(self, arm: str, role: Role, items: tuple[str, ...], seed: int) -> Run:
        settings, is_screen = self._settings, self._phase == "screen"
        return Run(
            phase=self._phase,
            budget="time" if self._steps is None else "tokens",
            text=self._text,
            tokenizer=self._group.tokenizer,
            engine=self._group.engine,
            arm=arm,
            role=role,
            items=items,
            seed=seed,
            seconds=settings.seconds if settings.steps is None else 0.0,
            steps=self._steps,
            preset=settings.screen_preset if is_screen else settings.confirm_preset,
            threads=self._threads,
        )


def _mixed(runs: list[Run], seed: str) -> list[Run]:
    """An order in which no arm always comes first: drifts of the machine cancel."""
    ordered = sorted(runs, key=lambda run: run.id)
    random.Random(seed).shuffle(ordered)
    return ordered
