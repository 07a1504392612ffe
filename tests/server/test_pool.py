"""Models are opened when they are asked for and closed when others need the memory."""

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from cllm.errors import NotFoundError, SettingsError
from cllm.infer.scheduler import BusyError
from cllm.server.limits import Limits
from cllm.server.pool import Pool
from cllm.workspace.workspace import Workspace


def in_a_loop(work):
    """What a coroutine returns, run in a thread: this one may have a loop of the browser's."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


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


def test_while_a_training_runs_models_are_opened_for_one_thread(pool_of):
    is_training = False
    pool = pool_of(is_training=lambda: is_training)
    in_a_loop(use(pool, "one"))
    (idle,) = pool.loaded()
    is_training = True
    in_a_loop(use(pool, "one"))
    (calm,) = pool.loaded()
    assert calm is not idle
    assert calm.stamp[-1] == 1
