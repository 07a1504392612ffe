"""How soon after pressing Enter a held-out loss is reached, by us and by a plain PyTorch loop.

The first 90% of a text's characters are trained on, the last 10% scored: mean nats per
character over all of it, in windows that overlap by one (`window_loss.py`). Every run is a
process of its own; its clock starts before the process does. Cold: each of ours has an empty
CLLM_HOME and empty caches. Warm: they were filled by one run before. The files themselves
are in the system's memory for all.

`reach`: seconds to a loss. The peer (`peers/nanogpt_like.py`) measures itself every 25 steps;
its clock stops for that, and it may go on after its schedule, at the last rate. A run of ours
is planned for a time, so its time is that of the smallest budget on a ladder that gets there,
found by bisection, from Enter to the end of the process, with its own validation, files and
last sample. `equal-time`: the loss at some times; the tuned peer's schedule is planned for
each. `a100`: seconds to the loss that nanoGPT's README gives for 10.65M parameters after three
minutes on an A100; ours alone, windows of 256.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from peers.nanogpt_like import CONTEXT, RECIPES
from surroundings import surroundings
from window_loss import window_nats

HERE = Path(__file__).parent
PEER_LOSS, A100_LOSS, A100_WINDOW = 1.898, 1.4697, 256
LADDER_S = (4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 20, 25, 30, 40, 60)
A100_LADDER_S = (90, 120, 150, 180, 210, 240, 270, 300)
TIMES_S = (10, 20, 30, 60, 180)
# Where the default and the tuned peer begin to measure themselves on their way to `PEER_LOSS`.
FIRST_MEASURED = (1400, 650)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One finished run: seconds since Enter, nats per character of all that is held out."""

    seconds: float
    nats: float


class Programs:
    """Starts ours and the peer on one text; everything they write is below `shelf`."""

    def __init__(self, path: Path, shelf: Path, flags: list[str]) -> None:
        text = path.read_text(encoding="utf-8")
        end = len(text) * 9 // 10
        self._held_out, self._shelf, self._flags = text[end:], shelf, flags
        self._files = [str(shelf / "train.txt"), str(shelf / "held-out.txt")]
        for name, part in zip(self._files, (text[:end], text[end:]), strict=True):
            Path(name).write_text(part, encoding="utf-8")

    def ours(self, seconds: float, seed: int, window: int, *, is_warm: bool) -> Outcome:
        """`cllm train` for some seconds, then scored in this process."""
        with tempfile.TemporaryDirectory(dir=self._shelf) as fresh:
            home = self._shelf / "warm" if is_warm else Path(fresh)
            command = [str(Path(sys.executable).with_name("cllm")), "train", self._files[0]]
            command += ["--tokenizer", "characters", "--minutes", str(seconds / 60)]
            command += ["--text.val-file", self._files[1], "--seed", str(seed)]
            command += ["--name", "timed", "--overwrite", *self._flags]
            began = time.monotonic()
            _run(command, home)
            taken_s = time.monotonic() - began
            return Outcome(taken_s, folder_nats(home / "models/timed", self._held_out, window))

    def peer(self, recipe: str, seed: int, *options: str) -> list[dict[str, float]]:
        """The rows of one run of the peer, the last one at its end."""
        with tempfile.TemporaryDirectory(dir=self._shelf) as fresh:
            command = [sys.executable, "-m", "peers.nanogpt_like", *self._files]
            command += ["--recipe", recipe, "--seed", str(seed), *options]
            printed = _run([*command, "--began", str(time.monotonic())], Path(fresh))
            return [json.loads(line) for line in printed.splitlines()]


