"""Look inside: what lies near a token, what gates learned, and the vocabulary on a spiral."""

import asyncio
import math
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nicegui import Client, ui
from playwright.sync_api import Page, expect
from starlette.requests import Request
from tests.loops import in_a_loop
from tests.random_models import random_weights
from tests.web.conftest import WIDTHS, App, is_within_width, serious

from cllm.config import GenerateSettings
from cllm.errors import InputError
from cllm.infer.scheduler import Answer, BusyError
from cllm.jobs.beam import BeamSettings, find_beams
from cllm.jobs.gates import learned_gates
from cllm.jobs.inspect import inspect
from cllm.jobs.knowledge import expected_bits, known_spiral, surprise_bits
from cllm.jobs.model_service import note_used
from cllm.jobs.neighbours import nearest_tokens, plane
from cllm.model import ModelSpec, save_model
from cllm.model.mechanisms.gamma import Gamma
from cllm.model.mechanisms.schumann import Schumann
from cllm.text.tokenizers import train_tokenizer
from cllm.web import inside_spirals, inside_words
from cllm.web.inside_reading import ReadingView, framed
from cllm.web.inside_spirals import SpiralsView, options
from cllm.web.inside_words import NeighboursView
from cllm.web.writers import OpenWriter, Writers
from cllm.workspace.workspace import Workspace

TEXT = "The river ran past the old mill, and the mill stood still beside the river.\n" * 20


def make(workspace: Workspace, name: str, mechanisms: tuple[object, ...] = ()) -> np.ndarray:
    """A model with random weights; returns its table of embeddings."""
    tokenizer = train_tokenizer(
        "bpe", lambda: iter([TEXT]), vocab_size=290, num_characters=len(TEXT), progress=None
    )
    spec = ModelSpec(
        vocab_size=tokenizer.vocab_size,
        width=16,
        layers=2,
        heads=2,
        kv_heads=2,
        head_width=8,
        mlp_width=32,
        context=64,
        mechanisms=mechanisms,  # type: ignore[arg-type]
    )
    weights = random_weights(spec)
    for layer in range(2):
        if mechanisms:
            weights[f"mechanisms.gamma.{layer}.weight"][:] = 0.0
            weights[f"mechanisms.gamma.{layer}.weight"][1] = 3.0
            weights[f"mechanisms.schumann.{layer}.strength"][:] = (0.5, -0.25)
    with workspace.models.write(name) as folder:
        save_model(folder, spec, weights)
        tokenizer.save(folder, context=spec.context)
    return weights["embedding.weight"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("inside"))


@pytest.fixture(scope="module")
def table(workspace: Workspace) -> np.ndarray:
    return make(workspace, "plain")


# Nearest tokens


def test_the_nearest_tokens_are_those_with_the_greatest_cosine(
    workspace: Workspace, table: np.ndarray
) -> None:
    found = nearest_tokens(workspace, "plain", " river", limit=5)
    assert found.pieces == [" river"]
    own = found.nearest[0]
    assert (own.text, own.cosine) == (" river", pytest.approx(1.0, abs=1e-6))
    row = table[own.token_id].astype(np.float64)
    every = table @ row / (np.linalg.norm(table, axis=1) * np.linalg.norm(row))
    best = sorted(every.tolist(), reverse=True)[:6]
    assert [n.cosine for n in found.nearest] == pytest.approx(best, abs=1e-5)
    assert len({n.token_id for n in found.nearest}) == 6


def test_of_a_text_with_several_tokens_each_can_be_looked_up(
    workspace: Workspace, table: np.ndarray
) -> None:
    first = nearest_tokens(workspace, "plain", "The river")
    second = nearest_tokens(workspace, "plain", "The river", piece=1)
    assert "".join(first.pieces) == "The river"
    assert second.nearest[0].text == first.pieces[1]
    with pytest.raises(InputError, match="nothing to look up"):
        nearest_tokens(workspace, "plain", "")


