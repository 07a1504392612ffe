"""The still parts of what a training run shows: the plan, samples, and how it ended."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cllm.cli.curve import Series, draw_curve
from cllm.cli.output import printable
from cllm.cli.tables import facts, heading, remark
from cllm.jobs.events import Plan, Profiled, TrainResult
from cllm.quantities import clock_time, count, decimals, duration, short_count, size

_MAX_CURVE_WIDTH, _CURVE_HEIGHT = 76, 11
# A sample along the way is a glimpse; the whole one stands in the run's folder.
_GLIMPSE_LINES, _GLIMPSE_CHARACTERS = 4, 280


def plan_facts(
    plan: Plan, model: str, run: str | None, resumed_step: int | None, *, spent_s: float = 0.0
) -> RenderableType:
    """What will be trained, on what, and when it ends."""
    shape = f"{plan.layers} layers × {plan.width} wide, {plan.heads} heads"
    batch = f"{count(plan.batch_size)} windows of {count(plan.context)} tokens"
    threads = f"{plan.threads} thread{'s' if plan.threads != 1 else ''}"
    machine = f"{plan.engine} engine, {plan.precision}, {threads}"
    machine += f", about {short_count(plan.tokens_per_s)} tokens/s"
    pairs: list[tuple[str, str | Text]] = [
        ("model", Text(model, "head")),
        ("size", f"{count(plan.num_parameters)} parameters: {shape}"),
        ("text", f"{count(plan.train_tokens)} tokens, vocabulary of {count(plan.vocab_size)}"),
        ("batch", f"{batch}, {count(plan.tokens_per_step)} tokens a step"),
        ("computing", machine),
        ("ends", _end(plan, spent_s)),
    ]
    if plan.mechanisms:
        pairs.append(("mechanisms", _mechanisms(plan)))
    if plan.expected_bits_per_byte is not None:
        pairs.append(("expected", _expectation(plan)))
    if run is not None:
        pairs.append(("run", run))
    if resumed_step is not None:
        pairs.append(("goes on", f"after step {count(resumed_step)}"))
    return Group(heading("Plan"), facts(pairs))


def _mechanisms(plan: Plan) -> str:
    """Their names, what they gained when measured, and what they cost a person."""
    said = [", ".join(plan.mechanisms)]
    if plan.measured_gain:
        said.append(plan.measured_gain)
    if plan.table_bytes:
        said.append(f"{size(plan.table_bytes)} of tables")
    if not plan.opens_elsewhere:
        said.append("opens only in CLLM")
    return "; ".join(said)


def _end(plan: Plan, spent_s: float) -> str:
    if plan.total_steps is not None:
        return f"after {count(plan.total_steps)} steps"
    if plan.minutes is None:
        return ""
    seconds = plan.minutes * 60
    return f"after {duration(seconds)}, about {clock_time(seconds - spent_s)}"


def _expectation(plan: Plan) -> str:
    bpb, spread = plan.expected_bits_per_byte or 0.0, plan.expected_spread
    between = f"{decimals(bpb * (1 - spread), 2)} to {decimals(bpb * (1 + spread), 2)}"
    memory = size(plan.expected_memory_bytes)
    return f"{between} bits per byte on text it has not seen, {memory} of memory"


_WORK = {
    "products": "matrix products of the blocks",
    "head": "matrix products of the vocabulary",
    "packing": "weights rounded and packed",
    "waiting": "threads waiting for each other",
    "step": "the rest of the steps",
    "data": "reading batches",
    "Python": "Python around the steps",
}


def profile_table(profiled: Profiled) -> RenderableType:
    """Where the loop's time went."""
    table = Table(box=None, header_style="label", padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("work", "seconds", "share"):
        table.add_column(name, justify="left" if name == "work" else "right")
    total = sum(profiled.seconds.values()) or 1.0
    for name, seconds in profiled.seconds.items():
        table.add_row(_WORK.get(name, name), decimals(seconds, 2), f"{seconds / total:.1%}")
    lines = [Text(f"trace: {profiled.trace} (opens in ui.perfetto.dev)", "label")]
    if profiled.peak_share is not None and profiled.peak_flops_per_s is not None:
        peak = f"{profiled.peak_flops_per_s / 1e9:,.0f} billion operations a second"
        lines.insert(0, Text(f"The steps reached {profiled.peak_share:.0%} of {peak},"))
        lines.insert(1, Text("what this machine's matrix products alone do."))
    indented = Padding(Group(table, Text(), *lines), (0, 2, 0, 2))
    return Group(heading("Where the time went"), indented)


def sample_block(title: str, prompt: str, text: str, *, whole: bool = False) -> RenderableType:
    """A prompt with its continuation, shortened to a glimpse unless `whole`."""
    shown = printable(text) if whole else _glimpse(text)
    body = Text(printable(prompt), "prompt")
    body.append(shown, "default")
    return Group(Text(f"\n  {title}", "label"), Padding(body, (0, 2, 0, 4)))


def _glimpse(text: str) -> str:
    shown = printable(text)
    lines = shown[:_GLIMPSE_CHARACTERS].splitlines()[:_GLIMPSE_LINES]
    glimpse = "\n".join(lines)
    return glimpse if glimpse == shown.rstrip("\n") else glimpse + " …"


def end_report(result: TrainResult, *, width: int, is_terminal: bool) -> Iterator[RenderableType]:
    """Before and after, figures, curve, copying, and what to type next."""
    if result.first_sample or result.last_sample:
        yield heading("Before and after, from the same prompt")
        yield _before_and_after(result, side_by_side=is_terminal and width >= 100)
    yield heading("How it went")
    yield _figures(result)
    if is_terminal:
        curve = _curve(result, width)
        if curve:
            yield Text()
            yield Padding(Group(*curve), (0, 0, 0, 2))
    yield from _copying(result)
    for message in result.advice:
        yield remark(f"note: {message}", "warn")
    yield _next(result)


def _before_and_after(result: TrainResult, *, side_by_side: bool) -> RenderableType:
    prompt = printable(result.prompt)
    before = Text(prompt, "prompt").append(_glimpse(result.first_sample.strip("\n")), "label")
    after = Text(prompt, "prompt").append(printable(result.last_sample).rstrip("\n"), "default")
    if not side_by_side:
        parts: list[RenderableType] = []
        for label, text in (("before", before), ("after", after)):
            parts += [Text(f"  {label}", "label"), Padding(text, (0, 2, 0, 4))]
        return Group(*parts)
    table = Table(box=None, header_style="label", padding=(0, 4, 0, 0), pad_edge=False, expand=True)
    table.add_column("before", ratio=1, overflow="fold")
    table.add_column("after", ratio=1, overflow="fold")
    table.add_row(before, after)
    return Padding(table, (0, 0, 0, 2))


def _figures(result: TrainResult) -> RenderableType:
    measured = ""
    if result.val_bits_per_byte is not None:
        nats = decimals(result.val_nats_per_token)
        measured = (
            f"{decimals(result.val_bits_per_byte)} on text it has not seen ({nats} nats per token)"
        )
    steps = f"{count(result.steps)}, {short_count(result.tokens)} tokens"
    if result.best_step not in (None, result.steps):
        steps += f"; the best state, of step {count(result.best_step)}, is kept"
    time = f"{duration(result.seconds_total)}, {count(result.tokens_per_s)} tokens/s"
    return facts(
        [
            ("bits per byte", Text(measured, "good") if measured else ""),
            ("steps", steps),
            ("time", time),
            ("memory", f"{size(result.peak_rss_bytes)} at most"),
            ("parameters", count(result.num_parameters)),
            ("curve", result.plot or ""),
        ]
    )


def _curve(result: TrainResult, width: int) -> list[Text]:
    train = [(float(step), bpb) for step, bpb, _ in result.history if bpb is not None]
    val = [(float(step), bpb) for step, _, bpb in result.history if bpb is not None]
    series = [Series("training text", train, "accent"), Series("unseen text", val, "good")]
    room = min(width - 4, _MAX_CURVE_WIDTH)
    return draw_curve(series, width=room, height=_CURVE_HEIGHT, unit="bits per byte")


def _copying(result: TrainResult) -> Iterator[RenderableType]:
    copying: dict[str, Any] = result.copying or {}
    if "share" not in copying:
        return
    share, longest = float(copying["share"]), int(copying.get("longest_characters", 0))
    if share <= 0:
        text = "nothing of the sample stands in the training text"
    else:
        text = f"{share:.0%} of the sample stands word for word in the training text"
    yield Text()
    line = Text("Is it copying?  ", "label").append(text, "warn" if share > 0.5 else "default")
    if longest:
        line.append(f"; the longest stretch has {count(longest)} characters", "label")
    yield remark(line)


def _next(result: TrainResult) -> RenderableType:
    prompt = (result.prompt.strip().splitlines() or ["Once"])[0]
    name = shlex.quote(result.model)
    commands = [
        f"cllm generate {name} --prompt {shlex.quote(printable(prompt))}",
        f"cllm chat {name}",
    ]
    return Group(
        heading(f"The model {result.model} is yours. Try:"),
        *(Text(f"  {command}", "accent") for command in commands),
    )
