"""`cllm quantize`: a model in fewer bits, and what that costs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.text import Text

from cllm.cli.completion import ModelName
from cllm.cli.models import OverwriteFlag
from cllm.cli.output import JsonFlag, Output, QuietFlag, YesFlag, moving_bar, printable
from cllm.cli.tables import heading, listing, remark
from cllm.errors import ExistsError, SettingsError
from cllm.jobs import models
from cllm.jobs.workspace import Workspace, open_workspace
from cllm.quantities import count, decimals, size

if TYPE_CHECKING:
    from cllm.jobs.quantise import OnProgress, QuantiseResult

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20}


@dataclass(frozen=True, slots=True)
class _Wish:
    """How small the model is to be, and how that is reached."""

    bits: Annotated[
        Literal["8", "4", "3", "2"] | None,
        Parameter(name="--bits", help="Bits a weight, without scales."),
    ] = None
    method: Annotated[
        Literal["nearest", "gptq", "lattice"] | None,
        Parameter(
            name="--method",
            help="nearest: each weight by itself (8, 4). gptq: later weights make up for earlier "
            "ones (8, 4). lattice: eight weights at once (4, 3, 2). Chosen by the bits.",
        ),
    ] = None
    num_bytes: Annotated[
        str | None,
        Parameter(
            name="--bytes",
            help="Instead of --bits: the size of the file of weights, such as 1MB or 800kB; bits "
            "go where they lower the loss most.",
        ),
    ] = None
    calibrate: Annotated[
        tuple[str, ...],
        Parameter(
            name="--calibrate",
            negative="",
            help="Text like the one it will be used for; the training text unless given.",
        ),
    ] = ()


def quantize(
    model: ModelName,
    /,
    *,
    wish: Annotated[_Wish | None, Parameter(name="*", help="How small, and how.")] = None,
    name: Annotated[
        str | None, Parameter(help="Name of the new model; MODEL-4bit and the like unless given.")
    ] = None,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    yes: YesFlag = False,
) -> None:
    """Squeeze a model to few bits a weight, and measure what that costs.

    The new model is used like any other. A fair part of its loss at 2 and 3 bits depends on the
    text that it is calibrated on.
    """
    output = Output(as_json=json, quiet=quiet)
    from cllm.jobs.quantise import BITS, QuantiseRequest, default_name
    from cllm.jobs.quantise import quantise as run

    wish = wish or _Wish()
    request = QuantiseRequest(
        None if wish.bits is None else BITS[wish.bits],
        wish.method,
        None if wish.num_bytes is None else _bytes(wish.num_bytes),
        wish.calibrate,
    )
    request.check()
    workspace = open_workspace()
    models.model_path(workspace, model)
    name = name or default_name(model, request)
    overwrite = overwrite or _may_replace(output, workspace, name, is_agreed=yes)
    with _progress(output) as on_progress:
        result = run(
            model,
            request,
            workspace=workspace,
            name=name,
            overwrite=overwrite,
            on_notice=lambda text: output.print(Text(printable(text), "label")),
            on_progress=on_progress,
        )
    if json:
        output.result(result.to_json())
    else:
        _show(output, result)


def _bytes(text: str) -> int:
    """Bytes from such as 1MB, 1.5 MiB or 800000. Raises: SettingsError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if found is None or found[2].lower() not in _UNITS or float(found[1]) <= 0:
        hint = "For example: --bytes 1MB, --bytes 800kB or --bytes 250000."
        raise SettingsError(f"{text!r} is no size", where="--bytes", hint=hint)
    return int(float(found[1]) * _UNITS[found[2].lower()])


def _may_replace(output: Output, workspace: Workspace, name: str, *, is_agreed: bool) -> bool:
    """Whether an existing model may be replaced. Raises: ExistsError, InvalidNameError."""
    if not models.model_exists(workspace, name):
        return False
    if is_agreed or output.confirm(f"There is a model named {name}. Replace it?"):
        return True
    hint = "Choose another name, or replace it with --overwrite."
    raise ExistsError(f"there is a model named {name!r} already", where="--name", hint=hint)


@contextmanager
def _progress(output: Output) -> Iterator[OnProgress]:
    with moving_bar(output, tells_time=False) as show:
        yield lambda done, total, what: show(description=what[-40:], completed=done, total=total)


def _show(output: Output, result: QuantiseResult) -> None:
    change = result.bits_per_byte / result.bits_per_byte_before - 1
    rows = [
        ("bits per weight", "32", decimals(result.bits_per_weight), ""),
        (
            "file of weights",
            size(result.num_bytes_before),
            size(result.num_bytes),
            f"{result.num_bytes_before / result.num_bytes:.1f}× smaller",
        ),
        (
            "bits per byte",
            decimals(result.bits_per_byte_before, 4),
            decimals(result.bits_per_byte, 4),
            f"{change:+.2%}",
        ),
        ("KL divergence", "", decimals(result.kl_nats, 5), "nats a token"),
        (
            "tokens/s",
            count(result.tokens_per_s_before),
            count(result.tokens_per_s),
            f"{result.tokens_per_s / max(result.tokens_per_s_before, 1e-9):.2f}×",
        ),
    ]
    output.print(heading(f"{result.model}: {result.method}"))
    output.print(listing(("", "before", "after", " "), rows, right=("before", "after")))
    told = f"measured on {result.num_measured_tokens:,} tokens of {result.measured_on}"
    output.print(remark(printable(told), "label"))
    output.print(f"\nTry:  cllm generate {result.model}")
