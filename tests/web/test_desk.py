"""Chat and Write without a browser: what is kept, what a model is asked, how it is drawn."""

import asyncio
import html
import json
import math
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nicegui import Client, core, ui
from tests.loops import in_a_loop
from tests.web.conftest import make_model

from cllm.config import GenerateSettings
from cllm.errors import InputError, NotFoundError, SettingsError
from cllm.jobs.beam import BeamNode, BeamResult, BeamText
from cllm.web.beam_dialog import tree_picture
from cllm.web.conversation_list import ConversationList
from cllm.web.desk import Desk, as_shown, as_turns, still_there
from cllm.web.running import RunningText
from cllm.web.sampling_panel import CONTROLS, MORE_CONTROLS, PRESETS, KeptSettings
from cllm.web.token_text import TokenFact, segments, tokens_html
from cllm.web.writers import Writers, settings_of
from cllm.workspace.conversations import ConversationStore, Message
from cllm.workspace.workspace import Workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = Workspace(tmp_path_factory.mktemp("desk"))
    make_model(made, "story", knows_dialogue=False)
    make_model(made, "talk", knows_dialogue=True)
    return made


@pytest.fixture(scope="module")
def desk(workspace: Workspace) -> Iterator[Desk]:
    writers = Writers(workspace)
    yield Desk(workspace, writers)
    writers.close()


def begun(desk: Desk, mode: str, **settings: object) -> str:
    wanted = {"max_tokens": 12, **settings}
    return desk.workspace.conversations.create(mode=mode, settings=wanted).id  # type: ignore[arg-type]


def finished(desk: Desk, conversation: str, message: Message) -> Message:
    desk.texts.wait(message.id)
    return next(m for m in desk.workspace.conversations.branch(conversation) if m.id == message.id)


def seen(desk: Desk, conversation: str) -> Message | None:
    """The last passage, as the only window that is open knows it."""
    return next(iter(desk.workspace.conversations.messages(conversation, limit=1).items), None)


def keep(desk: Desk, conversation: str, text: str) -> None:
    desk.keep(conversation, text, seen=seen(desk, conversation))


def go_on(desk: Desk, conversation: str, text: str) -> Message:
    return desk.go_on(conversation, "story", text, seen=seen(desk, conversation))


# What is kept


def test_a_reply_is_kept_with_its_tokens_and_how_it_was_written(desk: Desk) -> None:
    held = begun(desk, "chat", new_seed=False, seed=7)
    reply = finished(desk, held, desk.say(held, "talk", " How is the mill? "))
    said, answered = desk.workspace.conversations.branch(held)
    assert (said.role, said.text) == ("user", "How is the mill?")
    assert answered.id == reply.id
    assert 1 <= reply.tokens <= 12
    assert len(reply.alternatives) == reply.tokens
    assert reply.details["model"] == "talk"
    assert reply.details["seed"] == 7
    assert reply.details["finish"] in ("length", "stop string", "end of text")
    assert desk.workspace.conversations.get(held).title == "How is the mill?"


def test_the_same_seed_gives_the_same_answer_and_both_stay(desk: Desk) -> None:
    held = begun(desk, "chat", new_seed=False, seed=3)
    first = finished(desk, held, desk.say(held, "talk", "And the river?"))
    second = finished(desk, held, desk.answer(held, "talk", beside=first))
    assert second.text == first.text
    page = desk.workspace.conversations.messages(held)
    assert page.items[-1].siblings == (first.id, second.id)


def test_an_edited_message_is_a_branch_and_the_old_one_stays(desk: Desk) -> None:
    held = begun(desk, "chat")
    finished(desk, held, desk.say(held, "talk", "How is the mill?"))
    old = desk.workspace.conversations.branch(held)[0]
    finished(desk, held, desk.say(held, "talk", "And the river?", beside=old))
    branch = desk.workspace.conversations.branch(held)
    assert branch[0].text == "And the river?"
    desk.workspace.conversations.select(held, old.id)
    assert desk.workspace.conversations.branch(held)[0].text == "How is the mill?"


