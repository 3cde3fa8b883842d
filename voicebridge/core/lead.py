"""How far ahead to send: as little as the line allows, more on evidence, less once it is calm.

The rule: the lead changes by at most one tick, and only between two messages. A larger lead
then means that the next message leaves a tick early, a smaller one that it waits a tick: the
far end plays on either way, and neither gets two at once nor none.

Evidence is anything that would have used the lead up: a wake-up that came late, a round trip
longer than the shortest one, a far end that ran dry. Each asks for a lead that would have
hidden it, with a tick to spare, and is believed for ten seconds. What no permitted lead could
hide, as a stall of the network, asks for nothing: lead is what a bot goes on saying after it
was interrupted, and buying off stalls with it is a bad bargain.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from voicebridge.core.config import TICK_MS, MediaConfig

__all__ = ["AdaptiveLead"]

_TICK: Final = TICK_MS / 1000
_MARGIN: Final = _TICK
_BELIEVED: Final = 10.0
_STEP_DOWN_EVERY: Final = 1.0
_ROUND_TRIP_LASTS: Final = 60.0
"""Routes change: the shortest round trip counts for so long, then a newer one does."""
_SLACK: Final = 1e-6
"""Two instants nearer than this are one: float seconds of a clock."""


class AdaptiveLead:
    """Seconds sent ahead of the instant of play, beyond the frame that starts."""

    def __init__(self, config: MediaConfig) -> None:
        self._least = config.lead_ms / 1000
        # A message may leave half a tick early; that counts towards the most, too.
        most = (config.max_lead_ms - config.wire_frame_ms - TICK_MS / 2) / 1000
        self._most = max(self._least, most) if config.adaptive_lead else self._least
        self.seconds = self._least
        self._evidence: deque[tuple[float, float]] = deque()
        """When, and the lead it asks for; a newer one that asks for more ends older ones."""
        self._stepped_down_at = 0.0
        self._shortest: deque[tuple[float, float]] = deque()
        """When, and the round trip; those that may still become the shortest one."""

    def late(self, seconds: float, now: float) -> None:
        """A wake-up came so much later than it was due."""
        self._ask(seconds, now)

    def round_trip(self, seconds: float, now: float) -> None:
        """A ping was answered after so long; all that was sent before it has arrived."""
        shortest = self._shortest
        while shortest and shortest[-1][1] >= seconds:
            shortest.pop()
        shortest.append((now, seconds))
        while now - shortest[0][0] > _ROUND_TRIP_LASTS:
            shortest.popleft()
        self._ask(seconds - self.shortest_round_trip, now)

    @property
    def shortest_round_trip(self) -> float:
        """Of the last minute; what is longer was held up. 0 before the first."""
        return self._shortest[0][1] if self._shortest else 0.0

    def ran_dry(self, seconds: float, now: float) -> None:
        """The far end had nothing to play for so long, though the lead was what it is."""
        self._ask(self.seconds + seconds, now)

    def restart(self) -> None:
        """The far end has nothing: the least is sent at once, and more follows step by step."""
        self.seconds = self._least

    def step(self, now: float) -> float:
        """The lead for the next message; to be asked once after each."""
        evidence = self._evidence
        if not evidence and self.seconds == self._least:
            return self._least
        while evidence and now - evidence[0][0] > _BELIEVED:
            evidence.popleft()
        target = min(self._most, evidence[0][1]) if evidence else self._least
        if target > self.seconds + _SLACK:
            self.seconds = min(target, self.seconds + _TICK)
            self._stepped_down_at = now
        elif target >= self.seconds - _SLACK:
            self.seconds = target
        elif now - self._stepped_down_at >= _STEP_DOWN_EVERY:
            self.seconds = max(target, self.seconds - _TICK)
            self._stepped_down_at = now
        return self.seconds

    def _ask(self, used: float, now: float) -> None:
        asked = used + _MARGIN
        if asked <= self._least + _SLACK or used > self._most:
            return
        evidence = self._evidence
        while evidence and evidence[-1][1] <= asked:
            evidence.pop()
        evidence.append((now, asked))
