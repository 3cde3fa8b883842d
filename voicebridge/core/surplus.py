"""What the far end has too much of, since a stall let it run dry and then came all at once.

The rule: only a ping proves it. TCP keeps order, so whatever was sent after a ping was played
after that ping had arrived. If it arrived so late that the far end must have run dry, all
that follows is played later than it was meant to be, for the rest of the call: a queue never
makes up for a stall by itself, and each word of a bot that is interrupted goes on for as much
longer. What is proven here is only a least; whether the way there or the way back was held
up is not known, so it is used up in silence alone, where an error is not heard.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["Surplus"]

_PINGS_KEPT: Final = 8
_SAME: Final = 0.030
"""Pings are further apart, and an answer is told up to a tick after it came."""
_MOST: Final = 1.0
"""More than any stall leaves that a call survives; a bound on what an error could cost."""


class Surplus:
    """Seconds by which the far end plays later than it was meant to."""

    def __init__(self, message: float) -> None:
        self._message = message
        self._pings: deque[tuple[float, int]] = deque(maxlen=_PINGS_KEPT)
        self.seconds = 0.0

    def clear(self) -> None:
        """Another socket, another queue."""
        self._pings.clear()
        self.seconds = 0.0

    def pinged(self, now: float, messages: int) -> None:
        """A ping leaves now, after so many messages."""
        self._pings.append((now, messages))

    def answered(self, sent_at: float, held_up: float, messages: int, until: float) -> None:
        """A ping was held up so long; what was sent up to now was meant to play ``until``."""
        for at, before in self._pings:
            if abs(at - sent_at) < _SAME:
                earliest = at + held_up + (messages - before) * self._message
                self.seconds = min(_MOST, max(self.seconds, earliest - until))
                return
