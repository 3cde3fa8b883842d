"""What a webhook says, whichever of its vocabularies it speaks.

A number may send the normalised ``call.*`` events, flat or wrapped as
``{"event", "data": {...}}`` (docs.pilotstatus.com.br, concepts/webhooks), the native
events of Evolution GO (``CallOffer``, ``CallAccept``, ``CallTerminate``) about the same
call, and Meta's account webhooks. One rule: whatever the bytes are, the outcome is a
value or ``WebhookError`` (400). A field that cannot be understood is None; only a body
that is no JSON object at all is refused, because new events and fields ship unannounced.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from voicebridge.errors import WebhookError
from voicebridge.pilotstatus.fields import phone_digits, read_count, read_instant
from voicebridge.pilotstatus.models import (
    AccountNotice,
    CallEvent,
    CallEventKind,
    CallStatus,
    Direction,
)
from voicebridge.pilotstatus.signature import SIGNATURE_HEADER, SignatureChecker, SignatureMode

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "SIGNATURE_HEADER",
    "AccountNotice",
    "CallEvent",
    "CallEventKind",
    "SignatureChecker",
    "SignatureMode",
    "Unknown",
    "parse_event",
]


@dataclass(frozen=True, slots=True)
class Unknown:
    """An event that this version knows nothing about: acknowledge and ignore.

    ``name`` is ``"unnamed"`` where the body has no name that could be logged as it is.
    """

    name: str


_NORMALISED: Final = {f"call.{kind.value}": kind for kind in CallEventKind}
_NATIVE: Final = {
    "calloffer": CallEventKind.RINGING,
    "callaccept": CallEventKind.CONNECTED,
    "callterminate": CallEventKind.ENDED,
}

# Ids travel into log lines, URLs and pages: base64 and ULID alphabets, nothing that quotes.
_ID: Final = re.compile(r"[A-Za-z0-9._:=+/-]{1,200}", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9 ._:-]+", re.ASCII)
# Far above any real value; longer ones are an attempt at something.
_MAX_TEXT: Final = 512
_MAX_DURATION_SECONDS: Final = 7 * 24 * 3600


def parse_event(
    body: bytes, *, trusted: bool = False
) -> CallEvent | Unknown | tuple[AccountNotice, ...]:
    """Reads a webhook's body; ``trusted`` is the signature's verdict and is passed on.

    Meta packs several account notices into one body, so those come as a tuple, never
    empty. Raises ``WebhookError`` (400) for what is neither that nor a JSON object.
    """
    document = _decode(body)
    if notices := _read_notices(document):
        return notices
    if not isinstance(document, dict):
        raise WebhookError("the body is not a JSON object", status=400)
    envelope = _fold(document)
    name = envelope.get("event")
    name = name.strip() if isinstance(name, str) else ""
    inner = envelope.get("data")
    # The envelope's own fields speak of the delivery, those inside of the call.
    fields = envelope | _fold(inner) if isinstance(inner, dict) else envelope
    if (kind := _NORMALISED.get(name.lower())) is not None:
        return _normalised(kind, fields, trusted)
    if (kind := _NATIVE.get(name.lower())) is not None:
        return _native(kind, fields, trusted)
    return Unknown(name if _NAME.fullmatch(name) else "unnamed")


def _decode(body: bytes) -> Any:
    try:
        # NaN and Infinity are no JSON; some encoders emit them where a number is unknown.
        return json.loads(body.decode("utf-8-sig"), parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        # `from None`: a decoding error carries the whole body.
        raise WebhookError("the body is not JSON in UTF-8", status=400) from None


def _read_notices(document: Any) -> tuple[AccountNotice, ...]:
    try:
        return AccountNotice.parse_all(document)
    except (TypeError, ValueError):
        # They only inform people: one in a shape unknown here is not worth a refusal.
        return ()


def _fold(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {key.lower(): value for key, value in mapping.items()}


def _normalised(kind: CallEventKind, fields: Mapping[str, Any], trusted: bool) -> CallEvent:
    direction = Direction.parse(fields.get("direction"))
    sender, receiver = phone_digits(fields.get("from")), phone_digits(fields.get("to"))
    match direction:
        case Direction.INBOUND:
            peer, own = sender, receiver
        case Direction.OUTBOUND:
            peer, own = receiver, sender
        case _:
            peer, own = None, None
    # The status of a permission event is that of the permission, not of a call.
    about_call = kind is not CallEventKind.PERMISSION_UPDATED
    return CallEvent(
        kind=kind,
        call_id=_read_id(fields.get("callid")),
        external_id=_read_id(fields.get("externalcallid")),
        direction=direction,
        status=CallStatus.parse(fields.get("status")) if about_call else None,
        peer=peer,
        own=own,
        timestamp=read_instant(fields.get("timestamp")),
        duration_seconds=_read_duration(fields),
        native=False,
        reason=_read_reason(fields.get("reason")),
        callback_data=_read_callback_data(fields.get("bizopaquecallbackdata")),
        trusted=trusted,
    )


def _native(kind: CallEventKind, fields: Mapping[str, Any], trusted: bool) -> CallEvent:
    """Only named fields are taken over, so ``instanceToken``, a credential, goes no further."""
    offered = kind is CallEventKind.RINGING  # emitted for incoming calls alone
    jids = ("from", "callcreator", "callcreatoralt") if offered else ("from",)
    peers = (phone_digits(fields.get(jid)) for jid in jids)
    return CallEvent(
        kind=kind,
        call_id=None,
        external_id=_read_id(fields.get("callid")),
        direction=Direction.INBOUND if offered else None,
        status=None,
        peer=next((peer for peer in peers if peer), None),
        own=None,
        timestamp=read_instant(fields.get("timestamp")),
        duration_seconds=_read_duration(fields),
        native=True,
        reason=_read_reason(fields.get("reason")),
        callback_data=None,
        trusted=trusted,
    )


def _read_id(value: object) -> str | None:
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def _read_reason(value: object) -> str | None:
    """A short plain phrase: it is logged and shown, and may come from the caller's side."""
    if not isinstance(value, str):
        return None
    return _UNSAFE.sub(" ", value[:_MAX_TEXT]).strip()[:64].rstrip() or None


def _read_callback_data(value: object) -> str | None:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        return None
    # Not even printable: control characters, and lone surrogates, which fail when written.
    return value if value.isprintable() else None


def _read_duration(fields: Mapping[str, Any]) -> int | None:
    """Seconds; the documentation says ``durationSeconds``, the SDK's types ``duration``."""
    found = (read_count(fields.get(key)) for key in ("duration", "durationseconds"))
    return next((s for s in found if s is not None and s <= _MAX_DURATION_SECONDS), None)
