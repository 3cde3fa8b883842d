"""How many bytes a second a stream brings, from when they came.

The rule: only what came without a pause counts. A phone that is silent may send nothing
(DTX), and a stalled network delivers late and then all at once, so the first half second
and what follows a gap tell nothing, nor does total over total. Within each stretch that is
left, the slope of bytes over time is the rate, and jitter averages out.
"""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final

__all__ = ["Pace"]

_SETTLE: Final = 0.500
"""Servers hold the first audio back and then send it at once."""
_GAP: Final = 0.150
_WIDER: Final = 1.25
_LONGEST_RHYTHM: Final = 0.240
"""A server that sends 180 ms at a time makes no gap by it."""
_GAPS: Final = 15
_AFTER_GAP: Final = 0.300
_SHORTEST: Final = 0.300
"""Of a stretch that counts."""
_AT_ONCE: Final = 0.010
"""Messages nearer than this are one arrival."""
_SURE: Final = 0.03
"""Standard error of the slope, as a part of it."""
_RHYTHM: Final = (0.6, 1.67)
_ARRIVALS: Final = 64


class _Sums:
    """What a least-squares line through points, or through several sets of them, needs."""

    __slots__ = ("freedom", "seconds", "xx", "xy", "yy")

    def __init__(self) -> None:
        self.seconds = self.xx = self.xy = self.yy = 0.0
        self.freedom = 0

    def add(self, other: _Sums) -> None:
        """Pools the points of another stretch, which has its own offset."""
        self.seconds += other.seconds
        self.xx += other.xx
        self.xy += other.xy
        self.yy += other.yy
        self.freedom += other.freedom

    def plus(self, other: _Sums) -> _Sums:
        both = _Sums()
        both.add(self)
        both.add(other)
        return both

    def slope(self) -> tuple[float, float]:
        """Bytes a second, and its standard error as a part of it; zero where unknown."""
        if self.xx <= 0 or self.xy <= 0 or self.freedom < 1:
            return 0.0, float("inf")
        slope = self.xy / self.xx
        variance = max(0.0, self.yy - slope * self.xy) / self.freedom
        return slope, (variance / self.xx) ** 0.5 / slope


class _Stretch:
    """Arrivals without a pause: time from the first one, bytes that came after it."""

    __slots__ = ("_bytes", "_count", "_start", "_t", "_tt", "_ty", "_y", "_yy", "last")

    def __init__(self, now: float) -> None:
        self._start = self.last = now
        self._count = 1
        self._bytes = 0
        self._t = self._tt = self._ty = 0.0
        self._y = self._yy = 0

    def add(self, now: float, size: int) -> None:
        self.last = now
        self._bytes += size
        t, y = now - self._start, self._bytes
        self._count += 1
        self._t += t
        self._tt += t * t
        self._ty += t * y
        self._y += y
        self._yy += y * y

    def sums(self) -> _Sums:
        """Nothing of a stretch that is too short to count."""
        sums = _Sums()
        sums.seconds = self.last - self._start
        if sums.seconds < _SHORTEST:
            return _Sums()
        count = self._count
        sums.xx = self._tt - self._t * self._t / count
        sums.xy = self._ty - self._t * self._y / count
        sums.yy = self._yy - self._y * self._y / count
        sums.freedom = count - 2
        return sums


class Pace:
    """Feed it every message; ``bytes_per_second`` answers when enough came."""

    def __init__(self, seconds: float) -> None:
        """``seconds`` of countable stretches are enough."""
        self._enough = seconds
        self._past = _Sums()
        self._stretch: _Stretch | None = None
        self._last: float | None = None
        self._settled_at = 0.0
        self._gaps: deque[float] = deque(maxlen=_GAPS)
        self._arrivals: deque[tuple[float, int]] = deque(maxlen=_ARRIVALS)
        self._arrival_bytes = 0
        self._arrival_at = 0.0

    def opened(self) -> None:
        """A new socket: its first messages tell nothing again."""
        self._break()
        self._last = None

    def arrive(self, now: float, size: int, *, counts: bool = True) -> None:
        """``size`` bytes came. What does not count ends a stretch."""
        gap, limit = 0.0 if self._last is None else now - self._last, _GAP
        if self._last is None:
            self._settled_at = now + _SETTLE
        elif gap > _AT_ONCE:
            limit = self._longest_gap()
            self._gaps.append(gap)
        if gap > limit:
            self._settled_at = max(self._settled_at, now + _AFTER_GAP)
        self._last = now
        if gap > limit or now < self._settled_at or not counts:
            self._break()
        elif self._stretch is None:
            self._stretch = _Stretch(now)
            self._arrival_at, self._arrival_bytes = now, 0
        else:
            self._stretch.add(now, size)
            self._note_arrival(now, size)

    @property
    def seconds(self) -> float:
        """Length of the stretches that count."""
        return self._sums().seconds

    def bytes_per_second(self) -> float | None:
        """None where too little came, or it came too unevenly to be sure."""
        sums = self._sums()
        slope, error = sums.slope()
        if sums.seconds < self._enough or error > _SURE:
            return None
        return slope

    def fits(self, bytes_per_second: float) -> bool:
        """Whether messages came about as often as their audio lasts at this rate.

        A stream of which every other message is missing has a slope like a lower rate's,
        but not its rhythm.
        """
        low, high = _RHYTHM
        ratios = [seconds * bytes_per_second / size for seconds, size in self._arrivals]
        return bool(ratios) and low <= median(ratios) <= high

    def _longest_gap(self) -> float:
        usual = median(self._gaps) if self._gaps else 0.0
        return max(_GAP, _WIDER * usual) if usual <= _LONGEST_RHYTHM else _GAP

    def _sums(self) -> _Sums:
        return self._past if self._stretch is None else self._past.plus(self._stretch.sums())

    def _break(self) -> None:
        if self._stretch is not None:
            self._past.add(self._stretch.sums())
            self._stretch = None

    def _note_arrival(self, now: float, size: int) -> None:
        self._arrival_bytes += size
        if now - self._arrival_at > _AT_ONCE and self._arrival_bytes:
            self._arrivals.append((now - self._arrival_at, self._arrival_bytes))
            self._arrival_at, self._arrival_bytes = now, 0
