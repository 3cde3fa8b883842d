"""Fills a hole in the audio a person listens to: the last period again, fading, then calm.

The rule: a hole must not click, buzz or fall dead. The last pitch period is repeated with its
ends joined, and fades within ``fade_ms``; what follows is noise as loud as the caller's room.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from voicebridge.core.timescale import Wave, crossfade, joint_behind

__all__ = ["Concealer"]

_SHORTEST_MS: Final = 2.5
_LONGEST_MS: Final = 15.0
_TEMPLATE_MS: Final = 5.0
_HELD_MS: Final = 10.0
"""Repeated at full strength before it fades."""
_NOISE_SEED: Final = 20_30


class Concealer:
    """Makes up samples. ``begin`` once per hole, then ``take`` as often as needed."""

    def __init__(self, rate: int, fade_ms: float) -> None:
        self._shortest = int(_SHORTEST_MS * rate / 1000)
        self._longest = int(_LONGEST_MS * rate / 1000)
        self._template = int(_TEMPLATE_MS * rate / 1000)
        held = int(_HELD_MS * rate / 1000)
        falling = max(1, int(fade_ms * rate / 1000) - held)
        self._gain = np.concatenate(
            (np.ones(held), np.cos(np.linspace(0, np.pi / 2, falling)) ** 2)
        ).astype(np.float32)
        # A whole second, so that its repetition is not heard.
        self._noise = np.random.default_rng(_NOISE_SEED).standard_normal(rate).astype(np.float32)
        self._noise_at = 0
        self._cycle: Wave = np.zeros(1, np.float32)
        self._given = self._gain.size

    @property
    def voiced_left(self) -> int:
        """Samples until nothing but noise is given."""
        return max(0, self._gain.size - self._given)

    def begin(self, past: Wave) -> None:
        """A hole begins after ``past``, the newest samples played."""
        self._given = 0
        self._cycle = self._period(past)

    def take(self, count: int, noise_level: float) -> Wave:
        """The next ``count`` samples; ``noise_level`` is an RMS on the int16 scale."""
        start = self._noise_at
        self._noise_at = (start + count) % self._noise.size
        noise = self._noise[start : start + count]
        if noise.size < count:
            noise = np.concatenate((noise, self._noise[: count - noise.size]))
        voiced = min(count, self.voiced_left)
        if not voiced:
            self._given += count
            return noise * np.float32(noise_level)
        gain = self._gain[self._given : self._given + voiced]
        cycle = self._cycle
        at = self._given % cycle.size
        turns = -(-(at + voiced) // cycle.size)
        out = noise * np.float32(noise_level)
        out[:voiced] *= 1 - gain
        out[:voiced] += np.tile(cycle, turns)[at : at + voiced] * gain
        self._given += count
        return out

    def _period(self, past: Wave) -> Wave:
        size = self._template
        if past.size < self._shortest + 2 * size:
            return np.zeros(1, np.float32)
        # What stands before the period must look like the end of the past.
        joint = joint_behind(past[:-size], past[-size:], size, self._longest)
        lag = joint.lag if joint else self._shortest
        cycle = past[-lag:].copy()
        seam = min(lag // 4, past.size - lag)
        if seam:
            cycle[-seam:] = crossfade(cycle[-seam:], past[-lag - seam : -lag])
        return cycle
