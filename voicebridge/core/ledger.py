"""The ledger: what became of every sample that was written.

The rule: a sample belongs to one utterance and is queued, sent or flushed; what was sent is
played at an instant fixed by the message it went into, and heard ``path_delay`` later. What
the caller has heard, the text of it, the end of an utterance and the place to resume from
are all read here, never from a wall clock.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from voicebridge.core.audio import fade_out, ms_of
from voicebridge.core.config import SAMPLE_BYTES, MediaConfig
from voicebridge.core.events import Playback

__all__ = ["Ledger", "Piece", "Sent", "Utterance"]

_MS_PER_CHARACTER: Final = 65
"""Speech at 15 characters a second: how long an announced text will at least be taken to
last while its audio is still being made, so that too much is not claimed as heard."""

_SENTENCE_ENDS: Final = ".!?…:;,"


class Utterance:
    """What one ``begin()`` opened. Counts are samples; ``sent + queued + flushed == written``."""

    __slots__ = (
        "_announced",
        "_chunks",
        "_offset",
        "_pending_text",
        "_texts",
        "ended",
        "fade_in",
        "fed_at",
        "flushed",
        "heard",
        "in_line",
        "interruptible",
        "live",
        "number",
        "queued",
        "reported",
        "sent",
        "started",
        "starved_at",
        "written",
    )

    def __init__(self, number: int, *, text: str | None, interruptible: bool, live: bool) -> None:
        self.number = number
        self.interruptible = interruptible
        self.live = live
        self.written = self.queued = self.sent = self.flushed = self.heard = 0
        self.ended = False
        self.reported = False
        """Its PlaybackFinished was told; nothing more may come of it."""
        # Where it stands in the playout.
        self.in_line = False
        self.started = False
        self.fed_at = 0.0
        """When audio came into its empty queue."""
        self.starved_at: float | None = None
        self.fade_in = False
        """Its next sample does not follow the one before it on the wire."""
        self._chunks: deque[bytes] = deque()
        self._offset = 0
        """Bytes of the first chunk that are taken already."""
        self._announced = text
        self._texts: list[tuple[int, str]] = []
        """Text given with audio, and the position at which it begins."""
        self._pending_text = ""

    def feed(self, pcm: bytes, text: str | None, now: float) -> None:
        """Queues audio; text without audio waits for the next audio."""
        if text and not self.live:
            self._pending_text = _joined(self._pending_text, text)
        if not pcm:
            return
        if self._pending_text:
            self._texts.append((self.written, self._pending_text))
            self._pending_text = ""
        if not self.queued:
            self.fed_at = now
        samples = len(pcm) // SAMPLE_BYTES
        self.written += samples
        self.queued += samples
        self._chunks.append(pcm)

    def take(self, samples: int) -> bytes:
        """Takes the next ``samples`` queued ones, to be sent."""
        self.queued -= samples
        self.sent += samples
        need = samples * SAMPLE_BYTES
        chunks = self._chunks
        if need and not self._offset and len(chunks[0]) == need:
            return chunks.popleft()
        parts = []
        while need:
            chunk = chunks[0]
            offset = self._offset
            if len(chunk) - offset > need:
                parts.append(chunk[offset : offset + need])
                # An offset, not a slice: a minute in one chunk must not be copied per frame.
                self._offset = offset + need
                break
            parts.append(chunk[offset:] if offset else chunk)
            need -= len(chunk) - offset
            chunks.popleft()
            self._offset = 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def give_back(self, pcm: bytes) -> None:
        """What was taken was not sent after all: it is next again, or flushed if cut."""
        samples = len(pcm) // SAMPLE_BYTES
        self.sent -= samples
        if self.reported:
            self.flushed += samples
            return
        if self._offset:
            self._chunks[0] = self._chunks[0][self._offset :]
            self._offset = 0
        self._chunks.appendleft(pcm)
        self.queued += samples

    def cut(self, tail: int) -> None:
        """Flushes what is queued but for ``tail`` samples, which fade out."""
        tail = min(tail, self.queued)
        ending = fade_out(self.take(tail), tail)
        self.sent -= tail
        self.flushed += self.queued
        self._chunks.clear()
        self._offset = 0
        self.queued = tail
        if tail:
            self._chunks.append(ending)

    def playback(self, heard: int, rate: int) -> Playback:
        """What has become of it if ``heard`` samples were heard."""
        return Playback(
            heard_ms=ms_of(heard, rate),
            total_ms=ms_of(self.written, rate),
            interrupted=self.flushed > 0 or (self.reported and not self.ended),
            heard_text=self._heard_text(heard, rate),
        )

    def _heard_text(self, heard: int, rate: int) -> str | None:
        """The words that were heard to their end.

        Text given with audio begins where that audio begins and lasts to the next text.
        A text given at the start lasts as long as the audio, or longer while more may come.
        """
        if self.live:
            return None
        texts = self._texts
        if self._pending_text and self.ended:
            # No audio followed it: it belongs to the audio before it.
            start, text = texts[-1] if texts else (0, "")
            texts = [*texts[:-1], (start, _joined(text, self._pending_text))]
        if not texts:
            return self._heard_of_announced(heard, rate)
        whole = ""
        heard_length = 0
        ends = [start for start, _ in texts[1:]] + [self.written]
        for (start, text), end in zip(texts, ends, strict=True):
            before = len(whole)
            whole = _joined(whole, text)
            if heard >= end:
                heard_length = len(whole)
            elif heard > start:
                share = (len(whole) - before) * (heard - start) // (end - start)
                heard_length = before + share
        return _words(whole, heard_length, 1)

    def _heard_of_announced(self, heard: int, rate: int) -> str | None:
        text = self._announced
        if text is None:
            return None
        total = self.written
        if not self.ended:
            total = max(total, len(text) * _MS_PER_CHARACTER * rate // 1000)
        return _words(text, len(text) * heard, total)


def _joined(left: str, right: str) -> str:
    """Texts follow one another as they are; a missing space after a sentence is put in."""
    if left and left[-1] in _SENTENCE_ENDS and right[:1].isalpha():
        return f"{left} {right}"
    return left + right


def _words(text: str, numerator: int, denominator: int) -> str:
    """The first ``numerator / denominator`` characters, less a word that is not whole."""
    if denominator <= 0:
        return ""
    length = numerator // denominator
    if length >= len(text):
        return text
    if not text[length].isspace():
        # Scripts from U+2E80 on (Chinese, Japanese) put no spaces between words.
        while length and not text[length - 1].isspace() and text[length - 1] < "\u2e80":
            length -= 1
    return text[:length].rstrip()


Piece = tuple[Utterance, int, bytes]
"""An utterance's audio in a message: whose, from which sample of the message on, and raw."""