def test_points_of_a_plane_keep_their_distances() -> None:
    # Turned into five dimensions and moved: what lies in a plane is shown whole.
    flat = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0], [3.0, 4.0]])
    turn, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((5, 5)))
    places, share = plane(flat @ turn[:2] + 7.0)
    assert share == pytest.approx(1.0)
    assert np.linalg.norm(places[0] - places[3]) == pytest.approx(5.0)
    assert np.linalg.norm(places[0] - places[1]) == pytest.approx(3.0)


# Gates


def test_gates_are_told_with_where_they_began(workspace: Workspace) -> None:
    make(workspace, "gated", (Schumann(), Gamma()))
    schumann, gamma = learned_gates(workspace, "gated")
    assert (schumann.name, gamma.name) == ("schumann", "gamma")
    strength = next(gate for gate in schumann.gates if gate.name == "strength")
    assert strength.values == [[0.5, -0.25], [0.5, -0.25]]
    assert strength.begin == 0.0
    # √((0.25 + 0.0625) / 2)
    assert strength.change == pytest.approx(math.sqrt(0.15625))
    [weight] = gamma.gates
    assert weight.shape == (2, 16)
    # 32 numbers a layer: each is shown.
    assert weight.values[0][:16] == [0.0] * 16
    assert weight.values[1][16:] == [3.0] * 16
    offset = next(gate for gate in schumann.gates if gate.name == "offset")
    assert offset.begin == 2.0


def test_a_plain_model_has_no_gates(workspace: Workspace, table: np.ndarray) -> None:
    assert learned_gates(workspace, "plain") == []


# The spirals


def test_what_is_expected_is_the_mean_of_the_predictions() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]])).astype(np.float32)
    found = SimpleNamespace(window=SimpleNamespace(logits=logits), spellings=[b"a", b"b", b"c"])
    bits = expected_bits.__wrapped__(found) if hasattr(expected_bits, "__wrapped__") else None
    if bits is None:
        pytest.fail("the check of types is off")
    # Means 0.375, 0.25, 0.375.
    assert bits == pytest.approx([-math.log2(0.375), 2.0, -math.log2(0.375)], abs=1e-5)


def test_surprise_is_that_of_the_text_and_of_no_other_token(
    workspace: Workspace, table: np.ndarray
) -> None:
    found, _ = inspect("plain", "The river ran past the river", workspace=workspace, threads=1)
    bits = surprise_bits(found)
    for token in set(found.ids.tolist()):
        assert bits[token] == pytest.approx(found.bits[found.ids == token].mean())
    assert np.isnan(bits).sum() == len(bits) - len(set(found.ids.tolist()))


@pytest.mark.parametrize("spiral", ["ulam", "golden"])
def test_a_token_stands_on_the_place_of_its_number(
    workspace: Workspace, table: np.ndarray, spiral: str
) -> None:
    found, _ = inspect("plain", "The river ran", workspace=workspace, threads=1)
    known = known_spiral(workspace, found, spiral=spiral, colour="expected")  # type: ignore[arg-type]
    assert not known.is_by_frequency
    assert known.token_ids.tolist() == list(range(len(table)))
    primes = [2, 3, 5, 7, 11, 13, 17, 19]
    assert (np.flatnonzero(known.is_prime[:20]) + 1).tolist() == primes
    if spiral == "ulam":
        # OEIS A174344 and A274923, the first nine points.
        assert known.places[:9].tolist() == [
            [0, 0], [1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1],
        ]  # fmt: skip
    else:
        radii = np.hypot(*known.places.T)
        count = len(table)
        assert radii == pytest.approx(np.sqrt(np.arange(1, count + 1) / count))


