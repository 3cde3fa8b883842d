"""What a bot iterates over: a call's frames and its events.

Plain iterators, not generators: one that was waited for in vain (``asyncio.wait_for``) goes
on with the next item, where a cancelled generator would end as if the call had ended.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from voicebridge.core.resample import Resampler

if TYPE_CHECKING:
    from voicebridge.core.events import Event
    from voicebridge.feed import Feed

__all__ = ["Frames", "Happenings"]


class Frames:
    """20 ms frames of the caller's voice at a rate of the bot's choice; see `Call.audio`."""

    def __init__(self, feed: Feed, wire_rate: int, sample_rate: int) -> None:
        self._feed = feed
        self._ear = feed.listen()
        self._resampler = Resampler(wire_rate, sample_rate) if sample_rate != wire_rate else None
        self._size = sample_rate // 50 * 2
        self._rest = b""
        self._ready: deque[bytes] = deque()

    def __aiter__(self) -> Frames:
        return self

    async def __anext__(self) -> bytes:
        if self._resampler is None:
            return await self._ear.__anext__()
        while not self._ready:
            self._rest += self._resampler.process(await self._ear.__anext__())
            whole = len(self._rest) - len(self._rest) % self._size
            for start in range(0, whole, self._size):
                self._ready.append(self._rest[start : start + self._size])
            self._rest = self._rest[whole:]
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Stops listening; leaving the iterator to itself does the same."""
        self._feed.unlisten(self._ear)

    def __del__(self) -> None:
        self._feed.unlisten(self._ear)


class Happenings:
    """The call's events from now on; see `Call.events`."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._watcher = feed.watch()

    def __aiter__(self) -> Happenings:
        return self

    async def __anext__(self) -> Event:
        return await self._watcher.__anext__()

    async def aclose(self) -> None:
        """Stops watching; leaving the iterator to itself does the same."""
        self._feed.unwatch(self._watcher)

    def __del__(self) -> None:
        self._feed.unwatch(self._watcher)
