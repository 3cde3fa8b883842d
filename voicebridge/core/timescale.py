"""Makes speech shorter or longer by whole pitch periods, without changing its pitch.

The rule: a cut joins two places that look alike, over a crossfade. A period is found where
the normalised correlation is highest (WSOLA: Verhelst and Roelands, ICASSP 1993), so voiced
speech loses or repeats a period, and noise is joined anywhere. Arrays are float32 on the
int16 scale; lags are samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Joint", "Wave", "crossfade", "joint_ahead", "joint_behind"]

Wave: TypeAlias = npt.NDArray[np.float32]

_QUIET_ENERGY: Final = 100.0
"""Mean square below which everything is alike: an amplitude of 10 of 32,768."""


@dataclass(frozen=True, slots=True)
class Joint:
    """Where two stretches are most alike: so many samples apart, and how alike (-1 to 1)."""

    lag: int
    likeness: float


def joint_ahead(wave: Wave, overlap: int, shortest: int, longest: int) -> Joint | None:
    """The best place to jump forward to from the start of ``wave``.

    None if ``wave`` is shorter than ``shortest + overlap``. To cut ``lag`` samples out, fade
    from ``wave[:overlap]`` to ``wave[lag:lag + overlap]`` and go on from there.
    """
    longest = min(longest, wave.size - overlap)
    if longest < shortest:
        return None
    return _best(wave[:overlap], wave[shortest : longest + overlap], shortest)


def joint_behind(past: Wave, template: Wave, shortest: int, longest: int) -> Joint | None:
    """The best place in ``past`` to go back to, where ``template`` would come next.

    None if ``past`` is too short. To put ``lag`` samples in, fade from ``template`` to
    ``past[-lag:]``; what follows ``past`` then follows once more. ``shortest`` is at least
    the length of the template.
    """
    longest = min(longest, past.size)
    overlap = template.size
    if longest < shortest or shortest < overlap:
        return None
    joint = _best(template, past[past.size - longest : past.size - shortest + overlap], 0)
    return Joint(longest - joint.lag, joint.likeness)


def _best(template: Wave, region: Wave, first: int) -> Joint:
    """The offset in ``region`` (counted from ``first``) most like the template."""
    size = template.size
    energy = float(template @ template)
    if energy <= _QUIET_ENERGY * size:
        return Joint(first + (region.size - size), 1.0)
    products = np.correlate(region, template, "valid")
    running = np.empty(region.size + 1, np.float64)
    running[0] = 0.0
    np.cumsum(np.square(region, dtype=np.float64), out=running[1:])
    energies = np.maximum(running[size:] - running[:-size], _QUIET_ENERGY * size)
    likeness = products / np.sqrt(energies * energy)
    at = int(likeness.argmax())
    return Joint(first + at, float(likeness[at]))


def crossfade(leaving: Wave, coming: Wave) -> Wave:
    """From one to the other over their common length."""
    rising = _rising(leaving.size)
    return leaving + (coming - leaving) * rising


@lru_cache(maxsize=16)
def _rising(length: int) -> Wave:
    steps = (np.arange(length) + 0.5) / max(1, length)
    rising: Wave = (0.5 - 0.5 * np.cos(np.pi * steps)).astype(np.float32)
    rising.flags.writeable = False
    return rising
