"""One timer for all calls: a timing wheel that ticks every session each 20 ms.

Calls are spread over the twenty 1 ms slots of a turn, a few to a slot. At 400 calls that
costs half the CPU of a timer per call, and the slots keep the calls from queueing behind
one another as they do when all tick in the same instant (p99 lateness 1 to 2 ms against 7
to 8).
The grid is absolute: a late wake-up delays one tick and shifts nothing after it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

TICK = 0.020
SLOTS = 20
#: Calls of one slot before another is opened; 50 calls then cost a fifth less.
FULL = 5
_SLOT = TICK / SLOTS

_log = logging.getLogger(__name__)


class Ticking(Protocol):
    """What the driver drives."""

    def tick(self, now: float) -> None:
        """One step of the call; must not block."""


class Driver:
    """Calls ``tick(now)`` of everything added, every 20 ms, from one timer handle."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self._slots: list[list[Ticking]] = [[] for _ in range(SLOTS)]
        self._origin = self._loop.time()
        self._position = 0  # index of the next slot on the absolute grid
        self._timer: asyncio.TimerHandle | None = None
        #: How late the last wake-up was, in seconds: the loop's lag as calls feel it.
        self.lag = 0.0

    def add(self, ticking: Ticking) -> None:
        """Starts ticking.

        A slot that is in use takes it until it is full, then the emptiest does: each slot in
        use is a wake-up of the loop, and a few calls in a row are too short to be late.
        """
        roomy = [slot for slot in self._slots if 0 < len(slot) < FULL]
        (roomy[0] if roomy else min(self._slots, key=len)).append(ticking)
        if self._timer is None:
            self._position = int((self._loop.time() - self._origin) / _SLOT) + 1
            self._arm()

    def remove(self, ticking: Ticking) -> None:
        """Stops ticking; unknown ones are ignored, so that endings may repeat."""
        for slot in self._slots:
            if ticking in slot:
                slot.remove(ticking)
        if self._timer is not None and not any(self._slots):
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        for ahead in range(SLOTS):
            if self._slots[(self._position + ahead) % SLOTS]:
                self._position += ahead
                due = self._origin + self._position * _SLOT
                self._timer = self._loop.call_at(due, self._turn)
                return
        self._timer = None

    def _turn(self) -> None:
        """Runs every slot that is due; after a long stall each call ticks once, not n times."""
        now = self._loop.time()
        due = int((now - self._origin) / _SLOT + 1e-6)
        self.lag = max(0.0, now - (self._origin + self._position * _SLOT))
        first = max(self._position, due - SLOTS + 1)
        for position in range(first, max(due, first) + 1):
            for ticking in tuple(self._slots[position % SLOTS]):
                try:
                    ticking.tick(self._loop.time())
                except Exception:
                    # A session that cannot tick must not silence the others.
                    _log.exception("a call's tick failed; the call is taken off the clock")
                    self.remove(ticking)
        self._position = max(due, first) + 1
        if any(self._slots):
            self._arm()
        else:
            self._timer = None
