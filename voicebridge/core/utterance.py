"""One utterance: what was written of it, where it stands, and what of its text was heard.

The rule: a sample is known by its position, and is queued, sent or flushed. One that is
rewound is queued again, and what was heard of it stays heard: hearing it twice counts once.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from voicebridge.core.audio import fade_out, ms_of
from voicebridge.core.config import SAMPLE_BYTES
from voicebridge.core.events import Playback

__all__ = ["Utterance"]

_MS_PER_CHARACTER: Final = 65
"""Speech at 15 characters a second: how long an announced text will at least be taken to
last while its audio is still being made, so that too much is not claimed as heard."""

_SENTENCE_ENDS: Final = ".!?…:;,"


class Utterance:
    """What one ``begin()`` opened. Counts are samples; ``sent + queued + flushed == written``."""

    __slots__ = (
        "_announced",
        "_chunks",
        "_keep",
        "_kept",
        "_offset",
        "_past",
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

    def __init__(
        self, number: int, *, text: str | None, interruptible: bool, live: bool, keep: int = 0
    ) -> None:
        self.number = number
        self.interruptible = interruptible
        self.live = live
        self.written = self.queued = self.sent = self.flushed = 0
        self.heard = 0
        """How far the caller has heard it: a position, and so at most what was ever sent."""
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
        self._past: deque[tuple[int, bytes]] = deque()
        """What was taken last and from where on, to be rewound: ``keep`` samples, and a bit."""
        self._keep = keep
        self._kept = 0
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
        taken = self._take(samples * SAMPLE_BYTES)
        if samples and self._keep:
            past = self._past
            past.append((self.sent, taken))
            self._kept += samples
            while self._kept - len(past[0][1]) // SAMPLE_BYTES >= self._keep:
                self._kept -= len(past.popleft()[1]) // SAMPLE_BYTES
        self.queued -= samples
        self.sent += samples
        return taken

    def _take(self, need: int) -> bytes:
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

    def give_back(self, pcm: bytes, position: int) -> bool:
        """What was taken from ``position`` on was not sent after all, and nor was what follows.

        It is next again, or flushed if cut. False where it was rewound meanwhile and so is
        next anyway.
        """
        samples = min(len(pcm) // SAMPLE_BYTES, self.sent - position)
        if samples <= 0:
            return False
        if self.reported:
            self.sent -= samples
            self.flushed += samples
            return True
        self._requeue(pcm[: samples * SAMPLE_BYTES])
        return True

    def past(self, samples: int) -> bytes:
        """The last samples sent, up to so many and as far as they are kept."""
        parts: list[bytes] = []
        for _, raw in reversed(self._past):
            if samples <= 0:
                break
            parts.append(raw[-samples * SAMPLE_BYTES :])
            samples -= len(raw) // SAMPLE_BYTES
        return b"".join(reversed(parts))

    def rewind(self, samples: int) -> int:
        """The last ``samples`` sent (of those kept) are queued again; how many."""
        again = self.past(samples)
        if again:
            self._requeue(again)
        return len(again) // SAMPLE_BYTES

    def _requeue(self, pcm: bytes) -> None:
        """What was taken last is next again."""
        if self._offset:
            self._chunks[0] = self._chunks[0][self._offset :]
            self._offset = 0
        self._chunks.appendleft(pcm)
        samples = len(pcm) // SAMPLE_BYTES
        self.queued += samples
        self.sent -= samples
        past = self._past
        while past and past[-1][0] + len(past[-1][1]) // SAMPLE_BYTES > self.sent:
            position, raw = past.pop()
            self._kept -= len(raw) // SAMPLE_BYTES
            if position < self.sent:
                raw = raw[: (self.sent - position) * SAMPLE_BYTES]
                past.append((position, raw))
                self._kept += len(raw) // SAMPLE_BYTES

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
                # Its last word ends with its audio: a space after that takes no time to say.
                spoken = len(whole.rstrip()) - before
                share = max(0, spoken) * (heard - start) // (end - start)
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
