"""`cllm serve`: your models for every program that speaks OpenAI's API."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from cllm.cli.decoding_flags import NO_FLAGS, DecodingFlags
from cllm.cli.generate import notice
from cllm.cli.output import JsonFlag, Output, QuietFlag
from cllm.errors import SettingsError
from cllm.jobs.workspace import open_workspace

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


@Parameter(name="*", help="Where, and for whom.")
@dataclass(frozen=True, slots=True)
class PlaceFlags:
    """Where, and for whom."""

    host: Annotated[
        str, Parameter(name="--host", help="Address; any but this machine's own needs a key.")
    ] = "127.0.0.1"
    port: Annotated[int, Parameter(name="--port", help="Port; 0 takes any that is free.")] = 8000
    api_key: Annotated[
        str | None,
        Parameter(
            name="--api-key",
            show_default=False,
            help="What clients must show; better given in the environment as CLLM_API_KEY.",
        ),
    ] = None
    allow_host: Annotated[
        tuple[str, ...],
        Parameter(
            name="--allow-host",
            negative="",
            show_default=False,
            help="One more name by which the server may be called; may be given several times.",
        ),
    ] = ()


_HERE = PlaceFlags()


def serve(
    *,
    place: PlaceFlags = _HERE,
    model: Annotated[
        str | None,
        Parameter(name="--model", help="The default model; else the one that was used last."),
    ] = None,
    memory: Annotated[
        str | None,
        Parameter(name="--memory", help="For all open models, such as 4G; else half of all."),
    ] = None,
    decoding: DecodingFlags = NO_FLAGS,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Serve your models to every program that speaks OpenAI's API, until Ctrl-C."""
    output = Output(as_json=json, quiet=quiet)
    memory_bytes = None if memory is None else _bytes(memory)
    from cllm.jobs.serve import Serving
    from cllm.jobs.serve import serve as run

    def tell(address: str) -> None:
        output.result({"address": address})
        if not json and not quiet:
            notice(f"Serving at {address}/v1 (Ctrl-C ends)", "label")

    run(
        open_workspace(),
        Serving(
            host=place.host,
            port=place.port,
            api_key=place.api_key or os.environ.get("CLLM_API_KEY") or None,
            model=model,
            names=place.allow_host,
            memory_bytes=memory_bytes,
        ),
        decoding=decoding.chosen(),
        on_ready=tell,
    )


def _bytes(text: str) -> int:
    """Bytes from "4G", "500M", "1.5g". Raises: SettingsError."""
    number = text.strip().lower().removesuffix("b").removesuffix("i")
    unit = number[-1:] if number[-1:] in _UNITS else ""
    try:
        found = float(number[: len(number) - len(unit)]) * _UNITS[unit]
        if not 0 < found < 1e18:
            raise ValueError
    except ValueError:
        hint = "Write it as 500M or 4G."
        raise SettingsError(
            f"{text!r} is not an amount of memory", where="--memory", hint=hint
        ) from None
    return int(found)
