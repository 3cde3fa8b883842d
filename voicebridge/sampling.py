"""Puts one call's media figures into the process's metrics, once a second.

The hot path only counts; what became of a second of audio is told here, so that metrics
cost the same whether anyone reads them or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voicebridge.core.session import SessionStats
    from voicebridge.feed import Feed
    from voicebridge.metrics import Metrics

_FRAME_SECONDS = 0.020
#: A bucket of `SessionStats.lateness`, a quarter of a millisecond, in seconds.
_BUCKET_SECONDS = 0.000_25


class MediaSampler:
    """Remembers what was told, so that each message counts once."""

    def __init__(self, metrics: Metrics, stats: SessionStats, feed: Feed) -> None:
        self._metrics = metrics
        self._stats = stats
        self._feed = feed
        self._lateness = list(stats.lateness.counts)
        self._lead = (0, 0.0)
        self._underruns = 0

    def sample(self) -> None:
        """Tells what happened since the last time."""
        stats, metrics = self._stats, self._metrics
        counts = list(stats.lateness.counts)
        for bucket, (before, now) in enumerate(zip(self._lateness, counts, strict=True)):
            for _ in range(now - before):
                metrics.frame_lateness_seconds.observe(bucket * _BUCKET_SECONDS)
        self._lateness = counts
        sends, total_ms = self._lead
        if stats.lead.count > sends:
            mean_ms = (stats.lead.total_ms - total_ms) / (stats.lead.count - sends)
            metrics.playout_lead_seconds.observe(mean_ms / 1000)
        self._lead = (stats.lead.count, stats.lead.total_ms)
        metrics.playout_underruns_total.inc(stats.underruns - self._underruns)
        self._underruns = stats.underruns
        metrics.jitter_buffer_depth_seconds.observe(self._feed.waiting * _FRAME_SECONDS)
