"""The models as pages and programs show them: cards, names, and nothing lost without a way back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cllm.config import GenerateSettings, resolve
from cllm.errors import CllmError, ExistsError, NotFoundError
from cllm.files import read_json, storage_errors
from cllm.jobs.model_folder import read_training
from cllm.jobs.models import iso_time
from cllm.jobs.request import Request
from cllm.jobs.training_record import read_result
from cllm.workspace.trash import TrashEntry
from cllm.workspace.workspace import Workspace

_LAST_USED = "last-used-model"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model on this machine; None where its folder does not say.

    `sources` are the names of what it was trained on, `train_bytes` how much that was; `sample`
    continues `prompt` and is the last it wrote while it was made.
    """

    name: str
    num_bytes: int
    num_parameters: int | None
    context: int | None
    tokenizer: str | None
    bits_per_byte: float | None
    modified: float
    is_chat: bool
    is_quantised: bool
    problem: str | None
    run: str | None
    sources: tuple[str, ...]
    train_bytes: int | None
    prompt: str | None
    sample: str | None
    is_last_used: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values, the time as ISO 8601."""
        told = {"modified": iso_time(self.modified), "sources": list(self.sources)}
        return asdict(self) | told


def list_cards(workspace: Workspace) -> list[ModelCard]:
    """Every model, the last made first."""
    last_used = last_used_model(workspace)
    cards = []
    for name in workspace.models.names():
        # One may be removed while the others are looked at.
        with contextlib.suppress(NotFoundError, FileNotFoundError):
            cards.append(_card(workspace, name, last_used))
    return sorted(cards, key=lambda card: -card.modified)


def model_card(workspace: Workspace, name: str) -> ModelCard:
    """One model. Raises: NotFoundError, InvalidNameError."""
    return _card(workspace, name, last_used_model(workspace))


def last_used_model(workspace: Workspace) -> str | None:
    """The model that was used last; where that is gone the last one made, or None."""
    name = workspace.preferences.get(_LAST_USED)
    with contextlib.suppress(CllmError):
        if isinstance(name, str) and workspace.models.exists(name):
            return name
    records = workspace.models.list()
    return max(records, key=lambda record: record.modified).name if records else None


def note_used(workspace: Workspace, name: str) -> None:
    """Remember which model is in use. Raises: NotFoundError, InvalidNameError."""
    workspace.models.path(name)
    workspace.preferences.set(_LAST_USED, name)


def rename_model(workspace: Workspace, name: str, new_name: str) -> ModelCard:
    """Give a model another name; conversations and defaults go with it.

    Raises: NotFoundError, InvalidNameError, ExistsError, also while a training goes on with it.
    """
    folder = workspace.models.path(name)
    workspace.models.check_free(new_name)
    _refuse_in_use(workspace, name)
    renamed = workspace.models.root / new_name
    with storage_errors(folder):
        folder.rename(renamed)
    try:
        workspace.conversations.rename_model(name, new_name)
        defaults = workspace.preferences.get(_defaults_key(name))
        workspace.preferences.set(_defaults_key(new_name), defaults)
        workspace.preferences.set(_defaults_key(name), None)
        if workspace.preferences.get(_LAST_USED) == name:
            workspace.preferences.set(_LAST_USED, new_name)
    except BaseException:
        # A model and its conversations have the same name, or the old one both.
        renamed.rename(folder)
        with contextlib.suppress(CllmError):
            workspace.conversations.rename_model(new_name, name)
        raise
    return model_card(workspace, new_name)


def save_as(
    workspace: Workspace, source: str, target: str, *, overwrite: bool = False
) -> ModelCard:
    """Copy a model to another name, checked first; what it replaces goes to the trash.

    Raises: NotFoundError, ExistsError, InvalidNameError, IntegrityError, StorageError.
    """
    workspace.models.path(source)
    if source == target:
        raise ExistsError(f"the model is named {source!r} already", hint="Choose another name.")
    with replacing(workspace, target, overwrite=overwrite):
        workspace.models.copy(source, target)
    workspace.preferences.set(
        _defaults_key(target), workspace.preferences.get(_defaults_key(source))
    )
    return model_card(workspace, target)


def duplicate_model(workspace: Workspace, name: str) -> ModelCard:
    """Copy a model to a free name made from its own. Raises: as `save_as`."""
    workspace.models.path(name)
    return save_as(workspace, name, workspace.models.free_name(name))


def delete_model(workspace: Workspace, name: str) -> TrashEntry:
    """Move a model to the trash; `restore` brings it back for some days.

    Raises: NotFoundError, ExistsError while a training goes on with it, StorageError on a full
    disk, where `remove_model` still works.
    """
    return _delete(workspace, name, lender=None)


def remove_model(workspace: Workspace, name: str) -> None:
    """Remove a model for good; needs no room on the disk.

    Raises: NotFoundError, ExistsError while a training goes on with it.
    """
    workspace.models.path(name)
    _refuse_in_use(workspace, name)
    workspace.models.remove(name)


def restore(workspace: Workspace, entry: str) -> str:
    """Bring a model back; returns its name, which has a number if its own is taken by now.

    Raises: NotFoundError.
    """
    name = workspace.models.free_name(workspace.trash.get(entry).name)
    workspace.trash.take(entry, workspace.models.root / name)
    return name


def list_trash(workspace: Workspace) -> list[TrashEntry]:
    """What was deleted, the last first."""
    return list(workspace.trash.list())


def remove_deleted(workspace: Workspace, entries: Collection[str]) -> int:
    """Remove for good these of the deleted models and no others; how many. Raises: StorageError."""
    return workspace.trash.remove(entries)


def purge_trash(workspace: Workspace, *, days: float = 30.0) -> int:
    """Remove for good what was deleted longer ago, of models and conversations; how many."""
    return workspace.trash.purge(days=days) + workspace.conversations.purge(days=days)


def what_is_lost(workspace: Workspace, name: str) -> dict[str, Any] | None:
    """What somebody loses who overwrites `name`; None where nothing is there.

    Raises: InvalidNameError.
    """
    if not workspace.models.exists(name):
        return None
    card = model_card(workspace, name)
    with contextlib.suppress(CllmError):
        talks = workspace.conversations.count_with(name)
        return {**card.to_json(), "conversations": talks}
    return card.to_json()


def read_defaults(workspace: Workspace, name: str) -> dict[str, Any]:
    """How a model writes unless told otherwise: settings by name, only those that were chosen.

    Raises: NotFoundError, InvalidNameError.
    """
    workspace.models.path(name)
    value = workspace.preferences.get(_defaults_key(name))
    return dict(value) if isinstance(value, dict) else {}


def write_defaults(workspace: Workspace, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Choose how a model writes; {} forgets the choice. Raises: NotFoundError, SettingsError."""
    workspace.models.path(name)
    chosen = resolve(GenerateSettings, settings).model_dump(mode="json", exclude_unset=True)
    workspace.preferences.set(_defaults_key(name), chosen or None)
    return chosen


