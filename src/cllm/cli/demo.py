"""`cllm demo`: see a model come into being, on text that is there already."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from cllm.cli.output import JsonFlag, Output, QuietFlag
from cllm.cli.tables import heading
from cllm.jobs.workspace import open_workspace
from cllm.quantities import size


def demo(
    *,
    minutes: Annotated[
        float, Parameter(validator=Number(gt=0), help="Wall time of the training.")
    ] = 1.0,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Train for a minute on the documentation that Python brings, and let the model write.

    The model is called demo, and replaces an earlier one of that name.
    """
    from cllm.cli.train_view import TrainView
    from cllm.jobs.demo import gather_python_text, train_on_python_text

    output = Output(as_json=json, quiet=quiet)
    workspace = open_workspace()
    output.print("Gathering Python's documentation and docstrings from this machine …")
    text = gather_python_text(workspace.home / "demo-text")
    output.print(f"{size(text.num_bytes)} in {len(text.paths)} files: {text.paths[0].parent}")
    with TrainView(output) as view:
        result = train_on_python_text(
            text, workspace=workspace, observe=view.observe, minutes=minutes
        )
    output.print(heading("Then with text of your own:"))
    output.print("  cllm train FOLDER --minutes 5", style="accent")
    output.result(result.to_json())
