"""What the far end measures of the bridge: evenness, sizes and clock of its messages.

Pure. Figures leave out the first half second after each opening of a socket, in which a
bridge may send its lead; sizes, texts and totals count everything.
"""

from __future__ import annotations

import itertools
from array import array
from collections import Counter
from dataclasses import dataclass

import numpy as np

__all__ = ["Gauge", "Measurement"]

_SETTLING_S = 0.5
_MIN_DRIFT_S = 5.0
_MAX_MESSAGES = 200_000
_MAX_SIZES = 64


@dataclass(frozen=True, slots=True)
class Measurement:
    """How well the bridge did, seen from the provider. Milliseconds of audio or of time.

    ``seconds``: with a media socket open. ``interarrival_ms_*``: between messages.
    ``jitter_ms_*``: how far that is off the length of the message before.
    ``longest_hole_ms``: silence that the engine had to insert because nothing came.
    ``drift_ppm``: the bridge's clock by its sample count, None below 5 s of audio.
    ``tail_cut_ms``: audible audio still queued when the call ended, never heard.
    ``odd_sizes``: messages that are not one frame of 60 ms. ``sizes``: bytes -> messages.
    """

    seconds: float
    messages: int
    samples_in: int
    samples_out: int
    interarrival_ms_p50: float
    interarrival_ms_p99: float
    interarrival_ms_max: float
    jitter_ms_p50: float
    jitter_ms_p99: float
    drift_ppm: float | None
    holes: int
    longest_hole_ms: float
    hole_ms: float
    max_queue_ms: float
    overflow_drops: int
    overflow_ms: float
    tail_cut_ms: float
    odd_sizes: int
    text_frames: int
    tokens_reused: int
    sizes: dict[int, int]


class Gauge:
    """The log of arrivals. ``rate`` is the wire's, ``frame_bytes`` one frame of 60 ms."""

    def __init__(self, rate: int, frame_bytes: int) -> None:
        self._rate = rate
        self._frame_bytes = frame_bytes
        self._at = array("d")
        self._bytes = array("L")
        self._openings: list[int] = []
        self._opened_at: float | None = None
        self.seconds = 0.0
        self.messages_total = 0
        self.bytes_total = 0
        self.odd_sizes = 0
        self.text_frames = 0
        self.sizes: Counter[int] = Counter()

    def opened(self, now: float) -> None:
        self._opened_at = now
        self._openings.append(len(self._at))

    def closed(self, now: float) -> None:
        if self._opened_at is not None:
            self.seconds += now - self._opened_at
            self._opened_at = None

    def message(self, n_bytes: int, now: float) -> None:
        self.messages_total += 1
        self.bytes_total += n_bytes
        self.odd_sizes += n_bytes != self._frame_bytes
        if n_bytes in self.sizes or len(self.sizes) < _MAX_SIZES:
            self.sizes[n_bytes] += 1
        if len(self._at) < _MAX_MESSAGES:
            self._at.append(now)
            self._bytes.append(n_bytes)

    @property
    def messages(self) -> list[tuple[float, int]]:
        """``(instant, bytes)`` of each message, the first 200,000."""
        return list(zip(self._at, self._bytes, strict=True))

    def interarrivals(self) -> tuple[np.ndarray, np.ndarray]:
        """Seconds between settled messages of one socket, and how far each is off."""
        gaps, errors = [np.empty(0)], [np.empty(0)]
        for at, n_bytes in self._runs():
            gap = np.diff(at)
            gaps.append(gap)
            errors.append(np.abs(gap - n_bytes[:-1] / (2 * self._rate)))
        return np.concatenate(gaps), np.concatenate(errors)

    def drift_ppm(self) -> float | None:
        """Slope of samples over time against the nominal rate, from the longest run."""
        run = max(self._runs(), key=lambda run: len(run[0]), default=None)
        if run is None or len(run[0]) < 3 or run[0][-1] - run[0][0] < _MIN_DRIFT_S:
            return None
        at, n_bytes = run
        sent = np.concatenate(([0.0], np.cumsum(n_bytes[:-1]))) / 2
        time = at - at[0]
        slope = np.polyfit(time - time.mean(), sent - sent.mean(), 1)[0]
        return float((slope / self._rate - 1) * 1e6)

    def _runs(self) -> list[tuple[np.ndarray, np.ndarray]]:
        at, n_bytes = np.array(self._at), np.array(self._bytes, np.float64)
        runs = []
        for first, last in itertools.pairwise([*self._openings, len(at)]):
            span = slice(first, last)
            settled = at[span] >= (at[first] + _SETTLING_S if last > first else 0.0)
            if np.count_nonzero(settled) > 1:
                runs.append((at[span][settled], n_bytes[span][settled]))
        return runs
