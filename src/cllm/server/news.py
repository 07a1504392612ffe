"""From the thread that writes texts to the loop that sends them on."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import final

# The more follow, the more each look is to bring.
_MORE_S, _MOST_S = 0.0008, 0.05


@final
class News:
    """Wakes those who follow texts: one call into the loop for all that a step has written.

    With many followers what is new gathers for up to 50 ms; the end of a text is told at once.
    """

    def __init__(self) -> None:
        self._noted: deque[tuple[Follower, bool]] = deque()
        self._is_due = False
        self._held: set[Follower] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._told_at = 0.0
        self._num_followers = 0

    def follow(self) -> Follower:
        """One more who wants to know, in the loop that runs; to be closed."""
        self._num_followers += 1
        return Follower(self, asyncio.get_running_loop())

    def leave(self, follower: Follower) -> None:
        """One less."""
        self._num_followers -= 1
        self._held.discard(follower)

    def note(self, follower: Follower, *, is_end: bool) -> None:
        """There is something new; from any thread."""
        self._noted.append((follower, is_end))
        # Whoever looks takes the mark away first: what is noted from then on is seen or due.
        if not self._is_due:
            self._is_due = True
            # A server that has stopped has no loop any more.
            with suppress(RuntimeError):
                follower.loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        self._is_due = False
        while self._noted:
            follower, is_end = self._noted.popleft()
            if is_end:
                self._held.discard(follower)
                follower.wake()
            else:
                self._held.add(follower)
            loop = follower.loop
        if self._held and self._timer is None:
            wait = min(_MORE_S * (self._num_followers - 1), _MOST_S)
            left = self._told_at + wait - loop.time()
            if left > 0:
                self._timer = loop.call_later(left, self._tell)
            else:
                self._tell()

    def _tell(self) -> None:
        self._timer = None
        for follower in self._held:
            follower.wake()
            self._told_at = follower.loop.time()
        self._held.clear()


@final
class Follower:
    """One who waits for news."""

    def __init__(self, news: News, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._news = news
        self._has_news = False
        self._waiting: asyncio.Future[None] | None = None

    def note(self, is_end: bool) -> None:
        """There is something new; from any thread."""
        self._news.note(self, is_end=is_end)

    def wake(self) -> None:
        """Let it look; in its loop."""
        self._has_news = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def wait(self) -> None:
        """Until there has been something new since the last time."""
        if not self._has_news:
            self._waiting = self.loop.create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        self._has_news = False

    def close(self) -> None:
        """It follows no more."""
        self._news.leave(self)
