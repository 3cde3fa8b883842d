"""A call as both sides of it sounded, on one clock: left the caller, right the bot.

The rule: a sample's place is an instant. What the bot says stands where it is played, as the
ledger has it, and what was flushed or rewound before that instant is not in it. What the
caller says runs on in call time, gapless, and is set later only by a hole that no audio still
to come can fill: audio that a stall held back is moved to where it was said, because for that
the assembly waits. A hole is put where the caller is quiet, or where nothing came for as long,
never into a word. So what is given out trails the clock by ``TRAIL`` seconds, and is final.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np
import numpy.typing as npt

from voicebridge.core.audio import peak
from voicebridge.core.config import SAMPLE_BYTES

__all__ = ["TRAIL", "Recorder"]

TRAIL: Final = 3.0
"""Seconds from an instant to the moment its samples are final."""
_LOOK: Final = 1.3
"""A stall may hold audio back for this long and it still goes where it belongs."""
_ROOM: Final = 0.240
"""What comes up to this late is just late: it follows what came before it."""
_QUIET_ROOM: Final = 0.040
"""The same where the caller is quiet: nobody hears a pause made longer, or shorter."""
_AHEAD: Final = 2.0
"""The most that the caller's audio may run ahead of the clock; more is left out."""
_QUIET: Final = 64
"""Peak of what may be left out, without being missed, to come back to the clock."""
_SNAP: Final = 2
"""Samples by which two instants may miss each other in float seconds and still be one."""

Samples = npt.NDArray[np.int16]


class Recorder:
    """One call's two sides. Instants are the session's clock; PCM16 mono in, stereo out."""

    def __init__(self, rate: int, start: float) -> None:
        """``start`` is the instant of the first sample."""
        self.rate = rate
        self._start = start
        self._given = 0
        """Samples given out: nothing before this can change."""
        self._bot = _Track()
        self._bot_end = 0
        self._caller = _Track()
        self._caller_end = 0
        """Where the caller's next audio goes, unless a hole is found before it."""
        self._came = 0
        """When the audio before that had come."""
        self._waiting: deque[tuple[int, bytes]] = deque()
        """Audio of the caller, and the position of the instant at which it had come."""
        self.holes = 0
        """Samples of silence put where the caller's audio had a hole."""
        self.left_out = 0
        """Samples of the caller that came faster than time passes."""

    def heard(self, at: float, pcm: bytes) -> None:
        """Audio of the caller, complete at the instant ``at``; in the order of call time."""
        if pcm:
            self._waiting.append((self._position(at), pcm))

    def sent(self, play_at: float, pcm: bytes) -> None:
        """Audio of the bot that begins to play at ``play_at``; the last word on that time."""
        position = self._position(play_at)
        if abs(position - self._bot_end) <= _SNAP:
            position = self._bot_end
        samples = np.frombuffer(pcm, "<i2")
        self._bot.write(position, samples)
        self._bot_end = position + samples.size

    def lost(self, now: float) -> None:
        """The socket is gone: what was sent and would play from now on does not."""
        position = self._position(now)
        self._bot.cut(position)
        self._bot_end = min(self._bot_end, position)

    def take(self, now: float) -> bytes:
        """What became final, interleaved; to be called every so often."""
        self._place(self._position(now - _LOOK))
        return self._give(self._position(now - TRAIL))

    def finish(self, now: float) -> bytes:
        """The rest, up to now or the end of the caller's audio."""
        self.lost(now)
        self._place(self._position(now) + self.rate)
        return self._give(max(self._position(now), self._caller_end))

    def _place(self, until: int) -> None:
        """Settles where the caller's audio goes that had come by ``until``."""
        waiting = self._waiting
        while waiting and waiting[0][0] <= until:
            came, pcm = waiting[0]
            samples = np.frombuffer(pcm, "<i2", count=len(pcm) // SAMPLE_BYTES)
            quiet = peak(pcm) < _QUIET
            hole = self._hole()
            if self._belongs_here(hole, quiet):
                self._caller_end += hole
                self.holes += hole
            waiting.popleft()
            self._came = came
            ahead = self._caller_end + samples.size - came
            if ahead > _AHEAD * self.rate or (quiet and ahead > _QUIET_ROOM * self.rate):
                self.left_out += samples.size
                continue
            # What was given out is past; later than it should be is better than not at all.
            self._caller_end = max(self._caller_end, self._given)
            self._caller.write(self._caller_end, samples)
            self._caller_end += samples.size

    def _belongs_here(self, hole: int, quiet: bool) -> bool:
        """Whether a hole goes before the audio that waits, or later into a pause."""
        if hole <= 0 or not self._caller_end:
            return hole > 0
        if quiet:
            return hole > _QUIET_ROOM * self.rate
        came, pcm = self._waiting[0]
        room = _ROOM * self.rate
        late = came - self._caller_end - len(pcm) // SAMPLE_BYTES
        # Not the head of a backlog, which is later than what follows it.
        return hole > room and late - hole <= room and came - self._came >= hole - room

    def _hole(self) -> int:
        """The silence that certainly precedes what waits: the least that any of it leaves.

        Audio of a backlog leaves much room before its first part and none before its last.
        """
        end = self._caller_end
        room = None
        for came, pcm in self._waiting:
            end += len(pcm) // SAMPLE_BYTES
            room = came - end if room is None else min(room, came - end)
            if room <= 0:
                break
        return room or 0

    def _give(self, until: int) -> bytes:
        count = until - self._given
        if count <= 0:
            return b""
        both = np.empty((count, 2), dtype="<i2")
        both[:, 0] = self._caller.read(self._given, count)
        both[:, 1] = self._bot.read(self._given, count)
        self._given = until
        return both.tobytes()

    def _position(self, at: float) -> int:
        return round((at - self._start) * self.rate)


class _Track:
    """Samples by position; what was not written is silence, what was read is forgotten."""

    def __init__(self) -> None:
        self._from = 0
        self._samples: Samples = np.zeros(0, dtype=np.int16)
        self._end = 0

    def write(self, position: int, samples: Samples) -> None:
        """Over whatever stands there; what lies before the part that was read is dropped."""
        late = max(0, self._from - position)
        samples = samples[late:]
        position += late
        if not samples.size:
            return
        offset = position - self._from
        if offset + samples.size > self._samples.size:
            grown = np.zeros(2 * (offset + samples.size), dtype=np.int16)
            grown[: self._end] = self._samples[: self._end]
            self._samples = grown
        self._samples[offset : offset + samples.size] = samples
        self._end = max(self._end, offset + samples.size)

    def cut(self, position: int) -> None:
        """Silence from here on."""
        offset = max(0, position - self._from)
        self._samples[offset : self._end] = 0
        self._end = min(self._end, offset)

    def read(self, position: int, count: int) -> Samples:
        """The next ``count`` samples; reading goes on where it ended."""
        assert position == self._from
        out: Samples = np.zeros(count, dtype=np.int16)
        have = min(count, self._end)
        out[:have] = self._samples[:have]
        left = self._end - have
        self._samples[:left] = self._samples[have : self._end]
        self._samples[left : self._end] = 0
        self._end = left
        self._from += count
        return out
