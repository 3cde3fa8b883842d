"""A media session in virtual time: ticked each 20 ms, its messages played by a far end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from voicebridge.core.events import PlaybackFinished
from voicebridge.core.session import MediaConfig, MediaSession

if TYPE_CHECKING:
    from collections.abc import Callable

TICK = 0.020
MESSAGE_BYTES = 1920


def ramp(seconds: float, start: int = 0) -> bytes:
    """Audio in which no two stretches are alike, no sample is 0, and each step is audible."""
    count = round(seconds * 16_000)
    values = (np.arange(start, start + count) * 37) % 22_000 + 1_000
    return values.astype("<i2").tobytes()


@dataclass
class FarEnd:
    """Plays what it gets in real time, one message after the other, as it comes."""

    until: float = 0.0
    deepest: float = 0.0
    holes: int = 0
    messages: list[tuple[float, bytes]] = field(default_factory=list)
    """The instant each message began to play, and the message."""

    def take(self, message: bytes, now: float) -> None:
        assert len(message) == MESSAGE_BYTES
        if self.messages and now > self.until + 1e-6:
            self.holes += 1
        start = max(self.until, now)
        self.until = start + 0.060
        self.deepest = max(self.deepest, self.until - now)
        self.messages.append((start, message))

    @property
    def audio(self) -> bytes:
        return b"".join(message for _, message in self.messages)

    def played_by(self, now: float) -> bytes:
        """What was played at an instant, to the sample."""
        out = b""
        for start, message in self.messages:
            out += message[: max(0, min(960, round((now - start) * 16_000))) * 2]
        return out


class Rig:
    """Drives a session as the shell does: tick, send, drain, on the driver's wheel."""

    def __init__(self, config: MediaConfig | None = None, start: float = 1_000.0) -> None:
        self.config = config or MediaConfig()
        self.session = MediaSession(self.config, start)
        self.now = start
        self.far = FarEnd()
        self.clogged = False
        self.finished: list[tuple[float, PlaybackFinished]] = []
        self.heard: list[bytes] = []

    def open(self) -> None:
        self.session.opened(self.now)
        self.flush()

    def lose(self) -> None:
        self.session.lost(self.now)

    def flush(self) -> None:
        messages = self.session.to_send()
        assert len(messages) <= 1 + math.ceil(self.config.lead_ms / self.config.wire_frame_ms)
        assert all(len(message) == MESSAGE_BYTES for message in messages)
        if messages and self.clogged:
            self.session.unsend(messages)
        else:
            for message in messages:
                self.far.take(message, self.now)
        self.heard += self.session.heard()
        for event in self.session.events():
            assert isinstance(event, PlaybackFinished)
            self.finished.append((self.now, event))

    def tick(self, seconds: float = TICK) -> None:
        self.now += seconds
        self.session.tick(self.now)
        self.flush()

    def run(self, seconds: float, each: Callable[[float], None] | None = None) -> None:
        for _ in range(round(seconds / TICK)):
            self.tick()
            if each is not None:
                each(self.now)

    def say(self, pcm: bytes, *, text: str | None = None, live: bool = False) -> int:
        """A whole utterance at once."""
        number = self.session.begin(text=text, live=live)
        self.session.write(number, pcm, self.now)
        self.session.end(number)
        return number

    def speech(self) -> bytes:
        """What the far end got, without the silence before and after."""
        samples = np.frombuffer(self.far.audio, "<i2")
        spoken = np.flatnonzero(samples)
        if not spoken.size:
            return b""
        return samples[spoken[0] : spoken[-1] + 1].tobytes()
