"""Connections that can be cut: uvicorn's, for clients that ask nothing or take nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, final

from uvicorn.protocols.http.auto import AutoHTTPProtocol

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol as Base
else:
    Base = AutoHTTPProtocol


@final
class Connection(Base):
    """Puts `cut` into the state of each request.

    Ends itself when a request's head does not come in time, or an answer is never taken.
    """

    _num_left = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A client has come."""
        super().connection_made(transport)
        self.app_state: dict[str, Any] = {**self.app_state, "cut": transport.abort}
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Something was sent: the keep-alive timer has stopped, ours runs until the head ends."""
        super().data_received(data)
        # With a WebSocket the transport has another protocol, which has timers of its own.
        is_upgraded = self.transport.get_protocol() is not self
        if is_upgraded or (self.cycle is not None and not self.cycle.response_complete):
            self._stop_awaiting()
        elif self._head_timer is None and not self.transport.is_closing():
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or was cut off."""
        self._stop_awaiting()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        loop = asyncio.get_running_loop()
        self._head_timer = loop.call_later(self.timeout_keep_alive, self.transport.abort)

    def _stop_awaiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def timeout_keep_alive_handler(self) -> None:
        """Nothing was asked for a while: perhaps because the last answer is still on its way."""
        num_left = self.transport.get_write_buffer_size()
        if not num_left:
            super().timeout_keep_alive_handler()
        elif num_left == self._num_left:
            self.transport.abort()
        else:
            self._num_left = num_left
            loop = asyncio.get_running_loop()
            self.timeout_keep_alive_task = loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
