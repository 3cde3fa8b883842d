"""Limits of a live call: its length, a line that brings nothing, silence of both sides.

Deaf calls are a known fault of WhatsApp lines: the caller hears us, and nothing comes back.
Comfort noise is no voice, so what counts is the level.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Peaks below this many steps of 16 bits are comfort noise.
NOISE_FLOOR = 8
INTERVAL = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """In seconds."""

    max_call: float = 1_800.0
    deaf: float = 20.0
    silence: float = 300.0


class Watchdog:
    """Asked once a second; times are monotonic seconds."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._started = now
        self._heard_at: float | None = None
        self.next_at = now + INTERVAL

    def check(self, now: float, inbound_peak: int, spoken_at: float | None) -> str | None:
        """Why the call must end now, None while it may go on.

        Args:
            inbound_peak: the loudest sample of the caller since the last check.
            spoken_at: when the bot last said something, None if it never did.
        """
        self.next_at = now + INTERVAL
        if inbound_peak >= NOISE_FLOOR:
            self._heard_at = now
        if now - self._started >= self._limits.max_call:
            return "max_duration"
        # Who listens to a long greeting says nothing and is not deaf to us.
        waited = now - max(self._started, spoken_at or 0.0)
        if self._heard_at is None and waited >= self._limits.deaf:
            return "deaf"
        last = max(self._started, self._heard_at or 0.0, spoken_at or 0.0)
        if now - last >= self._limits.silence:
            return "silence"
        return None
