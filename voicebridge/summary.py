"""One call for people and metrics: numbers masked, words cleaned, nothing secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from voicebridge.core.lifecycle import State
from voicebridge.logs import redact

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from voicebridge.leg import Leg

#: Reasons of the label ``result``; a bot's own words become ``hangup``.
RESULTS = frozenset(
    {
        "bot", "bot_error", "caller", "completed", "deaf", "duplicate", "error", "failed",
        "max_duration", "media_lost", "media_refused", "media_unavailable",
        "media_unsupported", "missed", "no_answer", "not_ringing", "operator", "rejected",
        "shutdown", "silence", "taken", "unanswered", "unconfirmed",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CallSummary:
    """One call for people: numbers masked, no secrets."""

    id: str
    external_id: str | None
    direction: str
    state: str
    bot: str
    caller: str | None
    called: str | None
    started_at: datetime
    duration_seconds: float
    reason: str | None
    answer_ms: int | None
    first_audio_ms: int | None
    reconnects: int
    frames: Mapping[str, int]
    lead_ms: Mapping[str, float]

    def as_dict(self) -> dict[str, object]:
        """JSON-ready."""
        values: dict[str, object] = {name: getattr(self, name) for name in self.__slots__}
        values["started_at"] = self.started_at.isoformat()
        values["frames"] = dict(self.frames)
        values["lead_ms"] = dict(self.lead_ms)
        return values


def mask(number: str | None) -> str | None:
    """A phone number as people may see it: its last two digits."""
    return None if number is None else "…" + number[-2:]


def summarise(leg: Leg, now: float) -> CallSummary:
    """What is known of a leg at an instant of its clock."""
    times, line = leg.times, leg.line
    stats = line.session.stats
    end = times.ended if times.ended is not None else now
    return CallSummary(
        id=leg.facts.id,
        external_id=leg.facts.external_id,
        direction=leg.facts.direction,
        state=State.ENDED if times.ended is not None else leg.lifecycle.state,
        bot=leg.bot_name,
        caller=mask(leg.facts.caller),
        called=mask(leg.facts.called),
        started_at=leg.facts.started_at,
        duration_seconds=round(end - times.signalled, 3),
        reason=None if leg.reason is None else redact(leg.reason),
        answer_ms=_ms(times.signalled, times.accepted),
        first_audio_ms=_ms(times.signalled, line.first_audio_at),
        reconnects=line.reconnects,
        frames={
            "sent": stats.frames_sent,
            "received": stats.frames_received,
            "late": stats.late,
            "lost": stats.lost,
        },
        lead_ms={"mean": round(stats.lead_ms_mean, 1), "max": round(stats.lead_ms_max, 1)},
    )


def result_of(reason: str | None) -> str:
    """The reason as a label: one of a bounded set."""
    return reason if reason in RESULTS else "hangup"


def _ms(start: float, end: float | None) -> int | None:
    return None if end is None else round((end - start) * 1000)
