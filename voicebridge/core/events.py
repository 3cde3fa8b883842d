"""What a session tells, and what ``call.events()`` yields: frozen facts, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Playback:
    """What became of one utterance.

    ``heard_ms`` is what reached the caller's ear by the ledger, ``total_ms`` what was
    written. ``heard_text`` is the part of the text that was heard, None without text.
    """

    heard_ms: int
    total_ms: int
    interrupted: bool
    heard_text: str | None = None


@dataclass(frozen=True, slots=True)
class PlaybackFinished:
    """An utterance was heard to its end, or cut."""

    utterance: int
    playback: Playback


@dataclass(frozen=True, slots=True)
class DtmfReceived:
    """The caller pressed a key; ``at_ms`` is call time."""

    digit: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class MediaLost:
    """The media socket is gone; audio is queued until it is back."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class MediaRestored:
    """The media socket is back after ``gap_ms`` without audio."""

    at_ms: int
    gap_ms: int


@dataclass(frozen=True, slots=True)
class Hangup:
    """The call is over; always the last event."""

    reason: str


Event = PlaybackFinished | DtmfReceived | MediaLost | MediaRestored | Hangup
