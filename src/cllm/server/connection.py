"""Connections that can be cut: uvicorn's, for clients that take nothing."""

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
    """Puts `cut` into the state of each request; ends itself when an answer is never taken."""

    _num_left = 0

    def connection_made(self, transport: Any) -> None:
        """A client has come."""
        super().connection_made(transport)
        self.app_state: dict[str, Any] = {**self.app_state, "cut": transport.abort}

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
