"""The realtime media socket: one WebSocket per session, PCM in binary messages.

Receiving is a plain call: bytes that arrive go through the sans-I/O protocol straight
to the listener, and no task is woken. Sending is a plain write. The one rule: nothing
waits in here. A message that the network would not take now is refused, so that the
caller may still change its mind about it, since audio that is written cannot be unsaid.

The URL's token is spent by one attempt, whatever comes of it (a dialer never retries),
and nothing of the URL reaches a log line or an exception.

Sources: https://docs.pilotstatus.com.br (realtime session), RFC 6455.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import re
import socket as sockets
import ssl
from typing import TYPE_CHECKING, Protocol, cast

from websockets.client import ClientProtocol
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.uri import WebSocketURI

from voicebridge.errors import MediaUnavailable
from voicebridge.pilotstatus.tcp import tune, unacknowledged
from voicebridge.pilotstatus.urls import MediaTarget, check_media_url

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydantic import SecretStr

__all__ = ["MediaDialer", "MediaListener", "MediaSocket"]

MAX_MESSAGE_BYTES = 2**20
MESSAGE_BYTES = 1928
"""One wire frame with its WebSocket header."""
# What may be under way below us until the path is known: 8 wire frames, 480 ms. It has to
# exceed what a healthy path holds unacknowledged (32 kB/s times the round trip: 6.4 kB at
# 200 ms); once the round trip is known, `allow` makes it as little as that.
MAX_IN_FLIGHT_BYTES = 8 * MESSAGE_BYTES
CLOSE_TIMEOUT = 2.0
PING_INTERVAL = 20.0
SILENCE_LIMIT = 30.0

_READ_BYTES = 16 * 1024  # per turn of the loop, so that a flood on one call delays no other
_KEEP_ALIVE = b"keep-alive"
_NO_CLOSE = Close(CloseCode.ABNORMAL_CLOSURE, "")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")

# websockets logs request lines, token included, at debug level. This logger is nobody's child.
_SILENT = logging.Logger("voicebridge.silent")
_SILENT.disabled = True


class MediaListener(Protocol):
    """What a media socket tells; called from the event loop, must not block."""

    def on_audio(self, data: bytes) -> None:
        """One binary message, any length."""

    def on_text(self, text: str) -> None:
        """One text message."""

    def on_pong(self, payload: bytes) -> None:
        """The answer to a ``ping`` of the listener's."""

    def on_close(self, code: int | None, reason: str) -> None:
        """The socket is done for; exactly once, and nothing follows it.

        ``code`` is that of the close frame received, else of the one sent, else 1006.
        """