def test_a_picture_has_a_point_for_each_token_or_for_the_primes_alone(
    workspace: Workspace, table: np.ndarray
) -> None:
    found, _ = inspect("plain", "The river ran", workspace=workspace, threads=1)
    known = known_spiral(workspace, found, spiral="golden", colour="surprise")
    everything = options(known, has_others=True, dark=False)["series"][0]["data"]
    primes = options(known, has_others=False, dark=True)["series"][0]["data"]
    assert len(everything) == len(table)
    # 61 primes up to 290: π(290).
    assert (len(table), len(primes)) == (290, 61)
    coloured = [point for point in everything if point["value"][2] is not None]
    assert len(coloured) == len(set(found.ids.tolist()))


# The page of a reading


def test_a_reading_follows_the_theme_of_the_app_and_asks_nobody(
    workspace: Workspace, table: np.ndarray
) -> None:
    found, _ = inspect("plain", "</script> ran", workspace=workspace, threads=1)
    made = framed(found)
    head, _, body = made.partition("</head>")
    assert "is-dark" in head
    assert "default-src 'none'" in head
    assert 'src="http' not in made
    # The text's own markup stays text.
    assert body.count("</script>") == 2


@given(st.integers(1, 4))
def test_the_plane_of_a_single_point_is_whole(count: int) -> None:
    places, share = plane(np.ones((count, 3)))
    assert share == 1.0
    assert np.abs(places).max() < 1e-12


# One owner of the model


@pytest.fixture
def writers(workspace: Workspace, table: np.ndarray) -> Iterator[Writers]:
    """The models that are open for pages, in a pool of their own."""
    found = Writers(workspace)
    yield found
    found.close()


