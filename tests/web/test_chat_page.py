"""Chat and Write: what is kept, what a model is asked, and what a person sees of it."""

import html
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Page, expect
from tests.web.conftest import WIDTHS, is_within_width, serious

from cllm.config import GenerateSettings
from cllm.errors import InputError, NotFoundError, SettingsError
from cllm.files import write_json
from cllm.jobs.beam import BeamNode, BeamResult, BeamText
from cllm.jobs.model_service import note_used, write_defaults
from cllm.model import ModelSpec, save_model
from cllm.text.dialogue import detect_dialogue
from cllm.text.tokenizers import train_tokenizer
from cllm.web.beam_dialog import tree_options
from cllm.web.desk import Desk, as_shown, as_turns, still_there
from cllm.web.running import RunningText
from cllm.web.sampling_panel import CONTROLS, MORE_CONTROLS, PRESETS
from cllm.web.token_text import TokenFact, segments, tokens_html
from cllm.web.writers import Writers, settings_of
from cllm.workspace.conversations import Message
from cllm.workspace.workspace import Workspace

TEXT = "The river ran past the old mill, and the mill stood still beside the river.\n" * 20
TURNS = "Anna: How is the mill?\nBert: It stands.\n\nAnna: And the river?\nBert: It runs.\n\n"


def make_model(workspace: Workspace, name: str, *, knows_dialogue: bool) -> None:
    """A model with random weights whose tokens are the characters of the texts above."""
    # Of characters, so that whatever random weights write can be read.
    text = TEXT + TURNS
    tokenizer = train_tokenizer(
        "characters", lambda: iter([text]), vocab_size=30, num_characters=len(text), progress=None
    )
    spec = ModelSpec(
        vocab_size=tokenizer.vocab_size,
        width=32,
        layers=2,
        heads=4,
        kv_heads=2,
        head_width=8,
        mlp_width=64,
        context=96,
    )
    random = np.random.default_rng(0)
    weights = {
        key: (0.3 * random.standard_normal(shape) + (len(shape) == 1)).astype(np.float32)
        for key, shape in spec.parameter_shapes().items()
    }
    dialogue = detect_dialogue(iter([TURNS * 200])) if knows_dialogue else None
    with workspace.models.write(name) as folder:
        save_model(folder, spec, weights)
        tokenizer.save(folder, context=spec.context)
        write_json(folder / "training.json", {"dialogue": dialogue.to_json() if dialogue else None})


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
    finished(desk, held, desk.go_on(held, "story", "The river "))
    whole = desk.document(held)
    assert whole.startswith("The river ")
    assert len(whole) > len("The river ")
    finished(desk, held, desk.go_on(held, "story", whole))
    roles = [message.role for message in desk.workspace.conversations.branch(held)]
    assert roles == ["document", "assistant", "assistant"]


def test_what_is_taken_back_can_be_brought_back(desk: Desk) -> None:
    held = begun(desk, "write", logit_bias=["#0=-inf"])
    finished(desk, held, desk.go_on(held, "story", "The river "))
    one = desk.document(held)
    finished(desk, held, desk.go_on(held, "story", one))
    two = desk.document(held)
    desk.take_back(held)
    assert desk.document(held) == one
    desk.keep(held, one)
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
    desk.keep(held, one + "mine")
    desk.bring_back(held)
    assert desk.document(held) == one + "mine"


def test_a_document_without_a_beginning_of_ones_own_is_taken_back_whole(desk: Desk) -> None:
    held = begun(desk, "write", logit_bias=["#0=-inf"])
    finished(desk, held, desk.go_on(held, "story", ""))
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
    desk.keep(held, "one\ntwo\nthree")
    assert [m.id for m in store.branch(held)] == [kept.id]
    odd = "\u2028 \u202e \ufeff e\u0301 \U0001f98a \x00 \ud83d half"
    desk.keep(held, "one\ntwo\nthree" + odd)
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
    passage = finished(desk, held, desk.go_on(held, "story", "The river "))
    desk.keep(held, "The river and more")
    assert desk.document(held) == "The river and more"
    desk.keep(held, "The river and less")
    branch = desk.workspace.conversations.branch(held)
    # While it is typed, one passage is rewritten; it does not become one a keystroke.
    assert [(m.role, m.text) for m in branch] == [
        ("document", "The river "),
        ("document", "and less"),
    ]
    desk.workspace.conversations.select(held, passage.id)
    assert desk.document(held) == "The river " + passage.text
    desk.keep(held, "Another beginning")
    assert desk.document(held) == "Another beginning"


