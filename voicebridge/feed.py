"""What reaches a call's bot: frames, events, and the fate of each utterance.

The leg that carries a call puts things in, synchronously; `Call` hands them to the bot.
Each listener has a mailbox of its own, so that one that lags drops its own oldest items
and nobody else's.
"""

from __future__ import annotations

import asyncio

from voicebridge.core.audio import peak
from voicebridge.core.events import Event, Hangup, Playback, PlaybackFinished
from voicebridge.mailbox import Mailbox

#: Ten seconds of audio: more is not listening any more, it is catching up.
AUDIO_LIMIT = 500
EVENT_LIMIT = 256
#: Peaks below this (-50 dBFS) before the first word are silence.
QUIET = 100


class Feed:
    """Fans a call's audio and events out to whoever listens.

    Audio that arrives before the first listener is kept (the newest ten seconds) and
    given to the first one, so that a bot that greets before it listens misses nothing.
    Silence before the first word is not: to whoever plays on what it hears, as an echo
    does, it would be a delay that lasts for the whole call.
    """

    def __init__(self) -> None:
        self._early: Mailbox[bytes] | None = Mailbox(AUDIO_LIMIT)
        self._ears: list[Mailbox[bytes]] = [self._early]
        self._watchers: list[Mailbox[Event]] = []
        self._utterances: dict[int, asyncio.Future[Playback | None]] = {}
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def reason(self) -> str | None:
        """Why the call is over, None while it is not."""
        return self._over.result() if self._over.done() else None

    @property
    def dropped_frames(self) -> int:
        """Frames that a slow bot never took."""
        return sum(ear.dropped for ear in self._ears)

    @property
    def waiting(self) -> int:
        """Frames that the slowest listener has not taken yet."""
        return max((len(ear) for ear in self._ears), default=0)

    async def over(self) -> str:
        """Waits for the end of the call; returns its reason."""
        return await asyncio.shield(self._over)

    def listen(self) -> Mailbox[bytes]:
        """A new reader of 20 ms frames."""
        if self._early is not None:
            ear, self._early = self._early, None
            while (frame := ear.peek()) is not None and peak(frame) < QUIET:
                ear.skip()
            return ear
        ear = Mailbox(AUDIO_LIMIT)
        if self._over.done():
            ear.close()
        else:
            self._ears.append(ear)
        return ear

    def unlisten(self, ear: Mailbox[bytes]) -> None:
        if ear in self._ears:
            self._ears.remove(ear)

    def watch(self) -> Mailbox[Event]:
        """A new reader of events."""
        watcher: Mailbox[Event] = Mailbox(EVENT_LIMIT)
        if self._over.done():
            watcher.close()
        else:
            self._watchers.append(watcher)
        return watcher

    def unwatch(self, watcher: Mailbox[Event]) -> None:
        if watcher in self._watchers:
            self._watchers.remove(watcher)

    def expect(self, utterance: int) -> asyncio.Future[Playback | None]:
        """The fate of an utterance: what was heard of it, None where the call ended first."""
        future: asyncio.Future[Playback | None] = asyncio.get_running_loop().create_future()
        if self._over.done():
            future.set_result(None)
        else:
            self._utterances[utterance] = future
        return future

    def hear(self, frames: list[bytes]) -> None:
        for frame in frames:
            for ear in self._ears:
                ear.put(frame)

    def tell(self, event: Event) -> None:
        if isinstance(event, PlaybackFinished):
            fate = self._utterances.pop(event.utterance, None)
            if fate is not None and not fate.done():
                fate.set_result(event.playback)
        for watcher in self._watchers:
            watcher.put(event)

    def close(self, reason: str) -> None:
        """Ends everything quietly; the second time does nothing."""
        if self._over.done():
            return
        self.tell(Hangup(reason))
        self._over.set_result(reason)
        for fate in self._utterances.values():
            if not fate.done():
                fate.set_result(None)
        for ear in self._ears:
            ear.close()
        for watcher in self._watchers:
            watcher.close()
