"""What a listener asks for: the numbers of a playout, and the grid on which frames are pulled.

The rule: the listener's clock is the listener's. That a pull is late says nothing of it; only
where pulls keep coming earlier or later does the grid follow.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from voicebridge.core.arrival import ArrivalsConfig
from voicebridge.errors import ConfigError

__all__ = ["PlayoutConfig", "PullGrid"]

_GAIN: Final = 0.02
_LOST: Final = 0.150
"""Seconds off the grid by which a pull starts a new one."""


@dataclass(frozen=True, slots=True)
class PlayoutConfig:
    """The numbers of one playout. Delays are in milliseconds beyond the fastest arrival."""

    sample_rate: int = 16_000
    frame_ms: int = 20
    start_ms: float = 40.0
    min_ms: float = 13.0
    """The least delay that is aimed at, on a link without jitter."""
    jittery_ms: float = 22.0
    """The same where lateness is more than a hair."""
    stalling_ms: float = 46.0
    """The same on a link that stalls again and again."""
    max_ms: float = 72.0
    """The most that is aimed at. Rare lateness beyond it is played late and won back, which
    costs a listener less than a longer delay all the time."""
    hard_ms: float = 1_500.0
    """More than this is not held: the oldest is trimmed, and counted."""
    trim_to_ms: float = 400.0
    conceal_ms: float = 80.0
    """Made-up sound fades to calm within this."""
    slack: float = 0.2
    """Delay above what is aimed at by less than this share of it is left alone."""
    brisk_ms: float = 60.0
    """Above by more than this, speech is cut every second frame and less smoothly; more than
    ``haste_ms`` above, in every frame."""
    haste_ms: float = 140.0
    arrivals: ArrivalsConfig = field(default_factory=ArrivalsConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.min_ms <= self.start_ms <= self.max_ms < self.trim_to_ms < self.hard_ms:
            raise ConfigError("set min_ms <= start_ms <= max_ms < trim_to_ms < hard_ms")
        if self.sample_rate * self.frame_ms % 1000:
            raise ConfigError("set frame_ms so that a frame is a whole number of samples")


class PullGrid:
    """The instants at which frames are due, ``step`` seconds apart."""

    def __init__(self, step: float) -> None:
        self._step = step
        self._at: float | None = None

    @property
    def following(self) -> float | None:
        """When the next pull is due; None before the first."""
        return None if self._at is None else self._at + self._step

    def follow(self, now: float) -> float:
        """The grid's instant for a pull that came at ``now``."""
        due = self.following
        if due is None or abs(now - due) > _LOST:
            self._at = now
        else:
            self._at = due + _GAIN * (now - due)
        return self._at
