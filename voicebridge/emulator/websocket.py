"""A media socket over TCP: RFC 6455 on the sans-I/O protocol of websockets.

Its own shell rather than the library's server because the faults need every byte under
control: a handshake that hangs, a pong held back by a stalled network, a connection cut
without a close frame, a socket that is not read. It also costs no task per call.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

if TYPE_CHECKING:
    from voicebridge.emulator.line import Line, Wire
    from voicebridge.emulator.tickets import Ticket, Verdict

__all__ = ["Doorkeeper", "WebSocketWire"]

_HANDSHAKE_S = 10.0
_CLOSE_S = 2.0
_MAX_MESSAGE = 1 << 20
_MAX_UNSENT = 1 << 20
_PONG_BYTE = 0x8A

# The library would log request targets, which carry tokens.
_SILENT = logging.Logger("voicebridge.emulator.media", logging.CRITICAL + 1)


class Doorkeeper(Protocol):
    """Decides about handshakes and knows the open connections (``media.MediaHost``)."""

    def enter(self, wire: WebSocketWire) -> bool:
        """A connection was accepted; False: there are too many."""

    def leave(self, wire: WebSocketWire) -> None: ...

    def admit(self, target: str, headers: tuple[str, ...]) -> Ticket | Verdict: ...

    def line(self, ticket: Ticket, wire: Wire) -> Line: ...


class WebSocketWire(asyncio.Protocol):
    """One accepted connection: a ``Wire`` over TCP."""

    def __init__(self, host: Doorkeeper) -> None:
        self._host = host
        self._ws = ServerProtocol(max_size=_MAX_MESSAGE, logger=_SILENT)
        self._line: Line | None = None
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._parts: list[bytes] = []
        self._kind = Opcode.BINARY
        self._hanging = False
        self._answer_pings = True

    # asyncio.Protocol

    def connection_made(self, base: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        transport = self._transport = cast("asyncio.Transport", base)
        if not self._host.enter(self):
            transport.abort()
            return
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(_HANDSHAKE_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._hanging:
            return
        self._ws.receive_data(data)
        self._process()

    def eof_received(self) -> bool:
        self._ws.receive_eof()
        self._process()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._host.leave(self)
        self._stop_waiting()
        if self._line is not None:
            self._line.closed()

    # Wire

    def send_audio(self, data: bytes) -> None:
        # A bridge that does not read loses audio here, as the provider's queue would.
        if self._ws.state is State.OPEN and self._unsent() < _MAX_UNSENT:
            self._ws.send_binary(data)
            self._write_all()

    def send_text(self, text: str) -> None:
        if self._ws.state is State.OPEN:
            self._ws.send_text(text.encode())
            self._write_all()

    def ping(self) -> None:
        if self._ws.state is State.OPEN:
            self._ws.send_ping(b"")
            self._write_all()

    def close(self, code: int, reason: str) -> None:
        if code == 1006:
            self.abort()
        elif self._ws.state is State.OPEN:
            self._ws.send_close(code, reason)
            self._write_all()
            self._expect_end()

    def read(self, on: bool) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if on:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def abort(self) -> None:
        """Cut the connection: the other side sees 1006."""
        if self._transport is not None:
            self._transport.abort()

    def reset(self) -> None:
        """The same as a TCP reset."""
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def _process(self) -> None:
        for event in self._ws.events_received():
            if isinstance(event, Request):
                self._handshake(event)
            elif isinstance(event, Frame):
                self._frame(event)
        self._answer()
        if self._ws.close_expected():
            self._expect_end()

    def _handshake(self, request: Request) -> None:
        names = tuple(name.lower() for name, _ in request.headers.raw_items())
        admission = self._host.admit(request.path, names)
        if admission == "hang":
            self._hanging = True  # the deadline of the handshake ends it
            return
        if admission == "reset":
            self.reset()
            return
        if isinstance(admission, int):
            self._refuse(admission)
            return
        response = self._ws.accept(request)
        self._ws.send_response(response)
        self._write_all()
        if response.status_code != 101:
            return
        self._stop_waiting()
        self._answer_pings = admission.call.behaviour.media.answer_pings
        self._line = self._host.line(admission, self)
        self._line.open()

    def _refuse(self, status: int) -> None:
        headers = Headers({"Connection": "close", "Content-Length": "0"})
        if 300 <= status < 400:
            headers["Location"] = "ws://elsewhere.invalid/"
        self._ws.send_response(Response(status, http.client.responses.get(status, ""), headers))
        self._write_all()

    def _frame(self, frame: Frame) -> None:
        if self._line is None:
            return
        match frame.opcode:
            case Opcode.BINARY | Opcode.TEXT:
                self._kind, self._parts = frame.opcode, [bytes(frame.data)]
            case Opcode.CONT:
                self._parts.append(bytes(frame.data))
            case _:
                return
        if not frame.fin:
            return
        message = b"".join(self._parts)
        self._parts = []
        if self._kind is Opcode.BINARY:
            self._line.binary(message)
        else:
            self._line.text(message.decode(errors="replace"))

    def _answer(self) -> None:
        """Send what the protocol made of the input: pongs and close frames, by the network."""
        for chunk in self._ws.data_to_send():
            if chunk and chunk[0] == _PONG_BYTE and not self._answer_pings:
                continue
            if self._line is None:
                self._write(chunk)
            else:
                self._line.post(partial(self._write, chunk))

    def _write_all(self) -> None:
        for chunk in self._ws.data_to_send():
            self._write(chunk)

    def _write(self, chunk: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if chunk:
            self._transport.write(chunk)
        else:
            self._transport.close()  # the protocol's mark for the end of the stream

    def _expect_end(self) -> None:
        if self._deadline is None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(_CLOSE_S, self.abort)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _unsent(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()
