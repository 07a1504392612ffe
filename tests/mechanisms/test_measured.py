"""What the catalogue says of measurements is there, and stands in the documentation."""

import json
from pathlib import Path

import pytest

from cllm.jobs.mechanisms import catalogue_records, set_records
from cllm.model.mechanisms import catalogue
from cllm.model.mechanisms.catalogue import MEASURED_FILE, measured_gain
from cllm.model.mechanisms.choose import choose

PAGE = Path(__file__).parents[2] / "docs" / "mechanisms.md"


def test_whatever_is_called_measured_has_its_figure_and_its_line_on_the_page():
    page = PAGE.read_text(encoding="utf-8")
    missing = [
        record["name"]
        for record in catalogue_records()
        if record["status"] == "measured"
        and (record["measured"] is None or f"`{record['name']}`" not in page)
    ]
    assert missing == []


def test_the_set_has_its_gain_and_the_page_says_the_same():
    [crystal] = [entry for entry in set_records() if entry["name"] == "crystal"]
    assert "bits per byte" in crystal["gain"]
    figures = json.loads(MEASURED_FILE.read_text(encoding="utf-8"))["sets"]["crystal"]
    assert f"{figures['gain_percent']:+.2f}%" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "items",
    [
        ["none"],
        ["ngram"],
        ["crystal", "crystal.placebo=true"],
        ["crystal", "schumann.kind=static"],
        ["crystal", "dampening"],
    ],
)
def test_a_gain_is_told_of_exactly_what_was_measured(items, monkeypatch):
    figures = {"sets": {"crystal": {"gain": "much better"}}}
    monkeypatch.setattr(catalogue, "measured", lambda: figures)
    assert measured_gain(choose(["crystal"])) == "much better"
    assert measured_gain(choose(items)) is None
