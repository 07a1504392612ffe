"""How fast models of four sizes are read and written, against llama.cpp on the same weights.

Random weights, exported by `write_gguf` (F32, Q8_0, Q4_0; ours: float32, int8 and int4 with the
same bits a weight). Every program is a child process (`bench_turns.py`); in each round all take
turns, llama.cpp with one thread and with two, and its better median counts; only the time inside
its `llama_decode` does. Ours is timed from the last token of the prompt to the last one
written, with the threads that `cllm generate` takes. Ratios are of the same round.

`single`: one text of 256 tokens, and the share of the bandwidth floor: the time to read as many
bytes as the weights have, with the same threads. `prefill`: 256 tokens. `streams`: 8 and 32 texts
at once. `first`: the first token after a prompt of 8. `context`: a token's cost after 32 to 2,048
tokens, and what reading the keys and values alone costs. `speculation`: models named by --models
go on with pieces of --text, with and without guessing ahead.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cllm.export.gguf_writer import write_gguf
from cllm.files import write_manifest
from cllm.jobs.bench_models import SIZES, random_weights, size_subject
from cllm.jobs.bench_turns import Program
from cllm.model import save_model
from cllm.text.tokenizers import train_tokenizer
from surroundings import surroundings

KINDS = {"float32": "f32", "int8": "q8_0", "int4": "q4_0"}
PEER_THREADS = (1, 2)
LENGTHS = (32, 64, 128, 256, 512, 1024, 2048)
_GREEDY_TOKENS = 64


def write_models(name: str, shelf: Path) -> Path:
    """A folder with the model and its GGUF files."""
    spec = replace(size_subject(name).spec, context=4096)
    folder = shelf / name
    folder.mkdir()
    save_model(folder, spec, random_weights(spec))
    tokenizer = train_tokenizer("bytes", lambda: iter(["x"]), vocab_size=None, num_characters=1)
    tokenizer.save(folder, context=spec.context)
    write_manifest(folder)
    for dtype in KINDS.values():
        write_gguf(folder, folder / f"{dtype}.gguf", dtype=dtype)
    return folder


def child(module: str, folder: Path) -> Program:
    """One of `peers/` over a folder."""
    return Program(module, str(folder), folder=Path(__file__).parent)


class Match:
    """The programs that take turns on one model."""

    def __init__(self, name: str, folder: Path, options: argparse.Namespace) -> None:
        self.vocab_size, self.rounds = SIZES[name], options.rounds
        self.kinds: list[str] = options.formats
        self.ours = child("peers.cllm_loop", folder)
        self.peer = child("peers.llama_cpp_loop", folder)
        self.second = child("peers.transformers_loop", folder) if options.transformers else None

    def end(self) -> None:
        """Let all of them go."""
        for program in (self.ours, self.peer, self.second):
            if program is not None:
                program.end()

    def prompt(self, length: int, seed: int = 0) -> list[int]:
        """Random tokens."""
        ids: list[int] = np.random.default_rng(seed).integers(1, self.vocab_size, length).tolist()
        return ids

    def take_turns(self, work: str, kind: str, repeats: int = 1, **order: Any) -> dict[str, Any]:
        """Seconds of each program in each round, and how many times as long the peer takes.

        With `repeats` a round's value is the median of so many in a row.
        """
        ours, peers = [], {threads: [] for threads in PEER_THREADS}

        def timed(program: Program, **more: Any) -> float:
            found = [program(work, kind=kind, **order, **more) for _ in range(repeats)]
            return statistics.median(one["seconds"] for one in found)

        for turn in range(self.rounds + 1):
            values = {threads: timed(self.peer, threads=threads) for threads in PEER_THREADS}
            mine = timed(self.ours)
            if turn:
                ours.append(mine)
                for threads, value in values.items():
                    peers[threads].append(value)
        best = min(PEER_THREADS, key=lambda threads: statistics.median(peers[threads]))
        ratios = [theirs / mine for theirs, mine in zip(peers[best], ours, strict=True)]
        return {
            "seconds": ours,
            "peer_seconds": peers[best],
            "peer_threads": best,
            "ratio": round(statistics.median(ratios), 3),
            "ratio_spread": [round(min(ratios), 3), round(max(ratios), 3)],
        }


def _show(label: str, found: Mapping[str, Any], tokens: int, more: str = "") -> None:
    mine, theirs = (tokens / statistics.median(found[key]) for key in ("seconds", "peer_seconds"))
    low, high = found["ratio_spread"]
    print(
        f"  {label:24} {mine:12,.0f} tokens/s  llama.cpp {theirs:10,.0f}"
        f" ({found['peer_threads']} threads)  ×{found['ratio']:6.2f}"
        f" ({low:.2f} to {high:.2f}){more}",
        flush=True,
    )


def single(match: Match, options: argparse.Namespace) -> dict[str, Any]:
    """One text, in each format; whether both say the same in float32."""
    found: dict[str, Any] = {}
    prompt, tokens = match.prompt(8), options.tokens
    for kind in match.kinds:
        result = match.take_turns("single", kind, prompt=prompt, tokens=tokens)
        floor = match.ours("floor", kind=kind)
        share = floor["seconds"] * tokens / statistics.median(result["seconds"])
        result |= {"floor_seconds": floor["seconds"], "weight_bytes": floor["bytes"]}
        result["share_of_floor"] = round(share, 3)
        _show(f"one text, {kind}", result, tokens, f"  {share:.0%} of the floor")
        found[kind] = result
    texts = [program("token", prompt=prompt, tokens=_GREEDY_TOKENS)["ids"]
             for program in (match.ours, match.peer)]  # fmt: skip
    same = next(
        (i for i, pair in enumerate(zip(*texts, strict=True)) if len(set(pair)) > 1),
        _GREEDY_TOKENS,
    )
    found["equal_greedy_tokens"] = same
    print(f"  greedy tokens in float32: the first {same} of {_GREEDY_TOKENS} are equal")
    if match.second is not None:
        second = match.second
        best = {
            threads: statistics.median(
                second("single", threads=threads, prompt=prompt, tokens=tokens)["seconds"]
                for _ in range(match.rounds)
            )
            for threads in PEER_THREADS
        }
        found["transformers_seconds"] = min(best.values())
        print(f"  transformers' generate   {tokens / min(best.values()):12,.0f} tokens/s")
    return found


def prefill(match: Match, options: argparse.Namespace) -> dict[str, Any]:
    """A prompt, in each format."""
    del options
    prompt, found = match.prompt(256), {}
    for kind in match.kinds:
        found[kind] = match.take_turns("prefill", kind, repeats=5, prompt=prompt)
        _show(f"prompt of 256, {kind}", found[kind], len(prompt))
    return found


def streams(match: Match, options: argparse.Namespace) -> dict[str, Any]:
    """Several texts at once, tokens of all of them together."""
    found: dict[str, Any] = {}
    tokens = max(1, options.tokens // 4)
    for kind in match.kinds:
        for size in (8, 32):
            prompts = [match.prompt(8, seed) for seed in range(size)]
            result = match.take_turns("streams", kind, prompts=prompts, tokens=tokens)
            _show(f"{size} texts, {kind}", result, size * tokens)
            found[f"{kind} {size}"] = result
    return found


def first(match: Match, options: argparse.Namespace) -> dict[str, Any]:
    """The first token after a short prompt."""
    del options
    prompt, found = match.prompt(8), {}
    for kind in match.kinds:
        result = match.take_turns("first", kind, repeats=20, prompt=prompt)
        mine, theirs = (statistics.median(result[key]) * 1e6 for key in ("seconds", "peer_seconds"))
        print(f"  first token, {kind:8} {mine:10,.0f} µs  llama.cpp {theirs:,.0f} µs"
              f"  ×{result['ratio']:.2f}", flush=True)  # fmt: skip
        found[kind] = result
    return found


def context(match: Match, options: argparse.Namespace) -> dict[str, Any]:
    """How a token's cost grows with what stands before it, and what the bytes explain of that."""
    found: dict[str, Any] = {}
    lengths, tokens = list(options.lengths), 32
    for cache in ("float32", "int8"):
        order = {"kind": "float32", "lengths": lengths, "tokens": tokens}
        rows: list[list[float]] = []
        theirs: dict[int, list[list[float]]] = {threads: [] for threads in PEER_THREADS}
        for turn in range(match.rounds + 1):
            mine = match.ours("context", cache=cache, **order)
            peers = {n: match.peer("context", threads=n, **order) for n in PEER_THREADS}
            if turn:
                rows.append(mine["seconds_per_token"])
                for threads, peer in peers.items():
                    theirs[threads].append(peer["seconds_per_token"])
        medians = np.median(rows, axis=0)
        extra = mine["kv_bytes"][-1] - mine["kv_bytes"][0]
        explained = match.ours("floor", kind="float32", num_read=extra)["seconds"]
        growth = float(medians[-1] - medians[0])
        # At each length the better number of threads.
        best = np.min([np.median(times, axis=0) for times in theirs.values()], axis=0)
        found[cache] = {
            "lengths": lengths,
            "seconds_per_token": medians.tolist(),
            "peer_seconds_per_token": best.tolist(),
            "kv_bytes": mine["kv_bytes"],
            "growth_seconds": growth,
            "reading_seconds": explained,
            "growth_over_reading": round(growth / explained, 2),
        }
        listed = "  ".join(f"{n}: {s * 1e6:,.0f}" for n, s in zip(lengths, medians, strict=True))
        print(f"  context, {cache} cache: µs a token after {listed}; grows by {growth * 1e6:,.0f}, "
              f"reading {extra / 1e6:.2f} MB takes {explained * 1e6:,.0f} µs; llama.cpp "
              f"{best[0] * 1e6:,.0f} to {best[-1] * 1e6:,.0f}", flush=True)  # fmt: skip
    return found