def _run(command: list[str], home: Path) -> str:
    """A process whose caches are all below `home`; returns what it prints."""
    home.mkdir(exist_ok=True)
    caches = {"CLLM_HOME": home, "XDG_CACHE_HOME": home / "cache", "MPLCONFIGDIR": home / "plots"}
    caches |= {"TORCHINDUCTOR_CACHE_DIR": home / "inductor", "TRITON_CACHE_DIR": home / "triton"}
    environment = os.environ | {name: str(folder) for name, folder in caches.items()}
    done = subprocess.run(
        command, env=environment, cwd=HERE, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(
            f"{shlex.join(command)}\nended with {done.returncode}:\n{done.stderr}{done.stdout}"
        )
    return done.stdout


def folder_nats(folder: Path, text: str, window: int) -> float:
    """The loss of a saved model on a text, by `transformers` in float32.

    A model that sees less than `window` is scored in windows of what it sees.
    """
    import transformers
    from tokenizers import Tokenizer

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False)
    if len(ids.ids) != len(text):
        sys.exit(f"{len(ids.ids)} tokens for {len(text)} characters: not one for each")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    seen = min(window, model.config.max_position_embeddings)
    return window_nats(lambda rows: model(rows).logits, torch.tensor(ids.ids), seen)


def soonest(
    run: Callable[[float], Outcome], ladder: list[float], nats: float
) -> tuple[Outcome | None, list[dict[str, float]]]:
    """The run with the smallest budget that reaches a loss, by bisection, and all that ran.

    It takes for granted that a larger budget never ends with a greater loss.
    """
    found, tried, low, high = None, [], 0, len(ladder)
    while low < high:
        middle = (low + high) // 2
        outcome = run(ladder[middle])
        tried.append({"budget_s": ladder[middle], **_rounded(outcome)})
        if outcome.nats <= nats:
            found, high = outcome, middle
        else:
            low = middle + 1
    return found, tried


def _rounded(outcome: Outcome) -> dict[str, float]:
    return {"seconds": round(outcome.seconds, 3), "nats": round(outcome.nats, 5)}


