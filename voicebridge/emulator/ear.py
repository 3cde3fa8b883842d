"""What the caller hears: the provider's queue, played in real time in frames of 60 ms.

Pure. The one rule: the engine takes one frame each 60 ms of its own clock, whatever the
bridge does; how the queue overflows and what an empty queue does is ``queue`` and
``under_run``. Nothing is heard before the call has connected; whether the engine takes
frames before that, to nobody, is ``engine_starts``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from voicebridge.emulator.tape import EPSILON_S

if TYPE_CHECKING:
    from voicebridge.emulator.behaviour import MediaBehaviour
    from voicebridge.emulator.tape import FarClock, Tape

__all__ = ["ENGINE_FRAME_MS", "Ear", "Verdict"]

ENGINE_FRAME_MS = 60
AUDIBLE_LSB = 8

Verdict = Literal["taken", "dropped", "refused"]

_TAIL_PAD_S = 0.12
_PHONE_BUFFER_S = 0.1
_PHONE_LIMIT_S = 1.0
_QUEUE_FRAMES = {"drop_newest": 50, "drop_after_30s": 500, "block": 64, "unpaced": 500}


class Ear:
    """One caller's earpiece at the wire's ``rate``."""

    def __init__(self, media: MediaBehaviour, rate: int, tape: Tape) -> None:
        self._media = media
        self._rate = rate
        self._tape = tape
        self.frame_samples = rate * ENGINE_FRAME_MS // 1_000
        self.frame_bytes = 2 * self.frame_samples
        self._limit = _QUEUE_FRAMES[media.queue] * self.frame_bytes
        self._queue = bytearray()
        self._fed_at = 0.0
        self._clock: FarClock | None = None
        self._idle_since: float | None = None
        """The engine plays to nobody since then, until the call connects."""
        self._next = 0  # position at which the engine wants its next frame
        self._stalled = False
        self._open = False
        self._speaking = False  # something was played since the socket opened
        self._hole = 0  # samples of silence inserted since the last frame
        self._over = False
        self._audible: list[tuple[int, int]] = []
        self.samples_out = 0
        self.holes = 0
        self.longest_hole = 0
        self.hole_samples = 0
        self.max_queue_bytes = 0
        self.overflow_drops = 0
        self.overflow_bytes = 0
        self.tail_cut_samples = 0

    def start(self, clock: FarClock) -> None:
        self._play_to_nobody(clock.instant(0))
        self._clock = clock

    def opened(self, now: float) -> None:
        if self._clock is None and self._media.engine_starts == "media":
            self._idle_since = now
        self._open = True
        self._speaking = False

    def closed(self, now: float) -> None:
        self.advance(now)
        self._open = False
        self._hole = 0

    def receive(self, data: bytes, now: float) -> Verdict:
        """One message of the bridge. "refused" means: close the socket."""
        if self._over:
            return "dropped"
        if len(data) != self.frame_bytes and self._media.wrong_size != "accept":
            return "dropped" if self._media.wrong_size == "drop" else "refused"
        self._play_to_nobody(now)
        self.advance(now)
        if self._media.queue != "block" and len(self._queue) + len(data) > self._limit:
            self.overflow_drops += 1
            self.overflow_bytes += len(data)
            return "dropped"
        self._queue += data
        self._fed_at = now
        self.max_queue_bytes = max(self.max_queue_bytes, len(self._queue))
        if self._stalled and len(self._queue) >= self.frame_bytes:
            self._resume(now)
        self.advance(now)
        return "taken"

    def _play_to_nobody(self, now: float) -> None:
        """Before the call connects: takes the frames whose time has come, unheard."""
        if self._clock is not None or self._idle_since is None:
            return
        frames = int((now - self._idle_since + EPSILON_S) * 1_000 / ENGINE_FRAME_MS)
        del self._queue[: frames * self.frame_bytes]
        self._idle_since += frames * ENGINE_FRAME_MS / 1_000

    def reading(self) -> bool:
        """False while a blocking provider does not read the socket."""
        return self._media.queue != "block" or len(self._queue) < self._limit

    def next_due(self) -> float | None:
        """When the engine takes its next frame; None while it takes none."""
        return None if self._clock is None or self._stalled else self._clock.instant(self._next)

    def advance(self, now: float) -> None:
        """Let the engine take every frame that is due by ``now``."""
        if self._clock is None or self._over:
            return
        if self._media.queue == "unpaced":
            self._pass_on(now)
            return
        while not self._stalled and (at := self._clock.instant(self._next)) <= now + EPSILON_S:
            self._tick(at)

    def finish(self, now: float) -> None:
        """The call is over: what is queued will never be heard."""
        self.advance(now)
        rest = np.frombuffer(bytes(self._queue[: len(self._queue) // 2 * 2]), "<i2")
        self.tail_cut_samples = int(np.count_nonzero(np.abs(rest.astype(np.int32)) > AUDIBLE_LSB))
        self._over = True

    def audible_after(self, position: int) -> int:
        """Samples of audible frames that were played from ``position`` on."""
        return sum(end - max(start, position) for start, end in self._audible if end > position)

    def _tick(self, at: float) -> None:
        if len(self._queue) >= self.frame_bytes:
            self._play()
        elif self._media.under_run == "stall":
            self._stalled = True
        elif self._queue and at - self._fed_at >= _TAIL_PAD_S - EPSILON_S:
            self._queue += bytes(self.frame_bytes - len(self._queue))
            self._play()
        else:
            self._next += self.frame_samples
            self._count_hole(self.frame_samples)

    def _resume(self, now: float) -> None:
        # A blocked reader continues with the first frame that comes, off its old grid.
        assert self._clock is not None
        self._stalled = False
        late = max(0, self._clock.position(now) - self._next)
        self._count_hole(late)
        self._next += late

    def _pass_on(self, now: float) -> None:
        assert self._clock is not None
        here = self._clock.position(now)
        while len(self._queue) >= self.frame_bytes:
            if self._next < here:
                start = here + int(_PHONE_BUFFER_S * self._rate)
                self._count_hole(start - self._next)
                self._next = start
            if self._next - here > _PHONE_LIMIT_S * self._rate:
                del self._queue[: self.frame_bytes]
                self.overflow_drops += 1
                self.overflow_bytes += self.frame_bytes
            else:
                self._play()

    def _play(self) -> None:
        frame = bytes(self._queue[: self.frame_bytes])
        del self._queue[: self.frame_bytes]
        self._tape.put(self._next, frame)
        if frame.count(0) != len(frame):
            self._mark_audible()
        self._next += self.frame_samples
        self.samples_out += self.frame_samples
        self._speaking = True
        self._hole = 0

    def _mark_audible(self) -> None:
        end = self._next + self.frame_samples
        if self._audible and self._audible[-1][1] == self._next:
            self._audible[-1] = (self._audible[-1][0], end)
        else:
            self._audible.append((self._next, end))

    def _count_hole(self, samples: int) -> None:
        if not (self._open and self._speaking) or not samples:
            return
        self.holes += self._hole == 0
        self._hole += samples
        self.hole_samples += samples
        self.longest_hole = max(self.longest_hole, self._hole)
