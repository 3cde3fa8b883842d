"""The ledger: what became of every sample that was written.

The rule: a sample belongs to one utterance and is queued, sent or flushed; what was sent is
played at an instant fixed by the message it went into, and heard ``path_delay`` later. What
the caller has heard, the text of it, the end of an utterance and the place to resume from
are all read here, never from a wall clock.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from voicebridge.core.config import SAMPLE_BYTES
from voicebridge.core.utterance import Utterance

if TYPE_CHECKING:
    from voicebridge.core.config import MediaConfig

__all__ = ["Ledger", "Piece", "Sent", "Utterance"]

Piece = tuple[Utterance, int, bytes, int]
"""An utterance's audio in a message: whose, from which sample of the message on, as it was
written (without fades and gains), and its position in the utterance."""


class Sent:
    """One message on the grid: when it plays, what it holds, and how its send is counted."""

    __slots__ = ("dry", "heard_by", "late_ms", "lead_ms", "pieces", "play_at")

    def __init__(
        self,
        play_at: float,
        heard_by: float,
        pieces: tuple[Piece, ...],
        late_ms: float,
        lead_ms: float,
        dry: float,
    ) -> None:
        self.play_at = play_at
        self.heard_by = heard_by
        """The instant its last sample of speech is heard; of a silent one, just any."""
        self.pieces = pieces
        self.late_ms = late_ms
        self.lead_ms = lead_ms
        self.dry = dry
        """For how long the far end had had nothing to play when it came; seconds."""


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
        for utterance, _, raw, position in sent.pieces:
            end = position + len(raw) // SAMPLE_BYTES
            if end > utterance.heard:
                utterance.heard = end
            self._speech_heard_by = sent.heard_by

    def heard(self, utterance: Utterance, now: float) -> int:
        """How far an utterance has been heard by now."""
        heard = utterance.heard
        for sent in self._sent:
            played = self._position(now - self._path_delay - sent.play_at)
            for owner, offset, raw, position in sent.pieces:
                if owner is utterance and played > offset:
                    end = position + min(played - offset, len(raw) // SAMPLE_BYTES)
                    heard = max(heard, end)
        return heard

    def reach(self, utterance: Utterance) -> int:
        """How far an utterance will have been heard when all that was sent is."""
        reach = utterance.heard
        for sent in self._sent:
            for owner, _, raw, position in sent.pieces:
                if owner is utterance:
                    reach = max(reach, position + len(raw) // SAMPLE_BYTES)
        return reach

    def holds(self, utterance: Utterance) -> bool:
        """Whether anything of an utterance is sent and not yet heard."""
        return any(owner is utterance for sent in self._sent for owner, _, _, _ in sent.pieces)

    def take_back(self, count: int) -> list[Sent]:
        """The last ``count`` messages were not sent: newest first, off the account."""
        return [self._sent.pop() for _ in range(min(count, len(self._sent)))]

    def rewind(self, now: float) -> list[Piece]:
        """Takes what was sent and is not played by now off the account, newest first."""
        unplayed: list[Piece] = []
        for sent in reversed(self._sent):
            played_samples = self._position(now - sent.play_at)
            played: list[Piece] = []
            lost: list[Piece] = []
            for utterance, offset, raw, position in sent.pieces:
                split = min(max(0, played_samples - offset), len(raw) // SAMPLE_BYTES)
                cut = split * SAMPLE_BYTES
                if split:
                    played.append((utterance, offset, raw[:cut], position))
                if cut < len(raw):
                    lost.append((utterance, offset, raw[cut:], position + split))
            if not lost:
                continue
            unplayed += reversed(lost)
            sent.pieces = tuple(played)
            ends = [offset + len(raw) // SAMPLE_BYTES for _, offset, raw, _ in played]
            sent.heard_by = self.heard_by(sent.play_at, max(ends, default=0))
        return unplayed

    def _position(self, seconds: float) -> int:
        """Samples played after so long; negative before."""
        return round(seconds * self._rate)
