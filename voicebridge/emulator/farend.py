"""The far end of a call: the caller's mouth and ear behind the media socket.

Pure: no clock, no I/O; every instant is an argument (monotonic seconds). A whole call is a
function of when which message came, so real sockets and virtual time give the same results.

Order of life: any of ``opened``/``receive``/``closed`` (media sockets come and go),
``start`` once when the call connects, ``finish`` once when it is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import soxr

from voicebridge.emulator.ear import ENGINE_FRAME_MS, Ear, Verdict
from voicebridge.emulator.gauge import Gauge, Measurement
from voicebridge.emulator.mouth import Mouth
from voicebridge.emulator.script import CALLER_RATE, CallerScript
from voicebridge.emulator.tape import FarClock, Pcm, Tape

if TYPE_CHECKING:
    from voicebridge.emulator.behaviour import MediaBehaviour

__all__ = ["FarEnd"]

_RECORD_SECONDS = 3_600


class FarEnd:
    """One call's far end.

    ``spoken`` and ``heard`` are int16 at ``sample_rate`` (the wire's) on one clock that
    starts when the call connects. ``drift_ppm`` is how much faster that clock runs.
    """

    def __init__(
        self,
        media: MediaBehaviour,
        script: CallerScript | None = None,
        *,
        drift_ppm: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.script = script or CallerScript()
        self.sample_rate: int = media.sample_rate
        limit = _RECORD_SECONDS * self.sample_rate if self.script.record else 0
        self._spoken, self._heard = Tape(limit), Tape(limit)
        self._mouth = Mouth(media, self.sample_rate, self._spoken, seed)
        self._ear = Ear(media, self.sample_rate, self._heard)
        self._gauge = Gauge(self.sample_rate, self.sample_rate * ENGINE_FRAME_MS // 1_000 * 2)
        self._drift_ppm = drift_ppm
        self._clock: FarClock | None = None
        self._ended_at: float | None = None
        self._seen = 0.0
        self._sockets = 0
        self.tokens_reused = 0

    def start(self, now: float) -> None:
        """The call connected: the clock starts and the script with it."""
        if self._clock is not None:
            return
        self._clock = FarClock(now, self.sample_rate, self._drift_ppm)
        self._seen = now
        self._mouth.start(self._clock)
        self._ear.start(self._clock)
        position = round(self.script.starts_after * self.sample_rate)
        self._mouth.ends_at = position
        if self.script.audio is not None:
            self._mouth.say(self._at_wire_rate(self.script.audio), position)

    def say(self, audio: Pcm, now: float) -> None:
        """The caller says ``audio`` (16 kHz) now, after all that is still to be said.

        Before the call connected it is not heard by anybody and is dropped.
        """
        if self._clock is not None:
            position = max(self._clock.position(now), self._mouth.ends_at)
            self._mouth.say(self._at_wire_rate(audio), position)

    @property
    def started(self) -> bool:
        return self._clock is not None

    @property
    def hangup_at(self) -> float | None:
        """When the script wants the caller to hang up; None: never, or not connected."""
        if self._clock is None or self.script.hangup_after is None:
            return None
        return self._clock.instant(self._mouth.ends_at) + self.script.hangup_after

    def opened(self, now: float) -> None:
        """A media socket is there. Several may be open; the first one counts."""
        self._sockets += 1
        if self._sockets == 1:
            self.take(now)  # what was said before is lost to the bridge
            self._gauge.opened(now)
            self._mouth.opened()
            self._ear.opened(now)

    def closed(self, now: float) -> None:
        self._sockets = max(0, self._sockets - 1)
        if self._sockets == 0:
            self._gauge.closed(now)
            self._mouth.closed()
            self._ear.closed(now)

    def receive(self, data: bytes, now: float) -> Verdict:
        """One binary message of the bridge; "refused" wants the socket closed."""
        self._see(now)
        self._gauge.message(len(data), now)
        return self._ear.receive(data, now)

    def note_text(self) -> None:
        """The bridge sent text, which it never should."""
        self._gauge.text_frames += 1

    def take(self, now: float) -> list[bytes]:
        """The messages for the bridge that are due by ``now``."""
        if self._ended_at is not None:
            return []
        self._see(now)
        self._ear.advance(now)
        return self._mouth.take(now)

    def next_due(self) -> float | None:
        """When ``take`` should be called next; None before the call connected and after it."""
        return None if self._ended_at is not None else self._mouth.next_due()

    def reading(self) -> bool:
        """False: a blocking provider's queue is full, do not read the socket."""
        return self._ear.reading()

    def finish(self, now: float) -> None:
        """The call is over; later audio goes nowhere."""
        if self._ended_at is None:
            self.take(now)
            self._gauge.closed(now)
            self._ear.finish(now)
            self._ended_at = now

    @property
    def seconds(self) -> float:
        """Length of the call on the far end's clock, up to what was seen last."""
        return self._length() / self.sample_rate

    @property
    def spoken(self) -> Pcm:
        return self._spoken.render(self._length())

    @property
    def heard(self) -> Pcm:
        return self._heard.render(self._length())

    @property
    def messages(self) -> list[tuple[float, int]]:
        """``(instant, bytes)`` of each binary message of the bridge."""
        return self._gauge.messages

    def audible_after_ms(self, at: float) -> float:
        """How much audible sound the caller heard after the instant ``at``."""
        if self._clock is None:
            return 0.0
        return self._ear.audible_after(self._clock.position(at)) * 1_000 / self.sample_rate

    def measurement(self) -> Measurement:
        """The figures so far."""
        gauge, ear = self._gauge, self._ear
        gaps, errors = gauge.interarrivals()
        ms = 1_000 / self.sample_rate
        return Measurement(
            seconds=gauge.seconds,
            messages=gauge.messages_total,
            samples_in=gauge.bytes_total // 2,
            samples_out=ear.samples_out,
            interarrival_ms_p50=_percentile_ms(gaps, 50),
            interarrival_ms_p99=_percentile_ms(gaps, 99),
            interarrival_ms_max=_percentile_ms(gaps, 100),
            jitter_ms_p50=_percentile_ms(errors, 50),
            jitter_ms_p99=_percentile_ms(errors, 99),
            drift_ppm=gauge.drift_ppm(),
            holes=ear.holes,
            longest_hole_ms=ear.longest_hole * ms,
            hole_ms=ear.hole_samples * ms,
            max_queue_ms=ear.max_queue_bytes / 2 * ms,
            overflow_drops=ear.overflow_drops,
            overflow_ms=ear.overflow_bytes / 2 * ms,
            tail_cut_ms=ear.tail_cut_samples * ms,
            odd_sizes=gauge.odd_sizes,
            text_frames=gauge.text_frames,
            tokens_reused=self.tokens_reused,
            sizes=dict(gauge.sizes),
        )

    def _see(self, now: float) -> None:
        self._seen = max(self._seen, now)

    def _length(self) -> int:
        return 0 if self._clock is None else self._clock.position(self._ended_at or self._seen)

    def _at_wire_rate(self, audio: Pcm) -> Pcm:
        if self.sample_rate == CALLER_RATE:
            return audio
        samples: Pcm = soxr.resample(audio, CALLER_RATE, self.sample_rate, quality="HQ")
        return samples


def _percentile_ms(seconds: np.ndarray, percent: float) -> float:
    return float(np.percentile(seconds, percent)) * 1_000 if len(seconds) else 0.0
