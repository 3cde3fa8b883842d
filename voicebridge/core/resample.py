"""Changes the sample rate of a stream, at a delay of 1 to 2 ms.

The rule: after n samples in, exactly ``ceil(n * to / from)`` samples have come out, and they
are the same bits whatever the chunks were. The filter carries its history and nothing waits
for a block to fill. Stream resamplers made for files hold back 10 to 40 ms and deliver in
lumps; for whole files, where that does not matter, soxr does the work.

A Kaiser-windowed polyphase filter, applied as one matrix product per chunk: with the rates
as to : from = L : M, a window of inputs gives L outputs for each M inputs, always by the
same matrix. Its weights are whole multiples of 2^-22 and samples are whole numbers; the sums
of their products need fewer than 53 bits, so float64 holds each of them exactly and the order
of additions, which a BLAS chooses by shape and machine, cannot change a bit. That is why one
call alone and a hundred calls in one product (`ResamplerBank`) give equal streams.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from voicebridge.core.audio import from_float, to_float, to_samples
from voicebridge.errors import AudioError

__all__ = ["RATES", "Resampler", "ResamplerBank", "resample_whole"]

RATES: Final = (8_000, 16_000, 22_050, 24_000, 44_100, 48_000)
"""The rates a stream may have, in Hz."""

_BETA: Final = 9.0
"""Kaiser window: aliases and images at least 88 dB down."""
_CUTOFF: Final = 0.96
"""Of the lower rate's Nyquist frequency: 3,400 Hz at 8 kHz, which telephony needs, is 0.3 dB
down, and what would fold back below 3,400 Hz is rejected in full."""
_UNIT: Final = 1 << 22
"""One, in the units of the filter's weights: rounding them costs nothing above -120 dB."""
_BLOCKS_PER_SECOND: Final = 50
"""A chunk of 20 ms is a whole number of blocks, for every pair of rates."""
_GROUP: Final = 16
"""Streams in one product: what it touches should stay in the cache."""