@contextlib.contextmanager
def replacing(workspace: Workspace, name: str, *, overwrite: bool) -> Iterator[TrashEntry | None]:
    """Free a name for the block: what has it goes to the trash, and comes back on any error.

    Raises: InvalidNameError, ExistsError.
    """
    store = workspace.models
    store.check_free(name, overwrite=overwrite)
    entry = None
    if store.exists(name):
        # Should this process be killed, the next one gives it back.
        entry = _delete(workspace, name, lender=os.getpid())
    try:
        yield entry
    except BaseException:
        if entry is not None:
            _give_back(workspace, entry)
        raise
    if entry is not None:
        with contextlib.suppress(CllmError):
            workspace.trash.settle(entry.id)


def _give_back(workspace: Workspace, entry: TrashEntry) -> None:
    """End a loan after an error, which is what is to be told of, whatever happens here."""
    with contextlib.suppress(CllmError, OSError):
        if not workspace.models.exists(entry.name):
            workspace.trash.take(entry.id, workspace.models.root / entry.name)
            return
    # Where it can't go back it is found in the trash.
    with contextlib.suppress(CllmError, OSError):
        workspace.trash.settle(entry.id)


def _delete(workspace: Workspace, name: str, *, lender: int | None) -> TrashEntry:
    folder = workspace.models.path(name)
    _refuse_in_use(workspace, name)
    return workspace.trash.put("model", name, folder, lender=lender)


def _card(workspace: Workspace, name: str, last_used: str | None) -> ModelCard:
    record = workspace.models.describe(name)
    training = _leniently(lambda: read_training(record.path))
    run = workspace.home / "runs" / Path(record.run).name if record.run else None
    result = (read_result(run) if run else None) or {}
    sources = training.get("sources")
    if not isinstance(sources, list) or not sources:
        sources = _sources(run)
    train_bytes = training.get("train_bytes")
    return ModelCard(
        name=name,
        num_bytes=record.num_bytes,
        num_parameters=record.num_parameters,
        context=record.context,
        tokenizer=record.tokenizer,
        bits_per_byte=record.val_bits_per_byte,
        modified=record.modified,
        is_chat=record.is_chat,
        is_quantised="quantisation" in training,
        problem=record.problem,
        run=record.run,
        sources=tuple(str(source) for source in sources),
        train_bytes=train_bytes if isinstance(train_bytes, int) else None,
        prompt=_text(result.get("prompt")),
        sample=_text(result.get("last_sample")),
        is_last_used=name == last_used,
    )


def _sources(run: Path | None) -> list[str]:
    """What a run was given, by its request."""
    if run is None:
        return []
    try:
        request = Request.load(run)
    except (CllmError, OSError):
        return []
    return [Path(place).name for place in request.places] or [request.corpus or ""]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _leniently(read: Any) -> dict[str, Any]:
    try:
        value = read()
    except (CllmError, OSError):
        return {}
    return value if isinstance(value, dict) else {}


def _refuse_in_use(workspace: Workspace, name: str) -> None:
    for record in workspace.runs.active():
        request = _leniently(lambda folder=record.folder: read_json(folder / "request.json"))
        if request.get("from_model") == name:
            message = f"a training goes on with the model {name!r}"
            raise ExistsError(message, where=record.id, hint="Stop it, or wait for its end.")


def _defaults_key(name: str) -> str:
    return f"defaults:{os.path.basename(name)}"  # noqa: PTH119 - a name, not a path
