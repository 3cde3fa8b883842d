"""The one door through which time enters.

Everything that measures or waits uses the event loop's monotonic clock, so that a
virtual loop makes whole calls run in milliseconds and a step of the system clock
harms nothing. Wall-clock time is for people and for comparing with timestamps of
the provider; it never paces, times out or orders anything.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds for measuring, UTC for people."""

    def now(self) -> float:
        """Monotonic seconds; the same clock as ``loop.call_at``."""

    def utc(self) -> datetime:
        """Wall-clock time, timezone-aware."""


class LoopClock:
    """The running event loop's clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.now = (loop or asyncio.get_running_loop()).time

    def utc(self) -> datetime:
        return datetime.now(UTC)