def test_nothing_is_changed_by_what_is_refused(desk: Desk) -> None:
    store = desk.workspace.conversations
    held = begun(desk, "chat")
    with pytest.raises(InputError, match="learned no dialogue"):
        desk.say(held, "story", "Hello?")
    with pytest.raises(NotFoundError):
        desk.say(held, "nobody", "Hello?")
    with pytest.raises(InputError, match="nothing to answer"):
        desk.say(held, "talk", "  ")
    bad = begun(desk, "chat", temperature=-1)
    with pytest.raises(SettingsError):
        desk.say(bad, "talk", "Hello?")
    assert store.branch(held) == [] == store.branch(bad)


def test_a_document_goes_on_where_it_ends(desk: Desk) -> None:
    held = begun(desk, "write", new_seed=False, seed=1)
    finished(desk, held, go_on(desk, held, "The river "))
    whole = desk.document(held)
    assert whole.startswith("The river ")
    assert len(whole) > len("The river ")
    finished(desk, held, go_on(desk, held, whole))
    roles = [message.role for message in desk.workspace.conversations.branch(held)]
    assert roles == ["document", "assistant", "assistant"]


def test_what_is_taken_back_can_be_brought_back(desk: Desk) -> None:
    held = begun(desk, "write", logit_bias=["#0=-inf"])
    finished(desk, held, go_on(desk, held, "The river "))
    one = desk.document(held)
    finished(desk, held, go_on(desk, held, one))
    two = desk.document(held)
    desk.take_back(held)
    assert desk.document(held) == one
    keep(desk, held, one)
    desk.take_back(held)
    assert desk.document(held) == "The river "
    desk.bring_back(held)
    assert desk.document(held) == one
    desk.bring_back(held)
    assert desk.document(held) == two
    # Nothing is left to bring back, and nothing is there to lose.
    desk.bring_back(held)
    assert desk.document(held) == two
    desk.take_back(held)
    keep(desk, held, one + "mine")
    desk.bring_back(held)
    assert desk.document(held) == one + "mine"


def test_a_document_without_a_beginning_of_ones_own_is_taken_back_whole(desk: Desk) -> None:
    held = begun(desk, "write", logit_bias=["#0=-inf"])
    finished(desk, held, go_on(desk, held, ""))
    whole = desk.document(held)
    desk.take_back(held)
    assert desk.document(held) == ""
    desk.bring_back(held)
    assert desk.document(held) == whole


def test_any_text_survives_a_sheet(desk: Desk) -> None:
    held = begun(desk, "write")
    store = desk.workspace.conversations
    kept = store.add(held, "assistant", "one\r\ntwo\rthree")
    # As a browser gives it back, unchanged and with more.
    keep(desk, held, "one\ntwo\nthree")
    assert [m.id for m in store.branch(held)] == [kept.id]
    odd = "\u2028 \u202e \ufeff e\u0301 \U0001f98a \x00 \ud83d half"
    keep(desk, held, "one\ntwo\nthree" + odd)
    first, second = store.branch(held)
    assert first.id == kept.id
    assert second.text == odd.replace("\ud83d", "\ufffd")


def test_of_a_long_conversation_only_what_may_fit_is_read(desk: Desk) -> None:
    held = begun(desk, "chat")
    store = desk.workspace.conversations
    for number in range(150):
        store.add(held, "user", f"How is the mill, for the {number}th time?")
        store.add(held, "assistant", "It stands beside the river and stood there before.")
    read: list[int] = []
    branch = store.branch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            type(store),
            "branch",
            lambda self, *args, **more: read.append(len(found := branch(*args, **more))) or found,
        )
        reply = finished(desk, held, desk.say(held, "talk", "And the river?"))
    # 301 turns were there; the model's context of 96 characters has room for some of the last.
    assert max(read[:-1]) < 100
    unseen = reply.details["unseen"]
    assert 295 < unseen < 301
    again = finished(desk, held, desk.answer(held, "talk", beside=reply))
    assert again.details["unseen"] == unseen
    # In the middle, a reply has fewer turns before it.
    old = store.branch(held)[11]
    assert finished(desk, held, desk.answer(held, "talk", beside=old)).details["unseen"] <= 11


