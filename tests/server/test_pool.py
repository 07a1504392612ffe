"""Models are opened when they are asked for and closed when others need the memory."""

import asyncio
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
from tests.loops import in_a_loop

from cllm.errors import NotFoundError, SettingsError
from cllm.infer.scheduler import BusyError
from cllm.jobs.model_service import (
    delete_model,
    rename_model,
    restore,
    save_as,
    write_defaults,
)
from cllm.jobs.opening import Decoding
from cllm.jobs.training_service import is_training
from cllm.server import pool as pool_module
from cllm.server.limits import Limits
from cllm.server.pool import Pool
from cllm.workspace.workspace import Workspace

NAMES = ("one", "two", "three")
# Weights of 27,904 floats and 2 slots of 96 tokens (24,576 bytes each) are 161 kB and a bit.
ONE_MODEL = 200_000


@pytest.fixture
def shelf(tmp_path, workspace):
    """A home with three models of the same size."""
    made = Workspace(tmp_path / "home")
    for name in NAMES:
        shutil.copytree(workspace.models.path("story"), made.home / "models" / name)
    return made


@pytest.fixture
def pool_of(shelf):
    pools = []

    def make(num_bytes=1 << 30, **more):
        pools.append(Pool(shelf, Limits(memory_bytes=num_bytes, most_slots=1), **more))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


async def use(pool, *names):
    for name in names:
        pool.give_back(await pool.take(name))


def names(pool):
    return [model.name for model in pool.loaded()]


def test_a_model_is_opened_once(pool_of):
    async def both(pool):
        return await asyncio.gather(*(pool.take("one") for _ in range(5)))

    pool = pool_of()
    found = in_a_loop(both(pool))
    assert len({id(model) for model in found}) == 1
    assert found[0].num_users == 5


def test_threads_of_the_loop_that_all_wait_for_a_model_get_it(pool_of, shelf):
    """Pages wait for models in threads of the loop, whose number is small."""

    async def ask(pool):
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(2))
        waiting = [
            asyncio.to_thread(
                lambda name: asyncio.run_coroutine_threadsafe(pool.take(name), loop).result(20),
                name,
            )
            for name in NAMES
        ]
        return await asyncio.gather(*waiting)

    assert [model.name for model in in_a_loop(ask(pool_of()))] == list(NAMES)


def test_the_newest_defaults_hold_whoever_reads_them_first(pool_of, shelf, monkeypatch):
    pool = pool_of()
    in_a_loop(use(pool, "one"))
    has_read, may_go_on = threading.Event(), threading.Event()

    def slowly(workspace, name):
        found = defaults_of(workspace, name)
        if found.max_tokens == 1:
            has_read.set()
            # The second must not get in between; without that it would by now.
            may_go_on.wait(1)
        return found

    defaults_of = pool_module._defaults
    monkeypatch.setattr(pool_module, "_defaults", slowly)
    write_defaults(shelf, "one", {"max_tokens": 1})
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(pool.read_defaults, "one")
        assert has_read.wait(20)
        write_defaults(shelf, "one", {"max_tokens": 2})
        second = threads.submit(pool.read_defaults, "one")
        second.add_done_callback(lambda _: may_go_on.set())
        first.result(20)
        second.result(20)
    assert pool.loaded()[0].defaults.max_tokens == 2


def test_the_longest_unused_is_closed_for_another(pool_of):
    pool = pool_of(2 * ONE_MODEL)
    in_a_loop(use(pool, "one", "two", "one", "three"))
    assert names(pool) == ["three", "one"]
    in_a_loop(use(pool, "two"))
    assert names(pool) == ["two", "three"]


def test_a_model_in_use_is_never_closed_for_another(pool_of):
    async def work(pool):
        one = await pool.take("one")
        with pytest.raises(BusyError, match="memory"):
            await pool.take("two")
        answer = one.scheduler.submit([1], one.defaults)
        assert await asyncio.to_thread(answer.text) is not None
        pool.give_back(one)
        pool.give_back(await pool.take("two"))

    pool = pool_of(ONE_MODEL)
    in_a_loop(work(pool))
    assert names(pool) == ["two"]


def test_a_model_that_can_never_fit_is_refused(pool_of):
    with pytest.raises(SettingsError, match="bytes"):
        in_a_loop(pool_of(100_000).take("one"))


def test_the_default_is_the_one_asked_for_else_the_last_used(pool_of, shelf, tmp_path):
    pool = pool_of()
    assert pool_of(default="two").resolve(None) == "two"
    in_a_loop(use(pool, "three", "one"))
    assert pool.resolve("cllm") == "one"
    # Also after a restart.
    assert pool_of().resolve("") == "one"
    empty = Pool(Workspace(tmp_path / "empty"), Limits(memory_bytes=1 << 20))
    with pytest.raises(NotFoundError, match="no model yet"):
        empty.resolve(None)


