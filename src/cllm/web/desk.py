"""What Chat and Write ask for: turns and passages, written by a model and kept as they come."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast, final, runtime_checkable

from nicegui import app

from cllm.errors import InputError
from cllm.web.running import RunningText, RunningTexts
from cllm.web.writers import OpenWriter, settings_of
from cllm.workspace.workspace import Workspace

if TYPE_CHECKING:
    from cllm.config import GenerateSettings
    from cllm.web.state import AppState
    from cllm.workspace.conversations import Conversation, Message

_LARGEST_SEED = 2**31
# Turns are read from the end until they must fill the model's context: few tokens are longer
# than this many characters, and a conversation may have 100,000 turns.
_FIRST_TURNS, _CHARACTERS_A_TOKEN = 64, 8


@runtime_checkable
class OpensWriters(Protocol):
    """Where models are opened."""

    def get(self, name: str) -> OpenWriter:
        """The model of that name. Raises: NotFoundError, IntegrityError."""
        ...

    def take(self, name: str) -> OpenWriter:
        """The same, open until it is given back. Raises: as `get`."""
        ...

    def give_back(self, writer: OpenWriter) -> None:
        """A text is done with it."""
        ...


@final
class Desk:
    """Conversations and documents of a workspace, and the texts being written in them.

    All calls block, some until a model is read: pages run them in threads.
    """

    def __init__(self, workspace: Workspace, writers: OpensWriters) -> None:
        self.workspace, self.writers = workspace, writers
        self.texts = RunningTexts()
        # Two windows may keep the same document at once; each is to see what the other did.
        self._keeping = threading.Lock()
        self._beginning: dict[str, threading.Lock] = {}

    def say(
        self, conversation: str, model: str, text: str, *, beside: Message | None = None
    ) -> Message:
        """Take the person's turn, or an edited one beside the old; the model's reply begins.

        Raises: InputError, SettingsError, BusyError, NotFoundError, IntegrityError.
        """
        said = sound(text).strip()
        if not said:
            raise InputError("there is nothing to answer", hint="Write something first.")
        settings = self._ready(conversation, model)
        store = self.workspace.conversations
        with self._alone(conversation):
            store.add(conversation, "user", said, beside=None if beside is None else beside.id)
            return self._write(conversation, model, settings)

    def answer(self, conversation: str, model: str, *, beside: Message | None = None) -> Message:
        """A reply to what was said last, or another one beside a reply. Raises: as `say`."""
        settings = self._ready(conversation, model)
        with self._alone(conversation):
            return self._write(conversation, model, settings, beside=beside)

    def keep(self, conversation: str, text: str, *, seen: Message | None) -> Message | None:
        """Keep a document as the person left it; returns its last passage, None if it has none.

        Passages that are still there stay what they were; what differs becomes the person's own,
        in a branch of its own where a model's passage was changed, or where the last passage is
        no longer what the person has `seen` of it: another window changed it.
        Raises: NotFoundError, StorageError.
        """
        store = self.workspace.conversations
        with self._keeping:
            branch = store.branch(conversation)
            kept, rest = still_there(branch, sound(text))
            end = branch[-1] if branch else None
            is_seen = _is_same(end, seen)
            if not rest and len(kept) == len(branch):
                return seen if is_seen else end
            is_own = end is not None and end.role == "document" and len(kept) == len(branch) - 1
            if end is not None and is_own and rest and is_seen:
                return store.rewrite(conversation, end.id, text=rest)
            if kept:
                return store.add(conversation, "document", rest, parent=kept[-1].id)
            first = branch[0].id if branch else None
            return store.add(conversation, "document", rest, beside=first)

    def go_on(self, conversation: str, model: str, text: str, *, seen: Message | None) -> Message:
        """Continue a document as it stands now; `seen` as in `keep`.

        Raises: as `say`, without InputError.
        """
        settings = self._ready(conversation, model)
        with self._alone(conversation):
            self.keep(conversation, text, seen=seen)
            return self._write(conversation, model, settings)

    def delete(self, conversation: str) -> None:
        """Delete it; a text that is being written in it is stopped, and kept as far as it came.

        Raises: NotFoundError, StorageError.
        """
        with self._lock_of(conversation):
            self.texts.end(conversation)
            self.workspace.conversations.delete(conversation)

    def document(self, conversation: str) -> str:
        """The text of a document."""
        return document_of(self.workspace.conversations.branch(conversation))

    def take_back(self, conversation: str) -> None:
        """Take the last passage out of a document; `bring_back` puts it there again.

        An empty passage stands in its place, in a branch of its own.
        """
        store = self.workspace.conversations
        branch = store.branch(conversation)
        last = next((message for message in reversed(branch) if message.text), None)
        if last is not None:
            self.texts.stop([last.id])
            store.add(conversation, "document", "", beside=last.id, details={"instead_of": last.id})

    def bring_back(self, conversation: str) -> None:
        """Put the passage back that was taken out last, where nothing was written since."""
        store = self.workspace.conversations
        branch = store.branch(conversation, last=1)
        taken = branch[-1].details.get("instead_of") if branch else None
        if taken is not None:
            store.select(conversation, taken)

    def _lock_of(self, conversation: str) -> threading.Lock:
        return self._beginning.setdefault(conversation, threading.Lock())

    @contextlib.contextmanager
    def _alone(self, conversation: str) -> Iterator[None]:
        """Let one text begin in a conversation: of two windows the second is refused."""
        with self._lock_of(conversation):
            self._see_none_written(self.workspace.conversations.get(conversation))
            yield

    def _see_none_written(self, held: Conversation) -> None:
        if held.leaf is not None and self.texts.get(held.leaf) is not None:
            raise InputError("the last text is still being written", hint="Stop it first.")

    def _ready(self, conversation: str, model: str) -> GenerateSettings:
        """Everything that can be refused, before anything is changed."""
        held = self.workspace.conversations.get(conversation)
        # Before a model is opened, which takes a while; once more when the text begins.
        self._see_none_written(held)
        settings = settings_of(held.settings)
        if held.settings.get("new_seed", True):
            settings = settings.model_copy(update={"seed": random.randrange(_LARGEST_SEED)})
        writer = self.writers.get(model)
        if held.mode == "chat" and writer.chat is None:
            raise InputError(
                f"{model} has learned no dialogue", hint="Write mode lets it continue a text."
            )
        return settings

    def _write(
        self,
        conversation: str,
        model: str,
        settings: GenerateSettings,
        *,
        beside: Message | None = None,
    ) -> Message:
        """Let the model go on where the branch ends, or in the place of `beside`."""
        store = self.workspace.conversations
        held = store.get(conversation)
        shades = bool(held.settings.get("shades", True))
        writer = self.writers.take(model)
        unseen = 0
        with contextlib.ExitStack() as otherwise:
            otherwise.callback(self.writers.give_back, writer)
            if held.mode == "chat":
                branch, unread = self._turns(conversation, writer.context, beside)
                answer, dropped = writer.reply(as_turns(branch), settings, shades=shades)
                unseen = dropped + unread
            else:
                branch = self._above(conversation, beside, None)
                answer = writer.go_on(document_of(branch), settings, shades=shades)
            otherwise.callback(answer.cancel)
            details: dict[str, Any] = {"model": writer.name, "seed": settings.seed}
            details["windowed"] = answer.passage.windowed
            if unseen:
                details["unseen"] = unseen
            message = store.add(
                conversation,
                "assistant",
                "",
                beside=None if beside is None else beside.id,
                details=details,
            )
            running = RunningText(
                answer,
                lambda text: self._save(conversation, message.id, text),
                lambda: self.writers.give_back(writer),
                is_reply=held.mode == "chat",
            )
            self.texts.add(conversation, message.id, running)
            # From here on the text itself gives the model back.
            otherwise.pop_all()
        self._name(held, branch)
        return message

    def _turns(
        self, conversation: str, context: int, beside: Message | None
    ) -> tuple[list[Message], int]:
        """The turns that may fit a context, and how many stand before them."""
        wanted, limit = context * _CHARACTERS_A_TOKEN, _FIRST_TURNS
        while True:
            branch = self._above(conversation, beside, limit)
            if len(branch) < limit:
                return branch, 0
            if sum(len(message.text) for message in branch) >= wanted:
                return branch, self.workspace.conversations.num_above(branch[0].id)
            limit *= 4

    def _above(self, conversation: str, beside: Message | None, limit: int | None) -> list[Message]:
        """The branch up to its end, or up to what stands before `beside`."""
        before = None if beside is None else beside.id
        return list(self.workspace.conversations.branch(conversation, last=limit, before=before))

    def _save(self, conversation: str, message: int, text: RunningText) -> None:
        details: dict[str, Any] = {"tokens_per_s": round(text.tokens_per_s, 1)}
        if text.finish is not None:
            details["finish"] = text.finish
        if text.first_token_s is not None:
            details["first_token_s"] = round(text.first_token_s, 4)
        self.workspace.conversations.rewrite(
            conversation,
            message,
            text=text.text,
            tokens=text.num_tokens,
            alternatives=[fact.to_json() for fact in text.facts],
            details=details,
        )

    def _name(self, held: Conversation, branch: Sequence[Message]) -> None:
        """Name a conversation after its first words, unless a person has named it."""
        from cllm.jobs.conversations import title_from

        first = next((message.text for message in branch if message.text.strip()), "")
        if not held.title and first:
            self.workspace.conversations.change(held.id, title=title_from(first))


def _is_same(one: Message | None, other: Message | None) -> bool:
    if one is None or other is None:
        return one is other
    return (one.id, one.text) == (other.id, other.text)


def still_there(branch: Sequence[Message], text: str) -> tuple[list[Message], str]:
    """The passages that a text of a sheet still begins with, and what follows them."""
    kept: list[Message] = []
    at = 0
    for message in branch:
        shown = as_shown(message.text)
        if not text.startswith(shown, at):
            break
        kept.append(message)
        at += len(shown)
    return kept, text[at:]


def as_shown(text: str) -> str:
    """A text as a sheet has it: browsers know one kind of line end."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def sound(text: str) -> str:
    """A text as it can be kept: half a surrogate pair, as a browser may send one, is replaced."""
    return text.encode("utf-16", errors="surrogatepass").decode("utf-16", errors="replace")


def document_of(branch: Sequence[Message]) -> str:
    """The passages of a document as one text."""
    return "".join(message.text for message in branch)


def as_turns(branch: Sequence[Message]) -> list[Mapping[str, str]]:
    """What was said, as chat templates read it; turns that stayed empty are left out."""
    return [
        {"role": message.role, "content": message.text}
        for message in branch
        if message.text.strip()
    ]


def desk_of(state: AppState) -> Desk:
    """The one desk of the running app."""
    found: Desk | None = getattr(app.state, "cllm_desk", None)
    if found is None or found.workspace is not state.workspace:
        found = Desk(state.workspace, cast("OpensWriters", state.writers))
        app.state.cllm_desk = found
    return found
