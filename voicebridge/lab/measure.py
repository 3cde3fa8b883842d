"""What a recorded call says about the bridge that carried it.

One rule: pure functions of arrays. Both sides of the call come as int16 mono samples on
one clock (the far end's), positions and lengths are counted in samples of that clock, and
only what is called ``*_ms`` is in milliseconds.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "EchoReport",
    "Match",
    "Piece",
    "Samples",
    "Segment",
    "Spread",
    "echo_report",
    "find",
    "first_voiced",
    "level_dbfs",
    "pacing_jitter_ms",
    "pesq_score",
    "speech_segments",
    "spread",
]

Samples: TypeAlias = npt.NDArray[np.int16]

_BLOCK_MS = 10
_QUIET_DBFS = -60.0  # below it is the hiss of a good recording, not speech
_FLOOR_MARGIN_DB = 9.0
_PEAK_MARGIN_DB = 30.0
_BRIDGED_GAP_MS = 100
_SHORTEST_SPEECH_MS = 60
# Two different pieces of speech reach about 0.4 at their best alignment, a codec's copy 0.9.
_SAME_SOUND = 0.6
_IDENTITY_BLOCK = 80


@dataclass(frozen=True, slots=True)
class Segment:
    """Samples ``start`` (inclusive) to ``stop`` (exclusive)."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Match:
    """Where a sound was found: its first sample, and how alike it is (1.0 = up to gain)."""

    offset: int
    correlation: float


@dataclass(frozen=True, slots=True)
class Piece:
    """About half a second of voiced caller audio and what came back of it.

    ``lag`` is the samples between the caller speaking and hearing it, None if it never
    came back; ``identical`` counts the samples that came back bit for bit.
    """

    start: int
    length: int
    lag: int | None
    correlation: float
    identical: int


@dataclass(frozen=True, slots=True)
class EchoReport:
    """How the caller's voiced audio came back, piece by piece."""

    pieces: tuple[Piece, ...]
    rate: int

    @property
    def round_trips_ms(self) -> tuple[float, ...]:
        return tuple(p.lag * 1000 / self.rate for p in self.pieces if p.lag is not None)

    @property
    def lost(self) -> int:
        """Pieces that were never heard."""
        return sum(piece.lag is None for piece in self.pieces)

    @property
    def identical_fraction(self) -> float | None:
        """Share of the voiced samples that came back bit for bit; None without speech."""
        voiced = sum(piece.length for piece in self.pieces)
        return sum(piece.identical for piece in self.pieces) / voiced if voiced else None


