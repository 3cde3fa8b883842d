"""What format the far end speaks: found out while it speaks, for no document says.

The rule: 16 kHz mono PCM16 until proven otherwise, and at most one change of mind per call.
The provider documents binary PCM16 and no rate; its relatives speak 16 kHz and 60 ms. A wrong
guess garbles a call that was fine, so a change needs all of this: sound that no other layout
could have, a pace of bytes within 8 % of a rate and far from the next, the rhythm of that
rate, and all of it still true half a second later. Missing audio only ever slows a stream,
so pace is taken from sounding audio; silence may be sent thinned out, or not at all.

What the server says of itself in a text message goes before all that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from voicebridge.core.audio import from_float, peak, to_float
from voicebridge.core.content import Content, ContentWatch
from voicebridge.core.pace import Pace

if TYPE_CHECKING:
    from voicebridge.core.config import MediaConfig

__all__ = ["WIRE_RATES", "Decoder", "Encoder", "FormatDetector", "WireFormat"]

WIRE_RATES: Final = (8_000, 16_000, 24_000, 48_000)
"""What a media server may speak, in Hz."""

_ENOUGH: Final = 2.0
_QUIET_ENOUGH: Final = 3.0
_TOLERANCE: Final = 0.08
_STEADY: Final = 0.5
"""Seconds of more evidence that must still say the same."""
_SOUNDING: Final = 256
_HANGOVER: Final = 0.120
"""After the last sound; phones go on sending for longer than this."""
_GIVE_UP: Final = 60.0
"""Seconds of arriving audio; a caller who says nothing may send none for long."""
_EXPECTED: Final = 10.0
"""The same where the pace is our own: then only a few odd layouts are left to be it."""
_CONTIGUOUS: Final = 0.150


@dataclass(frozen=True, slots=True)
class WireFormat:
    """Rate and layout of the audio on a media socket."""

    sample_rate: int = 16_000
    content: Content = field(default_factory=Content)

    @property
    def plain(self) -> bool:
        """PCM16 mono little-endian, as everything inside is."""
        return self.content == Content()

    @property
    def bytes_per_second(self) -> int:
        return self.sample_rate * self.content.frame_bytes

    def __str__(self) -> str:
        """For a log line: ``24000 Hz mono pcm16``."""
        content = self.content
        layout = "mono" if content.channels == 1 else "stereo"
        order = " big-endian" if content.big_endian else ""
        return f"{self.sample_rate} Hz {layout} {content.encoding}{order}"


class FormatDetector:
    """Watches one call's messages; ``format`` is what they are taken to be.

    ``settled`` says that nothing more is looked for.
    """

    def __init__(self, config: MediaConfig) -> None:
        self.format = WireFormat(config.sample_rate)
        self.settled = False
        self._announced = False
        self._arriving = 0.0
        self._watch = ContentWatch()
        self._sounding = Pace(_ENOUGH)
        self._quiet = Pace(_QUIET_ENOUGH)
        self._half = b""
        self._sounded_at = float("-inf")
        self._now = float("-inf")
        self._candidate: WireFormat | None = None
        self._steady_from = 0.0

    def opened(self) -> None:
        """A new socket: its bytes begin with a whole sample."""
        self._half = b""
        self._watch.opened()
        self._sounding.opened()
        self._quiet.opened()

    def announced(self, sample_rate: int) -> WireFormat | None:
        """The server told its rate; the format if that changes it.

        The rate is then out of question; the layout may still turn out to be another.
        """
        if sample_rate not in WIRE_RATES:
            return None
        self._announced = True
        return self._become(WireFormat(sample_rate, self.format.content))

    def message(self, data: bytes, now: float) -> WireFormat | None:
        """One binary message of any length; the new format, at most once, from here on."""
        if self.settled or not data:
            return None
        now = max(now, self._now)
        self._arriving += min(now - self._now, _CONTIGUOUS)
        self._now = now
        if self._arriving > _GIVE_UP:
            self.settled = True  # a minute of audio in which nothing spoke against it
            return None
        self._watch.feed(data)
        loudness, swapped = self._loudness(data)
        # Quiet audio of the other byte order looks loud in this one, and the reverse.
        if min(loudness, swapped) >= _SOUNDING:
            self._sounded_at = now
        self._sounding.arrive(now, len(data), counts=now - self._sounded_at <= _HANGOVER)
        self._quiet.arrive(now, len(data), counts=0 < loudness < _SOUNDING)
        if self._arriving > _EXPECTED and self._as_expected():
            self.settled = True
            return None
        found, evidence = self._find()
        if found is None or found != self._candidate:
            self._candidate = found
            self._steady_from = evidence
        if found is None or (found != self.format and evidence - self._steady_from < _STEADY):
            return None
        self.settled = True
        return self._become(found)

    def _as_expected(self) -> bool:
        """The bytes come at our own pace, and no window of them spoke for another layout."""
        pace = self._sounding.bytes_per_second() or self._quiet.bytes_per_second()
        if pace is None or not self._watch.undecided:
            return False
        return abs(pace / self.format.bytes_per_second - 1) <= _TOLERANCE

    def _become(self, found: WireFormat) -> WireFormat | None:
        changed = found != self.format
        self.format = found
        return found if changed else None

    def _find(self) -> tuple[WireFormat | None, float]:
        """What the evidence says, and of how many seconds it is."""
        content = self._watch.verdict
        evidence = self._sounding.seconds
        if self._announced:
            found = None if content is None else WireFormat(self.format.sample_rate, content)
            return found, evidence
        pace = self._sounding.bytes_per_second()
        if content is not None and pace is not None:
            return _nearest(pace, content, self._sounding), evidence
        # A quiet caller: nothing but our own layout makes so little of what comes, and a
        # pace above our own is no thinned-out one.
        pace = self._quiet.bytes_per_second()
        if pace is None or pace < self.format.bytes_per_second * (1 + _TOLERANCE):
            return None, self._quiet.seconds
        found = _nearest(pace, self.format.content, self._quiet)
        if found is not None and found.sample_rate // 2 in WIRE_RATES:
            found = None  # or two channels at half the rate
        return found, self._quiet.seconds

    def _loudness(self, data: bytes) -> tuple[int, int]:
        """Peaks, read as PCM16 little-endian and big-endian."""
        data = self._half + data
        self._half = data[len(data) & ~1 :]
        # One sample in four tells how loud it is.
        samples = np.frombuffer(data, "<i2", count=len(data) // 2)[::4]
        return peak(samples.tobytes()), peak(samples.byteswap().tobytes())


def _nearest(pace: float, content: Content, seen: Pace) -> WireFormat | None:
    """The rate that this pace is, if it is any."""
    rate = pace / content.frame_bytes
    nearest = min(WIRE_RATES, key=lambda each: abs(math.log(rate / each)))
    found = WireFormat(nearest, content)
    if abs(rate / nearest - 1) > _TOLERANCE or not seen.fits(found.bytes_per_second):
        return None
    return found


class Decoder:
    """Bytes of a wire format to PCM16 mono little-endian at the same rate.

    ``skip`` bytes belong to a sample whose beginning was not seen.
    """

    def __init__(self, wire: WireFormat, *, skip: int = 0) -> None:
        self.wire = wire
        self._skip = skip
        self._rest = b""

    def decode(self, data: bytes) -> bytes:
        """All whole samples; a part of one waits for what follows. Never raises."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        if self._rest:
            data = self._rest + data
        content = self.wire.content
        whole = len(data) - len(data) % content.frame_bytes
        self._rest = data[whole:]
        data = data[:whole]
        if not data or self.wire.plain:
            return data
        samples = content.read(data)
        if content.channels > 1:
            samples = samples.reshape(-1, content.channels).mean(axis=1)
        return from_float(np.clip(samples, -2.0, 2.0))


class Encoder:
    """PCM16 mono little-endian to a wire format of the same rate; the reverse of `Decoder`."""

    def __init__(self, wire: WireFormat) -> None:
        self.wire = wire

    def encode(self, pcm: bytes) -> bytes:
        """Raises AudioError for half a sample."""
        if self.wire.plain:
            return pcm
        content = self.wire.content
        order = ">" if content.big_endian else "<"
        if content.encoding == "pcm16":
            samples: np.ndarray = np.frombuffer(pcm, "<i2").astype(order + "i2")
        else:
            samples = to_float(pcm).astype(order + "f4")
        return np.repeat(samples, content.channels).tobytes()