SECTIONS: dict[str, Callable[[Match, argparse.Namespace], dict[str, Any]]] = {
    "single": single,
    "prefill": prefill,
    "streams": streams,
    "first": first,
    "context": context,
}


def speculation(options: argparse.Namespace, shelf: Path) -> dict[str, Any]:
    """Tokens a second of trained models going on with a text, guessing ahead or not."""
    found = {}
    text = options.text.read_text(encoding="utf-8")
    starts = np.linspace(0, max(0, len(text) - 2000), options.rounds).astype(int)
    for model in options.models:
        rates: dict[str, list[float]] = {"off": [], "on": []}
        for start in starts:
            piece = shelf / "prompt.txt"
            piece.write_text(text[start : start + 600], encoding="utf-8")
            written = {}
            for choice, list_ in rates.items():
                command = [str(Path(sys.executable).with_name("cllm")), "generate", model]
                command += ["--prompt-file", str(piece), "--max-tokens", str(options.tokens)]
                command += ["--temperature", "0", "--speculate", choice, "--json"]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                value = json.loads(done.stdout.splitlines()[-1])
                list_.append(value["tokens_per_s"])
                written[choice] = value["text"]
            assert written["on"] == written["off"], "guessing ahead must not change the text"
        ratios = [on / off for on, off in zip(rates["on"], rates["off"], strict=True)]
        ratio = statistics.median(ratios)
        print(f"{model}: guessing ahead ×{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}),"
              f" {statistics.median(rates['on']):,.0f} tokens/s", flush=True)  # fmt: skip
        found[model] = {"tokens_per_s": rates, "ratio": round(ratio, 3)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--formats", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--rounds", type=int, default=5, help="after one that warms up")
    parser.add_argument("--tokens", type=int, default=256, help="of a text")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="of `context`")
    help_ = "transformers' generate as a second peer"
    parser.add_argument("--transformers", action="store_true", help=help_)
    help_ = "trained models whose guessing ahead is measured"
    parser.add_argument("--models", nargs="+", default=[], help=help_)
    parser.add_argument("--text", type=Path, help="what they were trained on, or the like of it")
    options = parser.parse_args()
    if options.models and options.text is None:
        parser.error("--models needs --text")
    result: dict[str, Any] = {"benchmark": "decoding", "sizes": {}}
    with tempfile.TemporaryDirectory() as shelf:
        for name in options.sizes:
            print(f"{name}: {size_subject(name).spec.num_parameters:,} parameters", flush=True)
            match = Match(name, write_models(name, Path(shelf)), options)
            result["sizes"][name] = {
                section: SECTIONS[section](match, options) for section in options.sections
            }
            match.end()
        if options.models:
            result["speculation"] = speculation(options, Path(shelf))
    result |= {"rounds": options.rounds, "llama_cpp_python": version("llama_cpp_python")}
    print(json.dumps(result | surroundings()))


if __name__ == "__main__":
    main()
