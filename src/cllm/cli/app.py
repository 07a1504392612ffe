"""`cllm app`: the browser app."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from cllm.cli.completion import ModelName
from cllm.cli.output import JsonFlag, Output
from cllm.jobs.workspace import open_workspace


def app(
    *,
    model: ModelName | None = None,
    port: Annotated[
        int | None, Parameter(help="Where it listens. 8642 or the next free one unless given.")
    ] = None,
    browser: Annotated[
        bool, Parameter(help="Open it in the browser; --no-browser only says the address.")
    ] = True,
    json: JsonFlag = False,
) -> None:
    """Open the browser app: train, keep, and talk to your models.

    It is served on this machine alone, until Ctrl+C. A training goes on when the app ends. An app
    that runs already is opened again instead.
    """
    output = Output(as_json=json)
    from cllm.jobs.app import open_running, run_app

    workspace = open_workspace()

    def tell(address: str, stop: str = "Stop it with Ctrl+C.") -> None:
        if json:
            output.result({"address": address})
        else:
            # On one line, however long: it is to be copied.
            output.console.print(f"cllm is at {address}\n{stop}", soft_wrap=True)

    def tell_again(address: str) -> None:
        tell(address, "It runs already; Ctrl+C stops it where it was started.")

    if not open_running(
        workspace, port=port, model=model, opens_browser=browser, on_ready=tell_again
    ):
        run_app(workspace, port=port, model=model, opens_browser=browser, on_ready=tell)
