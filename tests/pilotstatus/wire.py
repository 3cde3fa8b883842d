"""An in-memory wire: a ``MediaSocket`` at one end, a sans-I/O server at the other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from websockets.frames import Frame
from websockets.http11 import Request
from websockets.server import ServerProtocol

from voicebridge.pilotstatus.media import MediaSocket
from voicebridge.pilotstatus.urls import MediaTarget

if TYPE_CHECKING:
    from websockets.http11 import Response

TARGET = MediaTarget(secure=False, host="media.test", port=80, resource="/m;v=1?token=s3cr3t%2F")


class Ear:
    """A listener that writes down what it is told; ``closed`` must stay a list of one."""

    def __init__(self) -> None:
        self.audio: list[bytes] = []
        self.texts: list[str] = []
        self.pongs: list[bytes] = []
        self.closed: list[tuple[int | None, str]] = []
        self.changed = asyncio.Event()

    def on_audio(self, data: bytes) -> None:
        self._hear()
        self.audio.append(data)

    def on_text(self, text: str) -> None:
        self._hear()
        self.texts.append(text)

    def on_pong(self, payload: bytes) -> None:
        self._hear()
        self.pongs.append(payload)

    def on_close(self, code: int | None, reason: str) -> None:
        self._hear()
        self.closed.append((code, reason))

    def _hear(self) -> None:
        assert not self.closed, "nothing may follow on_close"
        self.changed.set()


class Wire(asyncio.Transport):
    """The transport that a ``MediaSocket`` writes to; ``feed`` is what the network brings.

    ``clogged`` bytes are reported as waiting to be written.
    """

    def __init__(self, socket: MediaSocket) -> None:
        super().__init__()
        self.socket = socket
        self.server = ServerProtocol()
        self.requests: list[Request] = []
        self.frames: list[Frame] = []
        self.clogged = 0
        self.reading = True
        self._ended = False
        socket.connection_made(self)

    def accept(self) -> None:
        """Answer the upgrade, as a server does."""
        self.server.send_response(self.respond())
        self.deliver()

    def respond(self) -> Response:
        return self.server.accept(self.requests[0])

    def deliver(self, chunk: int = 65_536) -> None:
        """Bring what the server has to say, in pieces of ``chunk`` bytes."""
        self.feed(b"".join(self.server.data_to_send()), chunk)

    def feed(self, data: bytes, chunk: int = 65_536) -> None:
        while data and not self._ended:
            room = memoryview(self.socket.get_buffer(-1))
            piece = data[: min(chunk, len(room))]
            room[: len(piece)] = piece
            self.socket.buffer_updated(len(piece))
            data = data[len(piece) :]

    def end(self, error: Exception | None = None) -> None:
        """The network says end of file, or breaks with ``error``."""
        if self._ended:
            return
        if error is None:
            self.socket.eof_received()
        self.abort(error)

    # asyncio.Transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self._ended
        self.server.receive_data(bytes(data))
        for event in self.server.events_received():
            if isinstance(event, Request):
                self.requests.append(event)
            elif isinstance(event, Frame):
                self.frames.append(event)

    def abort(self, error: Exception | None = None) -> None:
        if not self._ended:
            self._ended = True
            asyncio.get_running_loop().call_soon(self.socket.connection_lost, error)

    def close(self) -> None:
        self.abort()

    def is_closing(self) -> bool:
        return self._ended

    def get_write_buffer_size(self) -> int:
        return self.clogged

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def connect(ear: Ear) -> Wire:
    """A media socket with its handshake done."""
    wire = Wire(MediaSocket(TARGET, ear))
    wire.accept()
    return wire
