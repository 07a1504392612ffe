"""Train a model from text, or go on with a run that was stopped."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cllm.config import Settings
from cllm.errors import (
    CllmError,
    ExistsError,
    InterruptedRunError,
    NotFoundError,
    SettingsError,
)
from cllm.files import storage_errors, temporary_prefix
from cllm.jobs.request import Request, absolute_places
from cllm.jobs.steering import set_wish
from cllm.jobs.stopping import listen_for_stop

if TYPE_CHECKING:
    from cllm.training.events import Observe, Plan, TrainResult
    from cllm.workspace.runs import RunRecord, RunState
    from cllm.workspace.workspace import Workspace

DEFAULT_MINUTES = 5.0
# Set for a child process: the run that was made for it, so that its parent knows it by name.
RUN_VARIABLE = "CLLM_RUN"
_KEPT = (
    "steps",
    "tokens",
    "tokens_per_s",
    "val_bits_per_byte",
    "val_nats_per_token",
    "seconds_total",
)


def train(
    places: Sequence[str | Path],
    *,
    name: str,
    settings: Settings,
    workspace: Workspace,
    observe: Observe,
    overwrite: bool = False,
    from_model: str | None = None,
    began: float | None = None,
) -> TrainResult:
    """Train the model `name` on text and save it.

    `places` are files, folders, globs, `-`, or one prepared corpus, by its name or as its folder.
    `from_model` continues an existing model. `began` is when the person pressed Enter, on
    `time.monotonic`'s clock.
    Raises: CllmError; InterruptedRunError when stopped, with all state saved.
    """
    began = time.monotonic() if began is None else began
    request = make_request(
        places, name, settings, workspace, from_model=from_model, overwrite=overwrite
    )
    made = os.environ.get(RUN_VARIABLE)
    if made is not None:
        run = workspace.runs.get(made)
    else:
        given = settings.model_dump(mode="json", exclude_unset=True)
        run = workspace.runs.create(name, given, command=sys.argv)
        request.save(run.folder)
    is_expected = made is not None
    return _live(run, request, workspace, observe, began=began, is_kept=is_expected)


def plan(
    places: Sequence[str | Path],
    *,
    name: str,
    settings: Settings,
    workspace: Workspace,
    observe: Observe,
    from_model: str | None = None,
) -> Plan:
    """What `train` would do with the same arguments; the text is read, nothing is trained.

    Raises: CllmError.
    """
    from cllm.jobs.training_run import TrainingRun
    from cllm.workspace.runs import RunRecord

    began = time.monotonic()
    request = make_request(places, name, settings, workspace, from_model=from_model, overwrite=True)
    with storage_errors(workspace.home):
        workspace.home.mkdir(parents=True, exist_ok=True)
        prefix = temporary_prefix("plan")
        folder = tempfile.TemporaryDirectory(prefix=prefix, dir=workspace.home)
    with folder as place:
        # No run: nobody should find or steer it.
        now = time.time()
        run = RunRecord("plan", name, "preparing", Path(place), now, now, (), {}, {})
        life = TrainingRun(run, request, workspace, observe, began=began, is_resumed=False)
        return life.plan()


def make_request(
    places: Sequence[str | Path],
    name: str,
    settings: Settings,
    workspace: Workspace,
    *,
    from_model: str | None = None,
    overwrite: bool = False,
) -> Request:
    """Check what is asked for as far as that goes before reading. Raises: CllmError."""
    from cllm.training.plan import check_request

    workspace.models.check_free(name, overwrite=overwrite)
    settings = _with_a_length(settings)
    corpus = _named_corpus(places, settings, workspace)
    check_request(settings)
    if corpus is not None:
        _check_corpus(corpus, settings, workspace)
    if from_model is not None:
        _check_continuation(workspace.models.path(from_model), settings)
        _check_added(settings)
    return Request(
        places=() if corpus else absolute_places(places),
        model=name,
        settings=settings,
        overwrite=overwrite,
        corpus=corpus,
        from_model=from_model,
    )


def resume(
    run_id: str,
    *,
    workspace: Workspace,
    observe: Observe,
    began: float | None = None,
) -> TrainResult:
    """Go on with a stopped run exactly where it was.

    Raises: NotFoundError, ExistsError when it has finished or is at work, CllmError as `train`.
    """
    began = time.monotonic() if began is None else began
    run = workspace.runs.get(run_id)
    if run.state == "finished":
        hint = f"To train further: cllm train PATH --from {run.model}"
        raise ExistsError("this run has finished", where=run.id, hint=hint)
    if run.is_active and run.id != os.environ.get(RUN_VARIABLE):
        hint = "Stop that process first."
        raise ExistsError("this run is at work in another process", where=run.id, hint=hint)
    request = Request.load(run.folder)
    if RUN_VARIABLE not in os.environ:
        # What was wished of an earlier life does not hold for this one.
        set_wish(run.folder, "go")
    return _live(run, request, workspace, observe, began=began, is_resumed=True)


def _live(
    run: RunRecord,
    request: Request,
    workspace: Workspace,
    observe: Observe,
    *,
    began: float,
    is_resumed: bool = False,
    is_kept: bool = False,
) -> TrainResult:
    """One life of a run, with its state kept in the database whatever happens.

    A first life that fails before there is anything to go on from leaves nothing behind, unless
    `is_kept`.
    """
    from cllm.jobs.training_run import TrainingRun

    way_on = f"Go on with: cllm runs resume {run.id}"
    workspace.runs.update(run.id, state="preparing")
    try:
        with listen_for_stop() as stop:
            life = TrainingRun(
                run,
                request,
                workspace,
                observe,
                began=began,
                is_resumed=is_resumed,
                # Whoever started it from elsewhere was promised that.
                keeps_replaced=RUN_VARIABLE in os.environ,
            )
            result = life.execute(stop)
    except InterruptedRunError:
        _end(run, workspace, "interrupted")
        raise
    except KeyboardInterrupt:
        _end(run, workspace, "interrupted")
        message = "stopped before the first step" if not _has_state(run) else "stopped at once"
        raise InterruptedRunError(message, where=run.id, hint=way_on) from None
    except CllmError as error:
        if is_resumed or is_kept or _has_state(run):
            _end(run, workspace, "failed", error=str(error))
        else:
            # Nothing was trained: a mistyped path leaves nothing behind.
            workspace.runs.remove(run.id, by_worker=True)
        raise
    except BaseException:
        _end(run, workspace, "failed", error="an error in the program itself")
        raise
    figures = {key: getattr(result, key) for key in _KEPT}
    _end(run, workspace, "finished", **figures)
    return result


def _end(run: RunRecord, workspace: Workspace, state: RunState, **figures: Any) -> None:
    """Note how a life ended, for those who look and for those who watch."""
    from cllm.jobs.journal import Journal

    workspace.runs.update(run.id, state=state, **figures)
    Journal(run.folder).end(state, figures.get("error"))


def _has_state(run: RunRecord) -> bool:
    return any((run.folder / "checkpoints").glob("step-*"))


def _with_a_length(settings: Settings) -> Settings:
    if settings.train.minutes is not None or settings.train.steps is not None:
        return settings
    length = settings.train.model_copy(update={"minutes": DEFAULT_MINUTES})
    return settings.model_copy(update={"train": length})


def _named_corpus(
    places: Sequence[str | Path], settings: Settings, workspace: Workspace
) -> str | None:
    """The prepared corpus that is meant, if one is: by its name, or as its folder."""
    if len(places) != 1:
        return None
    [place] = absolute_places(places)
    name = Path(place).name
    if Path(place).parent != workspace.corpora.root:
        # A bare name may also be a file or folder here, which comes first.
        if Path(places[0]).exists() or "/" in str(places[0]):
            return None
        name = str(places[0])
    try:
        if not workspace.corpora.exists(name):
            return None
    except CllmError:
        return None
    given = settings.text.model_fields_set
    if given:
        key = sorted(given)[0].replace("_", "-")
        raise SettingsError(
            f"the corpus {name!r} was prepared with text settings of its own",
            where=f"text.{key}",
            hint="Leave the text settings out, or prepare another corpus with them.",
        )
    return name


def _check_corpus(corpus: str, settings: Settings, workspace: Workspace) -> None:
    """Refuse what a prepared corpus's tokens can't be used for."""
    from cllm.model.mechanisms.choose import choose
    from cllm.model.mechanisms.mechanism import needs_of
    from cllm.text.corpus import Corpus
    from cllm.training.plan import check_words

    chosen = choose(settings.model.mechanisms)
    if "roots" in needs_of(chosen):
        kind = Corpus.open(workspace.corpora.path(corpus)).tokenizer.kind
        check_words(chosen, kind)


def _check_added(settings: Settings) -> None:
    """Refuse mechanisms that would change what a continued model is."""
    from cllm.model.mechanisms.choose import choose

    if settings.model.mechanisms is None:
        return
    for part in choose(settings.model.mechanisms):
        if part.export != "training":
            raise SettingsError(
                f"a continued model keeps its parts, and {part.name} would be another",
                where="--with",
                hint="Leave it out, or train a new model without --from.",
            )


def _check_continuation(folder: Path, settings: Settings) -> None:
    """Refuse settings that would change what a continued model is."""
    if not (folder / "tokenizer.json").is_file():
        raise NotFoundError("the model has no tokenizer.json", where=folder)
    shape = settings.model.model_fields_set - {"tied", "mechanisms"}
    words = settings.text.model_fields_set & {"tokenizer", "vocab_size"}
    for section, names in (("model", shape), ("text", words)):
        for name in sorted(names):
            key = f"{section}.{name.replace('_', '-')}"
            raise SettingsError(
                "a continued model keeps its shape and its vocabulary",
                where=key,
                hint=f"Leave out {key}, or train a new model without --from.",
            )