def test_a_text_is_stopped_within_a_token_and_keeps_what_it_has(desk: Desk) -> None:
    # It can't end by itself.
    held = begun(desk, "write", max_tokens=1_000_000, logit_bias=["#0=-inf"])
    message = desk.go_on(held, "story", "The mill")
    running = desk.texts.get(message.id)
    assert running is not None
    with pytest.raises(InputError, match="still being written"):
        desk.go_on(held, "story", "The mill")
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


def test_the_way_to_the_best_text_stands_out_in_the_tree() -> None:
    nodes = [
        BeamNode(None, 1, " a", math.log(0.5)),
        BeamNode(None, 2, " b", math.log(0.4)),
        BeamNode(1, 3, " c", math.log(0.9)),
    ]
    best = BeamText(" b c", 2, math.log(0.36), -1.0, "length", 0, 2)
    tree = tree_options(BeamResult("m", " b c", [best], nodes))["series"][0]["data"][0]
    first, second = tree["children"]
    assert (first["name"], first["value"]) == ("␣a", "50%")
    assert "lineStyle" not in first
    assert "lineStyle" in second
    assert [child["name"] for child in second["children"]] == ["␣c"]
    assert "lineStyle" in second["children"][0]


def test_the_script_and_style_of_the_pages_ask_nobody_for_anything() -> None:
    folder = Path(__file__).parents[2] / "src" / "cllm" / "web" / "static"
    for name in ("writing.js", "writing.css", "inside.css"):
        assert "://" not in (folder / name).read_text(encoding="utf-8"), name


# In a browser


