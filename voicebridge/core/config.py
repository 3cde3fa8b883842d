"""How one call's audio is carried: plain numbers, checked once, never changed in a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from voicebridge.errors import ConfigError

__all__ = ["SAMPLE_BYTES", "TICK_MS", "MediaConfig"]

SAMPLE_BYTES: Final = 2
"""PCM16: every sample is two bytes, little-endian."""

TICK_MS: Final = 20
"""How often a session is ticked; nothing in a call happens at a finer grain."""

RATES: Final = (8_000, 16_000, 22_050, 24_000, 44_100, 48_000)


@dataclass(frozen=True, slots=True)
class MediaConfig:
    """The numbers of one media session.

    The defaults are the ones of a WhatsApp call: its codec knows 960 samples at 16 kHz
    (60 ms) and nothing else, so every message sent is 1,920 bytes.
    """

    sample_rate: int = 16_000
    """Of the wire, in Hz, both ways."""
    frame_ms: int = 20
    """Of what bots hear."""
    wire_frame_ms: int = 60
    """Of each message sent."""
    lead_ms: int = 60
    """Sent ahead of the instant of play, beyond the frame that starts. It hides our own
    hiccups and the network's, and it is the floor of how fast a bot can fall silent."""
    max_lead_ms: int = 180
    """What is sent and not yet played never exceeds this."""
    adaptive_lead: bool = True
    """The lead grows towards the most where the line needs it, and shrinks again."""
    limit_dbfs: float | None = -3.0
    """What is more than half a decibel louder is limited to this; None sends all as it is."""
    path_delay_ms: int = 150
    """From our socket to the caller's ear; taken off what counts as heard."""
    preroll_ms: int = 60
    """A streamed utterance starts when this much is queued, or it has ended, or ..."""
    preroll_wait_ms: int = 120
    """... when its first sample has waited this long."""
    idle_fill_ms: int = 90
    """No inbound audio for this long: ask by ping whether that is silence or a stall."""
    stall_limit_ms: int = 1_200
    """Neither audio nor pong for this long counts as silence."""
    max_utterance_seconds: int = 300
    """The most audio one utterance may have queued; beyond it ``write`` refuses."""

    def __post_init__(self) -> None:
        if self.sample_rate not in RATES:
            raise ConfigError(f"sample_rate must be one of {', '.join(map(str, RATES))}")
        for name in ("frame_ms", "wire_frame_ms"):
            milliseconds = getattr(self, name)
            if milliseconds <= 0 or self.sample_rate * milliseconds % 1000:
                raise ConfigError(f"{name} must be a positive number of whole samples")
        if min(self.lead_ms, self.path_delay_ms, self.preroll_ms, self.preroll_wait_ms) < 0:
            raise ConfigError("lead_ms, path_delay_ms and preroll times must not be negative")
        if self.wire_frame_ms + self.lead_ms > self.max_lead_ms:
            raise ConfigError("max_lead_ms must be at least wire_frame_ms + lead_ms")
        if self.limit_dbfs is not None and not -30.0 <= self.limit_dbfs <= 0.0:
            raise ConfigError("limit_dbfs must be from -30 to 0, or None for no limit")
        if not 0 < self.idle_fill_ms <= self.stall_limit_ms:
            raise ConfigError("idle_fill_ms must be positive and at most stall_limit_ms")
        if self.max_utterance_seconds <= 0:
            raise ConfigError("max_utterance_seconds must be positive")

    @property
    def frame_samples(self) -> int:
        """Samples of one frame that a bot hears."""
        return self.sample_rate * self.frame_ms // 1000

    @property
    def wire_frame_samples(self) -> int:
        """Samples of one message sent."""
        return self.sample_rate * self.wire_frame_ms // 1000