def reach(programs: Programs, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds to `--loss`, for both peers and for ours cold and warm."""
    names = ("peer", "tuned peer", "ours, cold", "ours, warm")
    seconds: dict[str, list[float | None]] = {name: [] for name in names}
    details: dict[str, list[Any]] = {name: [] for name in names}
    for seed in range(options.runs):
        for name, recipe, first in zip(names, RECIPES, options.peers_from, strict=False):
            rows = programs.peer(
                recipe, seed, "--until", str(options.loss), "--eval-every", "25",
                "--eval-from", str(first), "--extra-steps", "1000",
            )  # fmt: skip
            is_there = rows[-1]["nats"] <= options.loss
            seconds[name].append(rows[-1]["clock_s"] if is_there else None)
            details[name].append(rows)
        for name, is_warm in (("ours, cold", False), ("ours, warm", True)):
            found, tried = soonest(
                lambda s, seed=seed, warm=is_warm: programs.ours(s, seed, CONTEXT, is_warm=warm),
                options.ladder,
                options.loss,
            )
            seconds[name].append(round(found.seconds, 3) if found else None)
            details[name].append(tried)
    print(f"seconds to {options.loss} nats per character, windows of {CONTEXT}")
    medians = {name: _show(name, values, "s") for name, values in seconds.items()}
    ratios = {}
    for peer in names[:2]:
        for ours in names[2:]:
            if (of := medians[ours]) and medians[peer]:
                ratios[f"{peer} / {ours}"] = round(medians[peer] / of, 2)
                print(f"  {peer} / {ours}: {medians[peer] / of:.2f}")
    return {"loss": options.loss, "seconds": seconds, "medians": medians, "ratios": ratios,
            "runs": details}  # fmt: skip


def equal_time(programs: Programs, options: argparse.Namespace) -> dict[str, Any]:
    """The losses that are there after some times; ours cold."""
    names = ("peer", "tuned peer", "ours, cold")
    nats: dict[str, dict[str, list[float | None]]] = {
        name: {f"{s:g}": [] for s in options.times} for name in names
    }
    taken: dict[str, list[float]] = {f"{s:g}": [] for s in options.times}
    for seed in range(options.runs):
        rows = programs.peer("default", seed, "--eval-times", *map(str, options.times))
        for s in options.times:
            key = f"{s:g}"
            there = [row["nats"] for row in rows if row["clock_s"] <= s]
            nats["peer"][key].append(min(there, default=None))
            last = programs.peer("tuned", seed, "--seconds", str(s))[-1]
            nats["tuned peer"][key].append(last["nats"] if last["clock_s"] <= s else None)
            outcome = programs.ours(s, seed, CONTEXT, is_warm=False)
            nats["ours, cold"][key].append(round(outcome.nats, 5))
            taken[key].append(round(outcome.seconds, 3))
    print(f"nats per character after some seconds, windows of {CONTEXT}")
    medians = {}
    for s in options.times:
        print(f" after {s:g} s (ours took {statistics.median(taken[f'{s:g}']):.2f} s)")
        medians[f"{s:g}"] = {name: _show(name, nats[name][f"{s:g}"], "nats") for name in names}
    return {"nats": nats, "medians": medians, "seconds_of_ours": taken}


def a100(programs: Programs, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds to the loss of three minutes on an A100, within five."""
    seconds: list[float | None] = []
    details = []
    for seed in range(options.runs):
        found, tried = soonest(
            lambda s, seed=seed: programs.ours(s, seed, A100_WINDOW, is_warm=False),
            options.a100_ladder,
            A100_LOSS,
        )
        seconds.append(round(found.seconds, 3) if found else None)
        details.append(tried)
    print(f"seconds to {A100_LOSS} nats per character, windows of {A100_WINDOW}")
    median = _show("ours, cold", seconds, "s")
    least = [min(run["nats"] for run in tried) for tried in details]
    _show("least loss of any budget", least, "nats")
    return {"loss": A100_LOSS, "seconds": seconds, "median": median, "least_nats": least,
            "runs": details}  # fmt: skip


def _show(name: str, values: list[float | None], unit: str) -> float | None:
    """Print median and spread; the median where more than half of the runs got there."""
    there = sorted(value for value in values if value is not None)
    missed = len(values) - len(there)
    note = f", {missed} of {len(values)} did not get there" if missed else ""
    if 2 * len(there) <= len(values):
        print(f"  {name:26} -{note}")
        return None
    median = statistics.median([*there, *[float("inf")] * missed])
    print(f"  {name:26} {median:9.4g} {unit} ({there[0]:.4g} to {there[-1]:.4g}){note}")
    return median


SECTIONS = {"reach": reach, "equal-time": equal_time, "a100": a100}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    text = os.environ.get("BENCHMARK_TEXT")
    what = "tiny Shakespeare, or another text (default: $BENCHMARK_TEXT)"
    parser.add_argument("text", type=Path, nargs="?", default=text and Path(text), help=what)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=["reach"])
    parser.add_argument("--runs", type=int, default=3, help="seeds")
    parser.add_argument("--loss", type=float, default=PEER_LOSS, help="that `reach` waits for")
    first = "steps after which the default and the tuned peer begin to measure"
    parser.add_argument("--peers-from", type=int, nargs=2, default=FIRST_MEASURED, help=first)
    parser.add_argument("--ladder", type=float, nargs="+", default=LADDER_S, help="seconds")
    parser.add_argument("--a100-ladder", type=float, nargs="+", default=A100_LADDER_S)
    parser.add_argument("--times", type=float, nargs="+", default=TIMES_S, help="of `equal-time`")
    parser.add_argument("--flags", type=shlex.split, default=[], help="more for `cllm train`")
    options = parser.parse_args()
    if options.text is None:
        print("No text: give a path, or set BENCHMARK_TEXT. Nothing was measured.")
        return
    result: dict[str, Any] = {"benchmark": "time_to_loss"}
    with tempfile.TemporaryDirectory() as shelf:
        programs = Programs(options.text, Path(shelf), options.flags)
        # Thrown away: they bring the files into memory and fill the warm caches.
        programs.ours(min(options.ladder), 0, CONTEXT, is_warm=True)
        programs.peer("tuned", 0, "--set", "steps=1")
        for name in options.sections:
            result[name] = SECTIONS[name](programs, options)
    result |= {
        "recipes": {name: asdict(recipe) for name, recipe in RECIPES.items()},
        "settings": {name: str(value) for name, value in vars(options).items()},
        "torch": torch.__version__,
        **surroundings(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
