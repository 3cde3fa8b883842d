"""Keys in the audio: a detector of DTMF tone pairs (ITU-T Q.23, judged as Q.24 does).

A key is a sum of one low and one high tone. Each block of 12.75 ms is projected on the
eight frequencies; a block shows a key where one low and one high tone stand out, agree
in level, and hold most of the block's energy, which speech does not. A key counts after
some equal blocks and is over after some without it; the two profiles differ in how many.

The numbers are Q.24's with a margin for two tones that are both 1.5 % off, which a stricter
share of the energy would refuse. Speech codecs of 6 to 24 kbit/s pass a key of 100 ms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LOW_HZ = (697.0, 770.0, 852.0, 941.0)
HIGH_HZ = (1209.0, 1336.0, 1477.0, 1633.0)
KEYS = ("123A", "456B", "789C", "*0#D")
BLOCK_SECONDS = 0.012_75
#: A full-scale sine is +3.14 dBm0 (ITU-T G.711).
_DBM0_OF_FULL_SCALE = 3.14


@dataclass(frozen=True, slots=True)
class Profile:
    """How many blocks make a key, and its end."""

    accept: int
    release: int


#: A phone's key is held for 100 ms or more; what is shorter than 51 ms is no key.
PHONE = Profile(accept=4, release=5)
#: As exchanges judge it: 40 ms is a key, 23 ms is none.
Q24 = Profile(accept=2, release=2)


@dataclass(frozen=True, slots=True)
class DtmfLimits:
    """When a block shows a key; levels in dBm0, differences in dB."""

    level: float = -42.0
    """Of each tone, at least."""
    twist: tuple[float, float] = (-5.5, 9.5)
    """Low less high, from and to."""
    contrast: float = 8.0
    """Of each tone over the others of its group, at least."""
    share: float = 0.70
    """Of the block's energy in the two tones, at least."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key that was pressed; ``at_sample`` is where its first block began."""

    digit: str
    at_sample: int


class DtmfDetector:
    """One call's detector. Feed it PCM16 LE mono of any length; it never raises."""

    def __init__(
        self,
        sample_rate: int,
        profile: Profile = PHONE,
        limits: DtmfLimits | None = None,
    ) -> None:
        self.profile = profile
        limits = limits or DtmfLimits()
        self._block = round(sample_rate * BLOCK_SECONDS)
        self._rest = b""
        self._position = 0
        self._waves = _waves(sample_rate, self._block)
        # The power of a full-scale tone in this projection is (32768 * block / 2) ** 2.
        full_scale = (32_768 * self._block / 2) ** 2
        self._floor = full_scale * 10 ** ((limits.level - _DBM0_OF_FULL_SCALE) / 10)
        self._twist = tuple(10 ** (limit / 10) for limit in limits.twist)
        self._contrast = 10 ** (limits.contrast / 10)
        self._share = limits.share
        self._active: str | None = None
        self._misses = 0
        self._candidate: str | None = None
        self._hits = 0

    def process(self, pcm: bytes) -> list[Key]:
        """The keys that became certain with this audio."""
        data = self._rest + pcm
        size = self._block * 2
        whole = len(data) // size
        self._rest = data[whole * size :]
        if not whole:
            return []
        blocks = np.frombuffer(data, "<i2", whole * self._block).reshape(whole, self._block)
        keys = []
        for digit in self._shown(blocks.astype(np.float32)):
            if (key := self._step(digit)) is not None:
                keys.append(key)
            self._position += self._block
        return keys

    def _shown(self, blocks: npt.NDArray[np.float32]) -> list[str | None]:
        """The key that each block shows by itself."""
        energy = np.einsum("ij,ij->i", blocks, blocks)
        powers = (np.abs(blocks @ self._waves) ** 2).astype(np.float64)
        shown: list[str | None] = []
        for power, total in zip(powers, energy, strict=True):
            low, high = power[:4], power[4:]
            row, column = int(low.argmax()), int(high.argmax())
            shown.append(
                KEYS[row][column]
                if self._stands_out(low, row)
                and self._stands_out(high, column)
                and self._twist[0] <= low[row] / high[column] <= self._twist[1]
                # A tone of power p holds 2 p / block of the block's energy.
                and 2 * (low[row] + high[column]) >= self._share * self._block * total
                else None
            )
        return shown

    def _stands_out(self, group: npt.NDArray[np.float64], best: int) -> bool:
        others = max(power for index, power in enumerate(group) if index != best)
        return bool(group[best] >= self._floor and group[best] >= self._contrast * others)

    def _step(self, digit: str | None) -> Key | None:
        if digit is not None and digit == self._candidate:
            self._hits += 1
        else:
            self._candidate, self._hits = digit, int(digit is not None)
        if digit == self._active:
            self._misses = 0
        else:
            self._misses += 1
            if self._misses >= self.profile.release:
                self._active = None
        if self._hits == self.profile.accept and digit != self._active and digit is not None:
            self._active, self._misses = digit, 0
            start = self._position - (self._hits - 1) * self._block
            return Key(digit, start)
        return None


def _waves(sample_rate: int, block: int) -> npt.NDArray[np.complex64]:
    """Columns: one complex oscillation per frequency, low ones first."""
    time = np.arange(block)[:, None] / sample_rate
    return np.asarray(np.exp(-2j * np.pi * time * np.array([*LOW_HZ, *HIGH_HZ])), np.complex64)
