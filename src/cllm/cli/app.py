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

    It is served on this machine alone, until Ctrl+C. A training goes on when the app ends.
    """
    output = Output(as_json=json)
    from cllm.jobs.app import run_app

    def tell(address: str) -> None:
        if json:
            output.result({"address": address})
        else:
            output.console.print(f"cllm is at {address}\nStop it with Ctrl+C.")

    run_app(open_workspace(), port=port, model=model, opens_browser=browser, on_ready=tell)