def test_a_model_replaced_on_disk_is_read_again(pool_of, shelf):
    async def work(pool):
        before = await pool.take("one")
        shutil.rmtree(shelf.models.path("one"))
        shutil.copytree(shelf.models.path("two"), shelf.home / "models" / "one")
        for file in (shelf.home / "models" / "one").iterdir():
            file.touch()
        after = await pool.take("one")
        assert after is not before
        # The old one still writes for those who have it.
        answer = before.scheduler.submit([1], before.defaults)
        assert await asyncio.to_thread(answer.text) is not None
        pool.give_back(before)
        pool.give_back(after)

    pool = pool_of()
    in_a_loop(work(pool))
    assert names(pool) == ["one"]


def until(is_so, seconds=20):
    end = time.monotonic() + seconds
    while not is_so() and time.monotonic() < end:
        time.sleep(0.02)
    assert is_so()


def threads_at_work(pool):
    """Threads of this process that compute while the open model reads a long text."""
    (model,) = pool.loaded()
    ids = np.ones(model.context, np.int32)

    def spent():
        return {thread.id: thread.user_time for thread in psutil.Process().threads()}

    before, end = spent(), time.monotonic() + 1.5
    while time.monotonic() < end:
        model.opened.observe(ids)
    return sum(value - before.get(number, 0.0) > 0.1 for number, value in spent().items())


def test_while_a_training_runs_open_models_compute_on_one_thread(pool_of, monkeypatch):
    monkeypatch.setattr("cllm.server.pool._LOOK_S", 0.02)
    is_training = False
    pool = pool_of(is_training=lambda: is_training, decoding=Decoding(threads=2))
    in_a_loop(use(pool, "one"))
    (model,) = pool.loaded()
    before = model.opened.observe(np.arange(5, dtype=np.int32)).logits
    is_training = True
    until(lambda: model.is_calm)
    # The very same model, and to the last bit the same figures.
    assert pool.loaded() == [model]
    assert threads_at_work(pool) == 1
    assert np.array_equal(model.opened.observe(np.arange(5, dtype=np.int32)).logits, before)
    in_a_loop(use(pool, "two"))
    assert all(open_one.is_calm for open_one in pool.loaded())
    is_training = False
    until(lambda: not any(open_one.is_calm for open_one in pool.loaded()))


def test_a_training_of_another_process_is_noticed(pool_of, shelf, monkeypatch):
    monkeypatch.setattr("cllm.server.pool._LOOK_S", 0.02)
    pool = pool_of(is_training=lambda: is_training(shelf))
    in_a_loop(use(pool, "one"))
    (model,) = pool.loaded()
    # What `cllm train` of a terminal does: a row in the database, and a process that is alive.
    run = shelf.runs.create("other", {}, ["cllm", "train"])
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    shelf.runs.update(run.id, state="training")
    shelf.runs.hand_over(run.id, process.pid)
    until(lambda: model.is_calm)
    # It is killed and says nothing.
    process.kill()
    process.wait()
    until(lambda: not model.is_calm)


def decoder_memory_is_freed(model):
    with pytest.raises(ValueError, match="closed"):
        model.opened.decoder.length(0)
    return True


@pytest.mark.parametrize("change", ["rename", "delete", "overwrite", "by hand"])
def test_a_model_that_is_no_more_what_it_was_is_let_go(pool_of, shelf, monkeypatch, change):
    async def work(pool):
        held = await pool.take("one")
        changes = {
            "rename": lambda: rename_model(shelf, "one", "uno"),
            "delete": lambda: delete_model(shelf, "one"),
            "overwrite": lambda: save_as(shelf, "two", "one", overwrite=True),
            "by hand": lambda: shutil.rmtree(shelf.home / "models" / "one"),
        }
        changes[change]()
        await asyncio.to_thread(until, lambda: not pool.loaded())
        # Its last text is written to the end.
        answer = held.scheduler.submit([1], held.defaults)
        assert await asyncio.to_thread(answer.text) is not None
        assert answer.passage.error is None
        if change != "overwrite":
            with pytest.raises(NotFoundError) as refused:
                await pool.take("one")
            assert "two" in str(refused.value.hint)
        pool.give_back(held)
        return held

    monkeypatch.setattr("cllm.server.pool._LOOK_S", 0.02)
    pool = pool_of()
    held = in_a_loop(work(pool))
    until(lambda: held.opened.decoder.is_closed)
    assert decoder_memory_is_freed(held)


def test_what_was_deleted_and_is_back_loads_again(pool_of, shelf, monkeypatch):
    monkeypatch.setattr("cllm.server.pool._LOOK_S", 0.02)
    pool = pool_of()
    in_a_loop(use(pool, "one"))
    (model,) = pool.loaded()
    entry = delete_model(shelf, "one")
    until(lambda: model.opened.decoder.is_closed)
    restore(shelf, entry.id)
    in_a_loop(use(pool, "one"))
    assert names(pool) == ["one"]
