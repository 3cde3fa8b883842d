"""One call as the provider keeps it: its record, its way through the statuses, its log.

The one rule: a terminal status is never left, whatever comes later.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from datetime import datetime

    from voicebridge.emulator.behaviour import Behaviour
    from voicebridge.emulator.farend import FarEnd
    from voicebridge.emulator.tape import Pcm

__all__ = ["TERMINAL", "CallStatus", "Direction", "EmulatedCall", "Kind", "MediaLine", "iso"]

Kind = Literal["EVO_GO", "META"]
Direction = Literal["INBOUND", "OUTBOUND"]
CallStatus = Literal[
    "INITIATED", "RINGING", "ACCEPTED", "REJECTED", "COMPLETED", "FAILED", "MISSED"
]
TERMINAL: frozenset[CallStatus] = frozenset({"REJECTED", "COMPLETED", "FAILED", "MISSED"})

_MAX_TIMELINE = 1_000


class MediaLine(Protocol):
    """An open media socket, as the call sees it."""

    def wake(self) -> None:
        """The call connected: audio is due from now on."""

    def call_over(self) -> None:
        """The call ended: say so and close."""

    def evict(self) -> None:
        """A newer socket has taken over: close."""

    def send(self, audio: bytes) -> None:
        """One message of the caller's audio for the bridge."""


def iso(at: datetime | None) -> str | None:
    """``2026-07-03T15:00:00.000Z``, the API's form of an instant."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(eq=False)
class EmulatedCall:
    """``peer`` and ``own`` are E.164 with ``+``; ``timeline`` holds (monotonic, what, detail).

    What happens on the timeline: ``created``, ``webhook`` and ``webhook_answered`` (detail:
    event, status), ``accept``, ``realtime_session``, ``media_open``, ``connected``,
    ``first_audio`` (the bridge's first message), ``first_sound`` (its first that is not
    silent), ``media_closed``, ``play``, ``ended`` (detail: status and reason).
    """

    id: str
    external_id: str | None
    direction: Direction
    peer: str
    own: str
    created_at: datetime
    created: float
    behaviour: Behaviour
    far_end: FarEnd
    status: CallStatus
    callback_data: str | None = None
    sdp_offer: str | None = None
    sdp_answer: str | None = None
    accepted: float | None = None
    connected: float | None = None
    connected_at: datetime | None = None
    ended_at: datetime | None = None
    updated_at: datetime | None = None
    reason: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    plays: list[str] = field(default_factory=list)
    timeline: list[tuple[float, str, str]] = field(default_factory=list)
    lines: list[MediaLine] = field(default_factory=list)
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    media_opened: float | None = None
    cuts_done: int = 0
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    def __repr__(self) -> str:  # numbers are personal
        return f"EmulatedCall({self.id}, {self.direction}, {self.status})"

    @property
    def over(self) -> bool:
        return self.status in TERMINAL

    @property
    def duration_seconds(self) -> int | None:
        """Whole seconds between connection and end; None where it never connected."""
        if self.connected_at is None or self.ended_at is None:
            return None
        return round((self.ended_at - self.connected_at).total_seconds())

    async def ended(self) -> None:
        """Wait until the call is over."""
        await self._over.wait()

    def say(self, audio: Pcm) -> None:
        """Let the caller say ``audio`` (16 kHz) now; not heard before the call connected."""
        self.far_end.say(audio, asyncio.get_running_loop().time())

    def note(self, at: float, what: str, detail: str = "") -> None:
        if len(self.timeline) < _MAX_TIMELINE:
            self.timeline.append((at, what, detail))

    def when(self, what: str) -> float | None:
        """The instant of the first ``what`` on the timeline."""
        return next((at for at, name, _ in self.timeline if name == what), None)

    def move(self, status: CallStatus, utc: datetime) -> bool:
        """Take up ``status``; False, and nothing changed, where the call is already over."""
        if self.over:
            return False
        self.status = status
        self.updated_at = utc
        if status in TERMINAL:
            self.ended_at = utc
            for timer in self.timers:
                timer.cancel()
            self.timers.clear()
            self._over.set()
        return True

    def as_dto(self, *, include_sdp: bool = False) -> dict[str, Any]:
        """The API's call object; its numbers carry no ``+``."""
        caller = self.peer if self.direction == "INBOUND" else self.own
        dto: dict[str, Any] = {
            "id": self.id,
            "externalCallId": self.external_id,
            "direction": self.direction,
            "status": self.status,
            "peerNumber": self.peer.lstrip("+"),
            "fromNumber": caller.lstrip("+"),
            "conversationId": None,
            "bizOpaqueCallbackData": self.callback_data,
            "startedAt": iso(self.created_at),
            "connectedAt": iso(self.connected_at),
            "endedAt": iso(self.ended_at),
            "durationSeconds": self.duration_seconds,
            "errorCode": self.error_code,
            "errorMessage": self.error_message,
            "createdAt": iso(self.created_at),
            "updatedAt": iso(self.updated_at or self.created_at),
        }
        if include_sdp:
            dto |= {"sdpOffer": self.sdp_offer, "sdpAnswer": self.sdp_answer}
        return dto