def test_what_a_person_changes_in_a_document_is_theirs_and_the_old_stays(desk: Desk) -> None:
    held = begun(desk, "write")
    passage = finished(desk, held, go_on(desk, held, "The river "))
    keep(desk, held, "The river and more")
    assert desk.document(held) == "The river and more"
    keep(desk, held, "The river and less")
    branch = desk.workspace.conversations.branch(held)
    # While it is typed, one passage is rewritten; it does not become one a keystroke.
    assert [(m.role, m.text) for m in branch] == [
        ("document", "The river "),
        ("document", "and less"),
    ]
    desk.workspace.conversations.select(held, passage.id)
    assert desk.document(held) == "The river " + passage.text
    keep(desk, held, "Another beginning")
    assert desk.document(held) == "Another beginning"


def test_of_two_windows_on_a_document_none_overwrites_the_words_of_the_other(desk: Desk) -> None:
    held = begun(desk, "write")
    store = desk.workspace.conversations
    first = desk.keep(held, "The river ran", seen=None)
    # Both have seen the same; each changes it, the other's text not before its eyes.
    ours = desk.keep(held, "The river rose", seen=first)
    theirs = desk.keep(held, "The river fell", seen=first)
    assert ours is not None
    assert theirs is not None
    assert desk.document(held) == "The river fell"
    ours = desk.keep(held, "The river rose high", seen=ours)
    assert ours is not None
    assert desk.document(held) == "The river rose high"
    store.select(held, theirs.id)
    assert desk.document(held) == "The river fell"
    # What a window has seen it rewrites, as a window alone does.
    last = desk.keep(held, "The river froze", seen=theirs)
    assert last is not None
    assert (last.id, desk.document(held)) == (theirs.id, "The river froze")
    store.select(held, ours.id)
    assert desk.document(held) == "The river rose high"
    # A text that is there already is not kept twice.
    num = len(store.tree(held))
    desk.keep(held, "The river rose high", seen=theirs)
    assert len(store.tree(held)) == num


def test_a_text_is_stopped_within_a_token_and_keeps_what_it_has(desk: Desk) -> None:
    # It can't end by itself.
    held = begun(desk, "write", max_tokens=1_000_000, logit_bias=["#0=-inf"])
    message = go_on(desk, held, "The mill")
    running = desk.texts.get(message.id)
    assert running is not None
    with pytest.raises(InputError, match="still being written"):
        go_on(desk, held, "The mill")
    running.stop()
    kept = finished(desk, held, message)
    assert kept.details["finish"] == "cancelled"
    assert kept.text == running.text
    assert kept.tokens < 1_000_000


def test_settings_of_a_conversation_are_those_of_generate() -> None:
    given_ = {"temperature": 0.3, "stop": ["END"], "shades": True, "new_seed": False}
    assert settings_of(given_) == GenerateSettings(temperature=0.3, stop=("END",))
    names = {control.name for control in (*CONTROLS, *MORE_CONTROLS)}
    # What has a form of its own: lines, and the seed with its dice.
    assert names | {"stop", "logit_bias", "seed"} == set(GenerateSettings.model_fields)
    for _, values in PRESETS.values():
        settings_of(values)


def delayed(patch: pytest.MonkeyPatch, name: str, *, is_before: bool) -> threading.Event:
    """Let the first call of a store's method wait until it is let go on, or for half a second."""
    go, method = threading.Event(), getattr(ConversationStore, name)
    calls: list[str] = []

    def slow(self: ConversationStore, *args: Any, **named: Any) -> Any:
        calls.append(name)
        is_first = len(calls) == 1
        if is_first and is_before:
            go.wait(0.5)
        found = method(self, *args, **named)
        if is_first and not is_before:
            go.wait(0.5)
        return found

    patch.setattr(ConversationStore, name, slow)
    return go


