"""The far end's clock, and recordings on it.

Pure. Positions are samples of the wire's rate since the call connected; caller's mouth and
caller's ear share one clock, so the difference of two positions is a true delay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["EPSILON_S", "FarClock", "Pcm", "Tape"]

Pcm = npt.NDArray[np.int16]

# Instants computed from sample positions and back differ by rounding far below this.
EPSILON_S = 1e-7


@dataclass(frozen=True, slots=True)
class FarClock:
    """Samples at ``rate``, off by ``drift_ppm`` from true time."""

    origin: float
    rate: int
    drift_ppm: float = 0.0

    def position(self, now: float) -> int:
        """Whole samples that have passed at ``now``."""
        passed = (now - self.origin + EPSILON_S) * self.rate * (1 + self.drift_ppm * 1e-6)
        return max(0, int(passed))

    def instant(self, position: int) -> float:
        return self.origin + position / (self.rate * (1 + self.drift_ppm * 1e-6))


class Tape:
    """What was audible, as pieces at positions; silence takes no room.

    Beyond ``limit`` samples nothing is kept any more.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[tuple[int, bytes]] = []

    def put(self, position: int, pcm: bytes) -> None:
        """Pieces come in order of position and do not overlap."""
        if position < self._limit and pcm.count(0) != len(pcm):
            self._pieces.append((position, pcm))

    def render(self, length: int) -> Pcm:
        """``length`` samples from position 0."""
        samples = np.zeros(length, np.int16)
        for position, pcm in self._pieces:
            piece = np.frombuffer(pcm, "<i2")[: max(0, length - position)]
            samples[position : position + len(piece)] = piece
        return samples
