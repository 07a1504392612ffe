"""Other programs on the weights of a model: their files, their children, and their figures."""

from __future__ import annotations

import contextlib
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from cllm.errors import InputError, SettingsError
from cllm.files import storage_errors, temporary_prefix, write_manifest, writer_of
from cllm.jobs.bench_figures import PeerFigures
from cllm.jobs.bench_memory import process_memory
from cllm.jobs.bench_models import Format, Subject, folder_subject
from cllm.jobs.bench_peers import PeerProgram
from cllm.jobs.bench_timing import SHORT_PROMPT, TRAINED_WINDOWS, Rates, Work
from cllm.jobs.bench_turns import Program, ProgramError
from cllm.model import Weights, save_model
from cllm.model.files import save_quantised
from cllm.model.packed import MixedWeights
from cllm.text.tokenizers import train_tokenizer
from cllm.training.plan import default_threads

_PLACE = "bench"
# From so many cores on, half of them are tried, too.
_MANY_CORES = 6
# What takes less is tried twice, and the better counts.
_QUICK_S = 0.5
# So much work at once is done best by all cores.
_SLOW_S = 1.0


@dataclass(eq=False)
class Player:
    """One program in one format: its child, and the best number of threads for each work."""

    program: PeerProgram
    format: str
    child: Program
    threads: dict[str, int] = field(default_factory=dict)
    peak_bytes: int | None = None
    problem: str | None = None

    @property
    def name(self) -> str:
        """Tells its works from all others."""
        return f"{self.program.name} {self.format}"


