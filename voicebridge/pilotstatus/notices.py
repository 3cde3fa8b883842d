"""Meta's notices about a business account: settings changed, a violation, a restriction.

One rule: they are told to people and never act on a call. Meta sends them as one
envelope or as a list of envelopes, several changes in each; all forms are read.

Source: the account webhooks on
https://developers.facebook.com/documentation/business-messaging/whatsapp/calling/call-settings/
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from voicebridge.pilotstatus.calling import CallingRestriction, CallingSettings
from voicebridge.pilotstatus.fields import Dto, Instant, Phone, Text, read_instant, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["AccountNotice", "NoticeKind", "Violation"]

_FIELDS = frozenset({"account_update", "account_settings_update"})


class NoticeKind(StrEnum):
    """What a notice is about."""

    SETTINGS = "phone_number_settings"
    VIOLATION = "account_violation"
    RESTRICTION = "account_restriction"
    OTHER = "other"


class Violation(Dto):
    """What the account did wrong, and what Meta advises."""

    violation_type: Text = None
    remediation: Text = None


class AccountNotice(Dto):
    """One change of an account; only the part that belongs to ``kind`` is filled.

    ``name`` is Meta's own word for it, also for kinds unknown here.
    """

    kind: NoticeKind
    name: str | None = None
    account_id: Text = None
    at: Instant = None
    phone_number: Phone = Field(default=None, repr=False)
    phone_number_id: Text = None
    settings: CallingSettings | None = None
    violation: Violation | None = None
    restrictions: tuple[CallingRestriction, ...] = ()

    @field_validator("restrictions", mode="before")
    @classmethod
    def _readable(cls, value: object) -> list[Any]:
        rows = value if isinstance(value, (list, tuple)) else [value]
        return [row for row in rows if isinstance(row, (dict, CallingRestriction))]

    @classmethod
    def parse_all(cls, body: object) -> tuple[AccountNotice, ...]:
        """Every notice in a decoded webhook body; empty if it holds none. Never raises."""
        return tuple(_notice(value, entry) for entry in _entries(body) for value in _values(entry))


def _entries(body: object) -> Iterator[dict[str, Any]]:
    for envelope in body if isinstance(body, list) else [body]:
        if isinstance(envelope, dict) and isinstance(envelope.get("entry"), list):
            yield from (entry for entry in envelope["entry"] if isinstance(entry, dict))


def _values(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    changes = entry.get("changes")
    for change in changes if isinstance(changes, list) else []:
        if not isinstance(change, dict) or not isinstance(change.get("value"), dict):
            continue
        if change.get("field") in _FIELDS:
            yield change["value"]


def _notice(value: dict[str, Any], entry: dict[str, Any]) -> AccountNotice:
    # Meta's own examples write the type in square brackets.
    name = (read_text(value.get("event")) or read_text(value.get("type")) or "").strip("[]")
    try:
        kind = NoticeKind(name.lower())
    except ValueError:
        kind = NoticeKind.OTHER
    changed = value.get("phone_number_settings")
    changed = changed if isinstance(changed, dict) else {}
    calling = changed.get("calling")
    violation = value.get("violation_info")
    return AccountNotice(
        kind=kind,
        name=name or None,
        account_id=read_text(entry.get("id")),
        at=read_instant(value.get("timestamp")) or read_instant(entry.get("time")),
        phone_number=value.get("phone_number"),
        phone_number_id=read_text(changed.get("phone_number_id")),
        settings=CallingSettings.model_validate(calling) if isinstance(calling, dict) else None,
        violation=_violation(violation) if isinstance(violation, dict) else None,
        restrictions=value.get("restriction_info", ()),
    )


def _violation(info: dict[str, Any]) -> Violation:
    return Violation(
        violation_type=(read_text(info.get("violation_type")) or "").strip("[]") or None,
        remediation=read_text(info.get("remediation")),
    )
