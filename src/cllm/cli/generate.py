"""`cllm generate`: let a model continue a prompt."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.text import Text

from cllm.cli.completion import ModelName
from cllm.cli.decoding_flags import NO_FLAGS, DecodingFlags
from cllm.cli.flags import ConfigFlag, read_settings, with_settings
from cllm.cli.output import JsonFlag, Output, QuietFlag, make_console
from cllm.config import GenerateSettings
from cllm.errors import InputError, SettingsError
from cllm.jobs.workspace import open_workspace

if TYPE_CHECKING:
    from cllm.jobs.beam import BeamResult
    from cllm.jobs.generate import FormRequest, GenerateResult


@Parameter(name="*", help="Where the prompt comes from.")
@dataclass(frozen=True, slots=True)
class PromptFlags:
    """Where the prompt comes from."""

    prompt: Annotated[
        str | None,
        Parameter(
            name=["--prompt", "-p"],
            allow_leading_hyphen=True,
            help="The text to continue; - reads standard input. Without one a new text begins.",
        ),
    ] = None
    prompt_file: Annotated[
        Path | None,
        Parameter(name="--prompt-file", help="A file (UTF-8) with the text to continue."),
    ] = None


@Parameter(name="*", help="What is to be written.")
@dataclass(frozen=True, slots=True)
class WantedFlags:
    """What is to be written."""

    samples: Annotated[
        int, Parameter(name=["-n", "--samples"], help="Number of continuations.")
    ] = 1
    logprobs: Annotated[
        int | None,
        Parameter(
            name="--logprobs",
            help="With --json: each token's log-probability and those of so many likeliest ones.",
        ),
    ] = None
    json_schema: Annotated[
        Path | None,
        Parameter(name="--json-schema", help="A file with the JSON schema that the text obeys."),
    ] = None
    grammar: Annotated[
        Path | None,
        Parameter(name="--grammar", help="A file with a grammar (Lark, GBNF) that it obeys."),
    ] = None
    regex: Annotated[
        str | None,
        Parameter(
            name="--regex",
            allow_leading_hyphen=True,
            help="A regular expression that the whole text matches.",
        ),
    ] = None
    beams: Annotated[
        int | None,
        Parameter(name="--beams", help="Search the likeliest text, following so many at once."),
    ] = None
    beam_groups: Annotated[
        int, Parameter(name="--beam-groups", help="Groups of beams that avoid each other's words.")
    ] = 1
    length_penalty: Annotated[
        float,
        Parameter(name="--length-penalty", help="Above 0, beams prefer longer texts; 0: neither."),
    ] = 1.0

    def form(self) -> FormRequest | None:
        """The form that the text must have. Raises: InputError, SettingsError."""
        from cllm.jobs.generate import FormRequest

        given: list[FormRequest] = []
        if self.json_schema is not None:
            given.append(FormRequest("json schema", _read(self.json_schema), "--json-schema"))
        if self.grammar is not None:
            given.append(FormRequest("grammar", _read(self.grammar), "--grammar"))
        if self.regex is not None:
            given.append(FormRequest("regex", self.regex, "--regex"))
        if len(given) > 1:
            message = f"give {given[0].where} or {given[1].where}, not both"
            raise SettingsError(message, where=given[1].where)
        return given[0] if given else None


_NO_PROMPT, _ONE_TEXT = PromptFlags(), WantedFlags()


@with_settings(GenerateSettings)
def generate(
    model: ModelName,
    /,
    *,
    source: PromptFlags = _NO_PROMPT,
    wanted: WantedFlags = _ONE_TEXT,
    decoding: DecodingFlags = NO_FLAGS,
    config: ConfigFlag = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    overrides: dict[str, Any],
) -> None:
    """Let a model continue a prompt; the text comes as it is written."""
    output = Output(as_json=json, quiet=quiet)
    settings = read_settings(GenerateSettings, overrides, config=config)
    text = read_prompt(source.prompt, source.prompt_file)
    if wanted.beams is not None:
        _show_beams(_search(model, text, settings, wanted, decoding, quiet=quiet), text, output)
        return
    from cllm.jobs.generate import Wanted
    from cllm.jobs.generate import generate as run

    result = run(
        model,
        text,
        settings,
        workspace=open_workspace(),
        wanted=Wanted(wanted.samples, wanted.form(), _num_alternatives(wanted)),
        decoding=decoding.chosen(),
        on_text=None if json or quiet else _Stream(output, text, wanted.samples),
        on_notice=None if quiet else notice,
    )
    _show(result, output)


def _show(result: GenerateResult, output: Output) -> None:
    if output.as_json:
        output.result(result.to_json())
    elif output.quiet:
        output.line("\n\n".join(sample.text for sample in result.samples))
    else:
        rate = f"{result.tokens:,} tokens, {result.tokens_per_s:,.0f} a second"
        output.write("\n")
        if output.is_terminal:
            output.print(Text(f"\n{rate}", "label"))


def _num_alternatives(wanted: WantedFlags) -> int | None:
    if wanted.logprobs is not None and wanted.logprobs < 0:
        message = f"{wanted.logprobs} likeliest tokens can't be given"
        raise SettingsError(message, where="--logprobs", hint="0 gives the chosen ones' alone.")
    return wanted.logprobs


def _search(
    model: str,
    text: str,
    settings: GenerateSettings,
    wanted: WantedFlags,
    decoding: DecodingFlags,
    *,
    quiet: bool,
) -> BeamResult:
    for flag, is_given in (
        ("-n", wanted.samples != 1),
        ("--logprobs", wanted.logprobs is not None),
        ("--json-schema", wanted.json_schema is not None),
        ("--grammar", wanted.grammar is not None),
        ("--regex", wanted.regex is not None),
    ):
        if is_given:
            message = f"--beams and {flag} do not go together"
            raise SettingsError(message, where=flag, hint="Leave one of the two out.")
    from cllm.jobs.beam import BeamSettings, find_beams

    return find_beams(
        model,
        text,
        settings,
        BeamSettings(
            beams=wanted.beams or 0,
            groups=wanted.beam_groups,
            length_penalty=wanted.length_penalty,
            max_tokens=settings.max_tokens,
        ),
        workspace=open_workspace(),
        decoding=decoding.chosen(),
        on_notice=None if quiet else notice,
    )


def _show_beams(result: BeamResult, prompt: str, output: Output) -> None:
    if output.as_json:
        output.result(result.to_json())
    elif output.quiet:
        output.line(result.text)
    else:
        _Stream(output, prompt, 1)(0, result.text)
        output.write("\n")


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
    return _decoded(data, "standard input" if path is None else path)


def _read(path: Path) -> str:
    """A file that describes a form. Raises: InputError."""
    try:
        return _decoded(path.read_bytes(), path)
    except OSError as error:
        raise InputError(f"can't be read ({error.strerror})", where=path) from error


def _decoded(data: bytes, where: str | Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        hint = "Save it in the encoding UTF-8."
        raise InputError("this is not UTF-8 text", where=where, hint=hint) from error


def notice(text: str, style: str = "warn") -> None:
    """Tell the person something about what is shown, on standard error."""
    make_console(sys.stderr).print(Text(text, style), soft_wrap=True)
