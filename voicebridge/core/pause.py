"""Where to go on after a pause: a little before the sample at which it began.

The rule: a caller who was only coughing should lose no word, so some speech is said again,
from a pause between words if there is one near the place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from voicebridge.core.audio import to_samples

if TYPE_CHECKING:
    from voicebridge.core.utterance import Utterance

__all__ = ["SEARCH_MS", "Pause", "rewound_samples"]

SEARCH_MS: Final = 100
"""How far from the place asked for a pause between words is looked for, both ways."""
_QUIET_MS: Final = 10
_STEP_MS: Final = 1
_QUIETER: Final = 16.0
"""The quietest 10 ms are a pause if they have 12 dB less than the stretch around them."""


@dataclass(slots=True)
class Pause:
    """The line is held. What was speaking, if anything, fades out in the next message."""

    utterance: Utterance | None
    position: int
    """The first sample of the fade: the last one that was heard undimmed."""
    fade_due: bool


def rewound_samples(past: bytes, rewind: int, rate: int) -> int:
    """How many of the last samples to say again, given those that were said.

    ``past`` ends where speech stopped. The answer is ``rewind``, or up to 100 ms more or
    less where that falls into a pause between words; never more than there is.
    """
    audio = to_samples(past).astype(np.float32)
    search, quiet, step = (rate * each // 1000 for each in (SEARCH_MS, _QUIET_MS, _STEP_MS))
    rewind = min(rewind, audio.size)
    place = audio.size - rewind
    first = max(0, place - search)
    window = audio[first : min(audio.size, place + search + quiet)]
    if window.size <= quiet or not rewind:
        return rewind
    energy = np.concatenate(([0.0], np.cumsum(np.square(window, dtype=np.float64))))
    stretches = (energy[quiet:] - energy[:-quiet])[::step]
    quietest = float(stretches.min())
    mean = float(energy[-1]) * quiet / window.size
    if quietest * _QUIETER > mean:
        return rewind
    # Of equally quiet ones the nearest: in digital silence there are many.
    quiet_ones = np.flatnonzero(stretches <= quietest * 1.1) * step + first
    return audio.size - int(quiet_ones[np.argmin(np.abs(quiet_ones - place))])
