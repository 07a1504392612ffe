"""What the header says of the model in use, as models come, change and go."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.server.conftest import make_model

from cllm.config import GenerateSettings
from cllm.jobs.model_service import delete_model, rename_model, restore, save_as
from cllm.web.app import storage_secret
from cllm.web.state import AppState, Glance
from cllm.web.writers import Writers
from cllm.workspace.workspace import Workspace


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppState]:
    """The state of an app with the models `one` and `two`, whose `one` is in use."""
    monkeypatch.setattr("cllm.server.pool._LOOK_S", 0.02)
    workspace = Workspace(tmp_path / "home")
    for number, name in enumerate(("one", "two")):
        make_model(workspace, name, seed=number)
    writers = Writers(workspace)
    made = AppState(workspace, writers)
    made.begin()
    made.use("one")
    yield made
    writers.close()


def until(state: AppState, is_so: Callable[[Glance], bool]) -> None:
    """Look as the pages do until it is so."""
    end = time.monotonic() + 20
    while not is_so(state.look(now=True)):
        assert time.monotonic() < end
        time.sleep(0.02)


def is_ready(name: str) -> Callable[[Glance], bool]:
    return lambda glance: (glance.model, glance.loading) == (name, "ready")


def writes(state: AppState, name: str) -> str:
    """What a model makes of a beginning: no two have the same."""
    with state.writers.using(name) as writer:
        settings = GenerateSettings(max_tokens=12, seed=1)
        return str(writer.go_on("The river", settings, shades=False).text())


def test_a_renamed_model_stays_in_use(state: AppState) -> None:
    until(state, is_ready("one"))
    before = writes(state, "one")
    rename_model(state.workspace, "one", "uno")
    until(state, is_ready("uno"))
    assert state.writers.is_open("uno")
    until(state, lambda _: not state.writers.is_open("one"))
    assert writes(state, "uno") == before


def test_after_a_deleted_model_another_is_in_use_until_it_is_back(state: AppState) -> None:
    entry = delete_model(state.workspace, "one")
    until(state, is_ready("two"))
    until(state, lambda _: not state.writers.is_open("one"))
    name = restore(state.workspace, entry.id)
    state.use(name)
    until(state, is_ready("one"))


def test_an_overwritten_model_is_loaded_again(state: AppState) -> None:
    until(state, is_ready("one"))
    save_as(state.workspace, "two", "one", overwrite=True)
    until(state, lambda _: not state.writers.is_open("one"))
    until(state, is_ready("one"))
    assert writes(state, "one") == writes(state, "two")


def test_without_any_model_nothing_is_in_use_and_the_first_is_loaded(state: AppState) -> None:
    entries = [delete_model(state.workspace, name) for name in ("one", "two")]
    until(state, lambda glance: (glance.model, glance.loading) == (None, "none"))
    restore(state.workspace, entries[1].id)
    until(state, is_ready("two"))


def test_apps_that_start_at_once_sign_with_one_key(tmp_path: Path) -> None:
    """The key is whole before anybody sees it, and one that a crash left empty is made anew."""
    for number in range(20):
        place = Workspace(tmp_path / str(number))
        start = threading.Barrier(4)

        def secret(_: int, place: Workspace = place, start: threading.Barrier = start) -> str:
            start.wait()
            return storage_secret(place)

        with ThreadPoolExecutor(4) as threads:
            (found,) = set(threads.map(secret, range(4)))
        assert len(found) >= 32
        assert (place.home / "browser.key").stat().st_mode & 0o077 == 0
        assert [path.name for path in place.home.iterdir()] == ["browser.key"]
    (place.home / "browser.key").write_text("")
    assert len(storage_secret(place)) >= 32