def test_of_two_changes_of_the_settings_the_later_stays(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, held = desk.workspace.conversations, begun(desk, "chat")
    go = delayed(monkeypatch, "change", is_before=True)

    async def change() -> None:
        kept = KeptSettings(store, held)
        first = asyncio.create_task(kept.keep({"temperature": 0.2}))
        await asyncio.sleep(0.1)
        await kept.keep({"temperature": 1.5})
        go.set()
        await first

    in_a_loop(change())
    assert store.get(held).settings == {"temperature": 1.5}


def test_settings_changed_while_a_conversation_is_made_are_its_own(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = desk.workspace.conversations
    go = delayed(monkeypatch, "create", is_before=False)

    async def change() -> str:
        kept = KeptSettings(store, None, {"temperature": 0.2})
        making = asyncio.create_task(kept.create("talk", "chat"))
        await asyncio.sleep(0.1)
        changing = asyncio.create_task(kept.keep({"temperature": 1.5}))
        await asyncio.sleep(0.1)
        go.set()
        await changing
        return (await making).id

    held = store.get(in_a_loop(change()))
    assert (held.model, held.mode, held.settings) == ("talk", "chat", {"temperature": 1.5})


def message(text: str, role: str = "document", number: int = 1) -> Message:
    return Message(number, "c", None, role, text, None, None, {}, 0.0)  # type: ignore[arg-type]


@given(st.lists(st.text(max_size=5), max_size=6), st.text(max_size=30))
def test_passages_that_are_still_there_and_the_rest_are_the_text(
    passages: list[str], text: str
) -> None:
    branch, text = [message(passage) for passage in passages], as_shown(text)
    kept, rest = still_there(branch, text)
    assert "".join(as_shown(m.text) for m in kept) + rest == text
    # However lines end in what is kept, a sheet has one kind of line end.
    whole = "".join(as_shown(passage) for passage in passages)
    assert "\r" not in whole
    assert still_there(branch, whole + text) == (branch, text)


def test_empty_turns_are_not_said() -> None:
    turns = as_turns([message("Hi", "user"), message("", "assistant"), message("Yes?", "user")])
    assert [turn["content"] for turn in turns] == ["Hi", "Yes?"]


# What is shown


def fact(text: str, share: float = 0.5) -> TokenFact:
    return TokenFact(text, math.log(share), (("a", math.log(0.25)),))


@given(st.lists(st.text(alphabet="ab <&\n", min_size=1, max_size=4), max_size=12))
def test_a_text_cut_into_its_tokens_is_whole_again(pieces: list[str]) -> None:
    parts = segments("".join(pieces), [fact(piece) for piece in pieces])
    assert [piece for piece, _ in parts] == pieces
    assert all(known is not None for _, known in parts)


@given(st.text(max_size=30), st.lists(st.text(max_size=3), max_size=8))
def test_whatever_is_known_of_tokens_no_character_is_lost(text: str, pieces: list[str]) -> None:
    parts = segments(text, [fact(piece) for piece in pieces])
    assert "".join(piece for piece, _ in parts) == text


def test_tokens_that_complete_no_character_have_no_piece_of_their_own() -> None:
    # "é" in two bytes: neither of its tokens reads as text by itself.
    parts = segments("café au", [fact("caf"), fact("\ufffd"), fact("\ufffd"), fact(" au")])
    assert [(piece, known is not None) for piece, known in parts] == [
        ("caf", True),
        ("é", False),
        (" au", True),
    ]


def test_a_reply_begins_without_the_blank_of_its_format() -> None:
    [(first, known), _] = segments("It stands", [fact(" It"), fact(" stands")])
    assert (first, known is not None) == ("It", True)


def test_surprise_is_shade_and_nothing_in_a_text_is_markup() -> None:
    made = tokens_html([("<b>&\"'", fact("<b>&\"'", share=2.0**-5)), ("<i>", None)])
    assert "<b>" not in made
    assert "<i>" not in made
    # Five bits of ten.
    assert "--share:0.50" in made
    data = re.search(r'data-token="([^"]*)"', made)
    assert data is not None
    assert json.loads(html.unescape(data[1])) == ["<b>&\"'", 0.0312, [["a", 0.25]]]


@given(st.builds(fact, st.text(max_size=4), st.floats(0.001, 1.0)))
def test_what_is_kept_of_a_token_comes_back(known: TokenFact) -> None:
    back = TokenFact.from_json(json.loads(json.dumps(known.to_json())))
    assert back.text == known.text
    assert back.bits == pytest.approx(known.bits, abs=1e-3)
    assert back.alternatives[0][1] == pytest.approx(math.log(0.25), abs=1e-3)


def test_an_error_while_a_text_is_written_is_told_and_what_came_is_kept() -> None:
    def pieces() -> Iterator[str]:
        yield " It"
        raise InputError("the form can't be met")

    passage = SimpleNamespace(ids=[5], scores=[], finish="error")

    class Answer:
        def __init__(self) -> None:
            self.passage = passage

        def __iter__(self) -> Iterator[str]:
            return pieces()

        def cancel(self) -> None: ...

    saved: list[str] = []
    ended: list[bool] = []
    text = RunningText(
        Answer(), lambda t: saved.append(t.text), lambda: ended.append(True), is_reply=True
    )
    text.begin()
    while not text.is_done:
        pass
    assert (text.text, saved[-1], ended) == ("It", "It", [True])
    assert text.error is not None
    assert text.error.message == "the form can't be met"


def test_a_list_shows_what_was_read_last(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    store = desk.workspace.conversations
    old = store.create(title="The mill", mode="write").id
    go = delayed(monkeypatch, "list", is_before=False)

    async def choose(_: str | None) -> None: ...

    # Restored afterwards: the app's own loop, of which there is none here.
    monkeypatch.setattr(core, "loop", None)

    async def look() -> str:
        core.loop = asyncio.get_running_loop()
        with Client(ui.page("/list"), request=None) as client:
            shown = ConversationList(desk, "write", choose)
            shown.build()
            slow = asyncio.create_task(shown.load())
            await asyncio.sleep(0.1)
            store.change(old, title="The old mill")
            await shown.load()
            go.set()
            await slow
            lines = client.content.descendants()
            return "".join(part.content for part in lines if isinstance(part, ui.html))

    assert "The old mill" in in_a_loop(look())


def test_the_way_to_the_best_text_stands_out_in_the_tree() -> None:
    nodes = [
        BeamNode(None, 1, " a", math.log(0.5)),
        BeamNode(None, 2, " b", math.log(0.4)),
        BeamNode(1, 3, " <c", math.log(0.9)),
    ]
    best = BeamText(" b c", 2, math.log(0.36), -1.0, "length", 0, 2)
    picture = ElementTree.fromstring(tree_picture(BeamResult("m", " b c", [best], nodes)))
    boxes = {}
    for group in picture.iter("g"):
        name, share = (text.text for text in group.iter("text"))
        [box] = group.iter("rect")
        boxes[name] = (share, group.get("class"), float(box.get("y") or ""))
    top = boxes["…"][2]
    # The best lies straight along the top, the others below it.
    assert boxes["␣b"] == ("40%", "is-best", top)
    assert boxes["␣<c"] == ("90%", "is-best", top)
    assert boxes["␣a"][:2] == ("50%", "")
    assert boxes["␣a"][2] > top
    assert sum(path.get("class") == "is-best" for path in picture.iter("path")) == 2


def test_the_script_and_style_of_the_pages_ask_nobody_for_anything() -> None:
    folder = Path(__file__).parents[2] / "src" / "cllm" / "web" / "static"
    for name in ("writing.js", "writing.css", "inside.css"):
        assert "://" not in (folder / name).read_text(encoding="utf-8"), name