@dataclass(frozen=True, slots=True)
class Spread:
    """Percentiles of one figure; all None where nothing was measured."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None


def spread(values: Sequence[float] | npt.NDArray[np.float64]) -> Spread:
    """Percentiles by linear interpolation; an empty sequence gives an empty Spread."""
    if len(values) == 0:
        return Spread()
    array = np.asarray(values, np.float64)
    p50, p95, p99 = (float(value) for value in np.percentile(array, (50, 95, 99)))
    return Spread(p50, p95, p99, float(array.max()))


def level_dbfs(samples: Samples) -> float:
    """RMS level; 0 is a full-scale square wave, silence is -inf."""
    if samples.size == 0:
        return -np.inf
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    return 20 * float(np.log10(rms / 32768)) if rms else -np.inf


def speech_segments(samples: Samples, *, rate: int = 16_000) -> tuple[Segment, ...]:
    """Speech by energy in blocks of 10 ms, for clean recordings.

    Loud is what exceeds the quietest tenth by 9 dB, the loudest block less 30 dB, and
    -60 dBFS. Gaps up to 100 ms belong to the speech around them; what is then shorter than
    60 ms is a click.
    """
    block = rate * _BLOCK_MS // 1000
    levels = _block_levels(samples, block)
    if levels.size == 0:
        return ()
    # A long pause of digital silence must not pull the floor, and with it the threshold, down.
    floor = float(np.percentile(np.maximum(levels, _QUIET_DBFS - _FLOOR_MARGIN_DB), 10))
    loudest = float(levels.max())
    # Speech without a pause has no floor to be told from: its quietest tenth is speech.
    above_floor = min(floor + _FLOOR_MARGIN_DB, loudest - _PEAK_MARGIN_DB / 2)
    threshold = max(_QUIET_DBFS, above_floor, loudest - _PEAK_MARGIN_DB)
    merged: list[Segment] = []
    for run in _runs(levels > threshold):
        if merged and run.start - merged[-1].stop <= _BRIDGED_GAP_MS // _BLOCK_MS:
            run = Segment(merged.pop().start, run.stop)
        merged.append(run)
    return tuple(
        Segment(run.start * block, min(run.stop * block, samples.size))
        for run in merged
        if run.length * _BLOCK_MS >= _SHORTEST_SPEECH_MS
    )


def first_voiced(samples: Samples, *, rate: int = 16_000) -> int | None:
    """First sample of the first speech, to the sample; None if all is quiet.

    The block that rises above the noise tells that speech began; within it, and the one
    before, the first sample at a tenth of that block's peak tells where.
    """
    segments = speech_segments(samples, rate=rate)
    if not segments:
        return None
    block = rate * _BLOCK_MS // 1000
    start = segments[0].start
    begin = max(0, start - block)
    magnitude = np.abs(samples[begin : start + block].astype(np.int32))
    return begin + int(np.argmax(magnitude * 10 >= magnitude.max()))


def find(sound: Samples, signal: Samples) -> Match | None:
    """Best place of ``sound`` wholly inside ``signal``, by normalised cross-correlation.

    None where ``signal`` is shorter than ``sound`` or either is silent.
    """
    places = signal.size - sound.size + 1
    if sound.size == 0 or places < 1 or not sound.any() or not signal.any():
        return None
    wide_sound, wide_signal = sound.astype(np.float64), signal.astype(np.float64)
    size = 1 << (signal.size + sound.size - 1).bit_length()
    spectrum = np.fft.rfft(wide_signal, size) * np.conj(np.fft.rfft(wide_sound, size))
    product = np.fft.irfft(spectrum, size)[:places]
    energy = np.concatenate(([0.0], np.cumsum(np.square(wide_signal))))
    under = energy[sound.size :] - energy[:places]
    own = float(np.square(wide_sound).sum())
    # Where almost nothing sounds, rounding of the transform would look like a likeness.
    norm = np.sqrt(own * np.maximum(under, own * 1e-4))
    likeness = product / norm
    best = int(np.argmax(likeness))
    return Match(best, min(1.0, float(likeness[best])))


def echo_report(
    spoken: Samples,
    heard: Samples,
    *,
    rate: int = 16_000,
    piece_ms: int = 500,
    longest_ms: int = 3_000,
) -> EchoReport:
    """Looks for each piece of the caller's speech in what the caller heard afterwards.

    A piece is about ``piece_ms`` of voiced audio; it is looked for from the instant it was
    spoken until ``longest_ms`` later.
    """
    found: list[tuple[Segment, Match | None]] = []
    for piece in _pieces(speech_segments(spoken, rate=rate), rate * piece_ms // 1000):
        until = piece.stop + rate * longest_ms // 1000
        match = find(spoken[piece.start : piece.stop], heard[piece.start : until])
        found.append((piece, match if match and match.correlation >= _SAME_SOUND else None))
    pieces = []
    for index, (piece, match) in enumerate(found):
        # A stream that slips inside a piece carries the neighbour's lag from there on.
        around = found[max(0, index - 1) : index + 2]
        lags = {near.offset for _, near in around if near is not None}
        pieces.append(
            Piece(
                start=piece.start,
                length=piece.length,
                lag=match.offset if match else None,
                correlation=match.correlation if match else 0.0,
                identical=_identical(spoken, heard, piece, lags),
            )
        )
    return EchoReport(tuple(pieces), rate)


def pesq_score(reference: Samples, heard: Samples, *, rate: int = 16_000) -> float | None:
    """Wideband PESQ (ITU-T P.862.2), 1.0 to 4.64, of two aligned recordings.

    Judges the first 30 s, about what the method was made for. None where the package `pesq`
    is not installed or finds no speech to judge.
    """
    length = min(reference.size, heard.size, 30 * rate)
    if not (reference[:length].any() and heard[:length].any()):
        return None
    try:
        pesq = import_module("pesq")
    except ImportError:
        return None
    try:
        score = pesq.pesq(rate, reference[:length], heard[:length], "wb")
    except (pesq.PesqError, ValueError):
        return None
    return float(score)


def pacing_jitter_ms(
    arrivals: Sequence[float] | npt.NDArray[np.float64], period_ms: float = 60.0
) -> npt.NDArray[np.float64]:
    """How far each gap between messages is from ``period_ms``; arrivals in seconds, in order."""
    gaps: npt.NDArray[np.float64] = np.diff(np.asarray(arrivals, np.float64)) * 1000
    return np.abs(gaps - period_ms)


def _block_levels(samples: Samples, block: int) -> npt.NDArray[np.float64]:
    """dBFS of each block; a tail shorter than a block is judged with zeros behind it."""
    padded = np.concatenate((samples, np.zeros(-samples.size % block, np.int16)))
    power = np.mean(np.square(padded.reshape(-1, block), dtype=np.float64), axis=1)
    levels: npt.NDArray[np.float64] = 10 * np.log10(np.maximum(power, 1e-3) / 32768**2)
    return levels


def _runs(mask: npt.NDArray[np.bool_]) -> list[Segment]:
    edges = np.diff(np.concatenate(([False], mask, [False])).astype(np.int8))
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return [Segment(int(a), int(b)) for a, b in zip(starts, stops, strict=True)]


def _pieces(segments: Sequence[Segment], length: int) -> list[Segment]:
    """Equal parts of each segment, each as near to ``length`` as that allows."""
    pieces = []
    for segment in segments:
        count = max(1, round(segment.length / length))
        bounds = [segment.start + segment.length * i // count for i in range(count + 1)]
        pieces += [Segment(a, b) for a, b in itertools.pairwise(bounds)]
    return pieces


def _identical(spoken: Samples, heard: Samples, piece: Segment, lags: set[int]) -> int:
    """Samples of ``piece`` in blocks of 5 ms that came back bit for bit at one of ``lags``.

    Blocks, since single samples agree by chance.
    """
    wanted = spoken[piece.start : piece.stop]
    blocks = np.arange(0, wanted.size, _IDENTITY_BLOCK)
    sizes = np.diff(np.append(blocks, wanted.size))
    same = np.zeros(blocks.size, np.bool_)
    for lag in lags:
        came = heard[piece.start + lag : piece.stop + lag]
        equal = np.zeros(wanted.size, np.bool_)
        equal[: came.size] = wanted[: came.size] == came
        same |= np.logical_and.reduceat(equal, blocks)
    return int(sizes[same].sum())
