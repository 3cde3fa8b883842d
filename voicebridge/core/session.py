"""One call's media as a pure function of what arrived when: the ear, the mouth, the wire.

The rule: no I/O, no clock, no task. The shell hands in what came and what time it is, then
drains ``to_send()``, ``heard()`` and ``events()``. One session lives as long as its call;
sockets come and go under it. Not thread-safe: one call, one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from voicebridge.core.audio import ms_of
from voicebridge.core.config import MediaConfig
from voicebridge.core.ear import Ear
from voicebridge.core.limiter import linear
from voicebridge.core.playout import Playout
from voicebridge.core.stats import SessionStats

if TYPE_CHECKING:
    from voicebridge.core.events import Event, Playback

__all__ = ["MediaConfig", "MediaSession", "SessionStats"]


class MediaSession:
    """Composes ear and playout. ``now`` is monotonic seconds and never goes backwards."""

    def __init__(self, config: MediaConfig, now: float) -> None:
        self.config = config
        self.stats = SessionStats()
        self._now = now
        self._ear = Ear(config, self.stats)
        self._playout = Playout(config, self.stats)

    # The wire.

    def opened(self, now: float) -> None:
        """The socket is up, for the first time or again: send ``to_send()`` at once."""
        now = self._at(now)
        self._ear.opened(now)
        self._playout.opened(now)

    def lost(self, now: float) -> None:
        """The socket is gone: pacing stops, the queue is kept, the ear hears silence.

        What was sent and not yet played is queued again and follows after ``opened()``.
        """
        now = self._at(now)
        self._ear.lost(now)
        self._playout.lost(now)

    def receive(self, data: bytes, now: float) -> None:
        """Takes one binary message of any length. Then drain ``heard()``."""
        self._ear.receive(data, self._at(now))

    def ping_due(self, now: float) -> bool:
        """True where a ping is to be sent now, at most once per 150 ms while audio is overdue.

        Who asks must send it, and tell ``pong()`` when it is answered.
        """
        return self._ear.ping_due(self._at(now))

    def pinged(self, now: float) -> None:
        """A ping leaves now, for whatever reason; `round_trip` tells of its answer."""
        self._playout.pinged(self._at(now))

    def pong(self, now: float, rtt: float | None = None) -> None:
        """A ping sent after the last audio was answered, ``rtt`` seconds after it was sent.

        Then drain ``heard()``.
        """
        now = self._at(now)
        if rtt is not None:
            self.round_trip(rtt, now)
        self._ear.pong(now)

    def round_trip(self, seconds: float, now: float) -> None:
        """Any ping was answered after so long.

        How even the path is decides how far ahead to send, and an answer that comes late
        proves that the far end ran dry.
        """
        self._playout.answered(seconds, self._at(now))

    def tick(self, now: float) -> None:
        """Each 20 ms. Then drain ``to_send()``, ``heard()`` and ``events()``."""
        now = self._at(now)
        self._ear.tick(now)
        self._playout.tick(now)

    def to_send(self) -> list[bytes]:
        """Drains the messages to send now, each exactly one wire frame.

        What the link does not take goes back with ``unsend()`` before the next tick.
        """
        return self._playout.to_send()

    @property
    def sent_until(self) -> float:
        """The instant by which the far end has played all that was drained by ``to_send()``."""
        return self._playout.sent_until

    def unsend(self, messages: list[bytes]) -> None:
        """The last ``messages`` of ``to_send()`` did not go out; they are cut anew when due.

        Audio in the kernel of a stalled link is beyond recall; audio given back is ours.
        """
        self._playout.unsend(len(messages))

    # The ear.

    def heard(self) -> list[bytes]:
        """Drains the caller's audio in frames of ``frame_ms``, gapless in call time."""
        return self._ear.frames()

    @property
    def call_time_ms(self) -> int:
        """How much of the caller's audio was received or filled since media first opened."""
        return ms_of(self._ear.call_time_samples, self.config.sample_rate)

    # The mouth.

    def begin(
        self, *, text: str | None = None, interruptible: bool = True, live: bool = False
    ) -> int:
        """Opens an utterance; the number to write to.

        Utterances speak one at a time, in the order of their first audio. ``live`` is an
        open stream: it may fall silent and go on, and others speak in its pauses.

        Raises:
            CallStateError: 256 are open.
        """
        return self._playout.begin(text=text, interruptible=interruptible, live=live)

    def write(self, utterance: int, pcm: bytes, now: float, *, text: str | None = None) -> None:
        """Queues PCM16 of the wire's rate; ignored once the utterance was stopped.

        ``text`` is what this audio says, and what follows says up to the next text.

        Raises:
            AudioError: (a ValueError) an odd number of bytes.
            CallStateError: it was ended, or more than ``max_utterance_seconds`` would be queued.
        """
        self._playout.write(utterance, pcm, self._at(now), text)

    def end(self, utterance: int) -> None:
        """Nothing more will be written. PlaybackFinished follows when it was heard."""
        self._playout.end(utterance)

    def stop(self, utterance: int, now: float) -> None:
        """Cuts it with a fade of 8 ms, if it is speaking; PlaybackFinished is told at once.

        Its ``heard_ms`` counts what is beyond recall, which the caller will have heard when
        lead and path delay have passed. Repeating it, or stopping a finished one, is harmless.
        """
        self._at(now)
        self._playout.stop(utterance)

    def stop_all(self, now: float) -> None:
        """Stops every open utterance, interruptible or not."""
        self._at(now)
        self._playout.stop_all()

    def duck(self, db: float, now: float) -> None:
        """Speaks quieter by so many decibels, from the next message on, along a short ramp.

        Whoever speaks, and whoever speaks next, until ``unduck()``. What is sent already
        stays as loud as it is, as with ``stop()``.
        """
        self._at(now)
        self._playout.duck(linear(-abs(db)))

    def unduck(self, now: float) -> None:
        """Speaks as loud as before."""
        self._at(now)
        self._playout.duck(1.0)

    def pause(self, now: float) -> None:
        """Falls silent, with a fade of 8 ms, and keeps what is queued.

        The caller hears it stop when the lead has been played. Nothing of anybody is spoken
        until ``resume()``, or until the paused utterance is stopped. Repeating it is harmless.
        """
        self._at(now)
        self._playout.pause()

    def resume(self, now: float, rewind_ms: int = 150) -> None:
        """Goes on, ``rewind_ms`` (at most 500) before the place where it fell silent.

        From a pause between words where one is within 100 ms of there. What the caller
        hears twice counts as heard once. Harmless where nothing is paused.
        """
        self._at(now)
        self._playout.resume(self.config.sample_rate * max(0, rewind_ms) // 1000)

    @property
    def paused(self) -> bool:
        """Between ``pause()`` and its end."""
        return self._playout.paused

    def is_open(self, utterance: int) -> bool:
        """Whether it may still be spoken: neither heard to its end nor stopped."""
        return self._playout.is_open(utterance)

    def ahead_ms(self, utterance: int) -> int:
        """How much of an utterance is queued and not yet sent."""
        return ms_of(self._playout.ahead_samples(utterance), self.config.sample_rate)

    def playback(self, utterance: int, now: float) -> Playback:
        """What the caller has heard of it by now, by the ledger; final once it is finished."""
        return self._playout.playback(utterance, self._at(now))

    def speaking(self) -> tuple[int, bool] | None:
        """The utterance that speaks now and whether it is interruptible; None while idle."""
        return self._playout.speaking()

    def drained_at(self) -> float:
        """The instant by which all that was sent is heard; what is queued is added at its length.

        A past instant, or minus infinity, where nothing is to be waited for.
        """
        return self._playout.drained_at(self._now)

    # Out.

    def events(self) -> list[Event]:
        """Drains what happened: PlaybackFinished, exactly once per utterance."""
        return list(self._playout.events())

    def _at(self, now: float) -> float:
        """Time as this session knows it; a clock that steps back stands still instead."""
        if now > self._now:
            self._now = now
        return self._now
