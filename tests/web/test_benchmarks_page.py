"""Benchmarks: measured by the command in a process of its own, told while it goes on."""

import asyncio
import re
import sys
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from playwright.sync_api import Page, expect
from tests.web.conftest import WIDTHS, is_within_width, serious

from cllm.errors import CllmError, InputError
from cllm.web.bench_comparison import groups, shown, verdict
from cllm.web.bench_worker import BenchWorker, command
from cllm.web.benchmarks_page import axis_start, median, row
from cllm.workspace.workspace import Workspace

T = TypeVar("T")


def apart(work: Coroutine[Any, Any, T]) -> T:
    """Run it in a loop of its own: the browser's driver has one in this thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def test_it_runs_the_command_that_a_person_would_type() -> None:
    made = command("-n", (), 20.0)
    assert made[0] == sys.executable
    # A model's name is never taken for a flag.
    assert made[1:] == ["-m", "cllm", "bench", "--json", "--seconds", "20", "--", "-n"]
    assert command(None, ("tiny",), 1.5)[-3:] == ["1.5", "--preset", "tiny"]
    assert command(None, (), 1.5, peers=True)[-2:] == ["1.5", "--peers"]


def test_it_measures_in_a_child_and_keeps_what_it_found(home: Path) -> None:
    worker = BenchWorker(Workspace(home))
    assert worker.last() is None
    steps: list[tuple[str, int, int]] = []
    waits: list[float] = []

    async def measure() -> dict[str, object] | None:
        task = asyncio.create_task(worker.measure(presets=("tiny",), seconds=1.0))
        while not task.done():
            before = time.perf_counter()
            await asyncio.sleep(0.01)
            waits.append(time.perf_counter() - before)
            if worker.step is not None and worker.step not in steps:
                steps.append(worker.step)
            if len(waits) == 20:
                with pytest.raises(InputError, match="measures already"):
                    await worker.measure()
        return task.result()

    found = apart(measure())
    assert found is not None
    assert steps == [("tiny", 0, 1)]
    [model] = found["models"]  # type: ignore[misc]
    assert model["name"] == "tiny"
    assert {figures["format"] for figures in model["formats"]} == {"float32", "int8", "int4"}
    assert median(model["formats"][0]["decode_tokens_per_s"]) > 0  # type: ignore[operator]
    kept = worker.last()
    assert kept is not None
    assert kept["models"] == found["models"]
    assert not worker.is_running
    first = row(model, model["formats"][0], is_first=True)
    assert first[0].startswith("tiny (")
    assert first[1] == "32 bits"
    assert len(first) == 9


def test_what_the_command_refuses_is_told(home: Path) -> None:
    worker = BenchWorker(Workspace(home))
    with pytest.raises(CllmError) as refused:
        apart(worker.measure(model="nobody", seconds=1.0))
    assert "nobody" in (refused.value.hint or "")
    assert worker.last() is None


def test_stopped_it_ends_at_once_and_keeps_nothing(home: Path) -> None:
    worker = BenchWorker(Workspace(home))

    async def stop() -> dict[str, object] | None:
        task = asyncio.create_task(worker.measure(seconds=600.0))
        while worker.step is None:
            await asyncio.sleep(0.02)
        worker.stop()
        return await asyncio.wait_for(task, 30)

    assert apart(stop()) is None
    assert worker.last() is None
    assert not worker.is_running


def rates(median: float) -> dict[str, float]:
    return {"median": median, "least": median, "greatest": median, "rounds": 5}


def peer(program: str, form: str, against: str, **figures: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"program": program, "format": form, "against": against}
    made |= {"peak_bytes": figures.pop("peak", None), "problem": figures.pop("problem", None)}
    return made | {name: rates(value) for name, value in figures.items()}


def found_beside() -> dict[str, Any]:
    """A result: faster than one program, slower than another, and one that broke."""
    speeds = {f"{work}_tokens_per_s": rates(1000.0) for work in ("prefill", "batch_8", "batch_32")}
    own = {"format": "float32", "decode_tokens_per_s": rates(500.0), "peak_bytes": 60_000_000}
    own |= speeds | {"first_token_s": rates(0.001), "process_bytes": 59_000_000}
    peers = [
        peer("llama.cpp", "F32", "float32", decode_tokens_per_s=1000, decode_times=0.5),
        peer("ONNX Runtime", "float32", "float32", decode_tokens_per_s=50, decode_times=10,
             peak=30_000_000),
        peer("transformers", "float32", "float32", problem="no room"),
    ]  # fmt: skip
    model = {"name": "tiny", "parameters": 127_424, "formats": [own], "peers": peers}
    model |= {"training_tokens_per_s": None, "peers_notice": None}
    here = {"name": "llama.cpp", "version": "llama-cpp-python 0.3.36", "install": "pip install x"}
    away = {"name": "transformers", "version": None, "install": "pip install transformers torch"}
    return {
        "models": [model], "programs": [here, away], "busy_before": 0.5, "busy_after": 0.1,
        "is_disturbed": True, "processor": "Abacus 9", "cores": 3, "versions": {"cllm": "0.1"},
        "measured_at": datetime(2025, 3, 1, 14, 30).timestamp(),
    }  # fmt: skip


def test_ours_stands_first_and_a_ratio_below_one_is_a_loss() -> None:
    found = found_beside()
    [(label, bars)] = groups(found["models"][0], "decode")
    assert label == "32 and 16 bits"
    assert [(bar.name, bar.value, bar.times, bar.is_loss) for bar in bars] == [
        ("cllm", 500, None, False),
        ("llama.cpp F32", 1000, 0.5, True),
        ("ONNX Runtime float32", 50, 10, False),
    ]
    # Of memory less is better: half as much is a loss.
    [(_, bars)] = groups(found["models"][0], "memory")
    assert [(bar.times, bar.is_loss) for bar in bars] == [(None, False), (0.5, True)]
    assert groups(found["models"][0], "training") == []
    counted, behind = verdict(found)
    assert counted == "cllm is ahead in 1 of 3 comparisons, behind in 2."
    assert sorted(behind) == [
        "tiny, memory: ONNX Runtime float32 ×0.50",
        "tiny, one text: llama.cpp F32 ×0.50",
    ]
    assert [shown(times) for times in (0.521, 9.94, 9.96, 99.6)] == [
        "×0.52", "×9.94", "×10.0", "×100",
    ]  # fmt: skip


def test_the_smallest_bar_of_the_picture_is_seen() -> None:
    assert [axis_start(least) for least in (950, 200, 104, 12)] == [100, 100, 10, 1]


def test_on_a_narrow_window_the_table_says_that_it_goes_on(page: Page, app_home: Path) -> None:
    preferences = Workspace(app_home).preferences
    preferences.set("benchmarks", found_beside())
    told = page.get_by_text("The table goes on to the right.")
    try:
        page.set_viewport_size({"width": 390, "height": 844})
        page.goto("/benchmarks")
        expect(told).to_be_visible()
        last = page.locator(".cllm-bench-table thead th").last
        assert (last.bounding_box() or {})["x"] > 390
        last.scroll_into_view_if_needed()
        assert (last.bounding_box() or {})["x"] < 390
        assert is_within_width(page)
        page.set_viewport_size({"width": 1200, "height": 800})
        expect(told).to_be_hidden()
    finally:
        preferences.set("benchmarks", None)


def test_the_last_result_is_shown_with_date_and_machine(page: Page, app_home: Path) -> None:
    preferences = Workspace(app_home).preferences
    preferences.set("benchmarks", found_beside())
    try:
        for scheme in ("light", "dark"):
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                page.emulate_media(color_scheme=scheme)
                page.goto("/benchmarks")
                told = "Measured 1 Mar 2025, 14:30, on Abacus 9, 3 cores."
                expect(page.get_by_text(told)).to_be_visible()
                expect(page.get_by_text("Other programs used 50% of the proc")).to_be_visible()
                expect(page.get_by_text("behind in 2.")).to_be_visible()
                assert is_within_width(page)
                assert serious(page) == []
        loss = page.locator(".cllm-bench-times.is-loss")
        expect(loss).to_have_text(["×0.50"])
        expect(
            page.get_by_text("tiny: transformers float32 has no figures: no room")
        ).to_be_visible()
        expect(page.get_by_text("pip install transformers torch")).to_be_visible()
        page.get_by_role("button", name="Memory").click()
        expect(page.get_by_text("below 1 cllm takes more")).to_be_visible()
        expect(page.locator(".cllm-bench-bars li")).to_have_count(2)
    finally:
        preferences.set("benchmarks", None)


def test_beside_a_training_the_figures_are_said_to_be_low(page: Page, app_home: Path) -> None:
    runs = Workspace(app_home).runs
    run = runs.create("tales", {}).id
    warning = page.get_by_text("A training is at work: the figures will be low.")
    try:
        runs.update(run, state="training")
        page.goto("/benchmarks")
        expect(warning).to_be_visible()
        runs.update(run, state="paused")
        expect(warning).to_be_hidden()
    finally:
        runs.remove(run, by_worker=True)


def test_other_programs_are_compared_where_they_are_wanted(page: Page) -> None:
    page.goto("/benchmarks")
    page.get_by_role("switch", name="Compare with other programs").click()
    expect(page.get_by_text("On the same weights, in turns")).to_be_visible()
    expect(page.get_by_text("3 minutes or more")).to_be_visible()
    page.get_by_role("button", name="Measure").click()
    # It moves while the first model is still at work.
    expect(page.get_by_text("Measuring tiny (1 of 4)")).to_be_visible(timeout=60_000)
    moved = "parseFloat(document.querySelector('.cllm-bench-progress .cllm-meter > span')"
    page.wait_for_function(f"{moved}?.style.getPropertyValue('--share')) > 0", timeout=60_000)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Measure")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("Nothing was measured yet")).to_be_visible()


def test_figures_are_shown_with_progress_and_the_page_stays_alive(page: Page) -> None:
    page.goto("/benchmarks")
    expect(page.get_by_text("Nothing was measured yet")).to_be_visible()
    assert serious(page) == []
    page.get_by_role("button", name="Measure").click()
    expect(
        page.get_by_text(re.compile(r"Measuring tiny \(1 of 4\), \d+%, \d:\d\d"))
    ).to_be_visible()
    expect(page.get_by_text("Nothing was measured yet")).to_be_hidden()
    # Told on every page, and stopped from another tab, too.
    page.goto("/models")
    expect(page.locator(".cllm-running")).to_contain_text("Benchmarks 1 of 4")
    page.goto("/benchmarks")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Measure")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("Nothing was measured yet")).to_be_visible()
    assert is_within_width(page)
