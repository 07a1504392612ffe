"""`cllm train`: make a model from text."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from cyclopts import Parameter

from cllm.cli.flags import ConfigFlag, Place, read_settings, with_settings
from cllm.cli.models import OverwriteFlag
from cllm.cli.output import JsonFlag, Output, QuietFlag, YesFlag
from cllm.config import Settings
from cllm.errors import ExistsError, NoTextError
from cllm.jobs import models
from cllm.jobs.request import process_began
from cllm.jobs.workspace import Workspace, open_workspace


@dataclass(frozen=True, slots=True)
class _Ways:
    """How the command behaves, whatever it trains."""

    plan: Annotated[
        bool, Parameter(negative="", help="Only read the text and say what would be trained.")
    ] = False
    json: JsonFlag = False
    quiet: QuietFlag = False
    yes: YesFlag = False


@with_settings(Settings)
def train(
    *places: Place,
    name: Annotated[
        str | None, Parameter(help="Name of the model; made from the first PATH unless given.")
    ] = None,
    from_model: Annotated[
        str | None, Parameter(name="--from", help="Go on with this model, on this text.")
    ] = None,
    overwrite: OverwriteFlag = False,
    config: ConfigFlag = None,
    ways: Annotated[_Ways | None, Parameter(name="*", help="How the command behaves.")] = None,
    overrides: dict[str, Any],
) -> None:
    """Make a model from text: files, folders, patterns, - for standard input, or a corpus.

    Trains for 5 minutes unless told otherwise by --minutes or --steps.
    """
    began, ways = process_began(), ways or _Ways()
    output = Output(as_json=ways.json, quiet=ways.quiet)
    settings = read_settings(Settings, overrides, config=config)
    workspace = open_workspace()
    if not places:
        hint = "For example:  cllm train FOLDER --minutes 5"
        raise NoTextError("say what to train on: files, folders or -", hint=hint)
    if name is None:
        name = models.name_for(workspace, places)
    if ways.plan:
        _plan(output, places, name, settings, workspace, from_model)
        return
    overwrite = overwrite or _may_replace(output, workspace, name, is_agreed=ways.yes)
    if settings.train.minutes is None and settings.train.steps is None:
        from cllm.jobs.train import DEFAULT_MINUTES

        output.print(
            f"Training for {DEFAULT_MINUTES:g} minutes; --minutes or --steps changes that.",
            style="label",
        )
    from cllm.cli.train_view import TrainView
    from cllm.jobs.train import train as train_model

    with TrainView(output) as view:
        result = train_model(
            places,
            name=name,
            settings=settings,
            workspace=workspace,
            observe=view.observe,
            overwrite=overwrite,
            from_model=from_model,
            began=began,
        )
    output.result(result.to_json())


def _plan(
    output: Output,
    places: tuple[str, ...],
    name: str,
    settings: Settings,
    workspace: Workspace,
    from_model: str | None,
) -> None:
    """Show what would be trained."""
    from cllm.cli.train_report import plan_facts
    from cllm.cli.train_view import TrainView
    from cllm.jobs.train import plan as plan_training

    with TrainView(output) as view:
        proposed = plan_training(
            places,
            name=name,
            settings=settings,
            workspace=workspace,
            observe=view.observe,
            from_model=from_model,
        )
    output.print(plan_facts(proposed, name, None, None))
    output.result(asdict(proposed))


def _may_replace(output: Output, workspace: Workspace, name: str, *, is_agreed: bool) -> bool:
    """Whether an existing model may be replaced. Raises: ExistsError, InvalidNameError."""
    if not models.model_exists(workspace, name):
        return False
    if is_agreed or output.confirm(f"There is a model named {name}. Replace it?"):
        return True
    hint = "Choose another name, or replace it with --overwrite."
    raise ExistsError(f"there is a model named {name!r} already", where="--name", hint=hint)
