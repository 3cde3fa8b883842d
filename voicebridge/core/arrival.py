"""How late audio comes: measured against the fastest of late, and what to wait for.

The rule: a delay is kept only for lateness that comes again. Each 20 ms of audio has an
offset, the instant it came less its place in the stream. What it exceeds the least offset
of the newest seconds by is its lateness, and a high quantile of latenesses, forgetting the
old, is the delay worth keeping. Two things are no lateness. Where the sender was silent
(DTX, mute) the stream's places say nothing of time, and measuring begins anew. A long stall
is an accident: to be ready for the next would cost its length all the time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np

__all__ = ["Arrivals", "ArrivalsConfig"]

_BUCKET_MS: Final = 2.5
_BUCKETS: Final = 100
_YOUNG: Final = 2
_SENDER_GAP: Final = 0.150
"""Audio that comes after so long a pause shows by its pace whether there was a backlog."""
_BACKLOG_WITHIN: Final = 0.060
"""A backlog comes at once; a sender that was silent goes on at the pace of speech."""
_BACKLOG_SHARE: Final = 0.4


@dataclass(frozen=True, slots=True)
class ArrivalsConfig:
    """What lateness to count, and how fast to forget it."""

    window_seconds: float = 3.0
    """Of audio, over which the least offset is taken."""
    quantile: float = 0.965
    usual: float = 0.8
    """The quantile of lateness beyond which trouble is coming."""
    ample: float = 0.978
    """A delay is given up where it exceeds this quantile, too."""
    memory: int = 1000
    """Blocks after which a share has faded to a third: 20 s."""
    stalls_within: float = 45.0
    """Seconds: two stalls nearer than this make a stalling link."""
    stall_ms: float = 250.0
    """More lateness than this is a stall and is not counted."""


class Arrivals:
    """Offsets of one stream, in blocks of ``block`` samples. Times are monotonic seconds."""

    def __init__(self, config: ArrivalsConfig, rate: int, block: int, start_ms: float) -> None:
        self._config = config
        self._rate = rate
        self._block = block
        self._window = max(1, round(config.window_seconds * rate / block))
        self._least: deque[tuple[int, float]] = deque()
        """Block numbers and offsets, rising: the first is the least of the window."""
        self._count = 0
        self._shares = np.zeros(_BUCKETS)
        self._shares[min(_BUCKETS - 1, int(start_ms / _BUCKET_MS) - 1)] = 1.0
        self._quantiles = (config.usual, config.quantile, config.ample)
        self.usual_ms = start_ms
        """Lateness up to this is nothing unusual."""
        self.wanted_ms = start_ms
        """The delay worth keeping."""
        self.ample_ms = start_ms
        """A delay that has proven to be more than is needed."""
        self._seen = 0
        self._stalled = False
        self._stalls: deque[float] = deque(maxlen=2)
        """When the newest two ended."""
        self._last_at: float | None = None
        self._anew = False
        self._doubt: tuple[float, int, float] | None = None
        """After a pause: when audio came again, at which block, and how long it was away."""

    @property
    def base(self) -> float | None:
        """The least offset of late: when the stream's first sample would have come. None
        before the first audio."""
        return self._least[0][1] if self._least else None

    @property
    def stalls_again(self) -> bool:
        """Two stalls within ``stalls_within``: a third must be expected."""
        stalls = self._stalls
        if len(stalls) < 2 or self._last_at is None:
            return False
        return self._last_at - stalls[0] < self._config.stalls_within

    def sender_silent(self) -> None:
        """The sender is known to send nothing: what comes next starts a new measure."""
        self._anew = True

    def block(self, now: float) -> None:
        """One more block is complete."""
        self._count = number = self._count + 1
        offset = now - number * self._block / self._rate
        if self._anew:
            self._restart(number - 1)
        else:
            self._weigh_pause(now, number)
        self._last_at = now
        least = self._least
        while least and least[-1][1] >= offset:
            least.pop()
        least.append((number, offset))
        while least[0][0] <= number - self._window:
            least.popleft()
        self._count_in((offset - least[0][1]) * 1000, now)

    def _count_in(self, lateness_ms: float, now: float) -> None:
        if lateness_ms > self._config.stall_ms:
            if not self._stalled:
                self._stalls.append(now)
            self._stalled = True
        elif lateness_ms < 20.0:
            self._stalled = False
        if self._stalled:
            return
        shares = self._shares
        self._seen += 1
        # A young measure learns fast: the start counts as much as _YOUNG blocks.
        gain = max(1 / self._config.memory, 1 / (_YOUNG + self._seen))
        shares *= 1 - gain
        shares[min(_BUCKETS - 1, int(lateness_ms / _BUCKET_MS))] += gain
        edges = shares.cumsum().searchsorted(self._quantiles).tolist()
        self.usual_ms, self.wanted_ms, self.ample_ms = (
            (min(edge, _BUCKETS - 1) + 1) * _BUCKET_MS for edge in edges
        )

    def _restart(self, number: int) -> None:
        self._anew = False
        self._stalled = False
        self._doubt = None
        self._least = deque(entry for entry in self._least if entry[0] > number)

    def _weigh_pause(self, now: float, number: int) -> None:
        """Without word from the sender: was that pause a stall or a silence?"""
        if self._last_at is not None and now - self._last_at > _SENDER_GAP:
            self._doubt = (now, number, now - self._last_at)
        if self._doubt is None:
            return
        since, first, away = self._doubt
        if now - since < _BACKLOG_WITHIN:
            return
        caught_up = (number - first) * self._block / self._rate
        if caught_up < _BACKLOG_SHARE * away + _BACKLOG_WITHIN:
            self._restart(first - 1)
            if self._stalls and self._stalls[-1] >= since:
                self._stalls.pop()
        self._doubt = None