Samples = npt.NDArray[np.int16]


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
    output; each column sums to one. ``delay`` is in seconds.
    """

    inputs: int
    outputs: int
    taps: int
    delay: float
    matrix: npt.NDArray[np.float64]

    def apply(self, windows: npt.NDArray[np.float64]) -> Samples:
        """Outputs of many blocks, one window per row, rounded and saturated as int16."""
        sums = windows @ self.matrix
        np.rint(sums, out=sums)
        np.minimum(sums, 32767.0, out=sums)
        np.maximum(sums, -32768.0, out=sums)
        return sums.astype("<i2")


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
    weights = np.rint(phases / phases.sum(axis=0) * _UNIT)
    # Each phase passes a constant unchanged, or a constant would come out as a tone.
    weights[np.abs(weights).argmax(axis=0), np.arange(up)] += _UNIT - weights.sum(axis=0)

    inputs = _block(from_rate, down, taps)
    outputs = inputs * up // down
    matrix = np.zeros((taps - 1 + inputs, outputs))
    for output in range(outputs):
        newest, phase = divmod(output * down, up)
        matrix[newest : newest + taps, output] = weights[::-1, phase] / _UNIT
    matrix.setflags(write=False)
    return _Filter(inputs, outputs, taps, (length - 1) / 2 / (from_rate * up), matrix)


def _block(from_rate: int, down: int, taps: int) -> int:
    """Inputs of a block: near the length of the filter, where the product is used best."""
    periods = from_rate // _BLOCKS_PER_SECOND // down
    lengths = [down * count for count in range(1, periods + 1) if periods % count == 0]
    return min(lengths, key=lambda inputs: abs(inputs - taps))


def _filter_for(from_rate: int, to_rate: int) -> _Filter | None:
    """None for equal rates. Raises AudioError for a rate that is not one of ``RATES``."""
    for rate in (from_rate, to_rate):
        if rate not in RATES:
            raise AudioError(
                f"{rate} Hz cannot be resampled as a stream; use one of "
                f"{', '.join(map(str, RATES))}"
            )
    return None if from_rate == to_rate else _design(from_rate, to_rate)


class Resampler:
    """One stream of PCM16 mono from one rate to another. Rates: 8, 16, 22.05, 24, 44.1, 48 kHz.

    Equal rates pass everything through untouched and without delay.
    """

    def __init__(self, from_rate: int, to_rate: int) -> None:
        """Raises AudioError for a rate that is not one of ``RATES``."""
        self._filter = _filter_for(from_rate, to_rate)
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
        return self._run(self._filter, samples)

    def flush(self) -> bytes:
        """Gives what the filter still holds, and starts afresh for another stream."""
        if self._filter is None or not self._used:
            return b""
        held = math.ceil(self._filter.delay * self.from_rate)
        tail = self._run(self._filter, np.zeros(held, dtype=np.int16))
        self._start()
        return tail

    def mark(self) -> object:
        """Where the stream stands, for `rewind`."""
        return self._window, self._used, self._taken, self._given

    def rewind(self, mark: object) -> None:
        """Takes back all that was processed since ``mark()``."""
        assert isinstance(mark, tuple)
        self._window, self._used, self._taken, self._given = mark

    def _start(self) -> None:
        taps = 1 if self._filter is None else self._filter.taps
        self._window = np.zeros(taps - 1)
        """Inputs from the start of the current block's window on."""
        self._used = False
        self._taken = 0
        self._given = 0
        """Samples taken and given since the current block's start, which is moved along so
        that the numbers stay small in a call of any length."""

    def _run(self, filter_: _Filter, samples: Samples) -> bytes:
        if not samples.size:
            return b""
        self._used = True
        inputs, outputs = filter_.inputs, filter_.outputs
        taken = self._taken + samples.size
        available = -(-taken * outputs // inputs)
        blocks = -(-available // outputs)
        width = filter_.taps - 1 + inputs
        # Zeros stand in for inputs that have not come; no output that needs them is given.
        window = np.zeros((blocks - 1) * inputs + width)
        held = self._window.size
        window[:held] = self._window
        window[held : held + samples.size] = samples
        step = window.itemsize
        rows = np.ndarray((blocks, width), buffer=window, strides=(inputs * step, step))
        # A copy: rows that overlap are beyond a BLAS.
        result = filter_.apply(rows.copy()).reshape(-1)[self._given : available]

        done = available // outputs
        self._window = window[done * inputs : held + samples.size].copy()
        self._taken = taken - done * inputs
        self._given = available - done * outputs
        return result.tobytes()


class ResamplerBank:
    """Many streams of the same two rates in one product: a row per stream.

    Each row is bit for bit what a `Resampler` of its own would give. Streams come and go by
    ``clear(row)``. Chunks are whole blocks, so that no row is ever out of step with another;
    20 ms, and any multiple of it, is that at every pair of rates.
    """

    def __init__(self, from_rate: int, to_rate: int, rows: int) -> None:
        """Raises AudioError for a rate that is not one of ``RATES``."""
        self._filter = _filter_for(from_rate, to_rate)
        taps = 1 if self._filter is None else self._filter.taps
        self._history = np.zeros((rows, taps - 1), dtype=np.int16)

    @property
    def block(self) -> int:
        """Chunks are a multiple of this many samples."""
        return 1 if self._filter is None else self._filter.inputs

    def clear(self, row: int) -> None:
        """A new stream begins in this row."""
        self._history[row] = 0

    def process(self, chunks: Samples, rows: npt.NDArray[np.intp] | None = None) -> Samples:
        """The next chunk of each stream: (k, samples) in, (k, samples * to / from) out.

        ``rows`` says whose chunks they are, each row once; None means all, in order.

        Raises:
            AudioError: a chunk that is not whole blocks, or not a row for each stream.
        """
        streams = len(self._history) if rows is None else len(rows)
        if chunks.ndim != 2 or len(chunks) != streams or chunks.shape[1] % self.block:
            raise AudioError(f"pass {streams} rows, each a multiple of {self.block} samples")
        filter_ = self._filter
        if filter_ is None or not chunks.size:
            return chunks.astype("<i2")
        held = filter_.taps - 1
        window = np.empty((streams, held + chunks.shape[1]))
        window[:, :held] = self._history if rows is None else self._history[rows]
        window[:, held:] = chunks
        kept = window[:, window.shape[1] - held :]
        if rows is None:
            self._history[:] = kept
        else:
            self._history[rows] = kept
        groups = [
            _run_blocks(filter_, window[first : first + _GROUP])
            for first in range(0, streams, _GROUP)
        ]
        return groups[0] if len(groups) == 1 else np.concatenate(groups)


def _run_blocks(filter_: _Filter, window: npt.NDArray[np.float64]) -> Samples:
    """One row per stream, its history before its whole blocks."""
    streams, length = window.shape
    width = filter_.taps - 1 + filter_.inputs
    blocks = (length - filter_.taps + 1) // filter_.inputs
    step = window.itemsize
    windows = np.lib.stride_tricks.as_strided(
        window,
        (streams, blocks, width),
        (length * step, filter_.inputs * step, step),
        writeable=False,
    )
    return filter_.apply(windows.reshape(streams * blocks, width)).reshape(streams, -1)


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