@pytest.fixture(scope="module")
def app_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose model in use knows dialogue; another does not."""
    home = tmp_path_factory.mktemp("chat") / "cllm-home"
    made = Workspace(home)
    make_model(made, "story", knows_dialogue=False)
    make_model(made, "talk", knows_dialogue=True)
    note_used(made, "talk")
    # With random weights a text might end before its first word.
    for name in ("talk", "story"):
        write_defaults(made, name, {"logit_bias": ["#0=-inf", "\n=-inf"], "max_tokens": 40})
    return home


def opened(page: Page, path: str) -> None:
    """Go to a page and wait until its controls are there."""
    page.goto(path)
    expect(page.locator(".cllm-presets")).to_be_attached()


def say(page: Page, text: str) -> None:
    before = page.locator(".is-assistant").count()
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")
    expect(page.locator(".is-assistant")).to_have_count(before + 1)
    # The figures stand below a reply that is whole.
    expect(page.locator(".is-assistant").last.locator(".cllm-figures")).to_contain_text("seed")


def test_a_conversation_is_written_kept_branched_and_found_again(page: Page) -> None:
    opened(page, "/chat")
    say(page, "How is the mill?")
    first = page.locator(".is-assistant .cllm-text").inner_text()
    page.get_by_label("Another answer").click()
    expect(page.get_by_text("2/2")).to_be_visible()
    page.get_by_label("The version before").click()
    expect(page.get_by_text("1/2")).to_be_visible()
    assert page.locator(".is-assistant .cllm-text").inner_text() == first
    page.reload()
    expect(page.locator(".cllm-said")).to_have_text("How is the mill?")
    opened(page, "/chat")
    expect(page.locator(".cllm-said")).to_have_count(0)
    page.get_by_label("Search conversations").fill("mill")
    page.locator(".cllm-list-open").first.click()
    expect(page.locator(".cllm-said")).to_have_text("How is the mill?")
    assert page.locator(".is-assistant .cllm-text").inner_text() == first


def test_turns_that_no_longer_fit_are_told(page: Page) -> None:
    opened(page, "/chat")
    say(page, "How is the mill?")
    expect(page.locator(".cllm-unseen")).to_have_count(0)
    say(page, "And the river beside the mill?")
    say(page, "And the river?")
    # The model's context is 96 characters.
    expect(page.locator(".cllm-unseen")).to_have_text(
        re.compile(r"^[2-4] older turns no longer fit the model's context: it answers without them")
    )


def test_a_token_says_what_else_might_have_come(page: Page) -> None:
    opened(page, "/chat")
    say(page, "And the river?")
    page.locator(".cllm-token").first.hover()
    card = page.locator(".cllm-card-token")
    expect(card.locator("li")).to_have_count(5)
    # By keyboard, too.
    page.mouse.move(0, 0)
    page.locator(".is-assistant .cllm-text").focus()
    page.keyboard.press("ArrowRight")
    expect(card).to_be_visible()
    page.keyboard.press("Escape")
    expect(card).to_have_count(0)


def test_a_conversation_is_renamed_deleted_and_brought_back(page: Page) -> None:
    opened(page, "/chat")
    say(page, "A question to be renamed")
    page.get_by_label("More for A question to be renamed").click()
    page.get_by_text("Rename", exact=True).click()
    name = page.get_by_label("Name", exact=True)
    expect(name).to_be_focused()
    page.keyboard.press("Escape")
    expect(name).to_have_count(0)
    more = page.get_by_label("More for A question to be renamed")
    expect(more).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_text("Rename", exact=True).click()
    name.fill("On rivers")
    page.locator(".cllm-dialog").get_by_role("button", name="Rename").click()
    item = page.locator(".cllm-list-title", has_text="On rivers")
    expect(item).to_be_visible()
    page.get_by_label("More for On rivers").click()
    page.get_by_text("Delete", exact=True).click()
    expect(item).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(item).to_be_visible()


def test_settings_stay_with_their_conversation(page: Page, app_home: Path) -> None:
    page.set_viewport_size({"width": 1920, "height": 1080})
    opened(page, "/chat")
    say(page, "Be exact")
    page.get_by_role("button", name="Exact", exact=True).click()
    expect(page.get_by_role("button", name="Exact", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    address = page.url
    opened(page, "/chat")
    expect(page.get_by_role("button", name="Balanced", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    page.goto(address)
    expect(page.get_by_role("button", name="Exact", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )


def test_a_document_goes_on_in_place_and_is_taken_back(page: Page) -> None:
    opened(page, "/write")
    sheet = page.get_by_label("The text", exact=True)
    sheet.fill("The river ")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("button", name="Take back")).to_be_visible()
    whole = sheet.input_value()
    assert whole.startswith("The river ")
    assert len(whole) > len("The river ")
    # The shades lie behind the same text.
    assert page.locator(".cllm-paper-shades").inner_text().rstrip() == whole.rstrip()
    # What was typed and what goes on with it are one text.
    expect(page.locator(".cllm-list-title", has_text="The river")).to_have_count(1)
    expect(page.locator(".cllm-list-title", has_text="Untitled")).to_have_count(0)
    page.reload()
    expect(sheet).to_have_value(whole)
    page.get_by_role("button", name="Take back").click()
    expect(sheet).to_have_value("The river ")
    page.reload()
    page.get_by_role("button", name="Bring back").click()
    expect(sheet).to_have_value(whole)


def test_the_likeliest_ways_on_can_be_taken(page: Page) -> None:
    opened(page, "/write")
    sheet = page.get_by_label("The text", exact=True)
    sheet.fill("The mill ")
    page.get_by_role("button", name="Likeliest ways on").click()
    choices = page.locator(".cllm-beam-text")
    expect(choices).to_have_count(4)
    chosen = choices.first.locator(".cllm-text").text_content()
    choices.first.click()
    expect(sheet).to_have_value("The mill " + (chosen or ""))


def test_chat_says_why_a_model_of_texts_does_not_answer(page: Page) -> None:
    opened(page, "/chat")
    expect(page.get_by_label("Message", exact=True)).to_be_visible()
    page.locator(".cllm-switcher").click()
    page.locator(".cllm-menu-row", has_text="story").click()
    expect(page.get_by_text("story continues texts")).to_be_visible()
    expect(page.get_by_text("It has no chat template")).to_be_visible()
    expect(page.get_by_label("Message", exact=True)).to_have_count(0)
    page.get_by_role("button", name="Write with it").click()
    expect(page.get_by_label("The text", exact=True)).to_be_visible()
    page.locator(".cllm-switcher").click()
    page.locator(".cllm-menu-row", has_text="talk").click()
    opened(page, "/chat")
    expect(page.get_by_label("Message", exact=True)).to_be_visible()


@pytest.mark.parametrize("path", ["/chat", "/write"])
@pytest.mark.parametrize("width", WIDTHS)
def test_at_every_width_nothing_sticks_out_and_axe_finds_nothing(
    page: Page, path: str, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(path)
    field = "Message" if path == "/chat" else "The text"
    expect(page.get_by_label(field, exact=True)).to_be_visible()
    if path == "/chat":
        say(page, "How is the mill?")
    assert is_within_width(page)
    assert serious(page) == []
