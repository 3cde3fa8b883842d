"""Every endpoint of the API as a request: method, path, body, how its answer is read.

Pure. One rule: nothing from outside gets into a path unquoted, and what cannot be an id
or a phone number is refused before anything is asked.

Sources: https://docs.pilotstatus.com.br/api/calls/endpoints and
https://docs.pilotstatus.com.br/api/webhooks/configure
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import quote

from pydantic import ValidationError

from voicebridge.errors import CallNotFound, InvalidRequest
from voicebridge.pilotstatus.fields import Dto, phone_digits
from voicebridge.pilotstatus.models import (
    CallAction,
    CallDetails,
    CallingSettings,
    CallPermission,
    InitiatedCall,
    PermissionRequest,
    RealtimeSession,
    Webhook,
    WebhookLogEntry,
)
from voicebridge.pilotstatus.retry import Kind, Lane
from voicebridge.pilotstatus.transport import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

D = TypeVar("D", bound=Dto)

_log = logging.getLogger(__name__)

_MAX_ID = 256
_MAX_PAGE = 100
_MAX_LOGS = 50


def initiate(to: str, callback_data: str, sdp: str | None) -> Request[InitiatedCall]:
    body = {"to": _e164(to, "initiate"), "bizOpaqueCallbackData": callback_data}
    if sdp is not None:
        body["sdp"] = sdp
    read = _reader(InitiatedCall)
    return Request("initiate", Kind.DIAL, "POST", "/v1/calls", read, body=body)


def list_calls(limit: int, before: str | None) -> Request[list[CallDetails]]:
    query = {"limit": str(min(max(limit, 1), _MAX_PAGE))}
    if before is not None:
        query["before"] = before
    read = _list_reader("calls", CallDetails)
    return Request("list_calls", Kind.SAFE, "GET", "/v1/calls", read, query)


def get_call(call_id: str, *, include_sdp: bool = False) -> Request[CallDetails]:
    query = {"includeSdp": "1"} if include_sdp else {}
    path = _call_path(call_id, "get_call")
    read = _reader(CallDetails)
    return Request("get_call", Kind.SAFE, "GET", path, read, query, lane=Lane.RESERVED)


def accept(call_id: str, sdp: str | None) -> Request[None]:
    return _act("accept", Kind.ACCEPT, call_id, {} if sdp is None else {"sdp": sdp})


def pre_accept(call_id: str, sdp: str) -> Request[None]:
    return _act("pre_accept", Kind.ONCE, call_id, {"sdp": sdp}, path="pre-accept")


def reject(call_id: str) -> Request[None]:
    return _act("reject", Kind.REJECT, call_id)


def terminate(call_id: str) -> Request[None]:
    return _act("terminate", Kind.HANGUP, call_id, lane=Lane.RESERVED)


def play(call_id: str, url: str, field: str) -> Request[None]:
    return _act("play", Kind.ONCE, call_id, {field: url})


def realtime_session(call_id: str, mode: Literal["talk", "listen"]) -> Request[RealtimeSession]:
    return Request(
        "realtime_session",
        Kind.MINT,
        "POST",
        _call_path(call_id, "realtime_session") + "/realtime-session",
        _reader(RealtimeSession),
        body={"mode": mode},
        call_id=call_id,
    )


def get_settings() -> Request[CallingSettings]:
    read = _reader(CallingSettings)
    return Request("get_settings", Kind.SAFE, "GET", "/v1/calls/settings", read)


def update_settings(body: dict[str, Any]) -> Request[None]:
    return Request(
        "update_settings",
        Kind.SAFE,
        "PUT",
        "/v1/calls/settings",
        _nothing,
        body=body,
        may_be_empty=True,
    )


def get_permissions(to: str) -> Request[CallPermission]:
    query = {"to": _e164(to, "get_permissions")}
    read = _reader(CallPermission)
    return Request("get_permissions", Kind.SAFE, "GET", "/v1/calls/permissions", read, query)


def request_permission(to: str, text: str | None) -> Request[PermissionRequest]:
    body = {"to": _e164(to, "request_permission")}
    if text is not None:
        body["text"] = text
    path = "/v1/calls/permissions/request"
    read = _reader(PermissionRequest)
    return Request("request_permission", Kind.ONCE, "POST", path, read, body=body)


def list_webhooks() -> Request[list[Webhook]]:
    read = _list_reader("webhooks", Webhook)
    return Request("list_webhooks", Kind.SAFE, "GET", "/v1/webhooks", read)


def create_webhook(url: str, name: str, events: Sequence[str]) -> Request[Webhook]:
    body = {"url": url, "name": name, "events": list(events)}
    return Request("create_webhook", Kind.ONCE, "POST", "/v1/webhooks", _reader(Webhook), body=body)


def get_webhook(webhook_id: str) -> Request[Webhook]:
    path = _webhook_path(webhook_id, "get_webhook")
    return Request("get_webhook", Kind.SAFE, "GET", path, _reader(Webhook))


def update_webhook(webhook_id: str, changes: dict[str, Any]) -> Request[Webhook]:
    path = _webhook_path(webhook_id, "update_webhook")
    return Request("update_webhook", Kind.SAFE, "PATCH", path, _reader(Webhook), body=changes)


def delete_webhook(webhook_id: str) -> Request[None]:
    path = _webhook_path(webhook_id, "delete_webhook")
    return Request("delete_webhook", Kind.SAFE, "DELETE", path, _nothing, may_be_empty=True)


def webhook_logs(webhook_id: str, limit: int, event: str | None) -> Request[list[WebhookLogEntry]]:
    query = {"limit": str(min(max(limit, 1), _MAX_LOGS))}
    if event is not None:
        query["event"] = event
    path = _webhook_path(webhook_id, "webhook_logs") + "/logs"
    read = _list_reader("logs", WebhookLogEntry)
    return Request("webhook_logs", Kind.SAFE, "GET", path, read, query)


def _act(
    operation: str,
    kind: Kind,
    call_id: str,
    body: dict[str, str] | None = None,
    *,
    path: str | None = None,
    lane: Lane = Lane.ORDINARY,
) -> Request[None]:
    return Request(
        operation,
        kind,
        "POST",
        f"{_call_path(call_id, operation)}/{path or operation}",
        _succeeded,
        body=body,
        lane=lane,
        call_id=call_id,
    )


def _call_path(call_id: str, operation: str) -> str:
    return f"/v1/calls/{_segment(call_id, operation)}"


def _webhook_path(webhook_id: str, operation: str) -> str:
    return f"/v1/webhooks/{_segment(webhook_id, operation)}"


def _segment(name: str, operation: str) -> str:
    """One path segment. An id of dots only would name another path (RFC 3986, section 5.2.4)."""
    if not name.strip(". ") or len(name) > _MAX_ID:
        raise CallNotFound(
            f"{operation}: that cannot be an id; nothing was asked", operation=operation, status=404
        )
    return quote(name, safe="")


def _e164(to: str, operation: str) -> str:
    digits = phone_digits(to)
    if digits is None:
        raise InvalidRequest(
            f"{operation}: write the number in E.164, as + and digits; nothing was asked",
            operation=operation,
            status=400,
            code="INVALID_TO",
        )
    return f"+{digits}"


def _reader(kind: type[D]) -> Callable[[Any], D]:
    return kind.model_validate


def _list_reader(name: str, kind: type[D]) -> Callable[[Any], list[D]]:
    """Reads a list, bare or under ``name`` or ``data``; rows that cannot be read are dropped."""

    def read(body: Any) -> list[D]:
        rows = body
        if isinstance(body, dict):
            rows = body[name] if name in body else body.get("data")
        if not isinstance(rows, list):
            raise ValueError(f"there are no {name}")
        read_rows = []
        for row in rows:
            try:
                read_rows.append(kind.model_validate(row))
            except ValidationError:
                _log.warning("a row of %s cannot be read: left out", name)
        return read_rows

    return read


def _succeeded(body: Any) -> None:
    if not CallAction.model_validate(body).success:
        raise ValueError("it did not succeed")


def _nothing(body: Any) -> None:
    """For answers that tell nothing beyond their status."""
