"""Changes the sample rate of a stream, at a delay of 1 to 2 ms.

The rule: after n samples in, exactly ``ceil(n * to / from)`` samples have come out. The
filter carries its history, so chunks of any size give the same stream as one chunk (to one
bit, by the order of float additions), and nothing waits for a block to fill. Stream
resamplers made for files hold back 10 to 40 ms and deliver in lumps; for whole files, where
that does not matter, soxr does the work.

A Kaiser-windowed polyphase filter, applied as one matrix product per chunk: with the rates
as to : from = L : M, a window of inputs gives L outputs for each M inputs, always by the
same matrix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from voicebridge.core.audio import from_float, from_samples, to_float, to_samples
from voicebridge.errors import AudioError

__all__ = ["RATES", "Resampler", "resample_whole"]

RATES: Final = (8_000, 16_000, 22_050, 24_000, 44_100, 48_000)
"""The rates a stream may have, in Hz."""

_BETA: Final = 9.0
"""Kaiser window: aliases and images at least 88 dB down."""
_CUTOFF: Final = 0.96
"""Of the lower rate's Nyquist frequency: 3,400 Hz at 8 kHz, which telephony needs, is 0.3 dB
down, and what would fold back below 3,400 Hz is rejected in full."""


def _span(rate: int) -> float:
    """Length of the filter in seconds, twice its delay, by the lower of the two rates.

    The narrower the band between what passes and what may not, the longer.
    """
    if rate <= 8_000:
        return 0.0040
    return 0.0028 if rate <= 16_000 else 0.0020


@dataclass(frozen=True, slots=True)
class _Filter:
    """One pair of rates: ``inputs`` samples in give ``outputs`` samples out per block.

    ``matrix`` has ``taps - 1 + inputs`` rows (the window, oldest first) and a column per
    output. ``delay`` is in seconds.
    """

    inputs: int
    outputs: int
    taps: int
    delay: float
    matrix: npt.NDArray[np.float32]


@lru_cache(maxsize=len(RATES) ** 2)
def _design(from_rate: int, to_rate: int) -> _Filter:
    divisor = math.gcd(from_rate, to_rate)
    up, down = to_rate // divisor, from_rate // divisor
    lower = min(from_rate, to_rate)
    taps = int(_span(lower) * from_rate)
    length = taps * up
    instants = (np.arange(length) - (length - 1) / 2) / (from_rate * up)
    prototype = np.sinc(_CUTOFF * lower * instants) * np.kaiser(length, _BETA)
    phases = prototype.reshape(taps, up)
    # Each phase passes a constant unchanged, or a constant would come out as a tone.
    phases = phases / phases.sum(axis=0)

    # Several periods per block where they are short: better use of the matrix product.
    periods = max(1, round(taps / down))
    inputs, outputs = down * periods, up * periods
    matrix = np.zeros((taps - 1 + inputs, outputs), dtype=np.float32)
    for output in range(outputs):
        newest, phase = divmod(output * down, up)
        matrix[newest : newest + taps, output] = phases[::-1, phase]
    matrix.setflags(write=False)
    return _Filter(inputs, outputs, taps, (length - 1) / 2 / (from_rate * up), matrix)


class Resampler:
    """One stream of PCM16 mono from one rate to another. Rates: 8, 16, 22.05, 24, 44.1, 48 kHz.

    Equal rates pass everything through untouched and without delay.
    """

    def __init__(self, from_rate: int, to_rate: int) -> None:
        """Raises AudioError for a rate that is not one of ``RATES``."""
        for rate in (from_rate, to_rate):
            if rate not in RATES:
                raise AudioError(
                    f"{rate} Hz cannot be resampled as a stream; use one of "
                    f"{', '.join(map(str, RATES))}"
                )
        self._filter = None if from_rate == to_rate else _design(from_rate, to_rate)
        self.from_rate = from_rate
        self.to_rate = to_rate
        self._start()

    @property
    def delay_ms(self) -> float:
        """How much later a sound comes out than it went in."""
        return 0.0 if self._filter is None else self._filter.delay * 1000

    def process(self, pcm: bytes) -> bytes:
        """Takes the next samples, gives all that can be made of them.

        Raises:
            AudioError: half a sample at the end; the stream is as it was before.
        """
        samples = to_samples(pcm)
        if self._filter is None:
            return pcm
        return self._run(self._filter, samples.astype(np.float32))

    def flush(self) -> bytes:
        """Gives what the filter still holds, and starts afresh for another stream."""
        if self._filter is None or not self._used:
            return b""
        held = math.ceil(self._filter.delay * self.from_rate)
        tail = self._run(self._filter, np.zeros(held, dtype=np.float32))
        self._start()
        return tail

    def _start(self) -> None:
        taps = 1 if self._filter is None else self._filter.taps
        self._window = np.zeros(taps - 1, dtype=np.float32)
        """Inputs from the start of the current block's window on."""
        self._used = False
        self._taken = 0
        self._given = 0
        """Samples taken and given since the current block's start, which is moved along so
        that the numbers stay small in a call of any length."""

    def _run(self, filter_: _Filter, samples: npt.NDArray[np.float32]) -> bytes:
        if not samples.size:
            return b""
        self._used = True
        inputs, outputs = filter_.inputs, filter_.outputs
        taken = self._taken + samples.size
        available = -(-taken * outputs // inputs)
        blocks = -(-available // outputs)
        width = filter_.taps - 1 + inputs
        # Zeros stand in for inputs that have not come; no output that needs them is given.
        window = np.zeros((blocks - 1) * inputs + width, dtype=np.float32)
        held = self._window.size
        window[:held] = self._window
        window[held : held + samples.size] = samples
        rows = np.lib.stride_tricks.as_strided(
            window, (blocks, width), (inputs * window.itemsize, window.itemsize), writeable=False
        )
        result = (np.ascontiguousarray(rows) @ filter_.matrix).reshape(-1)[self._given : available]

        done = available // outputs
        self._window = window[done * inputs : held + samples.size].copy()
        self._taken = taken - done * inputs
        self._given = available - done * outputs
        return from_samples(result)


def resample_whole(audio: bytes | npt.NDArray[np.floating], from_rate: int, to_rate: int) -> bytes:
    """Resamples a whole recording between any two rates: best quality, aligned, no delay.

    ``audio`` is PCM16 mono, or a one-dimensional array in [-1, 1]. Returns PCM16 mono.

    Raises:
        AudioError: half a sample, more than one dimension, or a rate that is not positive.
    """
    if from_rate <= 0 or to_rate <= 0:
        raise AudioError("sample rates must be positive")
    samples = to_float(audio) if isinstance(audio, bytes) else np.asarray(audio, dtype=np.float32)
    if samples.ndim != 1:
        raise AudioError("mix the channels to one before resampling")
    if from_rate == to_rate or not samples.size:
        return from_float(samples)
    # Imported here: only files need it, and a call must start without it.
    import soxr

    return from_float(soxr.resample(samples, from_rate, to_rate, quality="VHQ"))
