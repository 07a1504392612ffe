"""What one thread notes, those who follow in a loop get to know: all of it, and the end at once."""

import asyncio
import threading

import pytest
from tests.loops import in_a_loop

from cllm.server.news import News


@pytest.mark.parametrize("num_followers", [1, 3, 64])
def test_no_news_is_lost(num_followers):
    news, count = News(), 200
    written = [0] * num_followers

    async def follow(follower, number):
        wakings = 0
        while written[number] < count:
            await follower.wait()
            wakings += 1
        follower.close()
        # What was noted since the last look is told once, not once for each note.
        assert wakings <= count

    async def all_follow():
        followers = [news.follow() for _ in range(num_followers)]

        def write():
            for step in range(1, count + 1):
                for number, follower in enumerate(followers):
                    written[number] = step
                    follower.note(False)

        writing = threading.Thread(target=write)
        writing.start()
        await asyncio.gather(*(follow(one, number) for number, one in enumerate(followers)))
        writing.join()

    in_a_loop(all_follow())
    assert written == [count] * num_followers


def test_an_end_does_not_wait_for_what_gathers():
    news = News()
    woken = []

    async def follow(follower, name):
        await follower.wait()
        woken.append(name)

    async def many():
        first, *others = [news.follow() for _ in range(64)]
        # The first news are told at once; what follows gathers.
        first.note(False)
        await first.wait()
        waiting = [
            asyncio.create_task(follow(one, number)) for number, one in enumerate(others, start=1)
        ]
        await asyncio.sleep(0)
        for one in others[:-1]:
            one.note(False)
        others[-1].note(True)
        await waiting[-1]
        assert woken == [63]
        await asyncio.gather(*waiting)

    in_a_loop(many())
    assert sorted(woken) == list(range(1, 64))


def test_after_its_loop_has_ended_news_are_for_nobody():
    news = News()

    async def follow():
        return news.follow()

    in_a_loop(follow()).note(True)