def refuse_reading(patch: pytest.MonkeyPatch) -> None:
    """From now on whoever reads a model for a decoder of his own fails."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the model is read a second time")

    for module in ("opening", "beam", "generate"):
        patch.setattr(f"cllm.jobs.{module}.open_model", refuse)


def long_text(writer: OpenWriter) -> Answer:
    """A text that goes on until it is stopped."""
    eos = writer.served.tokenizer.eos_id
    settings = GenerateSettings(max_tokens=100_000, logit_bias={eos: -math.inf}, min_p=0.1)
    return writer.go_on("The", settings, shades=False)


def test_the_model_that_writes_is_looked_into(
    workspace: Workspace, writers: Writers, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "The river ran past the old mill. " * 8
    expected, _ = inspect("plain", text, workspace=workspace, threads=1)
    with writers.using("plain") as writer, monkeypatch.context() as patch:
        refuse_reading(patch)
        answer = long_text(writer)
        found = writer.inspect(text)
        assert answer.passage.finish is None
        answer.cancel()
    assert found.num_windows > 1
    np.testing.assert_allclose(found.bits, expected.bits, rtol=1e-6)
    np.testing.assert_allclose(found.window.attention, expected.window.attention, atol=1e-6)
    np.testing.assert_array_equal(found.window.lens.ids, expected.window.lens.ids)


@pytest.mark.parametrize("groups", [1, 2])
def test_beams_are_followed_beside_texts_of_others(
    workspace: Workspace, writers: Writers, monkeypatch: pytest.MonkeyPatch, groups: int
) -> None:
    wanted = BeamSettings(beams=4, groups=groups, max_tokens=8)
    settings = GenerateSettings()
    prompt = "The river ran past the old mill, " * 3
    expected = find_beams("plain", prompt, settings, wanted, workspace=workspace)
    alone = GenerateSettings(max_tokens=40, seed=3)
    with writers.using("plain") as writer, monkeypatch.context() as patch:
        refuse_reading(patch)
        before = writer.go_on("The mill", alone, shades=False).text()
        answer, same = long_text(writer), writer.go_on("The mill", alone, shades=False)
        found = writer.find_beams(prompt, settings, wanted, home=workspace.home)
        assert answer.passage.finish is None
        # Nor does a search change what others write.
        assert same.text() == before
        answer.cancel()
        # All slots are free again: as many texts are written at once as there are.
        texts = [long_text(writer) for _ in range(writer.served.slots.decoder.num_slots)]
        for text in texts:
            next(iter(text))
            text.cancel()
    assert found == expected
    assert (found.nodes, found.samples) == (expected.nodes, expected.samples)


def test_where_too_few_slots_are_free_a_search_says_so(
    workspace: Workspace, writers: Writers
) -> None:
    with writers.using("plain") as writer:
        slots = writer.served.slots
        share = BeamSettings(beams=slots.decoder.num_slots - 1, max_tokens=2)
        texts = [long_text(writer), long_text(writer)]
        for text in texts:
            next(iter(text))
        with pytest.raises(BusyError, match="too many texts"):
            writer.find_beams("The", GenerateSettings(), share, home=workspace.home)
        for text in texts:
            text.cancel()
            text.text()
        found = writer.find_beams("The", GenerateSettings(), share, home=workspace.home)
        assert len(found.samples) > 0
        # More than there is room for: the model is read for this one search.
        more = BeamSettings(beams=slots.decoder.num_slots, max_tokens=2)
        found = writer.find_beams("The", GenerateSettings(), more, home=workspace.home)
        assert len(found.samples) > 0


# Two questions at once


class Slow:
    """Some work whose first call ends only after the second one."""

    def __init__(self, patch: pytest.MonkeyPatch, place: object, name: str) -> None:
        work = getattr(place, name)
        self.is_asked, self._is_done = threading.Event(), threading.Event()

        def do(*args: Any, **named: Any) -> Any:
            is_first = not self.is_asked.is_set()
            self.is_asked.set()
            found = work(*args, **named)
            if is_first:
                self._is_done.wait(30)
            return found

        patch.setattr(place, name, do)

    def shown(self, build: Callable[[], None], first: Any, second: Any) -> list[ui.element]:
        """What stands on a page after both answers have come, as no browser shows it."""

        async def ask() -> list[ui.element]:
            request = Request({"type": "http", "path": "/inside", "headers": []})
            with Client(ui.page("/inside"), request=request) as client:
                build()
                slow = asyncio.create_task(first())
                await asyncio.to_thread(self.is_asked.wait, 30)
                await second()
                self._is_done.set()
                await slow
                return list(client.content.descendants())

        return in_a_loop(ask())


def test_of_two_readings_the_later_is_shown_and_kept(
    workspace: Workspace, writers: Writers, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, told = Slow(monkeypatch, OpenWriter, "inspect"), list[str]()
    view = ReadingView(writers, "plain", lambda: told.append(view.text), text="The river ran")

    async def second() -> None:
        view.text = "The mill stood"
        await view.read()

    parts = slow.shown(view.build, view.read, second)
    assert view.found is not None
    assert (view.found.text, told) == ("The mill stood", ["The mill stood"])
    frames = [part.props["srcdoc"] for part in parts if part.tag == "iframe"]
    assert frames == [framed(view.found)]


def test_of_two_words_the_later_is_shown(
    workspace: Workspace, table: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(monkeypatch, inside_words, "nearest_tokens")
    view = NeighboursView(workspace, "plain", " river")

    async def second() -> None:
        view.word = " mill"
        await view.look()

    parts = slow.shown(view.build, view.look, second)
    told = [part.content for part in parts if isinstance(part, ui.html)]
    assert [title for title in told if title.startswith("Nearest")] == ["Nearest to ␣mill"]


def test_of_two_spirals_the_later_is_shown(
    workspace: Workspace, table: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(monkeypatch, inside_spirals, "known_spiral")
    found, _ = inspect("plain", "The river ran", workspace=workspace, threads=1)
    view = SpiralsView(workspace, lambda: found)
    parts = slow.shown(view.build, view.draw, lambda: view._set("_spiral", "ulam"))
    [drawn] = [part for part in parts if isinstance(part, ui.echart)]
    assert drawn.props["aria-label"] == "ulam spiral of 290 tokens"
    points = drawn.options["series"][0]["data"]
    # OEIS A174344 and A274923.
    assert [point["value"][:2] for point in points[:4]] == [[0, 0], [1, 0], [1, 1], [0, 1]]


# In a browser


@pytest.fixture(scope="module")
def app_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose model in use has gates."""
    home = tmp_path_factory.mktemp("seen") / "cllm-home"
    make(Workspace(home), "gated", (Schumann(), Gamma()))
    return home


