"""The cards that pages look at every second: what `list_cards` says, at every change."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.web.conftest import make_model

from cllm.files import write_json
from cllm.jobs.model_service import ModelCard, list_cards, rename_model
from cllm.web import card_shelf
from cllm.web.card_shelf import CardShelf
from cllm.workspace.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "home")
    make_model(made, "story", knows_dialogue=False)
    return made


def told(cards: Sequence[ModelCard]) -> list[ModelCard]:
    return [replace(card, is_last_used=False) for card in cards]


def test_every_change_of_a_folder_is_seen_at_once(workspace: Workspace) -> None:
    shelf = CardShelf(workspace)
    root = workspace.models.root
    changes = (
        lambda: None,
        lambda: workspace.models.copy("story", "copied"),
        lambda: rename_model(workspace, "copied", "named"),
        lambda: shutil.copytree(root / "story", root / "by-hand"),
        lambda: write_json(root / "by-hand" / "training.json", {"val_bits_per_byte": 2.5}),
        lambda: shutil.rmtree(root / "named"),
        (root / "by-hand" / "config.json").unlink,
    )
    for change in changes:
        change()
        assert told(shelf.cards()) == told(list_cards(workspace))


def test_nothing_is_read_where_nothing_has_changed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.models.copy("story", "copied")
    shelf = CardShelf(workspace)
    first = shelf.cards()
    read: list[str] = []
    real = card_shelf.model_card
    monkeypatch.setattr(
        card_shelf, "model_card", lambda place, name: read.append(name) or real(place, name)
    )
    assert shelf.cards() == first
    assert read == []
    os.utime(workspace.models.root / "copied")
    assert shelf.cards() == first
    assert read == ["copied"]


def test_sample_that_comes_after_the_model_is_seen(workspace: Workspace) -> None:
    run = workspace.home / "runs" / "r1"
    run.mkdir(parents=True)
    write_json(workspace.models.root / "story" / "training.json", {"run": "r1"})
    shelf = CardShelf(workspace)
    assert shelf.cards()[0].sample is None
    write_json(run / "result.json", {"prompt": "The", "last_sample": " mill"})
    assert shelf.cards()[0].sample == " mill"


def test_model_without_its_marker_is_no_longer_there(workspace: Workspace) -> None:
    shelf = CardShelf(workspace)
    assert [card.name for card in shelf.cards()] == ["story"]
    shutil.rmtree(workspace.models.root / "story")
    assert shelf.cards() == ()
