"""The media host: who may open a socket, over TCP or in memory, and to which call.

It listens on a port of its own, as the provider's media host is another host than its API.
The one rule: a token is looked at once, whatever becomes of the handshake.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from voicebridge.emulator.line import Line, Wire
from voicebridge.emulator.memory import Listener, MemorySocket, MemoryWire
from voicebridge.emulator.ports import listening_socket
from voicebridge.emulator.ticker import Ticker
from voicebridge.emulator.websocket import WebSocketWire
from voicebridge.errors import MediaUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import SecretStr

    from voicebridge.emulator.exchange import Exchange
    from voicebridge.emulator.tickets import Ticket, Tickets, Verdict

__all__ = ["MediaHost"]

_MAX_SOCKETS = 5_000
_STOP_S = 2.0


class MediaHost:
    """Admits sockets by token and joins them to their calls.

    ``handshakes`` holds the header names (lower case) of the last 1,000 handshakes.
    """

    def __init__(self, exchange: Exchange, tickets: Tickets, now: Callable[[], float]) -> None:
        self.handshakes: deque[tuple[str, ...]] = deque(maxlen=1_000)
        self._wires: set[WebSocketWire] = set()
        self._exchange = exchange
        self._tickets = tickets
        self._now = now
        self._ticker = Ticker()
        self._server: asyncio.Server | None = None
        self._script: tuple[Verdict | Literal["ok"], ...] = ()
        self._pending: deque[Verdict | Literal["ok"]] = deque()

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which ``port`` 0 leaves to the system.

        Raises ``ConfigError`` where it cannot be had.
        """
        loop = asyncio.get_running_loop()
        sock = listening_socket(host, port)
        self._server = await loop.create_server(lambda: WebSocketWire(self), sock=sock)
        bound: int = sock.getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Close the port and cut what is still open."""
        if self._server is not None:
            self._server.close()
        for wire in list(self._wires):
            wire.abort()
        self._ticker.close()
        if self._server is not None:
            async with asyncio.timeout(_STOP_S):
                await self._server.wait_closed()
            self._server = None

    async def connect(self, ws_url: SecretStr, listener: Listener) -> MemorySocket:
        """A socket in memory. Raises ``MediaUnavailable`` where a handshake would fail, and
        waits for ever where it is to hang."""
        parts = urlsplit(ws_url.get_secret_value())
        admission = self.admit(f"{parts.path}?{parts.query}", ())
        if admission == "hang":
            await asyncio.get_running_loop().create_future()
        if isinstance(admission, str):
            raise MediaUnavailable("the media host cut the connection during the handshake")
        if isinstance(admission, int):
            raise MediaUnavailable(
                f"the media host answered the handshake with status {admission}", status=admission
            )
        wire = MemoryWire(listener, answer_pings=admission.call.behaviour.media.answer_pings)
        wire.line = self.line(admission, wire)
        # Whoever connects expects to hold the socket before anything happens on it.
        asyncio.get_running_loop().call_soon(wire.line.open)
        return MemorySocket(wire)

    def enter(self, wire: WebSocketWire) -> bool:
        if len(self._wires) >= _MAX_SOCKETS:
            return False
        self._wires.add(wire)
        return True

    def leave(self, wire: WebSocketWire) -> None:
        self._wires.discard(wire)

    def admit(self, target: str, headers: tuple[str, ...]) -> Ticket | Verdict:
        """What a handshake for ``target`` gets: its ticket, a status, or a fault."""
        self.handshakes.append(headers)
        behaviour = self._exchange.behaviour
        ticket = self._tickets.redeem(target, self._now(), reusable=behaviour.rest.token_reusable)
        if behaviour.media.handshakes != self._script:
            self._script = behaviour.media.handshakes
            self._pending = deque(behaviour.media.handshakes)
        scripted = self._pending.popleft() if self._pending else "ok"
        return ticket if scripted == "ok" else scripted

    def line(self, ticket: Ticket, wire: Wire) -> Line:
        return Line(
            ticket.call,
            wire,
            ticket.mode,
            exchange=self._exchange,
            ticker=self._ticker,
            now=self._now,
        )
