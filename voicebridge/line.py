"""The audio of one call: its media session, its socket, and its place on the driver's wheel.

The line is the only shell around the session. Receiving is a plain call from the socket
into the session and on into the bot's mailbox; sending is a plain call from the driver's
tick. Sockets come and go under it (a new one after each loss) while the session, and
with it everything that was queued, stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections import deque
from typing import TYPE_CHECKING, Protocol

from voicebridge.core.audio import peak
from voicebridge.core.events import DtmfReceived, MediaLost, MediaRestored
from voicebridge.core.wire import read_text
from voicebridge.errors import MediaUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import SecretStr

    from voicebridge.clock import Clock
    from voicebridge.core.adapter import WireAdapter
    from voicebridge.core.format import WireFormat
    from voicebridge.core.session import MediaSession
    from voicebridge.driver import Driver
    from voicebridge.feed import Feed
    from voicebridge.recording import Recording

#: A socket that takes nothing for this long is replaced.
CLOGGED_LIMIT = 10.0
#: Neither audio nor a pong for this long, from a peer that has answered pings: half-open.
SILENT_LIMIT = 3.0
#: A socket that was given up is not waited for: the caller hears nothing meanwhile.
RETIRE_LIMIT = 0.2
#: How often the path is measured; more often while audio is overdue.
PING_SECONDS = 1.0
_ROUND_TRIPS = 8
#: A receiver may hold back its acknowledgement for so long (RFC 1122, section 4.2.3.2; 40 ms
#: on Linux).
_ACKNOWLEDGED = 0.040
_CLOSE_ABNORMAL = 1006
_TEXTS_LOGGED = 5
#: Messages kept between handshake and readiness; that gap is a single turn of the loop.
_EARLY_LIMIT = 64

#: One message in so many is looked at for `take_peak`: enough for limits of seconds.
_PEAK_EVERY = 4
#: Payload of a ping that asks whether the caller is silent: when it was asked.
_STAMP = struct.Struct("!d")

_log = logging.getLogger(__name__)


def in_flight(round_trip: float, message: float) -> int:
    """How many messages a healthy path with this round trip holds unacknowledged.

    What a stalled path holds more is beyond recall. With this bound a bot that is
    interrupted during a stall of 600 ms is heard for at most 181 ms more at 20 ms round
    trip, 240 at 100, 360 at 200 (benchmarks/outbound.py); with a fixed 8 it was 540.
    """
    return max(2, 1 + int((round_trip + _ACKNOWLEDGED) / message))


class MediaListener(Protocol):
    """Where a media socket delivers, synchronously, on the loop's thread."""

    def on_audio(self, data: bytes) -> None: ...
    def on_text(self, text: str) -> None: ...
    def on_pong(self, payload: bytes) -> None: ...
    def on_close(self, code: int | None, reason: str) -> None:
        """Exactly once per opened socket, whatever ended it."""


class MediaSocket(Protocol):
    """The sending half of a media socket."""

    def send(self, message: bytes) -> bool:
        """Sends one binary message; False where the link is clogged and nothing was taken."""

    def allow(self, messages: int) -> None:
        """How many messages may be under way before `send` refuses."""

    def ping(self, payload: bytes) -> None: ...
    async def close(self) -> None:
        """Closes with 1000 and gives up waiting after two seconds."""


class MediaConnector(Protocol):
    """Opens a media socket: over the network, or in memory."""

    async def __call__(self, ws_url: SecretStr, listener: MediaListener) -> MediaSocket: ...


