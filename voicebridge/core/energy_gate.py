"""Is there any sound worth a neural network's time? A level against the floor of the line.

The rule: it may open for nothing, it must not stay shut for speech. In quiet, and in noise
that stays as it is, it is shut, and the call costs next to nothing. What came just before it
opened is heard again by whoever it guards (`EnergyGateSettings.replay_ms`), so that a soft
onset is not lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["EnergyGate", "EnergyGateSettings", "levels_dbfs"]

_FULL_SCALE_DB: Final = 20 * np.log10(32768.0)


@dataclass(frozen=True, slots=True)
class EnergyGateSettings:
    """When the gate opens, and for how long."""

    above_floor_db: float = 5.0
    hang_ms: int = 500
    """It stays open so long after the last loud frame: longer than any pause within a word."""
    replay_ms: int = 100
    rise_db_per_second: float = 2.0
    """The floor falls with the level at once, and rises slowly: a talker must not lift it."""
    lowest_floor_dbfs: float = -62.0
    """Digital silence is no measure of the noise that follows it."""


class EnergyGate:
    """One call's gate. It is told the level of each frame, in order."""

    def __init__(self, settings: EnergyGateSettings | None = None, frame_ms: int = 20) -> None:
        settings = settings or EnergyGateSettings()
        self._above = settings.above_floor_db
        self._hang = max(1, settings.hang_ms // frame_ms)
        self._rise = settings.rise_db_per_second * frame_ms / 1000
        self._lowest = settings.lowest_floor_dbfs
        self._floor: float | None = None
        self._left = 0

    @property
    def is_open(self) -> bool:
        """As of the last frame."""
        return self._left > 0

    @property
    def floor_dbfs(self) -> float:
        """The level below which there was nothing lately."""
        return self._lowest if self._floor is None else self._floor

    def hear(self, level_dbfs: float) -> bool:
        """Takes the next frame's level; True where the frame should be listened to."""
        if self._floor is None:
            # A call may begin in the middle of a word: nothing is known yet, so listen.
            self._floor = max(level_dbfs, self._lowest)
            self._left = self._hang
            return True
        self._floor = max(min(self._floor + self._rise, level_dbfs), self._lowest)
        if level_dbfs >= self._floor + self._above:
            self._left = self._hang
        elif self._left:
            self._left -= 1
        return self._left > 0


def levels_dbfs(frames: npt.NDArray[np.int16]) -> list[float]:
    """RMS level of each row of (n, samples), in dB below full scale; -117 for silence."""
    samples = frames.astype(np.float32)
    power = np.einsum("ij,ij->i", samples, samples)
    power /= frames.shape[1]
    # Less than one bit: a logarithm of zero is not a level.
    power += np.float32(2e-3)
    levels: list[float] = (10 * np.log10(power) - _FULL_SCALE_DB).tolist()
    return levels
