"""Real speech, and what to check of it at the other end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

CLIPS = Path(__file__).parent.parent / "speech"
Pcm = npt.NDArray[np.int16]


def clip(name: str) -> Pcm:
    """A clip of ``tests/speech``, 16 kHz."""
    samples, rate = soundfile.read(CLIPS / f"{name}.flac", dtype="int16")
    assert rate == 16_000
    return np.asarray(samples, np.int16)


def find(needle: Pcm, haystack: Pcm) -> int | None:
    """Where ``needle`` stands sample for sample in ``haystack``; None if it does not."""
    sought, bytes_ = needle.tobytes(), haystack.tobytes()
    position = bytes_.find(sought)
    while position > 0 and position % 2:
        position = bytes_.find(sought, position + 1)
    return None if position < 0 else position // 2


def voiced(clip: Pcm) -> Pcm:
    """The clip without the silence around it."""
    loud = np.flatnonzero(np.abs(clip.astype(np.int32)) > 300)
    return clip[loud[0] : loud[-1] + 1]