class Line:
    """Carries audio between a media socket and a session; see the module's docstring.

    ``on_lost(code)`` is called when the socket is gone, ``on_heard()`` when there is inbound
    audio, ``on_broken()`` when the session failed and nothing more will be sent.
    """

    def __init__(
        self,
        session: MediaSession,
        feed: Feed,
        clock: Clock,
        driver: Driver,
        *,
        on_lost: Callable[[int | None], None],
        on_heard: Callable[[], None],
        on_broken: Callable[[], None],
        adapter: WireAdapter,
        record: Callable[[float], Recording] | None = None,
        on_format: Callable[[WireFormat], None] = lambda _: None,
    ) -> None:
        self.session = session
        self._feed = feed
        self._clock = clock
        self._driver = driver
        self._on_lost = on_lost
        self._on_heard = on_heard
        self._on_broken = on_broken
        self._adapter = adapter
        self._record = record
        self._recording: Recording | None = None
        self._on_format = on_format
        self._wire_frame = session.config.wire_frame_ms / 1000
        self._socket: MediaSocket | None = None
        self._retired: MediaSocket | None = None
        self.generation = 0
        self._opened_at: float | None = None
        self._lost_at: float | None = None
        self.told_lost = False
        self._clogged_at: float | None = None
        self._last_sign = 0.0
        self._last_audio_in = 0.0
        self._answers_pings = False
        self._ping_at = 0.0
        self._round_trips: deque[float] = deque(maxlen=_ROUND_TRIPS)
        self._idle = bytes(session.config.wire_frame_ms * session.config.sample_rate // 500)
        self.first_audio_at: float | None = None
        self.last_audio_at: float | None = None
        self._messages = 0
        self._peak = 0
        self.texts = 0
        self.reconnects = 0

    @property
    def up(self) -> bool:
        return self._socket is not None

    def call_ms(self, now: float) -> int:
        """Milliseconds since media first opened; 0 before."""
        return 0 if self._opened_at is None else round((now - self._opened_at) * 1000)

    async def open(self, connect: MediaConnector, ws_url: SecretStr) -> None:
        """Opens a socket and starts, or goes on, sending.

        Raises:
            MediaUnavailable, MediaUrlRefused: nothing was opened; the URL is burnt.
        """
        self.generation += 1
        generation = self.generation
        end = _SocketEnd(self, generation)
        socket = await connect(ws_url, end)
        if generation != self.generation:  # closed meanwhile
            await socket.close()
            return
        if end.closed:
            raise MediaUnavailable("the media socket was closed as soon as it was open")
        now = self._clock.now()
        self._socket = socket
        self._last_sign = now
        self._answers_pings = False
        self._clogged_at = None
        self._adapter.opened()
        self.session.opened(now)
        if self._opened_at is None:
            self._opened_at = now
            if self._record is not None:
                self._recording = self._record(now)
            self._driver.add(self)
        else:
            self.reconnects += 1
            self.tell_lost()
            self.told_lost = False
            gap_ms = round((now - (self._lost_at or now)) * 1000)
            self._feed.tell(MediaRestored(self.call_ms(now), gap_ms))
        self._round_trips.clear()
        self._ping(socket, now)
        end.release()
        self.tick(now)

    async def close(self) -> None:
        """Closes the socket for good; nothing is sent or heard afterwards."""
        self._driver.remove(self)
        if self._recording is not None:
            self._recording.finish(self._clock.now())
        self.generation += 1
        socket, self._socket = self._socket, None
        await self.retire()
        if socket is not None:
            await socket.close()

    def tick(self, now: float) -> None:
        """The driver's step. One that fails is the last, and ends the call."""
        try:
            self._step(now)
        except Exception:
            # The driver logs it. A call off the clock would be silent for the rest of it.
            self._driver.remove(self)
            self._on_broken()
            raise

    def _step(self, now: float) -> None:
        """Timers, pacing, pings."""
        session = self.session
        session.tick(now)
        socket = self._socket
        if socket is not None:
            messages = session.to_send()
            if messages:
                self._send(socket, messages, now)
            if session.ping_due(now) or now >= self._ping_at:
                self._ping(socket, now)
            if self._dead(now):
                self.drop(_CLOSE_ABNORMAL)
        self._deliver(now)
        if self._recording is not None:
            self._recording.tick(now)

    def _send(self, socket: MediaSocket, messages: list[bytes], now: float) -> None:
        play_at = self.session.sent_until - len(messages) * self._wire_frame
        for index, message in enumerate(messages):
            if not socket.send(self._adapter.say(message)):
                # Kept in our own queue: audio in the kernel cannot be interrupted.
                self._adapter.unsay()
                self.session.unsend(messages[index:])
                self._clogged_at = self._clogged_at or now
                return
            if self._recording is not None:
                self._recording.sent(play_at + index * self._wire_frame, message)
            if message != self._idle:
                self.first_audio_at = self.first_audio_at or now
                self.last_audio_at = now
        self._clogged_at = None

    def _ping(self, socket: MediaSocket, now: float) -> None:
        self._ping_at = now + PING_SECONDS
        self.session.pinged(now)
        socket.ping(_STAMP.pack(now))

    def _dead(self, now: float) -> bool:
        if self._clogged_at is not None and now - self._clogged_at > CLOGGED_LIMIT:
            return True
        return self._answers_pings and now - self._last_sign > SILENT_LIMIT

    def drop(self, code: int | None) -> None:
        """The socket is gone: keep the session, tell the leg."""
        socket, self._socket = self._socket, None
        self.generation += 1
        now = self._clock.now()
        self._lost_at = now
        self.session.lost(now)
        if self._recording is not None:
            self._recording.lost(now)
        self._retired = socket
        self._on_lost(code)

    def tell_lost(self) -> None:
        """Tells the bot, once per loss; the leg knows whether it is one or the call's end."""
        if self._lost_at is not None and not self.told_lost:
            self.told_lost = True
            self._feed.tell(MediaLost(self.call_ms(self._lost_at)))

    async def retire(self) -> None:
        """Closes the socket that was given up, so that two never live side by side."""
        socket, self._retired = self._retired, None
        if socket is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETIRE_LIMIT):
                    await socket.close()

    def _deliver(self, now: float) -> None:
        frames = self.session.heard()
        if frames:
            self._feed.hear(frames)
            if self._recording is not None:
                for frame in frames:
                    self._recording.heard(now, frame)
        for event in self.session.events():
            self._feed.tell(event)

    def take_peak(self) -> int:
        """The loudest sample looked at since the last question; not every message is."""
        loudest, self._peak = self._peak, 0
        return loudest

    # What the socket's end calls.

    def take_audio(self, data: bytes) -> None:
        now = self._clock.now()
        self._last_sign = self._last_audio_in = now
        data, found = self._adapter.hear(data, now)
        if found is not None:
            self._on_format(found)
        self._messages += 1
        if self._messages % _PEAK_EVERY == 0:
            self._peak = max(self._peak, peak(data))
        self.session.receive(data, now)
        self._on_heard()
        self._deliver(now)

    def take_pong(self, payload: bytes) -> None:
        now = self._clock.now()
        self._answers_pings = True
        self._last_sign = now
        if len(payload) != _STAMP.size:
            return
        (asked_at,) = _STAMP.unpack(payload)
        round_trip = now - asked_at
        self.session.round_trip(round_trip, now)
        self._round_trips.append(round_trip)
        if self._socket is not None:
            self._socket.allow(in_flight(max(self._round_trips), self._wire_frame))
        # TCP keeps order: the answer to a question asked after the last audio proves
        # that no older audio is still on its way. Answers to earlier ones prove nothing.
        if asked_at >= self._last_audio_in:
            self.session.pong(now)

    def take_text(self, text: str) -> None:
        """Text is never fatal and never answered; its kind is worth a line, its content is not."""
        self.texts += 1
        message = read_text(text)
        if message.sample_rate is not None:
            found = self._adapter.announced(message.sample_rate)
            if found is not None:
                self._on_format(found)
        if message.audio is not None:
            self.take_audio(message.audio)
        if message.digit is not None:
            self._feed.tell(DtmfReceived(message.digit, self.call_ms(self._clock.now())))
        if self.texts <= _TEXTS_LOGGED:
            _log.info("text on the media socket", extra={"kind": message.kind})


class _SocketEnd:
    """One socket's listener: what a replaced socket still says is not heard.

    Audio may come with the very packet that completes the handshake; it is kept until
    the line has taken the socket.
    """

    def __init__(self, line: Line, generation: int) -> None:
        self._line = line
        self._generation = generation
        self._early: list[bytes] | None = []
        self.closed = False

    def _current(self) -> bool:
        return self._generation == self._line.generation

    def release(self) -> None:
        """The line is ready: hands over what came early."""
        early, self._early = self._early, None
        for data in early or ():
            self._line.take_audio(data)

    def on_audio(self, data: bytes) -> None:
        if self._early is not None:
            if len(self._early) < _EARLY_LIMIT:
                self._early.append(data)
        elif self._current():
            self._line.take_audio(data)

    def on_text(self, text: str) -> None:
        if self._current() and self._early is None:
            self._line.take_text(text)

    def on_pong(self, payload: bytes) -> None:
        if self._current():
            self._line.take_pong(payload)

    def on_close(self, code: int | None, reason: str) -> None:
        self.closed = True
        if self._current() and self._line.up:
            self._line.drop(code)
