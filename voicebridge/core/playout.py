"""Speaks: utterances in line, cut into messages of one wire frame.

The rule: one utterance speaks at a time, and one synchronous ``stop`` silences it.

An utterance joins the line with its first audio: one that was opened and says nothing holds
up nobody. A live stream leaves the line when it runs dry, and joins again with more audio.

A stopped utterance is finished at once, not when its last sample has been heard 270 ms
later: whoever stops one wants to say something else, and tell a model where it was cut.
What is beyond recall counts as heard by then, with the fade of 8 ms that still follows.

A pause holds the whole line and takes nothing away. It ends with ``resume``, or with a stop
of the utterance that was paused.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final

from voicebridge.core.audio import fade_in, fade_out, peak, silence
from voicebridge.core.config import SAMPLE_BYTES, MediaConfig
from voicebridge.core.events import Playback, PlaybackFinished
from voicebridge.core.ledger import Ledger, Piece
from voicebridge.core.limiter import Volume
from voicebridge.core.pacer import Message, Pacer
from voicebridge.core.pause import SEARCH_MS, Pause, rewound_samples
from voicebridge.core.utterance import Utterance
from voicebridge.errors import AudioError, CallStateError

if TYPE_CHECKING:
    from voicebridge.core.stats import SessionStats

__all__ = ["Playout"]

_INSTANT: Final = 1e-6
"""Two instants nearer than this are one: float seconds of a clock."""
_CUT_FADE_MS: Final = 8
_JOIN_FADE_MS: Final = 5
_CLICK: Final = 512
"""A jump between silence and a sample this large (-36 dBFS) is heard as a click."""
_LONGEST_REWIND_MS: Final = 500
_PAUSE: Final = 1.0
"""A live stream that was dry for longer than this paused; it was not too slow."""
_OPEN_LIMIT: Final = 256
"""Utterances open at once."""
_FINISHED_KEPT: Final = 1024
"""Playbacks of finished utterances that can still be asked for."""


class Playout:
    """One call's outbound audio. Times are monotonic seconds, counts are samples."""

    def __init__(self, config: MediaConfig, stats: SessionStats) -> None:
        self._config = config
        self._stats = stats
        self._rate = config.sample_rate
        self._frame = config.wire_frame_samples
        self._preroll = config.sample_rate * config.preroll_ms // 1000
        self._preroll_wait = config.preroll_wait_ms / 1000
        self._cut_fade = config.sample_rate * _CUT_FADE_MS // 1000
        self._join_fade = config.sample_rate * _JOIN_FADE_MS // 1000
        self._queue_limit = config.sample_rate * config.max_utterance_seconds
        self._silence = silence(self._frame)
        self._kept = config.sample_rate * (_LONGEST_REWIND_MS + SEARCH_MS) // 1000

        self._ledger = Ledger(config)
        self._pacer = Pacer(config, stats, self._ledger, self._next_message, self._speaks)
        self.pinged, self.answered = self._pacer.pinged, self._pacer.answered
        self._volume = Volume(config.sample_rate, config.limit_dbfs)
        self._pause: Pause | None = None
        self._open_utterances: dict[int, Utterance] = {}
        self._finished: OrderedDict[int, Playback] = OrderedDict()
        self._ending: list[Utterance] = []
        """Ended, and not yet heard to the end."""
        self._line: deque[Utterance] = deque()
        self._next_number = 1
        self._events: list[PlaybackFinished] = []

    # The mouth.

    def begin(self, *, text: str | None, interruptible: bool, live: bool) -> int:
        """Opens an utterance; its number. Raises CallStateError if too many are open."""
        if len(self._open_utterances) >= _OPEN_LIMIT:
            raise CallStateError(f"{_OPEN_LIMIT} utterances are open; end or stop some first")
        number = self._next_number
        self._next_number += 1
        self._open_utterances[number] = Utterance(
            number, text=text, interruptible=interruptible, live=live, keep=self._kept
        )
        return number

    def write(self, number: int, pcm: bytes, now: float, text: str | None) -> None:
        """Queues audio of the wire's rate; a no-op once the utterance was stopped."""
        if len(pcm) % SAMPLE_BYTES:
            raise AudioError("PCM16 audio has an even number of bytes; keep the odd one back")
        utterance = self._find(number)
        if utterance is None:
            return
        if utterance.ended:
            raise CallStateError("the utterance was ended; begin another one")
        if utterance.queued + len(pcm) // SAMPLE_BYTES > self._queue_limit:
            raise CallStateError(
                f"more than {self._config.max_utterance_seconds} s would be queued; "
                "write less at a time and wait until less is ahead"
            )
        utterance.feed(pcm if type(pcm) is bytes else bytes(pcm), text, now)
        if utterance.queued and not utterance.in_line:
            utterance.in_line = True
            self._line.append(utterance)

    def end(self, number: int) -> None:
        """Nothing more will be written; it finishes when it was heard."""
        utterance = self._find(number)
        if utterance is not None and not utterance.ended:
            utterance.ended = True
            self._ending.append(utterance)

    def stop(self, number: int) -> None:
        """Flushes what is queued, but for a short fade where it is being spoken."""
        utterance = self._find(number)
        if utterance is None:
            return
        speaking = self._pacer.open and utterance.started and utterance.starved_at is None
        pause = self._pause
        if pause is not None and pause.utterance is utterance:
            speaking = speaking and pause.fade_due
            self._pause = None
        utterance.cut(self._cut_fade if speaking and utterance.sent else 0)
        if not utterance.queued and utterance.in_line:
            self._leave_line(utterance)
        will_be_heard = utterance.sent + utterance.queued
        self._finish(utterance, max(will_be_heard, self._ledger.reach(utterance)))

    def stop_all(self) -> None:
        """Stops every open utterance, interruptible or not, and ends a pause."""
        for number in list(self._open_utterances):
            self.stop(number)
        self._pause = None

    # Turns.

    def duck(self, gain: float) -> None:
        """Everything is spoken at this gain, from 0 to 1, from the next message on."""
        self._volume.duck.target = gain

    @property
    def paused(self) -> bool:
        """Whether the line is held."""
        return self._pause is not None

    def pause(self) -> None:
        """Holds the line: a fade where it speaks, then silence. Nothing is flushed."""
        if self._pause is not None:
            return
        head = self._line[0] if self._line else None
        if head is None or not (head.started and head.queued) or head.reported:
            self._pause = Pause(None, 0, fade_due=False)
        else:
            self._pause = Pause(head, head.sent, self._pacer.open and head.sent > 0)

    def resume(self, rewind: int) -> None:
        """Goes on ``rewind`` samples before the pause, or near that, between two words."""
        pause, self._pause = self._pause, None
        utterance = None if pause is None else pause.utterance
        # A fade that was never sent interrupted nothing.
        if pause is None or utterance is None or utterance.reported or pause.fade_due:
            return
        faded = max(0, utterance.sent - pause.position)
        past = utterance.past(self._kept)
        past = past[: len(past) - faded * SAMPLE_BYTES]
        rewind = min(rewind, self._rate * _LONGEST_REWIND_MS // 1000)
        rewind = rewound_samples(past, rewind, self._rate)
        self._stats.rewound_samples += utterance.rewind(faded + rewind)
        utterance.fade_in = True
        if not utterance.in_line:
            utterance.in_line = True
            self._line.appendleft(utterance)

    @property
    def sent_until(self) -> float:
        """When the far end has played all that was sent."""
        return self._pacer.until

    def is_open(self, number: int) -> bool:
        """Whether an utterance is neither finished nor stopped."""
        return number in self._open_utterances

    def ahead_samples(self, number: int) -> int:
        """Queued and not yet sent; 0 of a finished one."""
        utterance = self._find(number)
        return 0 if utterance is None else utterance.queued

    def playback(self, number: int, now: float) -> Playback:
        """A snapshot of what the caller has heard; final once finished."""
        utterance = self._find(number)
        if utterance is None:
            return self._finished.get(number) or Playback(0, 0, interrupted=False)
        return utterance.playback(self._ledger.heard(utterance, now), self._rate)

    def speaking(self) -> tuple[int, bool] | None:
        """The utterance that is first in line and has begun, and whether it may be cut."""
        if self._line and self._line[0].started and not self._line[0].reported:
            return self._line[0].number, self._line[0].interruptible
        return None

    def drained_at(self, now: float) -> float:
        """When all that was sent will have been heard; what is queued is added at its length."""
        queued = sum(utterance.queued for utterance in self._line)
        if not queued:
            return self._ledger.speech_heard_by
        start = max(self._pacer.until, now) if self._pacer.open else now
        return self._ledger.heard_by(start, queued)

    def events(self) -> list[PlaybackFinished]:
        """Drains what happened."""
        events, self._events = self._events, []
        return events

    # The wire.

    def opened(self, now: float) -> None:
        """Starts to send, or goes on."""
        self._pacer.opened(now)

    def lost(self, now: float) -> None:
        """Stops sending. What was sent and not yet played is first in line again."""
        for utterance in self._give_back(self._pacer.lost(now)):
            utterance.fade_in = True
        if self._pause is not None:
            self._pause.fade_due = False
        # What is left of a cut utterance is its fade; after an outage there is nothing to fade.
        for utterance in [each for each in self._line if each.reported]:
            utterance.cut(0)
            self._leave_line(utterance)

    def tick(self, now: float) -> None:
        """Finishes what was heard and sends what is due."""
        self._ledger.settle(now)
        if self._ending:
            self._finish_heard()
        self._pacer.tick(now)

    def to_send(self) -> list[bytes]:
        """Drains the messages that are due, each exactly one wire frame."""
        return self._pacer.to_send()

    def unsend(self, count: int) -> None:
        """The last ``count`` messages did not go out: their audio is first in line again."""
        self._volume.take_back(count)
        pause = self._pause
        for utterance in self._give_back(self._pacer.unsend(count)):
            if pause is not None and pause.utterance is utterance:
                pause.fade_due = True  # what is given back while paused is its fade

    # The line.

    def _speaks(self, now: float) -> bool:
        """Whether the next message is more than silence."""
        return self._pause is None and self._speaker(now) is not None

    def _speaker(self, now: float) -> Utterance | None:
        """The utterance whose audio is next, if it may start."""
        line = self._line
        while line:
            head = line[0]
            if not head.queued and (head.ended or head.reported):
                self._leave_line(head)
                continue
            if head.started or self._may_start(head, now):
                return head
            return None
        return None

    def _may_start(self, utterance: Utterance, now: float) -> bool:
        starved_at = utterance.starved_at
        paused = utterance.live and starved_at is not None and now - starved_at > _PAUSE
        # A stream that fell short has a message's worth of delay in hand by its hole.
        need = self._preroll if starved_at is None or paused else self._frame
        if utterance.queued < need and not utterance.ended:
            waited = now - utterance.fed_at + _INSTANT
            if not utterance.queued or waited < self._preroll_wait:
                return False
        utterance.started = True
        utterance.starved_at = None
        if starved_at is not None:
            utterance.fade_in = True
            self._stats.underruns += not paused
        return True

    def _next_message(self, now: float, may_wait: bool) -> Message | None:
        """One wire frame; None to wait for a stream that is short."""
        utterance = self._speaker(now) if self._pause is None else self._fading(now)
        if utterance is None:
            self._volume.rest()
            return self._silence, ()
        if self._pause is not None:
            return self._fade(utterance)
        if utterance.queued >= self._frame and not utterance.fade_in:
            position = utterance.sent
            raw = utterance.take(self._frame)
            return self._volume.apply(raw), ((utterance, 0, raw, position),)
        short = utterance.queued < self._frame
        if may_wait and short and not (utterance.ended or utterance.reported):
            return None
        return self._assemble(utterance, now)

    def _fading(self, now: float) -> Utterance | None:
        """The utterance that is to fade out, as it was paused in mid-speech."""
        pause = self._pause
        if pause is None or not pause.fade_due:
            return None
        pause.fade_due = False
        # A far end that has run dry is silent already.
        return pause.utterance if self._pacer.until >= now - _INSTANT else None

    def _fade(self, utterance: Utterance) -> Message:
        position = utterance.sent
        raw = utterance.take(min(utterance.queued, self._cut_fade))
        faded = fade_out(raw, self._cut_fade) + self._silence[len(raw) :]
        return self._volume.apply(faded), ((utterance, 0, raw, position),)

    def _assemble(self, first: Utterance, now: float) -> Message:
        """A message at a seam: the end of one utterance, a hole, the start of the next."""
        pieces: list[Piece] = []
        parts: list[bytes] = []
        filled = 0
        utterance: Utterance | None = first
        while utterance is not None and filled < self._frame:
            position = utterance.sent
            raw = utterance.take(min(utterance.queued, self._frame - filled))
            part = raw
            if raw and utterance.fade_in:
                utterance.fade_in = False
                if peak(raw[: self._join_fade]) > _CLICK:
                    part = fade_in(raw, self._join_fade)
            if filled + len(raw) // SAMPLE_BYTES < self._frame:
                if not (utterance.ended or utterance.reported):
                    self._starve(utterance, now)
                if peak(part[-SAMPLE_BYTES:]) > _CLICK and not utterance.ended:
                    part = fade_out(part, self._join_fade)
            if raw:
                pieces.append((utterance, filled, raw, position))
                parts.append(part)
                filled += len(raw) // SAMPLE_BYTES
            utterance = self._speaker(now) if filled < self._frame else None
        parts.append(silence(self._frame - filled))
        return self._volume.apply(b"".join(parts)), tuple(pieces)

    def _starve(self, utterance: Utterance, now: float) -> None:
        utterance.started = False
        utterance.starved_at = now
        if utterance.live:
            self._leave_line(utterance)

    def _leave_line(self, utterance: Utterance) -> None:
        utterance.in_line = False
        self._line.remove(utterance)

    def _give_back(self, pieces: list[Piece]) -> list[Utterance]:
        """Speech that did not go out, newest first, is next again; whose it is."""
        owners: list[Utterance] = []
        for utterance, _, raw, position in pieces:
            if not utterance.give_back(raw, position):
                continue
            if utterance.in_line:
                self._line.remove(utterance)
            utterance.in_line = True
            self._line.appendleft(utterance)
            owners.append(utterance)
        return owners

    # The end of an utterance.

    def _find(self, number: int) -> Utterance | None:
        """An open utterance, None for a finished one. Raises CallStateError for neither."""
        utterance = self._open_utterances.get(number)
        if utterance is None and not 0 < number < self._next_number:
            raise CallStateError(f"there is no utterance {number}")
        return utterance

    def _finish_heard(self) -> None:
        for utterance in list(self._ending):
            if not (utterance.queued or self._ledger.holds(utterance)):
                if utterance.in_line:
                    self._leave_line(utterance)
                self._finish(utterance, utterance.heard)

    def _finish(self, utterance: Utterance, heard: int) -> None:
        utterance.reported = True
        del self._open_utterances[utterance.number]
        if utterance in self._ending:
            self._ending.remove(utterance)
        missing = utterance.written - utterance.sent - utterance.queued - utterance.flushed
        self._stats.lost += -(-missing // self._frame)
        playback = utterance.playback(heard, self._rate)
        self._finished[utterance.number] = playback
        if len(self._finished) > _FINISHED_KEPT:
            self._finished.popitem(last=False)
        self._events.append(PlaybackFinished(utterance.number, playback))
