"""`cllm check`: see for yourself that the arithmetic is right."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter
from rich.text import Text

from cllm.cli.output import JsonFlag, Output
from cllm.cli.tables import heading, listing, remark
from cllm.errors import TrainingError
from cllm.jobs import gradients as jobs
from cllm.quantities import count

app = App(
    name="check",
    help="See for yourself that the arithmetic is right.",
    help_format="plaintext",
    help_epilogue="",
    group_commands="Commands",
)


@app.command
def gradients(
    *,
    with_: Annotated[
        list[str] | None,
        Parameter(
            name="--with", negative_iterable="", help="A mechanism or set to check too: NAME."
        ),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Compare every part's gradient with finite differences of the loss, in float64.

    The exit code is 2 if one is wrong.
    """
    output = Output(as_json=json)
    records = jobs.check_gradients(with_)
    if not json:
        rows = [
            (
                record["name"],
                "×".join(map(str, record["shape"])),
                count(record["num_checked"]),
                f"{record['largest_gradient']:.1e}",
                f"{record['largest_error']:.1e}",
                Text("right", "good") if record["is_right"] else Text("wrong", "bad"),
            )
            for record in records
        ]
        columns = ("parameter", "shape", "numbers tried", "largest gradient", "error", "")
        output.print(heading("Gradients against finite differences, float64"))
        output.print(listing(columns, rows, right=columns[1:5]))
        worst = max(record["largest_error"] for record in records)
        output.print(remark(f"\nlargest relative error {worst:.1e}", "label"))
    output.result(records)
    wrong = [record["name"] for record in records if not record["is_right"]]
    if wrong:
        raise TrainingError(f"the gradient is wrong in: {', '.join(wrong)}")
