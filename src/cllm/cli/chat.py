"""`cllm chat`: talk with a model in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from cllm.cli.completion import ModelName
from cllm.cli.decoding_flags import NO_FLAGS, DecodingFlags
from cllm.cli.flags import ConfigFlag, read_settings, with_settings
from cllm.cli.generate import notice
from cllm.cli.output import JsonFlag, Output, QuietFlag
from cllm.config import GenerateSettings
from cllm.errors import CllmError, InputError
from cllm.jobs.workspace import open_workspace

if TYPE_CHECKING:
    from cllm.jobs.chat import Chat

HELP = """\
/set NAME VALUE   change a setting, such as: /set temperature 0.7
/set              show the settings
/reset            forget the conversation
/save FILE        write the conversation to a file (.json: with everything)
/help             show this
/quit             end (so does Ctrl-D)
Ctrl-C stops a reply. A line that begins with // is said with one / ."""


@with_settings(GenerateSettings)
def chat(
    model: ModelName,
    /,
    *,
    decoding: DecodingFlags = NO_FLAGS,
    config: ConfigFlag = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    overrides: dict[str, Any],
) -> None:
    """Talk with a model, turn by turn; type /help for what else there is.

    A model of dialogue answers in turn; any other goes on with the text. From a pipe, each
    line is a turn.
    """
    output = Output(as_json=json, quiet=quiet)
    settings = read_settings(GenerateSettings, overrides, config=config)
    workspace = open_workspace()
    from cllm.jobs.chat import Chat

    talk = Chat(
        model,
        settings,
        workspace=workspace,
        on_notice=(lambda _: None) if quiet else notice,
        decoding=decoding.chosen(),
    )
    is_live = sys.stdin.isatty() and output.is_terminal
    if not quiet:
        _introduce(talk, is_live=is_live)
    lines = _ask(talk, workspace.home / "chat_history") if is_live else _read_lines()
    _Session(talk, output, is_live=is_live).run(lines)
    output.result(talk.transcript())


def _introduce(talk: Chat, *, is_live: bool) -> None:
    if talk.format is None:
        notice(f"{talk.model} knows no dialogue: it goes on with the text that you write.")
    if is_live:
        notice("Type /help for what else there is; Ctrl-D ends.", "label")


def _read_lines() -> Iterator[str]:
    for line in sys.stdin:
        yield line.rstrip("\r\n")


def _ask(talk: Chat, history: Path) -> Iterator[str]:
    """Lines typed at the terminal, with a history that is kept."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory

    kept: History = InMemoryHistory()
    try:
        history.parent.mkdir(parents=True, exist_ok=True)
        history.touch()
        kept = FileHistory(str(history))
    except OSError:
        notice("The history of your lines can't be kept here.")
    session: PromptSession[str] = PromptSession(history=kept)
    label = f"{talk.format.user}: " if talk.format else "> "
    while True:
        try:
            yield session.prompt(label)
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(repr, value)) or "none"
    return "none" if value is None else str(value)


class _Session:
    """Turns and commands, one line each, until there are no more or one says /quit."""

    def __init__(self, talk: Chat, output: Output, *, is_live: bool) -> None:
        self._talk, self._output, self._is_live = talk, output, is_live
        self._commands: dict[str, Callable[[str], None]] = {
            "/set": self._set,
            "/reset": self._reset,
            "/save": self._save,
            "/help": lambda _: notice(HELP, "label"),
        }

    def run(self, lines: Iterator[str]) -> None:
        for line in lines:
            if line.strip() in ("/quit", "/exit"):
                return
            try:
                self._take(line)
            except CllmError as error:
                # One line that can't be taken is no reason to end the conversation.
                notice(str(error))

    def _take(self, line: str) -> None:
        if line.startswith("/") and not line.startswith("//"):
            name, _, rest = line.strip().partition(" ")
            command = self._commands.get(name)
            if command is None:
                raise InputError(f"there is no command {name}", hint="Type /help for all.")
            command(rest.strip())
            return
        if line.strip() or self._talk.format is None:
            self._answer(line.removeprefix("/") if line.startswith("//") else line)

    def _answer(self, line: str) -> None:
        pieces = self._talk.say(line)
        if self._is_live and self._talk.format:
            label = Text(f"{self._talk.format.assistant}: ", "accent")
            self._output.console.print(label, end="")
        try:
            for piece in pieces:
                self._output.write(piece)
        except KeyboardInterrupt:
            if not self._is_live:
                raise
        finally:
            pieces.close()
        self._output.write("\n")

    def _set(self, rest: str) -> None:
        name, _, value = rest.partition(" ")
        if name and not value:
            raise InputError(f"say what {name} is to be", hint=f"For example: /set {name} 1")
        if name:
            self._talk.set(name, value.strip())
            return
        settings = self._talk.settings.model_dump()
        shown = {key.replace("_", "-"): _shown(value) for key, value in settings.items()}
        notice("\n".join(f"{key} {value}" for key, value in shown.items()), "label")

    def _reset(self, _: str) -> None:
        self._talk.reset()
        notice("The conversation is forgotten.", "label")

    def _save(self, rest: str) -> None:
        if not rest:
            raise InputError("say where to", hint="For example: /save chat.txt")
        path = Path(rest).expanduser()
        self._talk.save(path)
        notice(f"Saved to {path}.", "label")
