"""A media socket without a network: bridge and far end in one process and one loop.

The same far end, the same faults, no bytes on a wire: in virtual time whole calls run in
milliseconds. What the bridge sends arrives within the call of ``send``; while the far end
does not read, 64 KiB wait, as in the buffers of two kernels, and then the link is clogged.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from voicebridge.emulator.line import Line

__all__ = ["Listener", "MemorySocket", "MemoryWire"]

_WINDOW_BYTES = 64 * 1024

_Sent = Literal["audio", "text", "ping"]


class Listener(Protocol):
    """The bridge's ear at a socket."""

    def on_audio(self, data: bytes) -> None: ...

    def on_text(self, text: str) -> None: ...

    def on_pong(self, payload: bytes) -> None: ...

    def on_close(self, code: int | None, reason: str) -> None:
        """Exactly once per socket."""


class MemorySocket:
    """The bridge's end."""

    def __init__(self, wire: MemoryWire) -> None:
        self._wire = wire

    def send(self, message: bytes) -> bool:
        """One binary message; False: the link is clogged or closed, nothing was taken."""
        return self._wire.take("audio", bytes(message))

    def send_text(self, text: str) -> None:
        """What a bridge should never send."""
        self._wire.take("text", text.encode())

    def allow(self, messages: int) -> None:
        """In memory nothing is ever under way."""

    def ping(self, payload: bytes) -> None:
        self._wire.take("ping", payload)

    async def close(self) -> None:
        self._wire.close(1000, "")


class MemoryWire:
    """The far end's: a ``Wire``. ``line`` is set before anything happens."""

    line: Line

    def __init__(self, listener: Listener, *, answer_pings: bool) -> None:
        self._listener = listener
        self._answer_pings = answer_pings
        self._reading = True
        self._inbox: deque[tuple[_Sent, bytes]] = deque()
        self._inbox_bytes = 0
        self._open = True

    def send_audio(self, data: bytes) -> None:
        if self._open:
            self._listener.on_audio(data)

    def send_text(self, text: str) -> None:
        if self._open:
            self._listener.on_text(text)

    def ping(self) -> None:
        """Answered by any WebSocket library; the bridge does not see it."""

    def close(self, code: int, reason: str) -> None:
        if not self._open:
            return
        self._open = False
        self.line.closed()
        self._listener.on_close(code, reason)

    def read(self, on: bool) -> None:
        self._reading = on
        while self._reading and self._inbox:
            kind, data = self._inbox.popleft()
            self._inbox_bytes -= len(data)
            self._deliver(kind, data)

    def take(self, kind: _Sent, data: bytes) -> bool:
        if not self._open or self._inbox_bytes + len(data) > _WINDOW_BYTES:
            return False
        if self._reading:
            self._deliver(kind, data)
        else:
            self._inbox.append((kind, data))
            self._inbox_bytes += len(data)
        return True

    def _deliver(self, kind: _Sent, data: bytes) -> None:
        match kind:
            case "audio":
                self.line.binary(data)
            case "text":
                self.line.text(data.decode(errors="replace"))
            case "ping":
                if self._answer_pings:
                    self.line.post(lambda: self._pong(data))

    def _pong(self, payload: bytes) -> None:
        if self._open:
            self._listener.on_pong(payload)
