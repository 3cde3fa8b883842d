"""Tells speech from the pauses in it, by loudness alone.

The rule: quiet is what may be cut or lengthened without a word suffering. A block is quiet
where it is near the room's noise, or far below the voice; both levels are tracked.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

__all__ = ["Loudness"]

_LOWEST_DB: Final = -75.0
_FLOOR_RISE_DB: Final = 0.04
_VOICE_FALL_DB: Final = 0.02
_OVER_FLOOR_DB: Final = 6.0
_UNDER_VOICE_DB: Final = 38.0
_SURELY_VOICE_DB: Final = -30.0
_UNKNOWN_DB: Final = -45.0
"""A louder floor is no room, but a voice that has not paused yet."""
_FULL_SCALE_DB: Final = 20 * math.log10(32768.0)


class Loudness:
    """Levels of one stream in dB below full scale, block by block."""

    def __init__(self) -> None:
        self._floor = _UNKNOWN_DB
        self._voice = -30.0

    @property
    def noise_level(self) -> float:
        """RMS of the room's noise on the int16 scale; 0 for digital silence."""
        if self._floor <= _LOWEST_DB or self._floor >= _UNKNOWN_DB:
            return 0.0
        return float(10 ** ((self._floor + _FULL_SCALE_DB) / 20))

    @property
    def voice_level(self) -> float:
        """RMS of the loudest blocks of late, on the int16 scale."""
        return float(10 ** ((self._voice + _FULL_SCALE_DB) / 20))

    def is_quiet(self, pcm: bytes) -> bool:
        """Takes the next block in."""
        wave = np.frombuffer(pcm, "<i2").astype(np.float32)
        power = float(wave.dot(wave)) / max(1, wave.size)
        level = 10 * math.log10(power + 1e-9) - _FULL_SCALE_DB
        level = max(_LOWEST_DB, level)
        self._floor = min(level, self._floor + _FLOOR_RISE_DB)
        self._voice = max(level, self._voice - _VOICE_FALL_DB, _SURELY_VOICE_DB)
        near_floor = level < self._floor + _OVER_FLOOR_DB and level < _SURELY_VOICE_DB
        return near_floor or level < self._voice - _UNDER_VOICE_DB
