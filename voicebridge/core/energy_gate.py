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
_BLOCK: Final = 64
_SLOPE: Final = np.arange(_BLOCK) - (_BLOCK - 1) / 2
_RUMBLE: Final = np.stack(
    [np.full(_BLOCK, _BLOCK**-0.5), _SLOPE / np.linalg.norm(_SLOPE)], axis=1
).astype(np.float32)
"""(64, 2): an orthonormal constant and slope."""


@dataclass(frozen=True, slots=True)
class EnergyGateSettings:
    """When the gate opens, and for how long."""

    above_floor_db: float = 4.0
    hang_ms: int = 500
    """It stays open so long after the last loud frame: longer than any pause within a word."""
    replay_ms: int = 100
    rise_db_per_second: float = 2.0
    """A talker must not lift the floor."""
    fall: float = 0.1
    """Per frame, of the distance to a lower level. Not at once: noise that fluctuates, as wind
    and traffic do, would be loud by comparison with its own lowest frame."""
    lowest_floor_dbfs: float = -62.0
    """Digital silence is no measure of the noise that follows it."""


class EnergyGate:
    """One call's gate. It is told the level of each frame, in order."""

    def __init__(self, settings: EnergyGateSettings | None = None, frame_ms: int = 20) -> None:
        settings = settings or EnergyGateSettings()
        self._above = settings.above_floor_db
        self._hang = max(1, settings.hang_ms // frame_ms)
        self._rise = settings.rise_db_per_second * frame_ms / 1000
        self._fall = settings.fall
        self._lowest = settings.lowest_floor_dbfs
        self._floor: float | None = None
        self._left = 0

    @property
    def is_open(self) -> bool:
        """As of the last frame."""
        return self._left > 0

    @property
    def is_loud(self) -> bool:
        """The last frame itself rose above the floor: something may be beginning."""
        return self._left == self._hang

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
        below = level_dbfs - self._floor
        step = self._rise if below > 0 else self._fall * below
        self._floor = max(self._floor + step, self._lowest)
        if level_dbfs >= self._floor + self._above:
            self._left = self._hang
        elif self._left:
            self._left -= 1
        return self._left > 0


def levels_dbfs(frames: npt.NDArray[np.int16]) -> list[float]:
    """RMS level of each row of (n, samples), in dB below full scale; -117 for silence.

    Rumble is left out: in each 4 ms, the mean and the slope. Wind and traffic have most of
    their power below 150 Hz, where it is never steady, and a voice has next to none there.
    ``samples`` is a multiple of 64.
    """
    count, length = frames.shape
    samples = frames.astype(np.float32)
    power = np.einsum("ij,ij->i", samples, samples)
    rumble = (samples.reshape(-1, _BLOCK) @ _RUMBLE).reshape(count, -1)
    power -= np.einsum("ij,ij->i", rumble, rumble)
    power /= length
    # Less than one bit: a logarithm of zero is not a level, and rounding may go below it.
    np.maximum(power, np.float32(2e-3), out=power)
    levels: list[float] = (10 * np.log10(power) - _FULL_SCALE_DB).tolist()
    return levels
