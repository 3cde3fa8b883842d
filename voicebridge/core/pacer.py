"""Sends on an absolute grid, a small lead ahead of real time.

The rule: what has been sent cannot be taken back, so nothing is sent before it must be.

The far end plays what it gets, one message after the other. ``until`` is the instant by
which all that was sent is played; the next message is due ``lead`` before that. As long as
that instant is not missed it moves in whole messages, so the grid is absolute: a late tick
shifts nothing after it, and drift is zero. If it is missed, the far end has run dry and
plays the next message when it comes; the grid moves by that hole and the hole is counted.
So no message is skipped, what is sent and not yet played stays at one message plus the lead
(give or take half a tick), and no more than that leaves at once, however late it is. The
lead itself is asked for after each message; see ``lead``.

Where the far end has proven to lag (see ``surplus``), silence is not sent until it has
played what it has; then it is primed anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from voicebridge.core.config import SAMPLE_BYTES, TICK_MS, MediaConfig
from voicebridge.core.lead import AdaptiveLead
from voicebridge.core.ledger import Ledger, Piece, Sent
from voicebridge.core.surplus import Surplus

if TYPE_CHECKING:
    from collections.abc import Callable

    from voicebridge.core.stats import SessionStats

__all__ = ["Message", "Pacer"]

_TICK: Final = TICK_MS / 1000
_EARLY: Final = _TICK / 2
"""A message due within half a tick is sent now: that is nearer than the next tick."""
_MIN_LEAD: Final = 0.020
"""A stream that runs short is waited for while the lead stays above this."""
_LATE_MS: Final = 20.0
_WATCHED: Final = 50
"""Ticks after the alignment, a second of them, that must bear it out."""
_SLACK: Final = 0.001
_INSTANT: Final = 1e-6
"""Two instants nearer than this are one: float seconds of a clock."""

Message = tuple[bytes, tuple[Piece, ...]]
"""One wire frame, and the speech it is made of."""


class Pacer:
    """Asks ``source(now, may_wait)`` for each message when it is due.

    The source answers None where it wants to wait, and may do so only if ``may_wait``.
    ``speaks(now)`` is whether what it would answer is more than silence.
    """

    def __init__(
        self,
        config: MediaConfig,
        stats: SessionStats,
        ledger: Ledger,
        source: Callable[[float, bool], Message | None],
        speaks: Callable[[float], bool],
    ) -> None:
        self._stats = stats
        self._ledger = ledger
        self._source = source
        self._speaks = speaks
        self._wire_frame = config.wire_frame_ms / 1000
        self.lead = AdaptiveLead(config)
        self._most = (config.max_lead_ms - config.wire_frame_ms) / 1000
        self._lead = self._send_at = 0.0
        """A message is sent when what was sent before plays for no longer than ``_send_at``."""
        self._keep_ahead(self.lead.seconds)
        self._at_once = 1 + -(-config.lead_ms // config.wire_frame_ms)
        """So many fill an empty far end; a larger lead is caught up with in later ticks."""
        self._ticked_at = 0.0
        self._surplus = Surplus(self._wire_frame)
        self._draining: float | None = None
        """Until then silence is held back, for the far end has more to play than was meant."""
        self._dry = 0.0
        """For how long the far end had nothing to play before the last message sent."""
        self.open = False
        self.until = 0.0
        self._anchored_at = 0.0
        self._aligned = True
        self._phase = 0.0
        self._watched = _WATCHED
        self._least_late = _TICK
        self._waiting = False
        """The message that is due waits for its writer."""
        self._free_since = 0.0
        """Nothing could be sent before this instant; no lateness is counted from earlier."""
        self._outbox: list[bytes] = []

    def opened(self, now: float) -> None:
        """Anchors the grid here and primes it: one message and the lead go out at once."""
        self.open = True
        self._aligned = False
        self._waiting = False
        self.until = self._anchored_at = self._free_since = self._ticked_at = now
        self._dry = 0.0
        self._surplus.clear()
        self._draining = None
        self.lead.restart()
        self._keep_ahead(self.lead.seconds)
        self._send_due(now)

    def lost(self, now: float) -> list[Piece]:
        """Stops. Returns what was sent and not yet played, newest first."""
        if not self.open:
            return []
        unsent = self.unsend(len(self._outbox))
        self._outbox.clear()
        self.open = False
        unplayed = self._ledger.rewind(now)
        self._stats.replayed_samples += sum(len(raw) // SAMPLE_BYTES for _, _, raw, _ in unplayed)
        return unsent + unplayed

    def tick(self, now: float) -> None:
        """Sends what is due."""
        if not self.open:
            return
        late = now - self._ticked_at - _TICK
        self._ticked_at = now
        if late > _EARLY:
            self.lead.late(late, now)
        if self._dry:
            # Only now: what the link refused was no proof of anything.
            self.lead.ran_dry(self._dry, now)
            self._dry = 0.0
        if not self._aligned and now > self._anchored_at:
            self._align(now)
        elif self._watched < _WATCHED:
            self._watch_phase(now)
        if self._draining is not None:
            self._drain_on(self._draining, now)
        elif self.until - now <= self._send_at:
            self._send_due(now)

    def pinged(self, now: float) -> None:
        """A ping follows what was sent up to now."""
        self._surplus.pinged(now, self._stats.frames_sent)

    def answered(self, round_trip: float, now: float) -> None:
        """A ping was answered after so long."""
        lead = self.lead
        lead.round_trip(round_trip, now)
        if self.open:
            held_up = round_trip - lead.shortest_round_trip
            until = self.until if self._draining is None else self._draining
            frames_sent = self._stats.frames_sent
            self._surplus.answered(now - round_trip, held_up, frames_sent, until)

    def to_send(self) -> list[bytes]:
        """Drains the messages that were due; to be called after each ``opened()`` and tick."""
        messages, self._outbox = self._outbox, []
        return messages

    def unsend(self, count: int) -> list[Piece]:
        """The last ``count`` messages did not go out. Returns their speech, newest first."""
        unsent: list[Piece] = []
        if not self.open:
            return unsent  # lost() took back everything that was not played
        stats = self._stats
        self._dry = 0.0
        for sent in self._ledger.take_back(count):
            self.until = sent.play_at - sent.dry
            self._free_since = self._ticked_at
            stats.resyncs -= sent.dry > 0
            stats.frames_sent -= 1
            stats.speech_frames_sent -= bool(sent.pieces)
            stats.clogged += 1
            stats.lead.remove(sent.lead_ms)
            stats.lateness.remove(sent.late_ms)
            stats.late -= sent.late_ms > _LATE_MS
            unsent += reversed(sent.pieces)
        return unsent

    def _align(self, now: float) -> None:
        """Moves the grid later by less than a tick, so that messages fall due on ticks.

        Without it every message would be late by one and the same part of a tick. Those
        that were sent already play when they play.
        """
        self._aligned = True
        shift = (now - self._anchored_at) % _TICK
        if _INSTANT < shift < _TICK - _INSTANT:
            self.until += shift
        self._phase = now
        self._watched = 0
        self._least_late = _TICK

    def _watch_phase(self, now: float) -> None:
        """Corrects an alignment to a tick that was late itself, once ticks have shown it.

        Left alone, a grid that lies half a tick beside the ticks is met now before and now
        after by their small jitter, and messages leave 20 ms early and late in turn.
        """
        self._watched += 1
        self._least_late = min(self._least_late, (now - self._phase + _SLACK) % _TICK)
        if self._watched == _WATCHED and self._least_late > 2 * _SLACK:
            # Never earlier than the far end plays: the grid was moved later by less than this.
            self.until += self._least_late - _SLACK

    def _send_due(self, now: float) -> None:
        for _ in range(self._at_once):
            if self.until - now > self._send_at:
                return
            message = self._source(now, self.until - now - _TICK >= _MIN_LEAD - _INSTANT)
            if message is None:
                self._waiting = True
                return
            if self._surplus.seconds >= self._wire_frame and not message[1]:
                self._drain()
                return
            if self._waiting:
                self._waiting = False
                self._free_since = now
            late_ms = (now - max(self.until - self._lead, self._free_since)) * 1000
            dry = 0.0
            if self.until < now - _INSTANT:
                dry = self._dry = now - self.until
                self._stats.resyncs += 1
                self.until = self._free_since = now
                self._surplus.seconds = max(0.0, self._surplus.seconds - dry)
                self.lead.restart()
            self._send(message, now, late_ms, dry)
            if (lead := self.lead.step(now)) != self._lead:
                self._keep_ahead(lead)

    def _drain(self) -> None:
        """Sends no silence until the far end has played what it has."""
        self._draining = self.until + self._surplus.seconds
        self._surplus.seconds = 0.0
        self._stats.drained += 1

    def _drain_on(self, end: float, now: float) -> None:
        """Once the far end has nothing left it is primed anew; or when somebody speaks."""
        if now < end - _INSTANT:
            if not self._speaks(now):
                return
            self._surplus.seconds = end - max(now, self.until)
        self._draining = None
        if self.until < now:
            self.until = self._free_since = now
        self.lead.restart()
        self._keep_ahead(self.lead.seconds)
        if self.until - now <= self._send_at:
            self._send_due(now)

    def _keep_ahead(self, lead: float) -> None:
        """Takes this lead for the next message."""
        self._lead = lead
        self._send_at = _INSTANT + min(lead + _EARLY, self._most)

    def _send(self, message: Message, now: float, late_ms: float, dry: float) -> None:
        data, pieces = message
        stats = self._stats
        play_at = self.until
        self.until = play_at + self._wire_frame
        lead_ms = (self.until - now) * 1000
        heard_by = play_at
        if pieces:
            _, offset, raw, _ = pieces[-1]
            heard_by = self._ledger.heard_by(play_at, offset + len(raw) // SAMPLE_BYTES)
            stats.speech_frames_sent += 1
        self._ledger.record(Sent(play_at, heard_by, pieces, late_ms, lead_ms, dry))
        stats.frames_sent += 1
        stats.lead.add(lead_ms)
        stats.lateness.add(late_ms)
        stats.late += late_ms > _LATE_MS
        self._outbox.append(data)
