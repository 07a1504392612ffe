"""Texts that are being written, where something else happens at the same moment."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.web.conftest import make_model

from cllm.errors import CllmError, InputError, NotFoundError, StorageError
from cllm.infer.scheduler import Answer
from cllm.web import running
from cllm.web.desk import Desk
from cllm.web.running import RunningText
from cllm.web.writers import OpenWriter, Writers
from cllm.workspace.conversations import ConversationStore, Message
from cllm.workspace.workspace import Workspace

# Nothing takes so long when all is well.
PATIENCE_S = 60.0
# No text of these settings ends by itself; the models have tokens for these characters.
ENDLESS = {"max_tokens": 1_000_000, "logit_bias": ["#0=-inf", "\n=-inf"]}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = Workspace(tmp_path_factory.mktemp("running"))
    make_model(made, "talk", knows_dialogue=True)
    return made


@pytest.fixture
def desk(workspace: Workspace) -> Iterator[Desk]:
    writers = Writers(workspace)
    yield Desk(workspace, writers)
    writers.close()


@pytest.fixture
def store(tmp_path: Path) -> ConversationStore:
    return Workspace(tmp_path).conversations


class Pieces:
    """A text whose pieces come as a test lets them."""

    def __init__(self, make: Callable[[Pieces], Iterator[str]]) -> None:
        self.passage = SimpleNamespace(ids=[1], scores=[], finish=None)
        self.is_cancelled = False
        self._make = make

    def __iter__(self) -> Iterator[str]:
        yield from self._make(self)
        self.passage.finish = "cancelled" if self.is_cancelled else "length"

    def cancel(self) -> None:
        self.is_cancelled = True


def wait_for(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not is_so() and time.monotonic() < end:
        time.sleep(0.01)
    assert is_so()


def written(answer: Pieces, save: Callable[[RunningText], Any]) -> tuple[RunningText, list[bool]]:
    """The text after its end, and what it told when it ended."""
    ended: list[bool] = []
    text = RunningText(answer, lambda text: save(text) and None, lambda: ended.append(True))
    text.begin()
    wait_for(lambda: text.is_done)
    return text, ended


def saving(store: ConversationStore) -> tuple[str, Callable[[RunningText], Message]]:
    """A conversation in a database, and what keeps a text in it."""
    held = store.create(mode="write").id
    message = store.add(held, "assistant", "")
    return held, lambda text: store.rewrite(held, message.id, text=text.text)


# What is known of the tokens


def test_two_that_ask_for_the_tokens_at_once_get_each_token_once() -> None:
    together = threading.Barrier(2)

    class Score:
        def __init__(self, text: str) -> None:
            self.text, self.log_probability = text, -1.0

        @property
        def alternatives(self) -> list[tuple[int, str, float]]:
            # In the middle of the work both would meet here.
            with contextlib.suppress(threading.BrokenBarrierError):
                together.wait(0.5)
            return [(0, f"not {self.text}", -2.0)]

    answer = Pieces(lambda _: iter(()))
    answer.passage.scores = [Score(text) for text in "abc"]
    text = RunningText(answer, lambda _: None)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(lambda: text.facts) for _ in range(2)]
        found = [[fact.text for fact in one.result()] for one in both]
    assert found == [["a", "b", "c"]] * 2
    before = text.facts
    answer.passage.scores.append(Score("d"))
    assert [fact.alternatives[0][0] for fact in text.facts] == ["not a", "not b", "not c", "not d"]
    # Whoever is still drawing the former ones is not disturbed.
    assert len(before) == 3


# What can't be kept in the middle


def test_a_text_is_whole_after_its_conversation_was_gone_for_a_moment(
    store: ConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_SAVE_S", -1.0)
    held, save = saving(store)

    def pieces(answer: Pieces) -> Iterator[str]:
        yield "one "
        store.delete(held)
        yield "two "
        store.restore(held)
        yield "three"
        assert not answer.is_cancelled

    text, ended = written(Pieces(pieces), save)
    assert (text.error, text.finish, ended) == (None, "length", [True])
    assert store.branch(held)[-1].text == "one two three"


def test_a_text_of_a_conversation_that_stays_deleted_is_stopped(
    store: ConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_SAVE_S", -1.0)
    monkeypatch.setattr(running, "_GONE_S", 0.05)
    held, save = saving(store)
    began = time.monotonic()

    def pieces(answer: Pieces) -> Iterator[str]:
        while not answer.is_cancelled and time.monotonic() - began < PATIENCE_S:
            yield "on and "
            if answer.passage.ids == [1]:
                store.delete(held)
                answer.passage.ids = [1, 2]
            time.sleep(0.01)

    text, ended = written(Pieces(pieces), save)
    assert (text.finish, ended) == ("cancelled", [True])
    assert isinstance(text.error, NotFoundError)


def test_a_disk_that_is_full_for_a_moment_does_not_end_a_text(
    store: ConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_SAVE_S", -1.0)
    held, save = saving(store)
    problems: list[CllmError] = [StorageError("the disk is full")]

    def keep(text: RunningText) -> None:
        if problems:
            raise problems.pop()
        save(text)

    text, _ = written(Pieces(lambda _: iter(["one ", "two"])), keep)
    assert text.error is None
    assert store.branch(held)[-1].text == "one two"


def test_what_can_not_be_kept_at_the_end_is_told() -> None:
    def keep(_: RunningText) -> None:
        raise StorageError("the disk is full")

    text, ended = written(Pieces(lambda _: iter(["one"])), keep)
    assert (text.text, ended) == ("one", [True])
    assert text.error is not None
    assert text.error.message == "the disk is full"


def test_whatever_ends_the_reading_ends_the_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_SAVE_S", -1.0)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def keep(_: RunningText) -> None:
        raise ZeroDivisionError

    answer = Pieces(lambda _: iter(["one ", "two"]))
    text, ended = written(answer, keep)
    assert answer.is_cancelled
    assert (text.text, text.finish, ended) == ("one ", "error", [True])


# Two at once in a conversation


def begun(desk: Desk, mode: str = "chat") -> str:
    return desk.workspace.conversations.create(mode=mode, settings=ENDLESS).id  # type: ignore[arg-type]


def num_users(desk: Desk) -> int:
    """Texts that keep the model open."""
    writer = desk.writers.get("talk")
    assert isinstance(writer, OpenWriter)
    return writer.served.num_users


def test_a_deleted_conversation_comes_back_with_what_was_written(desk: Desk) -> None:
    store, held = desk.workspace.conversations, begun(desk)
    message = desk.say(held, "talk", "How is the mill?")
    text = desk.texts.get(message.id)
    assert text is not None
    wait_for(lambda: len(text.text) > 20)
    desk.delete(held)
    assert text.is_done
    assert num_users(desk) == 0
    with pytest.raises(NotFoundError):
        store.get(held)
    store.restore(held)
    kept = store.branch(held)[-1]
    assert (kept.id, kept.details["finish"]) == (message.id, "cancelled")
    assert kept.text == text.text
    assert len(kept.text) > 20
    assert kept.alternatives is not None
    assert len(kept.alternatives) == kept.tokens
    # What was begun in another one goes on.
    other = begun(desk)
    going = desk.texts.get(desk.say(other, "talk", "And the river?").id)
    again = begun(desk)
    desk.say(again, "talk", "And the river?")
    desk.delete(again)
    assert going is not None
    assert not going.is_done
    desk.delete(other)


def test_a_text_that_finds_no_place_is_stopped_and_its_model_given_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = begun(desk, "write")
    answers: list[Answer] = []
    go_on = OpenWriter.go_on

    def deleted_meanwhile(self: OpenWriter, *args: Any, **more: Any) -> Answer:
        answers.append(go_on(self, *args, **more))
        desk.workspace.conversations.delete(held)
        return answers[0]

    monkeypatch.setattr(OpenWriter, "go_on", deleted_meanwhile)
    with pytest.raises(NotFoundError):
        desk.go_on(held, "talk", "The river ", seen=None)
    wait_for(lambda: answers[0].passage.finish == "cancelled")
    assert num_users(desk) == 0


def test_of_two_windows_that_send_at_once_the_second_is_refused(desk: Desk) -> None:
    store, held = desk.workspace.conversations, begun(desk)
    together = threading.Barrier(2)
    get = desk.writers.get

    def opened(name: str) -> OpenWriter:
        # Both have been found to be free to send by now.
        found = get(name)
        together.wait(PATIENCE_S)
        return found

    def send(text: str) -> Message | CllmError:
        try:
            return desk.say(held, "talk", text)
        except CllmError as error:
            return error

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(desk.writers, "get", opened)
        found = list(pool.map(send, ["How is the mill?", "And the river?"]))
    [refused] = [one for one in found if isinstance(one, CllmError)]
    [taken] = [one for one in found if not isinstance(one, CllmError)]
    assert isinstance(refused, InputError)
    assert "still being written" in refused.message
    assert [message.role for message in store.tree(held)] == ["user", "assistant"]
    desk.texts.stop([taken.id])
    desk.texts.wait(taken.id)
    # Once it is written, the next one is taken.
    going = desk.say(held, "talk", "And now?")
    desk.texts.stop([going.id])
    desk.texts.wait(going.id)
