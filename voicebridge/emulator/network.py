"""The path from the media host to the bridge: how late each thing arrives.

Pure. The one rule is TCP's: whatever the delay, nothing is lost and nothing overtakes.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voicebridge.emulator.behaviour import NetworkBehaviour, Stall

__all__ = ["Link"]


class Link:
    """One socket's way through the network; ``origin`` is when the call's media first opened."""

    def __init__(self, network: NetworkBehaviour, origin: float, salt: int = 0) -> None:
        self._delay = network.delay_ms / 1_000
        self._jitter = network.jitter_ms / 1_000
        self._to_bridge = _windows(network.stalls, "to_bridge", origin)
        self._from_bridge = _windows(network.stalls, "from_bridge", origin)
        self._random = random.Random(f"{network.seed}:{salt}")
        self._last = float("-inf")

    def release(self, now: float) -> float:
        """The instant at which something handed over at ``now`` reaches the bridge."""
        at = now + self._delay
        if self._jitter:
            at += self._random.uniform(0.0, self._jitter)
        for start, end in self._to_bridge:
            if start <= at < end:
                at = end
        self._last = max(self._last, at)
        return self._last

    def blocked(self, now: float) -> bool:
        """Whether nothing from the bridge gets through at ``now``."""
        return any(start <= now < end for start, end in self._from_bridge)

    def next_edge(self, now: float) -> float | None:
        """The next instant at which ``blocked`` changes."""
        edges = [edge for window in self._from_bridge for edge in window if edge > now]
        return min(edges, default=None)


def _windows(stalls: tuple[Stall, ...], way: str, origin: float) -> list[tuple[float, float]]:
    return sorted(
        (origin + stall.at_s, origin + stall.at_s + stall.seconds)
        for stall in stalls
        if stall.way in (way, "both")
    )