class Sent:
    """One message on the grid: when it plays, what it holds, and how its send is counted."""

    __slots__ = ("heard_by", "late_ms", "lead_ms", "pieces", "play_at")

    def __init__(
        self,
        play_at: float,
        heard_by: float,
        pieces: tuple[Piece, ...],
        late_ms: float,
        lead_ms: float,
    ) -> None:
        self.play_at = play_at
        self.heard_by = heard_by
        """The instant its last sample of speech is heard; of a silent one, just any."""
        self.pieces = pieces
        self.late_ms = late_ms
        self.lead_ms = lead_ms


class Ledger:
    """The messages sent and not yet heard: a handful, whatever the length of the call."""

    def __init__(self, config: MediaConfig) -> None:
        self._rate = config.sample_rate
        self._path_delay = config.path_delay_ms / 1000
        self._sent: deque[Sent] = deque()
        self._speech_heard_by = float("-inf")

    @property
    def speech_heard_by(self) -> float:
        """The instant by which all speech sent so far is heard."""
        for sent in reversed(self._sent):
            if sent.pieces:
                return sent.heard_by
        return self._speech_heard_by

    def heard_by(self, play_at: float, samples: int) -> float:
        """When the first ``samples`` samples of a message that plays then are heard."""
        return play_at + samples / self._rate + self._path_delay

    def record(self, sent: Sent) -> None:
        """A message was cut and counts as sent."""
        self._sent.append(sent)

    def settle(self, now: float) -> None:
        """Closes the account of messages that were heard."""
        entries = self._sent
        while entries and entries[0].heard_by <= now:
            self._count_heard(entries.popleft())

    def _count_heard(self, sent: Sent) -> None:
        for utterance, _, raw in sent.pieces:
            utterance.heard += len(raw) // SAMPLE_BYTES
            self._speech_heard_by = sent.heard_by

    def heard(self, utterance: Utterance, now: float) -> int:
        """Samples of an utterance that have been heard by now."""
        total = utterance.heard
        for sent in self._sent:
            position = self._position(now - self._path_delay - sent.play_at)
            for owner, offset, raw in sent.pieces:
                if owner is utterance:
                    total += min(max(0, position - offset), len(raw) // SAMPLE_BYTES)
        return total

    def take_back(self, count: int) -> list[Sent]:
        """The last ``count`` messages were not sent: newest first, off the account."""
        return [self._sent.pop() for _ in range(min(count, len(self._sent)))]

    def rewind(self, now: float) -> list[Piece]:
        """Takes what was sent and is not played by now off the account, newest first."""
        unplayed: list[Piece] = []
        for sent in reversed(self._sent):
            position = self._position(now - sent.play_at)
            played: list[Piece] = []
            lost: list[Piece] = []
            for utterance, offset, raw in sent.pieces:
                split = min(max(0, position - offset) * SAMPLE_BYTES, len(raw))
                if split:
                    played.append((utterance, offset, raw[:split]))
                if split < len(raw):
                    lost.append((utterance, offset, raw[split:]))
            if not lost:
                continue
            unplayed += reversed(lost)
            sent.pieces = tuple(played)
            end = max((offset + len(raw) // SAMPLE_BYTES for _, offset, raw in played), default=0)
            sent.heard_by = self.heard_by(sent.play_at, end)
        return unplayed

    def _position(self, seconds: float) -> int:
        """Samples played after so long; negative before."""
        return round(seconds * self._rate)
