"""Hears the caller: cuts what arrives into frames, and tells silence from a stalled network.

The rule: audio passes on arrival, and call time is counted in audio. TCP brings audio late
but never loses it, so a recogniser needs no playout buffer. What it needs is to be told when
nothing comes: phones send nothing while their user is silent (DTX, mute), and a stalled
network sends nothing either. A WebSocket ping decides, for TCP keeps order: a pong proves
that nothing older is still under way, so the caller is silent, and silent frames are put in
at the clock's pace. Without a pong nothing is put in until ``stall_limit_ms`` have passed.

Audio that comes after silence was put in its place simply follows; call time is then ahead
of the clock, by no more than was filled. The first second of each silence is nevertheless
filled at the clock's pace from the last audio on, since the end of a turn hangs on it. Only
a longer silence is used to bring call time back to the clock: it is lengthened at once where
call time lags behind, and filling pauses where call time is ahead. Received audio is never
dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from voicebridge.core.audio import silence
from voicebridge.core.config import SAMPLE_BYTES, MediaConfig

if TYPE_CHECKING:
    from voicebridge.core.stats import SessionStats

__all__ = ["Ear"]

_PING_EVERY: Final = 0.150
_PING_GIVEN_UP: Final = 0.450
"""A ping is not overtaken before this, or a round trip above 150 ms would never be answered
by a pong for the newest ping."""
_PROOF_LASTS: Final = 0.300
"""How long after a pong the caller may be taken for silent without a new one."""
_AT_ONCE: Final = 0.010
"""Messages nearer than this came at once."""
_LONGEST_RHYTHM: Final = 0.240
"""More at once is a backlog, and tells nothing of when the next is due."""
_STEER_AFTER: Final = 1.0
"""A silence longer than this brings call time back to the clock."""


class Ear:
    """One call's inbound audio. Times are monotonic seconds, positions are samples."""

    def __init__(self, config: MediaConfig, stats: SessionStats) -> None:
        self._stats = stats
        self._rate = config.sample_rate
        self._frame = config.frame_samples
        self._frame_bytes = config.frame_samples * SAMPLE_BYTES
        self._silence = silence(self._frame)
        self._overdue_after = config.idle_fill_ms / 1000
        self._stall_limit = config.stall_limit_ms / 1000
        self._rhythm = config.wire_frame_ms / 1000
        """How much audio usually comes at once."""
        self._burst = 0.0
        """How much did come at once, the last time: a server may send 120 ms at a time."""

        self._frames: list[bytes] = []
        self._rest = bytearray()
        """Whole samples, less than a frame of them."""
        self._half = b""
        """The first byte of a sample whose second has not come."""
        self._received = 0
        """Samples received and filled: call time."""
        self._epoch: float | None = None
        self._opened_at = 0.0
        self._begun = False
        self._open = False
        self._last_at = 0.0
        """The last instant audio came, or the socket opened."""
        self._mark = 0
        """Call time at ``_last_at``."""
        self._overdue = False
        self._proven_at = 0.0
        self._pinged_at = float("-inf")
        self._ping_answered = True

    @property
    def call_time_samples(self) -> int:
        """How much call time has been received or filled."""
        return self._received

    @property
    def buffered_samples(self) -> int:
        """Received, and not yet a whole frame."""
        return len(self._rest) // SAMPLE_BYTES

    def opened(self, now: float) -> None:
        """The socket is up. Call time begins with the first one."""
        if self._epoch is None:
            self._epoch = self._opened_at = now
            self._last_at = self._proven_at = now
        self._half = b""
        self._open = True
        self._ping_answered = True
        if self._overdue:
            # The silence of the outage is filled up to here, and counts on from here.
            self._fill(now)
        self._arrived(now)

    def lost(self, now: float) -> None:
        """The socket is gone: nothing can be under way, silence follows on the clock."""
        self._open = False

    def receive(self, data: bytes, now: float) -> None:
        """Takes one message of any length; half a sample waits for its other half."""
        stats = self._stats
        stats.frames_received += 1
        stats.bytes_received += len(data)
        if self._half:
            data = self._half + data
            self._half = b""
        if len(data) % SAMPLE_BYTES:
            self._half = data[-1:]
            data = data[:-1]
        if not data:
            return
        if not self._begun:
            self._begun = True
            self._epoch = now - len(data) / SAMPLE_BYTES / self._rate
        if self._overdue:
            self._count_gap(now)
        if now - self._last_at > _AT_ONCE:
            self._burst = 0.0
        self._burst += len(data) / (SAMPLE_BYTES * self._rate)
        self._push(data)
        self._arrived(now)

    def tick(self, now: float) -> None:
        """Fills silence where the caller is known to be silent."""
        if not self._begun:
            self._await_first(now)
        if not self._is_overdue(now):
            return
        if not self._overdue:
            self._overdue = True
            self._stats.gaps += 1
        if self._caller_is_silent(now):
            self._fill(now)

    def _await_first(self, now: float) -> None:
        """Call time begins with the first audio, or when none came for ``stall_limit_ms``.

        A server holds the first audio back and then sends it in a burst. Silence filled in
        before it would be a delay, for the whole call, to whoever plays on what it hears.
        """
        if self._epoch is None:
            return
        if now - self._opened_at >= self._stall_limit:
            self._begun = True
        else:
            self._epoch = self._last_at = self._proven_at = now

    def ping_due(self, now: float) -> bool:
        """True where a ping is to be sent now: audio is overdue and no answer is awaited."""
        if not self._open or not self._is_overdue(now):
            return False
        if now - self._pinged_at < (_PING_EVERY if self._ping_answered else _PING_GIVEN_UP):
            return False
        self._pinged_at = now
        self._ping_answered = False
        return True

    def pong(self, now: float) -> None:
        """The newest ping was answered: nothing older is under way."""
        self._ping_answered = True
        self._proven_at = now
        self.tick(now)

    def frames(self) -> list[bytes]:
        """Drains the frames that are complete; to be called after each receive and tick."""
        frames, self._frames = self._frames, []
        return frames

    @property
    def _room(self) -> float:
        """Audio covers the time before it comes: fill leaves room for what may come next."""
        return max(self._rhythm, min(self._burst, _LONGEST_RHYTHM))

    def _is_overdue(self, now: float) -> bool:
        idle = now - self._last_at
        if idle <= self._overdue_after or self._epoch is None:
            return False
        return idle > self._overdue_after + self._room - self._rhythm

    def _caller_is_silent(self, now: float) -> bool:
        if not self._open:
            return True
        proven_at = self._proven_at
        if proven_at > self._last_at and now - proven_at <= _PROOF_LASTS:
            return True
        return now - max(proven_at, self._last_at) >= self._stall_limit

    def _arrived(self, now: float) -> None:
        self._last_at = now
        self._mark = self._received
        self._overdue = False

    def _push(self, data: bytes) -> None:
        self._received += len(data) // SAMPLE_BYTES
        size = self._frame_bytes
        if self._rest:
            self._rest += data
            data = bytes(self._rest)
            self._rest.clear()
        whole = len(data) - len(data) % size
        frames = self._frames
        for start in range(0, whole, size):
            frames.append(data[start : start + size])
        self._stats.frames_heard += whole // size
        if whole != len(data):
            self._rest += data[whole:]

    def _fill(self, now: float) -> None:
        missing = self._silent_until(now) - self._received
        for _ in range(missing // self._frame):
            self._push(self._silence)
            self._stats.filled_frames += 1

    def _silent_until(self, now: float) -> int:
        """The call time up to which silence may be filled."""
        assert self._epoch is not None
        elapsed = now - self._last_at
        pace = self._mark + self._samples(min(elapsed, _STEER_AFTER) - self._room)
        if elapsed <= _STEER_AFTER:
            return pace
        return max(pace, self._samples(now - self._epoch - self._room))

    def _count_gap(self, now: float) -> None:
        """Audio is back: was that a stall, and how much silence was not filled?"""
        elapsed = now - self._last_at
        if self._received == self._mark:
            self._stats.stalls += 1
        elif elapsed > _STEER_AFTER and self._caller_is_silent(now):
            at_pace = self._mark + self._samples(elapsed - self._room)
            # Less one: the frame that the next tick would have filled.
            self._stats.withheld_frames += max(0, (at_pace - self._received) // self._frame - 1)

    def _samples(self, seconds: float) -> int:
        # Rounded, not cut: 0.58 s - 0.06 s is a hair under 0.52 s in floats.
        return round(seconds * self._rate)