class MediaDialer:
    """Opens media sockets: the provider's hosts only, no proxies, no redirects, no cookies."""

    def __init__(
        self,
        allowed_hosts: Sequence[str],
        allow_insecure: bool,
        *,
        connect_timeout: float = 3.0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._allowed_hosts = tuple(allowed_hosts)
        self._allow_insecure = allow_insecure
        self._connect_timeout = connect_timeout
        self._ssl_context = ssl_context or ssl.create_default_context()

    async def __call__(self, ws_url: SecretStr, listener: MediaListener) -> MediaSocket:
        """Open the socket of one realtime session; the token is spent even if this fails.

        The listener may be called before this returns: the first audio can share a
        packet with the upgrade. Raises ``MediaUrlRefused`` or ``MediaUnavailable``.
        """
        target = check_media_url(
            ws_url, allowed_hosts=self._allowed_hosts, allow_insecure=self._allow_insecure
        )
        socket = MediaSocket(target, listener)
        try:
            failure = await self._open(target, socket)
        except BaseException:
            socket.discard()
            raise
        if failure is not None:
            socket.discard()
            raise failure
        return socket

    async def _open(self, target: MediaTarget, socket: MediaSocket) -> MediaUnavailable | None:
        # Failures are returned, not raised, so that none drags the cause along as its
        # __context__: those name hosts, addresses and response headers.
        try:
            async with asyncio.timeout(self._connect_timeout):
                await asyncio.get_running_loop().create_connection(
                    lambda: socket,
                    target.host,
                    target.port,
                    ssl=self._ssl_context if target.secure else None,
                )
                return await socket.opened
        except OSError as error:  # TimeoutError is one
            return MediaUnavailable(
                f"the media socket could not be opened: {_describe(error)}", status=socket.status
            )


class MediaSocket(asyncio.BufferedProtocol):
    """One media connection. Made by ``MediaDialer``; usable from the event loop only."""

    def __init__(
        self,
        target: MediaTarget,
        listener: MediaListener,
        *,
        ping_interval: float = PING_INTERVAL,
        silence_limit: float = SILENCE_LIMIT,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._ping_interval = ping_interval
        self._silence_limit = silence_limit
        uri = WebSocketURI(target.secure, target.host, target.port, target.resource, query="")
        self._protocol = ClientProtocol(uri, max_size=MAX_MESSAGE_BYTES, logger=_SILENT)
        self._transport: asyncio.Transport | None = None
        self._fileno: Callable[[], int] | None = None
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._head = b""
        self._message = bytearray()
        self._message_is_text = False
        self._heard_at = 0.0
        self._pinged_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._ended = self._loop.create_future()  # the listener is to hear no more
        self._allowed = MAX_IN_FLIGHT_BYTES
        self._lost = self._loop.create_future()  # the transport is gone
        self.opened: asyncio.Future[MediaUnavailable | None] = self._loop.create_future()
        """Done with the handshake: None, or why there is no socket."""

    @property
    def status(self) -> int | None:
        """The HTTP status that the upgrade was answered with, None before that."""
        line = _STATUS_LINE.match(self._head)
        return int(line[1]) if line else None

    def send(self, message: bytes) -> bool:
        """Send one binary message; False means that nothing was taken: clogged, or closed."""
        transport = self._transport
        if transport is None or self._ended.done() or self._protocol.state is not State.OPEN:
            return False
        in_flight = transport.get_write_buffer_size()
        if self._fileno is not None:
            in_flight += unacknowledged(self._fileno())
        if in_flight > self._allowed:
            return False
        self._protocol.send_binary(message)
        self._flush()
        return True

    def allow(self, messages: int) -> None:
        """How many messages may be under way, at most ``MAX_IN_FLIGHT_BYTES`` of them.

        What is under way when the network stalls is beyond recall, and a bot that is
        interrupted then says it to its end. Half a message is for TLS and lesser frames.
        """
        allowed = messages * MESSAGE_BYTES + MESSAGE_BYTES // 2
        self._allowed = min(allowed, MAX_IN_FLIGHT_BYTES)

    def ping(self, payload: bytes) -> None:
        """Send a ping of up to 125 bytes; its answer comes as ``on_pong(payload)``."""
        if self._protocol.state is State.OPEN and not self._ended.done():
            self._protocol.send_ping(payload)
            self._flush()

    async def close(self) -> None:
        """Close with 1000, wait up to ``CLOSE_TIMEOUT`` for the peer's close, hang up."""
        self._closing = True
        if self._protocol.state is State.OPEN and not self._ended.done():
            self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
            self._flush()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await asyncio.shield(self._ended)
                    self._hang_up()
                    await asyncio.shield(self._lost)
        finally:
            self._cut()

    def discard(self) -> None:
        """Drop the connection without a word to peer or listener."""
        if not self._ended.done():
            self._ended.set_result(None)
        self._cut()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._ended.done():  # given up while it was being opened
            self._transport.abort()
            return
        if (socket := transport.get_extra_info("socket")) is not None:
            tune(socket, MAX_IN_FLIGHT_BYTES)
            self._fileno = socket.fileno
        self._protocol.send_request(self._protocol.connect())
        self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.opened.cancelled():  # too late: the dialer is about to discard this
            return
        data = bytes(self._buffer[:nbytes])
        if self._protocol.state is State.CONNECTING:
            self._head += data[: 64 - len(self._head)]
            if self.status not in (None, 101):
                self._refuse()  # without the body, which may never end
                return
        self._heard_at = self._loop.time()
        self._protocol.receive_data(data)
        self._flush()
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._dispatch(event)
            else:
                self._shake_hands()
        if self._protocol.handshake_exc is not None:
            self._refuse()
        elif self.opened.done() and self._protocol.state is not State.OPEN and not self._closing:
            self._finish()

    def eof_received(self) -> None:
        self._protocol.receive_eof()  # the transport closes by itself

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.receive_eof()
        if self.opened.done():
            self._finish()
        else:
            self._refuse()
        self._stop_timer()
        if not self._lost.done():
            self._lost.set_result(None)

    # Our own messages never fill the buffer; pongs to a peer that floods pings and does
    # not read could. Who does not read is not read from.

    def pause_writing(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # the protocol's events

    def _shake_hands(self) -> None:
        if self._protocol.handshake_exc is None and not self.opened.done():
            self.opened.set_result(None)
            self._pinged_at = self._heard_at
            self._keep_alive()

    def _refuse(self) -> None:
        """The handshake failed; tell the dialer, and only the dialer."""
        if self.opened.done():
            return
        status = self.status
        match status:
            case None:
                text = "the media server did not answer the upgrade"
            case 101:
                text = "the media server's upgrade is not valid WebSocket"
            case _:
                text = f"the media server answered the upgrade with {status}"
        self.opened.set_result(MediaUnavailable(text, status=status))
        self.discard()

    def _dispatch(self, frame: Frame) -> None:
        if self._ended.done():
            return
        match frame.opcode:
            case Opcode.BINARY | Opcode.TEXT | Opcode.CONT:
                self._assemble(frame)
            case Opcode.PONG if bytes(frame.data) != _KEEP_ALIVE:
                self._listener.on_pong(bytes(frame.data))
            case Opcode.CLOSE:
                self._finish(Close.parse(frame.data))

    def _assemble(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.CONT:
            self._message_is_text = frame.opcode is Opcode.TEXT
        if not frame.fin:
            self._message += frame.data  # the protocol bounds it to MAX_MESSAGE_BYTES
            return
        data = bytes(frame.data)
        if self._message:
            data = bytes(self._message) + data
            self._message.clear()
        if not self._message_is_text:
            self._listener.on_audio(data)
            return
        try:
            text = data.decode()
        except UnicodeDecodeError:
            if self._protocol.state is State.OPEN:
                self._protocol.fail(CloseCode.INVALID_DATA, "text is not UTF-8")
                self._flush()
                self._finish()
            return
        self._listener.on_text(text)

    # keeping alive, ending

    def _keep_alive(self) -> None:
        """Ping every ``ping_interval``; give up only when nothing at all is heard."""
        now = self._loop.time()
        if now >= self._heard_at + self._silence_limit:
            self._finish(Close(CloseCode.ABNORMAL_CLOSURE, "nothing heard"))
            self._cut()
            return
        if now >= self._pinged_at + self._ping_interval:
            self._pinged_at = now
            self.ping(_KEEP_ALIVE)
        due = min(self._pinged_at + self._ping_interval, self._heard_at + self._silence_limit)
        self._timer = self._loop.call_at(due, self._keep_alive)

    def _finish(self, close: Close | None = None) -> None:
        """Report the end, once, and give the peer a while to close its side."""
        if self._ended.done() or self.opened.cancelled():
            return
        self._ended.set_result(None)
        self._stop_timer()
        if self._transport is not None and not self._transport.is_closing():
            self._timer = self._loop.call_later(CLOSE_TIMEOUT, self._cut)
        if close is None:
            protocol = self._protocol
            close = protocol.close_rcvd or protocol.close_sent or _NO_CLOSE
        self._listener.on_close(int(close.code), close.reason)

    def _hang_up(self) -> None:
        """Close the connection after what is still to be written."""
        if self._transport is not None:
            self._transport.close()

    def _cut(self) -> None:
        """Close the connection now."""
        self._stop_timer()
        if self._transport is not None:
            self._transport.abort()
        if self.opened.done():
            self._finish()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _flush(self) -> None:
        transport = self._transport
        assert transport is not None
        for data in self._protocol.data_to_send():
            if transport.is_closing():
                return
            if data:
                transport.write(data)
            else:  # end of stream: nothing is to follow in either direction
                self._hang_up()


def _describe(error: OSError) -> str:
    """What went wrong, without the host, address or URL that the system's own text names."""
    match error:
        case TimeoutError():
            return "no answer in time"
        case sockets.gaierror():
            return "the host's name does not resolve"
        case ssl.SSLCertVerificationError():
            return f"the host's certificate is not trusted (code {error.verify_code})"
        case ssl.SSLError():
            return f"TLS failed ({error.reason})"
        case _:
            return errno.errorcode.get(error.errno or 0, type(error).__name__)
