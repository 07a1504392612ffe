"""`cllm generate`: let a model continue a prompt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.text import Text

from cllm.cli.completion import ModelName
from cllm.cli.flags import ConfigFlag, read_settings, with_settings
from cllm.cli.output import JsonFlag, Output, QuietFlag, make_console
from cllm.config import GenerateSettings
from cllm.errors import InputError, SettingsError
from cllm.jobs.workspace import open_workspace


@with_settings(GenerateSettings)
def generate(
    model: ModelName,
    /,
    *,
    prompt: Annotated[
        str | None,
        Parameter(
            name=["--prompt", "-p"],
            allow_leading_hyphen=True,
            help="The text to continue; - reads standard input. Without one a new text begins.",
        ),
    ] = None,
    prompt_file: Annotated[
        Path | None, Parameter(help="A file (UTF-8) with the text to continue.")
    ] = None,
    samples: Annotated[
        int, Parameter(name=["-n", "--samples"], help="Number of continuations.")
    ] = 1,
    config: ConfigFlag = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    overrides: dict[str, Any],
) -> None:
    """Let a model continue a prompt; the text comes as it is written."""
    output = Output(as_json=json, quiet=quiet)
    settings = read_settings(GenerateSettings, overrides, config=config)
    if samples < 1:
        raise SettingsError(f"{samples} continuations can't be written", where="-n")
    text = read_prompt(prompt, prompt_file)
    from cllm.jobs.generate import generate as run

    result = run(
        model,
        text,
        settings,
        workspace=open_workspace(),
        num_samples=samples,
        on_text=None if json or quiet else _Stream(output, text, samples),
        on_notice=None if quiet else notice,
    )
    if json:
        output.result(result.to_json())
    elif quiet:
        output.line("\n\n".join(sample.text for sample in result.samples))
    else:
        rate = f"{result.tokens:,} tokens, {result.tokens_per_s:,.0f} a second"
        output.write("\n")
        if output.is_terminal:
            output.print(Text(f"\n{rate}", "label"))


class _Stream:
    """Shows continuations as they come; on a terminal after the prompt, in its own colour."""

    def __init__(self, output: Output, prompt: str, num_samples: int) -> None:
        self._output, self._prompt, self._num_samples = output, prompt, num_samples
        self._current = -1

    def __call__(self, number: int, piece: str) -> None:
        while self._current < number:
            self._begin(self._current + 1)
        self._output.write(piece)

    def _begin(self, number: int) -> None:
        if number:
            self._output.write("\n\n")
        if self._num_samples > 1 and self._output.is_terminal:
            self._output.print(Text(f"{number + 1} of {self._num_samples}", "label"))
        if self._output.is_terminal and self._prompt:
            self._output.console.print(Text(self._prompt, "prompt"), end="", soft_wrap=True)
        self._current = number


def read_prompt(prompt: str | None, path: Path | None) -> str:
    """The prompt from a flag, a file or standard input. Raises: InputError."""
    if prompt is not None and path is not None:
        raise InputError("give --prompt or --prompt-file, not both", where="--prompt-file")
    if path is None and prompt != "-":
        return prompt or ""
    try:
        data = sys.stdin.buffer.read() if path is None else path.read_bytes()
    except OSError as error:
        raise InputError(f"can't be read ({error.strerror})", where=path) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = "standard input" if path is None else path
        hint = "Save it in the encoding UTF-8."
        raise InputError("the prompt is not UTF-8 text", where=where, hint=hint) from error


def notice(text: str, style: str = "warn") -> None:
    """Tell the person something about what is shown, on standard error."""
    make_console(sys.stderr).print(Text(text, style), soft_wrap=True)
