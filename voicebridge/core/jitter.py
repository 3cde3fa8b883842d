"""Plays the caller to whoever listens: one frame for each 20 ms of the listener's clock.

The rule: no sample is lost below ``hard_ms``, and every one is accounted for. Audio comes
over TCP late and then all at once, so the delay is what is steered. It is kept at what late
audio needs (see ``arrival``): pauses are cut or lengthened first, for nobody hears that, and
speech is played faster or slower by whole pitch periods. Where audio runs short it is
stretched before it ends, and what is still missing is concealed. What was missed plays late
and the delay is won back.

For whoever listens, only: a recogniser is fed on arrival (see ``ear``).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from voicebridge.core.arrival import Arrivals
from voicebridge.core.backlog import Backlog
from voicebridge.core.concealment import Concealer
from voicebridge.core.config import SAMPLE_BYTES
from voicebridge.core.listener import PlayoutConfig, PullGrid
from voicebridge.core.loudness import Loudness
from voicebridge.core.pieces import Kind, Piece, PlayoutStats
from voicebridge.core.timescale import Wave, crossfade, joint_ahead, joint_behind

__all__ = ["PlayoutBuffer", "PlayoutConfig"]

_NOTHING: Final = 1.0
"""Milliseconds by which two instants may differ and be the same."""
_STICKY: Final = 2.0
"""Milliseconds by which a delay may fall short of what is aimed at."""
_LEAST_SLACK_MS: Final = 6.0
_JOIN_MS: Final = 5
_LONGEST_MS: Final = 20
"""Of what is cut out, or said twice, at once."""
_LONG_PERIOD_MS: Final = 12.5
"""Of the lowest voice."""
_HAIR_MS: Final = 2
_SMALL_MS: Final = 8.0
_KEPT_PAUSE_MS: Final = 40
_DRY_LATE_MS: Final = 5.0
"""Later than usual by more than this, and with less than the next held, speech is stretched."""
_DRY_HELD_MS: Final = 40
_ANYHOW_MS: Final = 150.0
"""This far above, a cut need not be smooth; above the next, there are two in each frame."""
_RUSH_MS: Final = 250.0
_LONG_HOLE_MS: Final = 300
"""After a longer hole audio begins anew."""
_SOFT: Final = 0.06
"""Speech softer than this share of the voice (-24 dB) may be cut anywhere."""
_CALM_LINK: Final = 7.5


class PlayoutBuffer:
    """One listener's buffer. ``now`` is monotonic seconds; one that goes back counts as the
    newest so far. Audio is PCM16 mono; nothing that is put in raises."""

    def __init__(self, config: PlayoutConfig | None = None) -> None:
        self.config = config = config or PlayoutConfig()
        rate = config.sample_rate
        self._rate = rate
        self._per_ms = rate / 1000
        self._frame = rate * config.frame_ms // 1000
        self._join = self._samples(_JOIN_MS)
        self._shortest = self._join
        self._longest = self._samples(_LONGEST_MS)
        self._kept_pause = self._samples(_KEPT_PAUSE_MS)
        self._dry = self._samples(_DRY_HELD_MS)
        self._slack = _LEAST_SLACK_MS
        """Delay above what is aimed at that is left alone."""
        self._loudness = Loudness()
        self._backlog = Backlog(self._frame, self._loudness)
        self._arrivals = Arrivals(config.arrivals, rate, self._frame, config.start_ms)
        self._concealer = Concealer(rate, config.conceal_ms)
        self.stats = PlayoutStats()
        self._pieces: list[Piece] = []
        self._plain = [Piece(Kind.PLAYED, self._frame, self._frame)]
        self._past = bytes(2 * self._frame * SAMPLE_BYTES)
        """The newest samples the listener got."""
        self._half = b""
        self._now = float("-inf")
        self._grid = PullGrid(config.frame_ms / 1000)
        self._hole = True
        self._hole_frames = 1_000
        self._waiting_since: float | None = None
        self._waiting = True
        """Audio begins anew: it is held until there is enough of it."""
        self._goal = config.start_ms
        """The delay that is steered to: see ``_error_ms``."""
        self._rested = 0
        """Frames since speech was last cut or stretched."""
        self._paused = 0
        """Quiet samples played in a row: a pause is cut, never cut away."""

    # -- in ---------------------------------------------------------------------------------

    def put(self, pcm: bytes, now: float) -> None:
        """Takes audio of any length; half a sample waits for its other half."""
        now = self._advance(now)
        if self._half:
            pcm = self._half + pcm
            self._half = b""
        if len(pcm) % SAMPLE_BYTES:
            self._half = pcm[-1:]
            pcm = pcm[:-1]
        if not pcm:
            return
        for _ in range(self._backlog.append(pcm)):
            self._arrivals.block(now)
        self.stats.received += len(pcm) // SAMPLE_BYTES
        self.stats.held = self._backlog.samples
        if self._waiting and self._waiting_since is None:
            self._waiting_since = now

    def silent(self, now: float) -> None:
        """The caller is known to be silent: nothing is late, and nothing is under way."""
        self._advance(now)
        self._arrivals.sender_silent()
        if not self._backlog.samples:
            self._begin_anew()

    # -- out --------------------------------------------------------------------------------

    def pull(self, now: float) -> bytes:
        """The next frame, whatever came: exactly ``frame_ms`` of it."""
        clock = self._grid.follow(self._advance(now))
        held = self._backlog.samples
        self.stats.pulled += self._frame
        if held > self.config.hard_ms * self._per_ms:
            self._pieces = []
            self._trim(held)
            return self._finish(self._compose(self._error_ms(clock), clock))
        if not held or (self._waiting and not self._enough(held, clock)):
            self._pieces = []
            return self._finish(self._made_up(self._frame, []))
        error = self._error_ms(clock)
        if not self._hole and -_NOTHING < error < self._slack and held >= self._frame + self._dry:
            return self._play_plain()
        self._pieces = []
        return self._finish(self._compose(error, clock))

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """What the newest frame was made of, in order."""
        return tuple(self._pieces)

    @property
    def target_ms(self) -> float:
        """The delay that is aimed at."""
        config = self.config
        least = config.min_ms
        if self._arrivals.stalls_again:
            least = config.stalling_ms
        elif self._arrivals.ample_ms > _CALM_LINK:
            least = config.jittery_ms
        return min(config.max_ms, max(least, self._arrivals.wanted_ms))

    @property
    def delay_ms(self) -> float:
        """The delay of the next sample beyond the fastest arrival; 0 while there is none."""
        following = self._grid.following
        if following is None or self._arrivals.base is None or not self._backlog.samples:
            return 0.0
        return self._delay_ms(following, self._arrivals.base)

    # -- steering ---------------------------------------------------------------------------

    def _compose(self, error: float, clock: float) -> list[Wave]:
        parts: list[Wave] = []
        need = self._frame
        self._waiting = False
        if self._hole:
            self._hole = False
            need -= self._resume(parts, need)
        elif error > self._slack:
            need -= self._cut_pause(parts, error) or self._compress(parts, error)
        elif error < -_NOTHING or self._drying(clock):
            need -= self._stretch(parts, error)
        self._rested += 1
        rest = min(need, self._backlog.samples)
        self._note_pause()
        parts.append(self._take(rest))
        if rest:
            self._note(Kind.PLAYED, rest, rest)
        if rest < need:
            self._made_up(need - rest, parts)
        return parts

    def _cut_pause(self, parts: list[Wave], error: float) -> int:
        """Cuts quiet audio at the head, but leaves some of each pause; returns what it gave."""
        if self._paused < self._kept_pause:
            return 0
        most = min(int(error * self._per_ms), self._backlog.samples - self._frame)
        if most < self._join:
            return 0
        cut = min(most, self._backlog.quiet_ahead(most + self._join) - self._join)
        return self._jump(parts, cut, Kind.PAUSE_CUT) if cut >= self._join else 0

    def _jump(self, parts: list[Wave], over: int, kind: Kind) -> int:
        """Fades from the head to what stands ``over`` samples later; returns what it gave."""
        leaving = self._backlog.peek(self._join)
        self._backlog.take(over)
        self._note(kind, over, 0)
        parts.append(crossfade(leaving, self._take(self._join)))
        self._note(Kind.PLAYED, self._join, self._join)
        return self._join

    def _compress(self, parts: list[Wave], error: float) -> int:
        """Cuts periods out of speech; returns how much of the frame it gave."""
        rounds = 2 if error > _RUSH_MS else 1
        if error < self.config.brisk_ms:
            every, alike = 3, 0.95
        elif error < self.config.haste_ms:
            every, alike = 2, 0.9
        else:
            every, alike = 1, 0.9 if error < _ANYHOW_MS else -1.0
        if self._rested < every:
            return 0
        given = 0
        for _ in range(rounds):
            room = self._backlog.samples - self._frame
            longest = min(self._longest, int((error + _NOTHING / 2) * self._per_ms), room)
            if longest < self._shortest:
                break
            place = self._smoothest(longest, self._frame - given - self._join, alike)
            if place is None:
                break
            before, lag = place
            if before:
                parts.append(self._take(before))
                self._note(Kind.PLAYED, before, before)
            given += before + self._jump(parts, lag, Kind.COMPRESSED)
            error -= lag / self._per_ms
            self._rested = 0
        return given

    def _smoothest(self, longest: int, latest: int, alike: float) -> tuple[int, int] | None:
        """Where in the frame a cut is least heard, and how long it is; None for nowhere."""
        join = self._join
        wave = self._backlog.peek(latest + longest + join)
        soft = self._loudness.voice_level * _SOFT
        best: tuple[int, int] | None = None
        least = float("inf")
        for before in range(0, latest + 1, join):
            ahead = wave[before : before + longest + join]
            joint = joint_ahead(ahead, join, self._shortest, longest)
            if joint is None:
                break
            level = float(np.sqrt(ahead[:join].dot(ahead[:join]) / join))
            roughness = level * (1 - joint.likeness)
            if roughness < least and (joint.likeness >= alike or level < soft):
                best, least = (before, joint.lag), roughness
        return best

    def _stretch(self, parts: list[Wave], error: float) -> int:
        """Says a period twice; returns how much of the frame it gave."""
        urgent = error >= -_NOTHING
        quiet = self._backlog.quiet_ahead(1) > 0
        if not quiet and not urgent and self._rested < 2:
            return 0
        head = self._backlog.peek(self._join)
        if head.size < self._join:
            return 0
        # A small want is met at once and in full: with a rest of it left, frames are no
        # blocks, and the next one has a hole as long as the rest.
        wanted = 0.0 if urgent else -error
        small = wanted <= _SMALL_MS
        reach = max(_LONG_PERIOD_MS, wanted + (10 if small else 4))
        longest = min(self._longest, self._samples(reach))
        shortest = max(self._shortest, self._samples(wanted) + 1 if small else 0)
        past = np.frombuffer(self._past, "<i2").astype(np.float32)
        joint = joint_behind(past, head, shortest, longest)
        if joint is None or (not quiet and joint.likeness < (0.3 if urgent else 0.6)):
            return 0
        again = past[past.size - joint.lag :].copy()
        again[: self._join] = crossfade(head, again[: self._join])
        parts.append(again)
        self._note(Kind.STRETCHED, 0, joint.lag)
        self._rested = 0
        return joint.lag

    def _resume(self, parts: list[Wave], need: int) -> int:
        """Fades from what was made up into what came."""
        length = min(self._join, self._backlog.samples, need)
        made = self._concealer.take(length, self._loudness.noise_level)
        parts.append(crossfade(made, self._take(length)))
        self._note(Kind.PLAYED, length, length)
        return length

    def _made_up(self, count: int, parts: list[Wave]) -> list[Wave]:
        """Fills ``count`` samples for which there is no audio."""
        if not self._hole:
            self._hole = True
            self._hole_frames = 0
            self.stats.holes += 1
            past = np.frombuffer(self._past, "<i2").astype(np.float32)
            self._concealer.begin(np.concatenate([past, *parts])[-past.size :])
        self._hole_frames += 1
        if self._hole_frames * self.config.frame_ms > _LONG_HOLE_MS and not self._backlog.samples:
            self._begin_anew()
        voiced = min(count, self._concealer.voiced_left)
        parts.append(self._concealer.take(count, self._loudness.noise_level))
        if voiced:
            self._note(Kind.CONCEALED, 0, voiced)
        if count - voiced:
            self._note(Kind.CALM, 0, count - voiced)
        return parts

    def _trim(self, held: int) -> None:
        cut = held - self._samples(self.config.trim_to_ms)
        self._backlog.take(cut)
        self._note(Kind.TRIMMED, cut, 0)
        # What follows is not what stood before: it fades in as after a hole.
        if not self._hole:
            self._hole = True
            self._concealer.begin(np.frombuffer(self._past, "<i2").astype(np.float32))

    # -- states -----------------------------------------------------------------------------

    def _begin_anew(self) -> None:
        self._waiting = True
        self._waiting_since = None

    def _enough(self, held: int, clock: float) -> bool:
        """Begin? Enough is held, or it has been waited for long enough."""
        target = self.target_ms
        if held >= target * self._per_ms + self._frame:
            return True
        since = self._waiting_since
        return since is not None and (clock - since) * 1000 >= target - _STICKY

    def _drying(self, clock: float) -> bool:
        """Audio is late, and little of it is left; or a hair is missing to a frame."""
        if 0 < self._frame - self._backlog.samples <= self._samples(_HAIR_MS):
            return True
        if self._backlog.samples >= self._frame + self._dry:
            return False
        base = self._arrivals.base
        if base is None:
            return False
        due = base + (self._backlog.tail + self._frame) / self._rate
        return (clock - due) * 1000 > _DRY_LATE_MS + self._arrivals.usual_ms

    def _error_ms(self, clock: float) -> float:
        """The delay of the next sample, less what is wanted.

        Audio comes in blocks and leaves in frames. A delay at which frames are not blocks
        waits for a block more and gains nothing by it. So the delay that is aimed at is the
        least one at which frames are blocks (they recur each block) and the target is met.
        """
        base = self._arrivals.base
        if base is None:
            return 0.0
        elapsed = (clock - base) * 1000
        block = self._frame / self._per_ms
        # The nearest of those delays to the one aimed at so far.
        goal = self._goal + (elapsed - self._goal + block / 2) % block - block / 2
        target = self.target_ms
        while goal < target - _STICKY:
            goal += block
        ample = min(self.config.max_ms, max(target, self._arrivals.ample_ms))
        while goal - block >= ample:
            goal -= block
        self._goal = goal
        self._slack = max(_LEAST_SLACK_MS, self.config.slack * goal)
        return self._delay_ms(clock, base) - goal

    def _delay_ms(self, clock: float, base: float) -> float:
        return (clock - base) * 1000 - (self._backlog.head + self._frame) / self._per_ms

    def _advance(self, now: float) -> float:
        self._now = max(self._now, now)
        return self._now

    # -- samples ----------------------------------------------------------------------------

    def _play_plain(self) -> bytes:
        pcm = self._backlog.take(self._frame)
        self._note_pause()
        self._rested += 1
        self._pieces = self._plain
        stats = self.stats
        stats.played += self._frame
        stats.held -= self._frame
        self._past = (self._past + pcm)[-len(self._past) :]
        return pcm

    def _note_pause(self) -> None:
        if self._backlog.quiet_ahead(1):
            self._paused += self._frame
        else:
            self._paused = 0

    def _take(self, samples: int) -> Wave:
        return np.frombuffer(self._backlog.take(samples), "<i2").astype(np.float32)

    def _note(self, kind: Kind, taken: int, given: int) -> None:
        piece = Piece(kind, taken, given)
        self._pieces.append(piece)
        self.stats.count(piece)

    def _finish(self, parts: list[Wave]) -> bytes:
        wave = np.concatenate(parts)
        pcm: bytes = np.clip(np.rint(wave), -32768, 32767).astype("<i2").tobytes()
        self._past = (self._past + pcm)[-len(self._past) :]
        self.stats.held = self._backlog.samples
        return pcm

    def _samples(self, milliseconds: float) -> int:
        return int(milliseconds * self._per_ms)
