"""The bodies of webhooks: the normalised ``call.*`` vocabulary and Evolution GO's own.

Pure. Shapes: the official SDK's ``webhooks/types`` and docs.pilotstatus.com.br (Webhook
events); ``call.*`` is flat, native events nest under ``data``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from voicebridge.emulator.calls import iso

if TYPE_CHECKING:
    from datetime import datetime

    from voicebridge.emulator.behaviour import WebhookBehaviour
    from voicebridge.emulator.calls import EmulatedCall

__all__ = ["CALL_EVENTS", "NATIVE_EVENTS", "Notice", "call_notice", "native_notice"]

CALL_EVENTS = (
    "call.ringing",
    "call.connected",
    "call.ended",
    "call.missed",
    "call.permission_updated",
)
NATIVE_EVENTS = {
    "call.ringing": "CallOffer",
    "call.connected": "CallAccept",
    "call.ended": "CallTerminate",
    "call.missed": "CallTerminate",
}
_LID = "123456789012345@lid"


@dataclass(frozen=True, slots=True, repr=False)
class Notice:
    """One event as it will be sent; ``call`` is None for those of no call."""

    event: str
    body: dict[str, Any]
    call: EmulatedCall | None = None


def call_notice(call: EmulatedCall, event: str, utc: datetime, how: WebhookBehaviour) -> Notice:
    """The normalised event of ``call`` that happened at ``utc``."""
    peer = {"phone": call.peer, "lid": _LID, "null": None}[how.peer]
    inbound = call.direction == "INBOUND"
    fields: dict[str, Any] = {
        "callId": call.id if how.ids in ("both", "pilot_only") else None,
        "externalCallId": call.external_id if how.ids in ("both", "external_only") else None,
        "direction": call.direction,
        "status": call.status,
        "from": peer if inbound else call.own,
        "to": call.own if inbound else peer,
        "timestamp": _timestamp(utc, how),
    }
    if event == "call.ended" and call.duration_seconds is not None:
        for name in ("duration", "durationSeconds"):
            if how.duration_field in (name, "both"):
                fields[name] = call.duration_seconds
    if event in ("call.ended", "call.missed") and call.callback_data is not None:
        fields["bizOpaqueCallbackData"] = call.callback_data
    return Notice(event, shaped(event, fields, how), call)


def permission_notice(
    peer: str, own: str, status: str, utc: datetime, how: WebhookBehaviour
) -> Notice:
    """META: the user answered a permission request; belongs to no call."""
    event = "call.permission_updated"
    fields = {
        "callId": None,
        "externalCallId": None,
        "direction": None,
        "status": status,
        "from": peer,
        "to": own,
        "timestamp": _timestamp(utc, how),
    }
    return Notice(event, shaped(event, fields, how))


def native_notice(
    call: EmulatedCall, event: str, utc: datetime, *, instance: str, instance_token: str
) -> Notice | None:
    """Evolution GO's event for the normalised ``event``; None where it has none."""
    name = NATIVE_EVENTS.get(event)
    if name is None:
        return None
    jid = f"{call.peer.lstrip('+')}@s.whatsapp.net"
    data = {
        "CallID": call.external_id,
        "From": jid,
        "CallCreator": jid if call.direction == "INBOUND" else f"{call.own[1:]}@s.whatsapp.net",
        "Timestamp": iso(utc),
    }
    if name == "CallTerminate":
        data["Reason"] = call.reason or ""
    else:
        data |= {"RemotePlatform": "android", "RemoteVersion": "2.26.1.70"}
    body = {
        "event": name,
        "instance": instance,
        "instanceId": instance,
        "instanceName": instance,
        "instanceToken": instance_token,
        "data": data,
    }
    return Notice(name, body, call)


def shaped(event: str, fields: dict[str, Any], how: WebhookBehaviour) -> dict[str, Any]:
    if how.shape == "wrapped":
        return {"event": event, "data": fields}
    return {"event": event} | fields


def _timestamp(utc: datetime, how: WebhookBehaviour) -> str:
    at = utc + timedelta(seconds=how.timestamp_skew_s)
    text = iso(at) or ""
    match how.timestamp:
        case "naive":
            return text.removesuffix("Z")
        case "epoch_ms":
            return str(int(at.timestamp() * 1_000))
        case "garbage":
            return "yesterday, about noon"
        case "iso":
            return text
