"""The command `cllm`: its commands by name, and what happens to errors.

Command modules are named by import path, so that `cllm --help` imports none of them.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App, CycloptsError, Group, UnknownCommandError

from cllm import __version__
from cllm.errors import CllmError, InterruptedRunError

if TYPE_CHECKING:
    from rich.console import Console

OK, OWN_FAILURE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

_WORK = Group("Make and use a model", sort_key=1)
_KEEP = Group("What you have", sort_key=2)
_MORE = Group("More", sort_key=3)

# Name, import path, group, help. The order here is the order in the help.
COMMANDS: tuple[tuple[str, str, Group, str], ...] = (
    ("train", "cllm.cli.train:train", _WORK, "Make a model from your own text."),
    ("generate", "cllm.cli.generate:generate", _WORK, "Let a model continue a prompt."),
    ("chat", "cllm.cli.chat:chat", _WORK, "Talk with a model, turn by turn."),
    ("eval", "cllm.cli.evaluate:evaluate", _WORK, "Measure a model on files."),
    ("inspect", "cllm.cli.inspect:inspect", _WORK, "See what a model expects, and where it looks."),
    ("quantize", "cllm.cli.quantise:quantize", _WORK, "Squeeze a model into fewer bits."),
    ("export", "cllm.cli.export:export", _WORK, "Write a model for another program."),
    ("import", "cllm.cli.import_model:import_model", _WORK, "Take in another program's model."),
    ("app", "cllm.cli.app:app", _WORK, "Open the browser app: train, keep and talk to models."),
    ("serve", "cllm.cli.serve:serve", _WORK, "Serve your models to what speaks OpenAI's API."),
    ("models", "cllm.cli.models:app", _KEEP, "List, show, copy, remove and bring back models."),
    ("runs", "cllm.cli.runs:app", _KEEP, "List, show and resume training runs."),
    ("corpora", "cllm.cli.corpora:app", _KEEP, "Prepare text once, to train on it many times."),
    ("bench", "cllm.cli.bench:bench", _MORE, "Measure how fast this machine writes and learns."),
    ("tokenize", "cllm.cli.tokenize:tokenize", _MORE, "Show how a model splits text."),
    ("roots", "cllm.cli.roots:app", _MORE, "Roots and affixes of words, and their primes."),
    ("mechanisms", "cllm.cli.mechanisms:app", _MORE, "The parts that --with switches on."),
    ("check", "cllm.cli.check:app", _MORE, "Check gradients against finite differences."),
    ("study", "cllm.cli.study:app", _MORE, "Train many models and tell what helps."),
    ("demo", "cllm.cli.demo:demo", _MORE, "Train for a minute on text that Python brings."),
    ("numbers", "cllm.cli.numbers:app", _MORE, "Primes, lattices, spirals and constants, exactly."),
    ("completion", "cllm.cli.completion:completion", _MORE, "Set up tab completion."),
)


def build_app() -> App:
    """The command-line app with every command registered, none imported."""
    app = App(
        name="cllm",
        help="Train, run and understand your own small language model on the machine you have.",
        version=__version__,
        help_format="plaintext",
        help_epilogue="Begin with:  cllm train FOLDER --minutes 5",
        group_commands=_MORE,
        help_on_error=False,
        suppress_keyboard_interrupt=False,
    )
    for order, (name, path, group, text) in enumerate(COMMANDS):
        # The advice for beginners stands under the whole command's help only.
        more = {} if path.endswith(":app") else {"help_epilogue": ""}
        app.command(path, name=name, help=text, group=group, sort_key=order, **more)
    return app


def run(tokens: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code: 0, 1, 2 or 130."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that can't show a character gets a question mark, not a failure.
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    arguments = list(sys.argv[1:] if tokens is None else tokens)
    try:
        code = _call(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone; without this the interpreter complains once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = OK
    return code


def _call(arguments: list[str]) -> int:
    try:
        build_app()(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CllmError as error:
        label = "" if isinstance(error, InterruptedRunError) else "Error: "
        _complain(error.message, where=error.where, hint=error.hint, label=label)
        return error.exit_code
    except CycloptsError as error:
        _complain(_usage_message(error), hint=_usage_hint(error))
        return BAD_INPUT
    except KeyboardInterrupt:
        _complain("stopped", label="")
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else OK
    except MemoryError as error:
        hint = "Close other programs, or take a smaller model, context or number of texts."
        _complain(f"there is not enough memory: {error}".rstrip(": "), hint=hint)
        return BAD_INPUT
    except Exception as error:
        return _own_failure(error, arguments)
    return OK


def _complain(
    message: str, *, where: str | None = None, hint: str | None = None, label: str = "Error: "
) -> None:
    """Tell the person on standard error what went wrong and what to do."""
    from rich.text import Text

    text = Text()
    text.append(label, "bad")
    text.append(f"{where}: " if where else "", "head")
    text.append(message)
    if hint:
        text.append(f"\n{hint}", "label")
    _error_console().print(text, soft_wrap=True)


def _error_console() -> Console:
    from cllm.cli.output import make_console

    return make_console(sys.stderr)


def _usage_message(error: CycloptsError) -> str:
    if isinstance(error, UnknownCommandError) and not error.command_chain:
        # The library would import every command to find the nearest name.
        wrong = (error.unused_tokens or [""])[0]
        is_option = wrong.startswith("-")
        names = ["--help", "--version"] if is_option else [name for name, *_ in COMMANDS]
        close = difflib.get_close_matches(wrong, names, n=1, cutoff=0.5)
        advice = f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(names)}."
        kind = "option" if is_option else "command"
        return f"Unknown {kind} {wrong!r}. {advice}"
    message = str(error).strip()
    # A flag that ended up among the files: see `flags.Place`.
    _, found, option = message.partition("Unknown option: ")
    return f"Unknown option: {option}" if found else message


def _usage_hint(error: CycloptsError) -> str:
    command = " ".join(["cllm", *(error.command_chain or ())])
    hint = f"See `{command} --help`."
    message = _usage_message(error)
    if "Unknown option: " in message and "Did you mean" not in message:
        wrong = message.rpartition("Unknown option: ")[2].split("=")[0].strip().rstrip(".")
        close = difflib.get_close_matches(wrong, _known_flags(error), n=1, cutoff=0.5)
        hint = f"Did you mean {close[0]}? {hint}" if close else hint
    return hint


def _known_flags(error: CycloptsError) -> list[str]:
    if error.app is None:
        return []
    arguments = error.app.assemble_argument_collection()
    return [name for argument in arguments for name in argument.names if name.startswith("--")]


def _own_failure(error: Exception, arguments: list[str]) -> int:
    """Keep the traceback in a file; tell the person that this is not their fault."""
    details = "".join(traceback.format_exception(error))
    try:
        from cllm.jobs.workspace import home_folder

        folder = home_folder() / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        path: Path | None = folder / f"failure-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        assert path is not None
        command = " ".join(["cllm", *arguments])
        path.write_text(f"cllm {__version__}\n{command}\n\n{details}", encoding="utf-8")
    except Exception:
        path = None
    where = f"The details are in {path}" if path else f"The details:\n{details}"
    message = f"this is a failure of cllm itself, not yours: {type(error).__name__}: {error}"
    _complain(message, hint=where)
    return OWN_FAILURE
