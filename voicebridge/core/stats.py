"""What a session counts about itself. Plain numbers; whoever reads them does the reporting."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Histogram", "Lead", "SessionStats"]

_BUCKETS_PER_MS: Final = 4
_BUCKETS: Final = 64 * _BUCKETS_PER_MS


class Histogram:
    """Times from 0 to 64 ms in quarter milliseconds, longer ones in one last bucket.

    Fixed in size whatever the length of the call, and exact enough for a 99th percentile.
    """

    __slots__ = ("count", "counts", "max_ms")

    def __init__(self) -> None:
        self.counts = [0] * (_BUCKETS + 1)
        self.count = 0
        self.max_ms = 0.0

    def add(self, milliseconds: float) -> None:
        """Counts one value; a negative one (early) counts as 0."""
        self.counts[_bucket(milliseconds)] += 1
        self.count += 1
        if milliseconds > self.max_ms:
            self.max_ms = milliseconds

    def remove(self, milliseconds: float) -> None:
        """Takes back a value that was added; the maximum stands."""
        self.counts[_bucket(milliseconds)] -= 1
        self.count -= 1

    def merge(self, other: Histogram) -> None:
        """Adds another call's values to these."""
        for index, number in enumerate(other.counts):
            self.counts[index] += number
        self.count += other.count
        self.max_ms = max(self.max_ms, other.max_ms)

    def quantile_ms(self, quantile: float) -> float:
        """The value that this share of all values does not exceed, to a quarter millisecond."""
        rank = math.ceil(quantile * self.count)
        seen = 0
        for index, number in enumerate(self.counts[:_BUCKETS]):
            seen += number
            if seen >= rank:
                return min(index / _BUCKETS_PER_MS, self.max_ms)
        return self.max_ms


def _bucket(milliseconds: float) -> int:
    """Bucket ``b`` holds the values above ``(b - 1) / 4`` ms and up to ``b / 4`` ms."""
    if milliseconds <= 0:
        return 0
    # A microsecond of slack: the rounding of float clocks must not fill the next bucket.
    return min(_BUCKETS, math.ceil(milliseconds * _BUCKETS_PER_MS - 0.004))


class Lead:
    """How much was sent and not yet played, right after each send."""

    __slots__ = ("count", "max_ms", "total_ms")

    def __init__(self) -> None:
        self.count = 0
        self.total_ms = 0.0
        self.max_ms = 0.0

    def add(self, milliseconds: float) -> None:
        """Counts the lead after one send."""
        self.count += 1
        self.total_ms += milliseconds
        if milliseconds > self.max_ms:
            self.max_ms = milliseconds

    def remove(self, milliseconds: float) -> None:
        """Takes back a send that did not happen; the maximum stands."""
        self.count -= 1
        self.total_ms -= milliseconds

    @property
    def mean_ms(self) -> float:
        """0 before the first send."""
        return self.total_ms / self.count if self.count else 0.0


@dataclass(slots=True)
class SessionStats:
    """Counters of one call's media; they only grow (a message put back is uncounted)."""

    frames_sent: int = 0
    """Messages sent, silence included."""
    speech_frames_sent: int = 0
    """Messages sent that hold a bot's audio."""
    frames_received: int = 0
    """Messages received, of any size."""
    bytes_received: int = 0
    frames_heard: int = 0
    """Frames handed to the bot, filled ones included."""

    late: int = 0
    """Messages sent more than 20 ms after they were due, though there was something to send."""
    lost: int = 0
    """Wire frames of audio written and neither sent nor flushed by a command: 0, or a bug."""
    underruns: int = 0
    """Holes inside an utterance because its writer was too slow."""
    resyncs: int = 0
    """Times the far end ran dry because we sent too late; what follows is shifted, not lost."""
    drained: int = 0
    """Times silence was held back because the far end lagged behind after a stall."""
    clogged: int = 0
    """Messages that a clogged link gave back."""
    replayed_samples: int = 0
    """Sent, but not played when the socket was lost, and so sent again."""
    rewound_samples: int = 0
    """Sent, and queued again to resume from a little before a pause."""

    gaps: int = 0
    """Times inbound audio was overdue."""
    stalls: int = 0
    """Gaps that ended without proof of silence: the network held the audio back."""
    filled_frames: int = 0
    """Silent frames put in where the caller was silent."""
    withheld_frames: int = 0
    """Silent frames not put in, because call time was ahead of the clock."""

    lateness: Histogram = field(default_factory=Histogram)
    """Of each send against the instant it was due."""
    lead: Lead = field(default_factory=Lead)

    @property
    def lead_ms_mean(self) -> float:
        """Sent and not yet played, right after a send, on average."""
        return self.lead.mean_ms

    @property
    def lead_ms_max(self) -> float:
        """The most that was ever sent and not yet played."""
        return self.lead.max_ms
