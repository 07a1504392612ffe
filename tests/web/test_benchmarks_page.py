"""Benchmarks: measured by the command in a process of its own, told while it goes on."""

import asyncio
import sys
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from playwright.sync_api import Page, expect
from tests.web.conftest import is_within_width, serious

from cllm.errors import CllmError, InputError
from cllm.web.bench_worker import BenchWorker, command
from cllm.web.benchmarks_page import median, row
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


def test_figures_are_shown_with_progress_and_the_page_stays_alive(page: Page) -> None:
    page.goto("/benchmarks")
    expect(page.get_by_text("Nothing was measured yet")).to_be_visible()
    assert serious(page) == []
    page.get_by_role("button", name="Measure").click()
    expect(page.get_by_text("Measuring tiny (1 of 4)")).to_be_visible(timeout=30_000)
    # Told on every page, and stopped from another tab, too.
    page.goto("/models")
    expect(page.locator(".cllm-running")).to_contain_text("Benchmarks")
    page.goto("/benchmarks")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Measure")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("Nothing was measured yet")).to_be_visible()
    assert is_within_width(page)
