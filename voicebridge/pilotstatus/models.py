"""What the Pilot Status API and its webhooks say, as types.

One rule: be strict in what is needed to carry a call, tolerant in everything else. An
unknown status or direction becomes None with a warning, the text as received stays in
``raw_status``; unknown fields are ignored. Phone numbers, tokens, SDP and payloads are
hidden from ``repr``.

Sources: https://docs.pilotstatus.com.br/api/calls/endpoints (calls),
https://docs.pilotstatus.com.br/api/webhooks/configure (webhooks). Meta's calling
settings, permissions and account notices are in ``calling`` and ``notices`` and are
exported from here too.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003 - pydantic and dataclasses read annotations
from enum import StrEnum
from typing import Annotated, Any, Self, TypeVar

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from voicebridge.pilotstatus.calling import (
    CallHours,
    CallIcons,
    CallingRestriction,
    CallingSettings,
    CallingSettingsUpdate,
    CallPermission,
    HolidayOverride,
    OperatingHours,
    PermissionAction,
    PermissionLimit,
    PermissionRequest,
    PermissionStatus,
)
from voicebridge.pilotstatus.fields import Count, Dto, Instant, Phone, Text, phone_digits
from voicebridge.pilotstatus.notices import AccountNotice, NoticeKind, Violation

__all__ = [
    "AccountNotice",
    "CallAction",
    "CallDetails",
    "CallEvent",
    "CallEventKind",
    "CallHours",
    "CallIcons",
    "CallPermission",
    "CallStatus",
    "CallingRestriction",
    "CallingSettings",
    "CallingSettingsUpdate",
    "Direction",
    "HolidayOverride",
    "InitiatedCall",
    "NoticeKind",
    "OperatingHours",
    "PermissionAction",
    "PermissionLimit",
    "PermissionRequest",
    "PermissionStatus",
    "RealtimeSession",
    "Violation",
    "Webhook",
    "WebhookLogEntry",
    "phone_digits",
]

_E = TypeVar("_E", bound=StrEnum)

_log = logging.getLogger(__name__)
_SPEAKABLE = re.compile(r"[A-Za-z_][A-Za-z_.\-]{0,39}")


def _speakable(value: object) -> str:
    """The value if it is a plain word, so that nothing private reaches a log through it."""
    return value if isinstance(value, str) and _SPEAKABLE.fullmatch(value) else "(unreadable)"


class CallStatus(StrEnum):
    """Where a call stands; the last four never change again."""

    INITIATED = "INITIATED"
    RINGING = "RINGING"
    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    MISSED = "MISSED"

    @property
    def terminal(self) -> bool:
        return self in _TERMINAL

    @classmethod
    def parse(cls, value: object) -> Self | None:
        """The status of any spelling of its case; None with a warning if it is unknown."""
        return _member(cls, value, "call status")


_TERMINAL = frozenset(
    {CallStatus.REJECTED, CallStatus.COMPLETED, CallStatus.FAILED, CallStatus.MISSED}
)


class Direction(StrEnum):
    """Who called: INBOUND is the customer, OUTBOUND is us."""

    INBOUND = "INBOUND"
    OUTBOUND = "OUTBOUND"

    @classmethod
    def parse(cls, value: object) -> Self | None:
        """The direction of any spelling of its case; None with a warning if it is unknown."""
        return _member(cls, value, "call direction")


def _member(kind: type[_E], value: object, what: str) -> _E | None:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return kind(value.strip().upper())
        except ValueError:
            pass
    _log.warning("unknown %s %s: kept, not acted upon", what, _speakable(value))
    return None


Status = Annotated[CallStatus | None, BeforeValidator(CallStatus.parse)]


class _WithStatus(Dto):
    """An object with a call's ``status``, and ``raw_status``: the same as received."""

    id: str
    status: Status = None
    raw_status: str | None = None

    @field_validator("id", mode="before")
    @classmethod
    def _readable_id(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("id")
    @classmethod
    def _present_id(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("the id is empty")
        return value

    @model_validator(mode="before")
    @classmethod
    def _keep_raw_status(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("status"), str):
            named = {"rawStatus", "raw_status"} & data.keys()
            return data if named else {"rawStatus": str(data["status"]), **data}
        return data


class CallDetails(_WithStatus):
    """One call as ``GET /v1/calls/{id}`` shows it; all but ``id`` may be missing.

    ``peer_number`` and ``from_number`` are digits only. ``connected_at`` is the best
    pollable proof that the call connected; ``duration_seconds`` exists only if it was
    answered. The SDPs exist only on Meta numbers and on request.
    """

    external_call_id: Text = None
    direction: Annotated[Direction | None, BeforeValidator(Direction.parse)] = None
    peer_number: Phone = Field(default=None, repr=False)
    from_number: Phone = Field(default=None, repr=False)
    conversation_id: Text = None
    biz_opaque_callback_data: Text = Field(default=None, repr=False)
    started_at: Instant = None
    connected_at: Instant = None
    ended_at: Instant = None
    duration_seconds: Count = None
    error_code: Text = None
    error_message: Text = Field(default=None, repr=False)
    created_at: Instant = None
    updated_at: Instant = None
    sdp_offer: Text = Field(default=None, repr=False)
    sdp_answer: Text = Field(default=None, repr=False)

    @property
    def terminal(self) -> bool:
        """The call is over for certain; an unknown status is not."""
        return self.status is not None and self.status.terminal


class CallAction(_WithStatus):
    """The answer to accept, pre-accept, reject, terminate and play."""

    success: bool = True


class InitiatedCall(_WithStatus):
    """A call that was placed; the provider's own id may come later."""

    external_call_id: Text = None


class RealtimeSession(Dto):
    """A media socket's address: opaque, single use, valid for about two minutes.

    ``expires_in_seconds`` is None where the API gave nothing usable (missing, a word,
    0, negative); the session is then used at once like any other. ``token`` is part of
    ``ws_url`` already and is not needed.
    """

    ws_url: SecretStr
    token: SecretStr | None = None
    expires_in_seconds: Count = None

    @field_validator("ws_url")
    @classmethod
    def _present_url(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().strip():
            raise ValueError("wsUrl is empty")
        return value

    @field_validator("token", mode="before")
    @classmethod
    def _readable_token(cls, value: object) -> object:
        return value if isinstance(value, (str, SecretStr)) and value else None

    @field_validator("expires_in_seconds")
    @classmethod
    def _positive_lifetime(cls, value: int | None) -> int | None:
        return value or None


class Webhook(Dto):
    """A webhook subscription; its signing secret is never returned by the API.

    An empty ``events`` delivers nothing, ``"*"`` everything. Events that the number's
    provider cannot emit are dropped from a subscription without an error: compare.
    """

    id: str = Field(min_length=1)
    url: str = Field(default="", repr=False)
    name: Text = None
    active: bool = True
    events: tuple[str, ...] = ()
    environment: Text = None
    last_triggered: Instant = None
    whatsapp_number_ids: tuple[str, ...] = ()
    created_at: Instant = None
    updated_at: Instant = None

    @field_validator("events", "whatsapp_number_ids", mode="before")
    @classmethod
    def _strings(cls, value: object) -> tuple[str, ...]:
        rows = value if isinstance(value, (list, tuple)) else ()
        return tuple(row for row in rows if isinstance(row, str))

    def delivers(self, event: str) -> bool:
        """Whether this subscription, as the API keeps it, delivers ``event``."""
        return self.active and ("*" in self.events or event in self.events)


class WebhookLogEntry(Dto):
    """One delivery attempt of a webhook."""

    event: Text = None
    status: Text = None
    status_code: Count = None
    duration_ms: Count = None
    created_at: Instant = None
    payload: Any = Field(default=None, repr=False)
    response: Any = Field(default=None, repr=False)

    @property
    def delivered(self) -> bool:
        return self.status is not None and self.status.upper() == "SUCCESS"


class CallEventKind(StrEnum):
    """What a webhook says happened to a call."""

    RINGING = "ringing"
    CONNECTED = "connected"
    ENDED = "ended"
    MISSED = "missed"
    PERMISSION_UPDATED = "permission_updated"


@dataclass(frozen=True, slots=True)
class CallEvent:
    """A webhook about a call in one vocabulary, whichever it came in.

    ``call_id`` is Pilot Status's id, ``external_id`` the provider's; either may be
    missing. ``peer`` (caller of an INBOUND, callee of an OUTBOUND call) and ``own`` are
    digits only, None for hidden numbers. ``native`` marks Evolution GO's own events:
    they accompany the normalised ones and are only hints. ``reason`` is that of a
    native termination, ``callback_data`` what was given when dialling.
    """

    kind: CallEventKind
    call_id: str | None
    external_id: str | None
    direction: Direction | None
    status: CallStatus | None
    peer: str | None = field(repr=False)
    own: str | None = field(repr=False)
    timestamp: datetime | None
    duration_seconds: int | None
    native: bool
    reason: str | None
    callback_data: str | None = field(repr=False)
    trusted: bool = False  # untrusted: act only on what GET /v1/calls/{id} confirms