class Match:
    """The programs that take turns on one model; `open_match` makes one."""

    def __init__(self, subject: Subject, home: Path, shelf: Path, threads: int | None) -> None:
        self._subject, self._home, self._shelf = subject, home, shelf
        cores = default_threads()
        tried = {1, cores, *((cores // 2,) if cores >= _MANY_CORES else ())}
        self._tried = sorted(tried, reverse=True) if threads is None else [threads]
        self.players: list[Player] = []
        self.refused: list[PeerFigures] = []

    def join(self, programs: Sequence[PeerProgram], on_warm: Callable[[float], None]) -> None:
        """Write their files, start their children and let them warm up. Raises: StorageError.

        `on_warm` is told the share of those that are ready.
        """
        folder = self._source()
        # What takes longest to begin comes first; it loads while files for others are written.
        for program in sorted(programs, key=lambda program: not program.trains):
            for format_, against in program.formats.items():
                try:
                    arguments = self._write(folder, program, format_)
                except (InputError, SettingsError) as error:
                    refused = PeerFigures(program.name, format_, against, {}, {}, {})
                    self.refused.append(replace(refused, problem=error.message))
                    continue
                child = Program(program.child, *arguments)
                self.players.append(Player(program, format_, child))
        self.players.sort(key=lambda player: programs.index(player.program))
        for number, player in enumerate(self.players):
            try:
                self._warm_up(player)
            except ProgramError as error:
                player.problem = str(error)
            on_warm((number + 1) / len(self.players))

    def end(self) -> None:
        """Let all of them go."""
        for player in self.players:
            player.child.end()

    def works(self) -> dict[str, Work]:
        """What is timed of each, to take turns with ours."""
        return {
            f"{player.name} {work}": partial(self._work, player, work)
            for player in self.players
            if player.problem is None
            for work in self._orders(player)
        }

    def own_peak(self, format_: Format, weights: MixedWeights, threads: int) -> int | None:
        """The most that a process of ours holds which opens such a model from the disk."""
        if self._subject.folder is not None and format_ in ("float32", "as stored"):
            memory = process_memory(self._subject, format_, self._home, threads)
            return None if memory is None else memory.peak
        place = self._shelf / f"own-{format_}"
        place.mkdir()
        if format_ == "float32":
            save_model(place, self._subject.spec, _floats(weights))
        else:
            save_quantised(place, self._subject.spec, weights)
        stored = folder_subject(self._subject.name, place)
        memory = process_memory(stored, stored.formats[0], self._home, threads)
        shutil.rmtree(place)
        return None if memory is None else memory.peak

    def figures(self, found: Mapping[str, Rates], formats: Sequence[Format]) -> list[PeerFigures]:
        """What was found of each, beside ours."""
        return [self._figures(player, found, formats) for player in self.players] + self.refused

    def _figures(
        self, player: Player, found: Mapping[str, Rates], formats: Sequence[Format]
    ) -> PeerFigures:
        against: Format = player.program.formats[player.format]
        if against not in formats:
            # A model that is stored in fewer bits is kept in those alone.
            against = formats[0]
        rates: dict[str, Rates] = {}
        ratios: dict[str, Rates] = {}
        for work in player.threads:
            theirs = found.get(f"{player.name} {work}")
            ours = found.get(work if work == "training" else f"{against} {work}")
            if theirs is None:
                continue
            rates[work] = theirs
            if ours is not None:
                pairs = zip(ours.values, theirs.values, strict=True)
                ratios[work] = Rates(tuple(mine / other for mine, other in pairs))
        return PeerFigures(
            program=player.program.name,
            format=player.format,
            against=against,
            rates=rates,
            ratios=ratios,
            threads={work: player.threads[work] for work in rates},
            peak_bytes=player.peak_bytes,
            problem=player.problem,
        )

    def _source(self) -> Path:
        """A folder with the model, from which all files are written."""
        if self._subject.folder is not None:
            return self._subject.folder
        folder, spec = self._shelf / self._subject.name, self._subject.spec
        folder.mkdir()
        save_model(folder, spec, _floats(self._subject.weights("float32")))
        tokenizer = train_tokenizer("bytes", lambda: iter(["x"]), vocab_size=None, num_characters=1)
        tokenizer.save(folder, context=spec.context)
        write_manifest(folder)
        return folder

    def _write(self, folder: Path, program: PeerProgram, format_: str) -> list[str]:
        """The file or folder of a format, and what the child is to be told."""
        from cllm.export.gguf_writer import write_gguf
        from cllm.export.huggingface import write_huggingface
        from cllm.export.onnx_graph import write_onnx

        place = self._shelf / f"{program.name}-{format_}"
        if program.name == "llama.cpp":
            place = place.with_name(f"{format_}.gguf")
            write_gguf(folder, place, dtype=format_.lower())
            return [str(place)]
        if program.name == "transformers":
            write_huggingface(folder, place, dtype=format_)
            return [str(place), format_]
        write_onnx(folder, place, dtype=format_)
        return [str(place)]

    def _orders(self, player: Player) -> dict[str, dict[str, object]]:
        """What the child is told to do in each work, but for threads and time."""
        spec = self._subject.spec
        random = np.random.default_rng(0)
        prompt: list[int] = random.integers(0, spec.vocab_size, spec.context).tolist()
        orders: dict[str, dict[str, object]] = {
            "prefill": {"prompt": prompt},
            "decode": {"prompt": prompt[: min(SHORT_PROMPT, spec.context - 1)]},
        }
        orders["decode"]["length"] = spec.context
        if player.program.trains:
            orders["training"] = {"num_windows": TRAINED_WINDOWS, "length": spec.context}
        return orders

    def _warm_up(self, player: Player) -> None:
        orders = self._orders(player)
        for work, order in orders.items():
            if work != "training":
                player.child(work, threads=self._tried[0], seconds=0.0, **order)
        # Training takes more, which a process that only writes does without.
        player.peak_bytes = player.child("memory")["bytes"]
        for work, order in orders.items():
            player.threads[work] = self._best_threads(player, work, order)

    def _best_threads(self, player: Player, work: str, order: Mapping[str, object]) -> int:
        most = self._tried[0]
        if (
            len(self._tried) == 1
            or player.child(work, threads=most, seconds=0.0, **order)["taken"] > _SLOW_S
        ):
            return most

        def seconds_per_token(threads: int) -> float:
            taken: list[float] = []
            while len(taken) < 3:
                answer = player.child(work, threads=threads, seconds=0.02, **order)
                taken.append(answer["taken"] / answer["done"])
                if answer["taken"] > _QUICK_S:
                    break
            return statistics.median(taken)

        return min(self._tried, key=seconds_per_token)

    def _work(self, player: Player, work: str, seconds: float) -> tuple[float, float]:
        order = self._orders(player)[work]
        try:
            answer = player.child(work, threads=player.threads[work], seconds=seconds, **order)
        except ProgramError as error:
            player.problem = str(error)
            raise
        return float(answer["done"]), float(answer["taken"])


def _floats(weights: MixedWeights) -> Weights:
    return {name: value for name, value in weights.items() if isinstance(value, np.ndarray)}


@contextlib.contextmanager
def open_match(subject: Subject, home: Path, threads: int | None) -> Iterator[Match]:
    """A match on a model. Its files lie in the home while the block runs. Raises: StorageError."""
    with storage_errors(home):
        home.mkdir(parents=True, exist_ok=True)
    for left in home.glob(f".{_PLACE}.*"):
        writer = writer_of(left.name)
        if writer is not None and not psutil.pid_exists(writer):
            # Left by a measurement that was killed.
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=temporary_prefix(_PLACE)) as shelf:
        match = Match(subject, home, Path(shelf), threads)
        try:
            yield match
        finally:
            match.end()
