"""Stands between a media socket of any format and a session that knows one.

The rule: inside, everything is PCM16 mono at the session's rate. What comes in changes its
format as soon as the far end's is known; what goes out follows where the bot is silent, so
that no word begins at one rate and ends at another. There is no feedback from the far end:
it is taken to want what it sends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from voicebridge.core.format import Decoder, Encoder, FormatDetector, WireFormat
from voicebridge.core.resample import Resampler

if TYPE_CHECKING:
    from voicebridge.core.config import MediaConfig

__all__ = ["WireAdapter"]


class WireAdapter:
    """One call's formats, in and out. ``detect`` off: as configured, or as announced."""

    def __init__(self, config: MediaConfig, *, detect: bool = True) -> None:
        self._rate = config.sample_rate
        self._detector = FormatDetector(config)
        self._detector.settled = not detect
        self._received = 0
        """Bytes since the socket opened: where in a sample the next one falls."""
        self._decoder = Decoder(WireFormat(self._rate))
        self._ears = Resampler(self._rate, self._rate)
        self._encoder = Encoder(WireFormat(self._rate))
        self._mouth = Resampler(self._rate, self._rate)
        self._before_last = self._mouth.mark()
        self._spoke = False

    @property
    def inbound(self) -> WireFormat:
        return self._decoder.wire

    @property
    def outbound(self) -> WireFormat:
        return self._encoder.wire

    def opened(self) -> None:
        """A new socket: no sample is half received, and nothing was said into it."""
        self._received = 0
        self._decoder = Decoder(self.inbound)
        self._detector.opened()
        self._spoke = False

    def announced(self, sample_rate: int) -> WireFormat | None:
        """The server told its rate in a text message; the new format if it is another."""
        return self._change(self._detector.announced(sample_rate))

    def hear(self, data: bytes, now: float) -> tuple[bytes, WireFormat | None]:
        """A binary message as PCM16 at the session's rate, and a format just found, if any."""
        found = self._change(self._detector.message(data, now))
        self._received += len(data)
        return self._ears.process(self._decoder.decode(data)), found

    def say(self, message: bytes) -> bytes:
        """A message of the session as the far end wants it."""
        if self.outbound != self.inbound and (not self._spoke or _is_silent(message)):
            self._encoder = Encoder(self.inbound)
            self._mouth = Resampler(self._rate, self.inbound.sample_rate)
        self._spoke = self._spoke or not _is_silent(message)
        self._before_last = self._mouth.mark()
        return self._encoder.encode(self._mouth.process(message))

    def unsay(self) -> None:
        """The last message was not taken by the link and will be said again."""
        self._mouth.rewind(self._before_last)

    def _change(self, found: WireFormat | None) -> WireFormat | None:
        if found is not None:
            self._decoder = Decoder(found, skip=-self._received % found.content.frame_bytes)
            self._ears = Resampler(found.sample_rate, self._rate)
        return found


def _is_silent(message: bytes) -> bool:
    return message.count(0) == len(message)
