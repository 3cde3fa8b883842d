"""One timer for all media lines: each is run at the instant it asked for.

A task or a timer per call would cost a wake-up each; here the earliest wish alone is armed,
and whatever is due is run in one go.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import Protocol

__all__ = ["Ticked", "Ticker"]

# Lines that are due within this time of each other share one wake-up.
_TOGETHER_S = 0.0005


class Ticked(Protocol):
    wake_at: float | None

    def run(self, now: float) -> None:
        """Do what is due; may ask for the next instant with ``Ticker.at``."""


class Ticker:
    """Bound to the running loop when it is first used."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Ticked]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    def at(self, line: Ticked, when: float | None) -> None:
        """Run ``line`` at ``when`` instead of what it asked for before; None: not at all."""
        if line.wake_at == when:
            return
        line.wake_at = when
        if when is not None:
            heapq.heappush(self._heap, (when, next(self._order), line))
            self._arm()

    def close(self) -> None:
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        when = self._heap[0][0]
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._fire)

    def _fire(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._heap and self._heap[0][0] <= now + _TOGETHER_S:
            when, _, line = heapq.heappop(self._heap)
            if line.wake_at != when:
                continue  # it has asked for another instant since
            line.wake_at = None
            try:
                line.run(max(now, when))
            except Exception as error:
                # One line's failure must not silence the others.
                loop.call_exception_handler({"message": "media line failed", "exception": error})
        if self._heap:
            self._arm()
