"""One media socket between a bridge and a call's far end, whatever carries it.

Everything to the bridge goes through one ordered outbox with the network's release times;
everything from it goes to the far end, or waits while the provider does not read. The one
rule: a line that has closed does nothing any more.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Protocol

from voicebridge.emulator.network import Link

if TYPE_CHECKING:
    from collections.abc import Callable

    from voicebridge.emulator.calls import EmulatedCall
    from voicebridge.emulator.exchange import Exchange
    from voicebridge.emulator.ticker import Ticker
    from voicebridge.emulator.tickets import Mode

__all__ = ["Line", "Wire", "hello"]

_MAX_OUTBOX = 4_000


class Wire(Protocol):
    """What carries a line: a real WebSocket, or a bridge in the same process."""

    def send_audio(self, data: bytes) -> None: ...

    def send_text(self, text: str) -> None: ...

    def ping(self) -> None: ...

    def close(self, code: int, reason: str) -> None:
        """Say goodbye; 1006 cuts without a word. Must lead to ``Line.closed``."""

    def read(self, on: bool) -> None:
        """Go on, or stop, taking what the bridge sends."""


class Line:
    """An open socket of ``call``; made when the handshake succeeded."""

    def __init__(
        self,
        call: EmulatedCall,
        wire: Wire,
        mode: Mode,
        *,
        exchange: Exchange,
        ticker: Ticker,
        now: Callable[[], float],
    ) -> None:
        self.call = call
        self.wake_at: float | None = None
        self._wire = wire
        self._mode = mode
        self._exchange = exchange
        self._ticker = ticker
        self._now = now
        self._media = call.behaviour.media
        self._opened_at = now()
        if call.media_opened is None:
            call.media_opened = self._opened_at
        self._link = Link(call.behaviour.network, call.media_opened, salt=len(call.timeline))
        self._outbox: deque[tuple[float, Callable[[], None]]] = deque()
        self._reading = True
        self._open = True
        self._silent_so_far = call.when("first_sound") is None
        self._ping_at = self._opened_at + (self._media.ping_every_s or math.inf)
        self._cut_at = self._first_cut()

    def open(self) -> None:
        """Take the line into service, by the call's rule for second sockets."""
        call = self.call
        others = list(call.lines)
        if others and self._media.second_socket == "refuse":
            self._open = False
            self._say("error", {"code": "stream_busy"})
            self._close(1008, "stream_busy")
            return
        call.lines.append(self)
        call.far_end.opened(self._opened_at)
        call.note(self._opened_at, "media_open", self._mode)
        if self._media.second_socket == "evict":
            for other in others:
                other.evict()
        for text in hello(call, self._media.sample_rate):
            self.post(partial(self._wire.send_text, text))
        self.run(self._opened_at)

    def binary(self, data: bytes) -> None:
        """One binary message of the bridge."""
        if not self._open or self._mode == "listen":
            return
        now, call = self._now(), self.call
        if self._silent_so_far:
            self._note_first(data, now)
        if call.far_end.receive(data, now) == "refused":
            self._close(1008, "bad frame size")
        elif self._media.queue == "block":
            self._read_or_not(now)

    def text(self, text: str) -> None:
        """One text message: audio in JSON mode, else something that should not be."""
        if not self._open:
            return
        audio = _audio_in(text) if self._media.json_mode else None
        if audio is None:
            self.call.far_end.note_text()
        else:
            self.binary(audio)

    def post(self, action: Callable[[], None]) -> None:
        """Do ``action`` towards the bridge when the network lets it through."""
        now = self._now()
        at = self._link.release(now)
        if at <= now and not self._outbox:
            action()
        elif len(self._outbox) < _MAX_OUTBOX:
            self._outbox.append((at, action))
            self._ticker.at(self, min(at, self.wake_at or math.inf))

    def closed(self) -> None:
        """The wire is gone, whoever closed it; called once or more."""
        self._ticker.at(self, None)
        self._outbox.clear()
        if not self._open:
            return
        self._open = False
        now, call = self._now(), self.call
        call.lines.remove(self)
        call.far_end.closed(now)
        call.note(now, "media_closed")
        if not call.lines and not call.over:
            self._left_alone()

    def wake(self) -> None:
        """The call connected."""
        self.run(self._now())

    def evict(self) -> None:
        """A newer socket takes over."""
        self._close(1001, "replaced")

    def call_over(self) -> None:
        """Say that the call ended, in the manner of the chosen relative, and close."""
        if self._media.hello in ("start", "lg"):
            self._say("stop", {"reason": self.call.reason or "hangup"})
        elif self._media.hello == "wadial":
            self._say("ended", {})
        self._close(self._media.end_code, "call ended")

    def run(self, now: float) -> None:
        """Move what is due; called by the ticker."""
        if not self._open:
            self._flush(now)
            return
        call = self.call
        for message in call.far_end.take(now):
            for line in list(call.lines):
                line.send(message)
        if now >= self._cut_at:
            self._cut_at = math.inf
            call.cuts_done += 1
            self._close(self._media.cut_code, "cut")
        if now >= self._ping_at:
            self._ping_at = now + (self._media.ping_every_s or math.inf)
            self.post(self._wire.ping)
        self._read_or_not(now)
        self._flush(now)
        if self._open:
            self._ticker.at(self, self._next(now))

    def send(self, audio: bytes) -> None:
        if self._media.json_mode:
            self._say("media", {"payload": base64.b64encode(audio).decode()})
        else:
            self.post(partial(self._wire.send_audio, audio))

    def _note_first(self, data: bytes, now: float) -> None:
        if self.call.when("first_audio") is None:
            self.call.note(now, "first_audio", f"{len(data)} bytes")
        if data.count(0) != len(data):
            self._silent_so_far = False
            self.call.note(now, "first_sound")

    def _flush(self, now: float) -> None:
        while self._outbox and self._outbox[0][0] <= now:
            self._outbox.popleft()[1]()
        if self._outbox and not self._open:
            self._ticker.at(self, self._outbox[0][0])

    def _next(self, now: float) -> float | None:
        edges = [self._ping_at, self._cut_at]
        for edge in (
            self.call.far_end.next_due(),
            self._link.next_edge(now),
            self._outbox[0][0] if self._outbox else None,
        ):
            if edge is not None:
                edges.append(edge)  # noqa: PERF401
        first = min(edges)
        return None if first == math.inf else max(first, now)

    def _read_or_not(self, now: float) -> None:
        reading = self.call.far_end.reading() and not self._link.blocked(now)
        if reading != self._reading:
            self._reading = reading
            self._wire.read(reading)

    def _left_alone(self) -> None:
        call, media = self.call, self._media
        if media.on_close == "hang_up":
            self._exchange.hang_up(call, "stream_closed")
        elif media.on_close == "hang_up_after_grace":
            self._exchange.later(call, media.close_grace_s, self._grace_over)

    def _grace_over(self) -> None:
        if not self.call.lines:
            self._exchange.hang_up(self.call, "stream_closed")

    def _first_cut(self) -> float:
        media = self._media
        if media.cut_after_s is None or (media.cuts and self.call.cuts_done >= media.cuts):
            return math.inf
        return self._opened_at + media.cut_after_s

    def _say(self, event: str, fields: dict[str, object]) -> None:
        text = json.dumps({"event": event, "callId": self.call.external_id} | fields)
        self.post(partial(self._wire.send_text, text))

    def _close(self, code: int, reason: str) -> None:
        self.post(partial(self._wire.close, code, reason))


def hello(call: EmulatedCall, rate: int) -> list[str]:
    """The text messages with which the relatives of the media host open a stream."""
    frame = rate * 60 // 1_000
    match call.behaviour.media.hello:
        case "none":
            return []
        case "start":
            opening: dict[str, object] = {"event": "start", "sampleRate": rate, "video": False}
        case "waxum":
            opening = {
                "type": "call_started",
                "sample_rate": rate,
                "frame_samples": frame,
                "encoding": f"pcm_s16le_mono_{rate // 1_000}khz",
                "frame_format": "raw_pcm",
            }
        case "wadial":
            media = {"encoding": "pcm_s16le", "sampleRate": rate, "channels": 1}
            opening = {"type": "ready", "media": media}
        case "lg":
            opening = {
                "event": "start",
                "sampleRate": rate,
                "channels": 1,
                "encoding": "audio/pcm-s16le",
                "frameMs": 60,
            }
    return [json.dumps(opening | {"callId": call.external_id})]


def _audio_in(text: str) -> bytes | None:
    try:
        message = json.loads(text)
        if message["event"] == "media":
            return base64.b64decode(message["payload"], validate=True)
    except (ValueError, KeyError, TypeError, binascii.Error):
        pass
    return None
