"""PCM16 mono little-endian: conversion, length, level, fades.

The rule: audio travels as ``bytes``; arrays exist only inside a function that computes.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from voicebridge.core.config import SAMPLE_BYTES
from voicebridge.errors import AudioError

__all__ = [
    "fade_in",
    "fade_out",
    "from_float",
    "from_samples",
    "level_dbfs",
    "ms_of",
    "peak",
    "samples_in",
    "silence",
    "to_float",
    "to_samples",
]

QUIETEST_DBFS: Final = -100.0
"""What digital silence measures: below one bit, and finite."""

_FULL_SCALE: Final = 32768.0


def samples_in(milliseconds: float, rate: int) -> int:
    """Whole samples in a time, rounded to the nearest."""
    return round(milliseconds * rate / 1000)


def ms_of(samples: int, rate: int) -> int:
    """Whole milliseconds that so many samples last, rounded down."""
    return samples * 1000 // rate


def silence(samples: int) -> bytes:
    """So many zero samples."""
    return bytes(samples * SAMPLE_BYTES)


def to_samples(pcm: bytes) -> npt.NDArray[np.int16]:
    """A read-only view of the samples. Raises AudioError for half a sample."""
    if len(pcm) % SAMPLE_BYTES:
        raise AudioError("PCM16 audio has an even number of bytes; pass whole samples")
    return np.frombuffer(pcm, dtype="<i2")


def from_samples(samples: npt.NDArray[np.number]) -> bytes:
    """Numbers on the int16 scale to PCM16: rounded, and saturated rather than wrapped."""
    if samples.dtype == np.int16:
        return samples.astype("<i2", copy=False).tobytes()
    whole: npt.NDArray[np.int16] = np.clip(np.rint(samples), -32768, 32767).astype("<i2")
    return whole.tobytes()


def to_float(pcm: bytes) -> npt.NDArray[np.float32]:
    """Samples as float32 in [-1, 1). Raises AudioError for half a sample."""
    return to_samples(pcm).astype(np.float32) / np.float32(_FULL_SCALE)


def from_float(samples: npt.NDArray[np.floating]) -> bytes:
    """Samples in [-1, 1] to PCM16; what lies beyond is saturated."""
    return from_samples(samples * _FULL_SCALE)


def level_dbfs(pcm: bytes) -> float:
    """RMS level in dB below full scale (a full-scale square wave is 0); -100 for silence."""
    samples = to_samples(pcm)
    if not samples.size:
        return QUIETEST_DBFS
    energy = float(np.mean(np.square(samples, dtype=np.float64)))
    if energy == 0.0:
        return QUIETEST_DBFS
    return max(QUIETEST_DBFS, 10 * math.log10(energy / _FULL_SCALE**2))


def peak(pcm: bytes) -> int:
    """The largest magnitude of any sample, 0 to 32768; half a sample at the end is ignored."""
    samples = np.frombuffer(pcm, dtype="<i2", count=len(pcm) // SAMPLE_BYTES)
    # Two plain reductions: abs() would wrap at -32768, and a wider copy would cost more.
    return max(int(samples.max()), -int(samples.min())) if samples.size else 0


def fade_out(pcm: bytes, samples: int) -> bytes:
    """The last ``samples`` samples (or all, if fewer) go down to zero along a raised cosine."""
    audio = to_samples(pcm).astype(np.float32)
    length = min(samples, audio.size)
    if length:
        audio[-length:] *= _ramp(length)[::-1]
    return from_samples(audio)


def fade_in(pcm: bytes, samples: int) -> bytes:
    """The first ``samples`` samples (or all, if fewer) come up from zero."""
    audio = to_samples(pcm).astype(np.float32)
    length = min(samples, audio.size)
    audio[:length] *= _ramp(length)
    return from_samples(audio)


def _ramp(length: int) -> npt.NDArray[np.float32]:
    """From 0 (exclusive of 1) upwards: ``ramp[0]`` is 0, so a fade always meets silence."""
    rising = 0.5 - 0.5 * np.cos(np.pi * np.arange(length) / max(1, length))
    return rising.astype(np.float32)