def test_each_view_shows_the_model_in_use(page: Page) -> None:
    page.goto("/inside")
    reading = page.frame_locator("iframe")
    expect(reading.get_by_text("Where it looks")).to_be_visible()
    # Two layers of two heads.
    expect(reading.locator("#heads button")).to_have_count(4)
    page.get_by_role("tab", name="Near in meaning").click()
    expect(page.get_by_text("A map of them")).to_be_visible()
    expect(page.locator(".cllm-bars li").first).to_be_visible()
    page.get_by_role("tab", name="Roots and primes").click()
    expect(page.get_by_text("The largest families")).to_be_visible()
    page.get_by_role("tab", name="Spirals").click()
    expect(page.get_by_role("img", name="golden spiral of 290 tokens")).to_be_visible()
    page.get_by_role("button", name="Ulam’s spiral").click()
    expect(page.get_by_role("img", name="ulam spiral of 290 tokens")).to_be_visible()
    page.get_by_role("tab", name="Gates").click()
    expect(page.get_by_role("img", name="gamma weight")).to_be_visible()


def test_what_a_person_wrote_outlives_a_change_of_the_model(page: Page, app: App) -> None:
    make(Workspace(app.home), "plain")
    try:
        page.goto("/inside?show=roots")
        expect(page.get_by_text("The largest families")).to_be_visible()
        page.get_by_label("A word", exact=True).fill("river")
        page.get_by_role("tab", name="Near in meaning").click()
        page.get_by_label("A word or token").fill(" mill")
        page.get_by_role("tab", name="Reading a text").click()
        page.get_by_label("A text for the model to read").fill("The mill stood still.")
        switcher = page.get_by_role("button", name=re.compile("Model in use"))
        switcher.click()
        page.locator(".q-menu .q-item").filter(has=page.get_by_text("plain", exact=True)).click()
        expect(page.get_by_text("What plain expects")).to_be_visible()
        field = page.get_by_label("A text for the model to read")
        expect(field).to_have_value("The mill stood still.")
        expect(page.frame_locator("iframe").locator("body")).to_contain_text("still")
        page.get_by_role("tab", name="Near in meaning").click()
        expect(page.get_by_label("A word or token")).to_have_value(" mill")
        page.get_by_role("tab", name="Roots and primes").click()
        expect(page.get_by_label("A word", exact=True)).to_have_value("river")
        expect(page.get_by_text("The largest families")).to_be_visible()
        expect(page.locator(".cllm-word")).to_have_text("river")
    finally:
        shutil.rmtree(app.home / "models" / "plain")
        note_used(Workspace(app.home), "gated")


def test_the_reading_is_dark_where_the_app_is(page: Page) -> None:
    page.goto("/inside")
    body = page.frame_locator("iframe").locator("body")
    expect(body).to_have_css("background-color", "rgb(248, 243, 232)")
    page.evaluate("cllmTheme('dark')")
    expect(body).to_have_css("background-color", "rgb(12, 16, 32)")


@pytest.mark.parametrize("view", ["reading", "neighbours", "roots", "spirals", "gates"])
@pytest.mark.parametrize("width", WIDTHS)
def test_at_every_width_nothing_sticks_out_and_axe_finds_nothing(
    page: Page, view: str, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(f"/inside?show={view}")
    shown = {
        "reading": "iframe",
        "neighbours": ".cllm-chart svg",
        "roots": ".cllm-family",
        "spirals": ".cllm-square svg",
        "gates": ".cllm-card svg",
    }
    expect(page.locator(shown[view]).first).to_be_visible()
    assert is_within_width(page)
    assert serious(page) == []
