"""Connections that may not linger: deadlines and a cap beneath the application.

uvicorn waits for ever for the end of a request's head and body, and has no bound on
open connections that leaves room for the honest ones. One rule: a stranger who sends
nothing useful loses the connection, and never costs another client its answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

    from uvicorn.config import Config
    from uvicorn.protocols.http.h11_impl import RequestResponseCycle
    from uvicorn.server import ServerState

__all__ = ["ConnectionGuard", "ConnectionLimits", "GuardedProtocol"]


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Bounds of one server.

    ``head_seconds`` and ``body_seconds`` are for the whole head and the whole body of a
    request, however steadily its bytes drip. ``unread_seconds`` is how long a client may
    leave its answers unread.
    """

    max_connections: int = 512
    head_seconds: float = 5.0
    body_seconds: float = 10.0
    unread_seconds: float = 10.0


class ConnectionGuard:
    """Which connections are open; one per server.

    When one too many comes, the connection that has gone longest without a request being
    answered on it is cut. Only where all are being answered is the newcomer cut.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.cut = 0
        self._busy: set[GuardedProtocol] = set()
        self._idle: dict[GuardedProtocol, None] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._busy) + len(self._idle)

    def opened(self, connection: GuardedProtocol) -> None:
        if len(self) >= self.limits.max_connections:
            self.cut += 1
            oldest = next(iter(self._idle), None)
            if oldest is None:
                connection.transport.abort()
                return
            del self._idle[oldest]
            oldest.transport.abort()
        self._idle[connection] = None

    def busy(self, connection: GuardedProtocol) -> None:
        if connection in self._idle:
            del self._idle[connection]
            self._busy.add(connection)

    def idle(self, connection: GuardedProtocol) -> None:
        if connection in self._busy:
            self._busy.remove(connection)
            self._idle[connection] = None

    def closed(self, connection: GuardedProtocol) -> None:
        self._idle.pop(connection, None)
        self._busy.discard(connection)

    def cut_all(self) -> None:
        """Ends every connection at once."""
        for connection in [*self._busy, *self._idle]:
            connection.transport.abort()


class GuardedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 connection with a deadline for each stage of a request."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        guard: ConnectionGuard,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._guard = guard
        self._awaited: Literal["head", "body"] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._guard.opened(self)
        self._expect("head")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._follow()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._follow()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        self.resume_writing()
        self._guard.closed(self)
        super().connection_lost(exc)
        # uvicorn leaves its keep-alive timer running after an error.
        self._unset_keepalive_if_required()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(self._guard.limits.unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        super().resume_writing()

    def _follow(self) -> None:
        """Sets the deadline that fits the stage which the connection has reached."""
        if self.transport.is_closing():
            return
        # The annotation hides that there is no cycle before the first request.
        cycle: RequestResponseCycle | None = self.cycle
        answering = cycle is not None and not cycle.response_complete
        if answering:
            self._guard.busy(self)
        else:
            self._guard.idle(self)
        match self.conn.their_state:
            case h11.SEND_BODY:
                self._expect("body")
            case h11.IDLE if not answering and self.timeout_keep_alive_task is None:
                self._expect("head")  # some of it is here; between requests, uvicorn's timer runs
            case _:
                self._expect(None)

    def _expect(self, awaited: Literal["head", "body"] | None) -> None:
        if awaited == self._awaited:
            return  # the deadline is for the whole of it, not for its next byte
        self._awaited = awaited
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if awaited is not None:
            limits = self._guard.limits
            seconds = limits.head_seconds if awaited == "head" else limits.body_seconds
            self._deadline = self.loop.call_later(seconds, self.transport.abort)
