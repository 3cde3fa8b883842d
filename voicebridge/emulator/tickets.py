"""Tokens for the media socket: one use, a short life, spent by any attempt.

The one rule: an attempt spends the token even where the handshake is then refused, as the
public relatives of the media host do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit

if TYPE_CHECKING:
    from voicebridge.emulator.calls import EmulatedCall
    from voicebridge.emulator.ids import Ids

__all__ = ["MEDIA_PATH", "Mode", "Ticket", "Tickets", "Verdict"]

MEDIA_PATH = "/call/media/realtime/ws"
Mode = Literal["talk", "listen"]
Fault = Literal["hang", "reset"]
Verdict = int | Fault
"""Why a handshake fails: a status, no answer at all, or a cut connection."""

_KEPT = 10_000


@dataclass(slots=True, repr=False)
class Ticket:
    """What one ``realtime-session`` gave; ``expires`` is monotonic."""

    token: str
    call: EmulatedCall
    mode: Mode
    expires: float
    used: bool = False


class Tickets:
    """All tokens of one emulator; the oldest are forgotten beyond 10,000."""

    def __init__(self, ids: Ids, instance: str) -> None:
        self._ids = ids
        self._instance = instance
        self._tickets: dict[str, Ticket] = {}

    def issue(self, call: EmulatedCall, mode: Mode, expires: float) -> Ticket:
        ticket = Ticket(self._ids.token(), call, mode, expires)
        self._tickets[ticket.token] = ticket
        if len(self._tickets) > _KEPT:
            del self._tickets[next(iter(self._tickets))]
        return ticket

    def url(self, base: str, ticket: Ticket, shape: Literal["query", "path"]) -> str:
        """The ``wsUrl`` on the media host ``base`` (``ws://host:port``)."""
        path = MEDIA_PATH
        if shape == "path":
            path += f"/{quote(self._instance)}/{quote(ticket.call.external_id or ticket.call.id)}"
        return f"{base}{path}?token={ticket.token}"

    def redeem(self, target: str, now: float, *, reusable: bool = False) -> Ticket | int:
        """The ticket of a request target, or the HTTP status that refuses it."""
        parts = urlsplit(target)
        if parts.path != MEDIA_PATH and not parts.path.startswith(MEDIA_PATH + "/"):
            return 404
        ticket = self._tickets.get(parse_qs(parts.query).get("token", [""])[0])
        if ticket is None:
            return 401
        reused, ticket.used = ticket.used, True
        if reused:
            ticket.call.far_end.tokens_reused += 1
        if (reused and not reusable) or now > ticket.expires:
            return 401
        rest = parts.path.removeprefix(MEDIA_PATH).strip("/")
        if rest and unquote(rest.rpartition("/")[2]) not in (
            ticket.call.external_id,
            ticket.call.id,
        ):
            return 404
        return 410 if ticket.call.over else ticket
