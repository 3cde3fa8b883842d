"""Rivals: playout buffers as others build them, re-implemented from their descriptions.

One rule: they share our concealment and our way of cutting and stretching, so that what is
compared is the policy. Times in seconds, positions in samples of the stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from benchmarks.playout.traces import FRAME, RATE, STEP
from voicebridge.core.backlog import Backlog
from voicebridge.core.concealment import Concealer
from voicebridge.core.jitter import PlayoutBuffer
from voicebridge.core.loudness import Loudness
from voicebridge.core.pieces import Kind, Piece
from voicebridge.core.timescale import Wave, crossfade, joint_ahead, joint_behind

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["POLICIES", "Policy"]

_JOIN: Final = 80
_SHORTEST: Final = 80
_LONGEST: Final = 240


class Policy(Protocol):
    """What is scored: a buffer that says what each frame was made of."""

    def put(self, pcm: bytes, now: float) -> None: ...
    def silent(self, now: float) -> None: ...
    def pull(self, now: float) -> bytes: ...
    @property
    def pieces(self) -> tuple[Piece, ...]: ...
    @property
    def target_ms(self) -> float: ...


class Player:
    """The tools of every rival: a queue, concealment, cutting and stretching."""

    def __init__(self) -> None:
        self.loudness = Loudness()
        self.backlog = Backlog(FRAME, self.loudness)
        self.concealer = Concealer(RATE, 80.0)
        self.past = np.zeros(2 * FRAME, np.float32)
        self.hole = True
        self.pieces: list[Piece] = []
        self.parts: list[Wave] = []

    def begin(self) -> None:
        self.pieces, self.parts = [], []

    @property
    def given(self) -> int:
        return sum(part.size for part in self.parts)

    def frame(self) -> bytes:
        """Plays on to the end of the frame, concealing what is missing."""
        need = FRAME - self.given
        count = min(need, self.backlog.samples)
        if count and self.hole:
            self.hole = False
            length = min(_JOIN, count)
            made = self.concealer.take(length, self.loudness.noise_level)
            self.parts.append(crossfade(made, self._take(length)))
            self._note(Kind.PLAYED, length, length)
            count -= length
            need -= length
        if count:
            self.parts.append(self._take(count))
            self._note(Kind.PLAYED, count, count)
        if need > count:
            self.conceal(need - count)
        wave = np.concatenate(self.parts)
        self.past = np.concatenate((self.past, wave))[-self.past.size :]
        return bytes(np.clip(np.rint(wave), -32768, 32767).astype("<i2").tobytes())

    def conceal(self, count: int) -> None:
        if not self.hole:
            self.hole = True
            self.concealer.begin(np.concatenate([self.past, *self.parts])[-self.past.size :])
        voiced = min(count, self.concealer.voiced_left)
        self.parts.append(self.concealer.take(count, self.loudness.noise_level))
        self._note(Kind.CONCEALED, 0, voiced)
        self._note(Kind.CALM, 0, count - voiced)

    def trim(self, keep: int) -> None:
        cut = self.backlog.samples - keep
        if cut > 0:
            self.backlog.take(cut)
            self._note(Kind.TRIMMED, cut, 0)

    def cut_quiet(self, most: int) -> None:
        """Drops quiet audio at the head, at most so much."""
        cut = min(most, self.backlog.quiet_ahead(most), self.backlog.samples - FRAME)
        if cut >= _JOIN:
            self.backlog.take(cut)
            self._note(Kind.PAUSE_CUT, cut, 0)

    def compress(self, alike: float) -> bool:
        if self.backlog.samples < FRAME + _LONGEST:
            return False
        wave = self.backlog.peek(_LONGEST + _JOIN)
        joint = joint_ahead(wave, _JOIN, _SHORTEST, _LONGEST)
        if joint is None or joint.likeness < alike:
            return False
        self.backlog.take(joint.lag)
        self._note(Kind.COMPRESSED, joint.lag, 0)
        self.parts.append(crossfade(wave[:_JOIN], self._take(_JOIN)))
        self._note(Kind.PLAYED, _JOIN, _JOIN)
        return True

    def stretch(self, alike: float) -> bool:
        head = self.backlog.peek(_JOIN)
        if head.size < _JOIN or self.hole:
            return False
        joint = joint_behind(self.past, head, _SHORTEST, _LONGEST)
        if joint is None or joint.likeness < alike:
            return False
        again = self.past[-joint.lag :].copy()
        again[:_JOIN] = crossfade(head, again[:_JOIN])
        self.parts.append(again)
        self._note(Kind.STRETCHED, 0, joint.lag)
        return True

    def _take(self, count: int) -> Wave:
        return np.frombuffer(self.backlog.take(count), "<i2").astype(np.float32)

    def _note(self, kind: Kind, taken: int, given: int) -> None:
        if taken or given:
            self.pieces.append(Piece(kind, taken, given))


class Fixed:
    """Starts after ``delay_ms``, starts so again after a hole, never hurries; trims at 1.5 s.

    With 0 it is the plain queue, which has no bound and plays what there is.
    """

    def __init__(self, delay_ms: float) -> None:
        self.target_ms = delay_ms
        self._player = Player()
        self._since: float | None = None
        self._waiting = True

    def put(self, pcm: bytes, now: float) -> None:
        self._player.backlog.append(pcm)
        if self._since is None:
            self._since = now

    def silent(self, now: float) -> None:
        """Knows nothing of that."""

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return tuple(self._player.pieces)

    def pull(self, now: float) -> bytes:
        player = self._player
        player.begin()
        if self._waiting and self._since is not None:
            self._waiting = (now - self._since) * 1000 < self.target_ms
        if self._waiting and self.target_ms:
            player.conceal(FRAME)
            return player.frame()
        if self.target_ms:
            bound = int((self.target_ms + 180) * RATE / 1000)
            if player.backlog.samples > bound:
                player.trim(int(self.target_ms * RATE / 1000) + FRAME)
        frame = player.frame()
        if player.hole and not player.backlog.samples:
            self._waiting, self._since = True, None
        return frame


class Lateness:
    """Latenesses against a sliding least, in a forgetting histogram of 10 ms buckets."""

    def __init__(self, quantile: float, window: float, *, start_ms: float, most: int) -> None:
        self._quantile = quantile
        self._window = window
        self._offsets: list[tuple[float, float]] = []
        self._shares = np.zeros(most)
        self._shares[int(start_ms / 10) - 1] = 1.0
        self.count = 0
        self.least = 0.0

    def frame(self, now: float) -> None:
        self.count += 1
        offset = now - self.count * STEP
        self._offsets = [(at, o) for at, o in self._offsets if at > now - self._window]
        self._offsets.append((now, offset))
        self.least = min(o for _, o in self._offsets)
        late = int((offset - self.least) * 100)
        self._shares *= 0.983
        self._shares[min(late, self._shares.size - 1)] += 1 - 0.983

    def restart(self) -> None:
        self._offsets.clear()

    @property
    def wanted_ms(self) -> float:
        return 10.0 * (int(self._shares.cumsum().searchsorted(self._quantile)) + 1)


class NetEqLike:
    """WebRTC's rules: a target from lateness, faster above it, slower below, by periods.

    ``gap_aware``: a proof of silence restarts the measure.
    """

    def __init__(self, *, gap_aware: bool) -> None:
        self._player = Player()
        self._lateness = Lateness(0.95, 2.0, start_ms=40.0, most=200)
        self._gap_aware = gap_aware
        self._level = 0.0

    @property
    def target_ms(self) -> float:
        return max(20.0, self._lateness.wanted_ms)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return tuple(self._player.pieces)

    def put(self, pcm: bytes, now: float) -> None:
        for _ in range(self._player.backlog.append(pcm)):
            self._lateness.frame(now)

    def silent(self, now: float) -> None:
        if self._gap_aware:
            self._lateness.restart()

    def pull(self, now: float) -> bytes:
        player = self._player
        player.begin()
        held = player.backlog.samples / RATE * 1000
        self._level += 0.02 * (held - self._level) if abs(held - self._level) < 400 else (
            held - self._level
        )  # fmt: skip
        target = self.target_ms
        low = max(0.75 * target, target - 85)
        high = max(target, low + 20)
        if held > 2_000:
            player.trim(int(target * RATE / 1000))
        elif self._level >= 4 * high and held > high:
            if player.compress(-1.0):
                self._level -= 10
        elif self._level >= high and held >= 30 + 20:
            if player.compress(0.9):
                self._level -= 10
        elif self._level < low and 20 <= held < low and player.stretch(0.9):
            self._level += 10
        return player.frame()


class BestAdaptive:
    """The best adaptive policy we know a description of: the 95th percentile over a least of
    3 s, 20 to 120 ms; quiet dropped from 22 ms above, speech hurried from 150 ms above;
    1.5 s trimmed to 400 ms. It too is told of silence."""

    def __init__(self) -> None:
        self._player = Player()
        self._lateness = Lateness(0.95, 3.0, start_ms=40.0, most=100)
        self._waiting = True
        self._since: float | None = None

    @property
    def target_ms(self) -> float:
        return min(120.0, max(20.0, self._lateness.wanted_ms))

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return tuple(self._player.pieces)

    def put(self, pcm: bytes, now: float) -> None:
        for _ in range(self._player.backlog.append(pcm)):
            self._lateness.frame(now)
        if self._since is None:
            self._since = now

    def silent(self, now: float) -> None:
        self._lateness.restart()
        if not self._player.backlog.samples:
            self._waiting, self._since = True, None

    def pull(self, now: float) -> bytes:
        player = self._player
        player.begin()
        target = self.target_ms
        if self._waiting:
            self._waiting = self._since is None or (now - self._since) * 1000 < target - 10
            if self._waiting:
                player.conceal(FRAME)
                return player.frame()
        if player.backlog.samples > 1.5 * RATE:
            player.trim(int(0.4 * RATE))
        delay = (now - self._lateness.least) * 1000 - (player.backlog.head + FRAME) / RATE * 1000
        above = min(delay, player.backlog.samples / RATE * 1000) - target
        if above > 22:
            player.cut_quiet(int(above * RATE / 1000))
        if above > 150:
            player.compress(-1.0)
        return player.frame()


POLICIES: Final[dict[str, Callable[[], Policy]]] = {
    "none (FIFO)": lambda: Fixed(0.0),
    "fixed 60": lambda: Fixed(60.0),
    "fixed 200": lambda: Fixed(200.0),
    "NetEq-like": lambda: NetEqLike(gap_aware=False),
    "NetEq-like, gap-aware": lambda: NetEqLike(gap_aware=True),
    "best adaptive, as described": BestAdaptive,
    "voicebridge": PlayoutBuffer,
}
