"""``/v1/calls``: every operation on calls, as docs.pilotstatus.com.br (Calls API) has them.

Either id is taken for a call. What the pages leave open is a switch of ``RestBehaviour``.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from voicebridge.emulator.answers import Refusal, call_not_found, validation_error
from voicebridge.emulator.numbers import phone_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.routing import Route

    from voicebridge.clock import Clock
    from voicebridge.emulator.api import Answer, Api, Inquiry
    from voicebridge.emulator.calling import CallingDesk
    from voicebridge.emulator.calls import EmulatedCall, Kind
    from voicebridge.emulator.exchange import Exchange
    from voicebridge.emulator.tickets import Mode, Tickets

__all__ = ["CallsApi"]

_MAX_CALLBACK_DATA = 512
_CALL = "/v1/calls/{call_id:path}"


class CallsApi:
    """``media_url`` gives the media host's address, known once it listens."""

    def __init__(
        self,
        exchange: Exchange,
        tickets: Tickets,
        calling: CallingDesk,
        *,
        kind: Kind,
        clock: Callable[[], Clock],
        media_url: Callable[[], str],
    ) -> None:
        self._exchange = exchange
        self._tickets = tickets
        self._calling = calling
        self._kind: Kind = kind
        self._clock = clock
        self._media_url = media_url

    def routes(self, api: Api) -> list[Route]:
        """Fixed paths come before those that take a call's id."""
        return [
            api.route("GET", "/v1/calls", "list_calls", self._list),
            api.route("POST", "/v1/calls", "initiate", self._initiate, phone=True),
            *self._calling.routes(api),
            api.route("POST", f"{_CALL}/pre-accept", "pre_accept", self._pre_accept, only="META"),
            api.route("POST", f"{_CALL}/accept", "accept", self._accept, phone=True),
            api.route("POST", f"{_CALL}/reject", "reject", self._reject, phone=True),
            api.route("POST", f"{_CALL}/terminate", "terminate", self._terminate, phone=True),
            api.route("POST", f"{_CALL}/play", "play", self._play, only="EVO_GO", phone=True),
            api.route(
                "POST",
                f"{_CALL}/realtime-session",
                "realtime_session",
                self._realtime_session,
                only="EVO_GO",
                phone=True,
            ),
            api.route("GET", _CALL, "get_call", self._get),
        ]

    async def _list(self, inquiry: Inquiry) -> Answer:
        limit = _limit(inquiry.query("limit"), 25, 100)
        before = _instant(inquiry.query("before"))
        calls = self._exchange.newest_first()
        if before is not None:
            calls = [call for call in calls if call.created_at < before]
        return 200, {"calls": [call.as_dto() for call in calls[:limit]]}

    async def _get(self, inquiry: Inquiry) -> Answer:
        include_sdp = inquiry.query("includeSdp") in ("1", "true")
        return 200, self._call(inquiry).as_dto(include_sdp=include_sdp)

    async def _initiate(self, inquiry: Inquiry) -> Answer:
        to = phone_number(inquiry.body.get("to"))
        data = inquiry.body.get("bizOpaqueCallbackData")
        if data is not None and (not isinstance(data, str) or len(data) > _MAX_CALLBACK_DATA):
            raise validation_error("bizOpaqueCallbackData")
        sdp = None
        if self._kind == "META":
            sdp = _sdp(inquiry.body, "offer")
            self._calling.check_may_call(to)
        call = self._exchange.dial(to, data, sdp)
        return 201, {
            "id": call.id,
            "externalCallId": call.external_id,
            "status": call.status,
        }

    async def _pre_accept(self, inquiry: Inquiry) -> Answer:
        call = self._call(inquiry)
        sdp = _sdp(inquiry.body, "answer")
        if call.status != "RINGING" or call.direction != "INBOUND":
            raise Refusal(409, "The call is not ringing", "CALL_NOT_RINGING")
        call.sdp_answer = sdp
        return _acted(call)

    async def _accept(self, inquiry: Inquiry) -> Answer:
        call = self._call(inquiry)
        sdp = _sdp(inquiry.body, "answer") if self._kind == "META" else None
        self._exchange.accept(call, sdp)
        return _acted(call)

    async def _reject(self, inquiry: Inquiry) -> Answer:
        call = self._call(inquiry)
        self._exchange.reject(call)
        return _acted(call)

    async def _terminate(self, inquiry: Inquiry) -> Answer:
        call = self._call(inquiry)
        self._exchange.terminate(call)
        return _acted(call)

    async def _play(self, inquiry: Inquiry) -> Answer:
        call = self._call(inquiry)
        rest = self._exchange.behaviour.rest
        fields = ("mediaUrl", "audioUrl") if rest.play_field == "both" else (rest.play_field,)
        url = next((inquiry.body[name] for name in fields if name in inquiry.body), None)
        if not isinstance(url, str):
            raise validation_error(fields[0])
        _check_public(url, guard=rest.play_guard)
        if call.over:
            raise Refusal(409, "The call has ended", "CALL_NOT_ACTIVE")
        call.plays.append(url)
        call.note(self._clock().now(), "play")
        return _acted(call)

    async def _realtime_session(self, inquiry: Inquiry) -> Answer:
        call = self._call(inquiry)
        mode: Mode = inquiry.body.get("mode", "talk")
        if mode not in ("talk", "listen"):
            raise validation_error("mode")
        rest = self._exchange.behaviour.rest
        now = self._clock().now()
        if not self._ready_for_media(call, now):
            raise Refusal(
                rest.session_refusal_status, "The call is not active", rest.session_refusal_code
            )
        ticket = self._tickets.issue(call, mode, now + rest.token_ttl_s)
        call.note(now, "realtime_session", mode)
        url = rest.ws_url or self._tickets.url(self._media_url(), ticket, rest.ws_url_shape)
        body: dict[str, Any] = {"wsUrl": url}
        if rest.token_in_body:
            body["token"] = ticket.token
        if rest.expires_in_seconds is not None:
            body["expiresInSeconds"] = rest.expires_in_seconds
        return 200, body

    def _ready_for_media(self, call: EmulatedCall, now: float) -> bool:
        rest = self._exchange.behaviour.rest
        if call.over:
            return False
        if call.accepted is not None:
            return now >= call.accepted + rest.session_ready_after_s
        return rest.session_before_accept or call.far_end.started

    def _call(self, inquiry: Inquiry) -> EmulatedCall:
        call = self._exchange.find(inquiry.path("call_id"))
        if call is None:
            raise call_not_found()
        return call


def _acted(call: EmulatedCall) -> Answer:
    return 200, {"success": True, "id": call.id, "status": call.status}


def _limit(value: str | None, default: int, most: int) -> int:
    if value is None:
        return default
    if not re.fullmatch(r"\d{1,4}", value, re.ASCII) or not 1 <= int(value) <= most:
        raise Refusal(400, f"limit must be between 1 and {most}", "INVALID_LIMIT")
    return int(value)


def _instant(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise Refusal(400, "before must be an ISO 8601 date", "INVALID_BEFORE") from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _sdp(body: dict[str, Any], kind: Literal["offer", "answer"]) -> str:
    sdp = body.get("sdp")
    if not isinstance(sdp, str) or not sdp.startswith("v=0"):
        raise validation_error("sdp")
    if body.get("sdpType", kind) != kind:
        raise validation_error("sdpType")
    return sdp


def _check_public(url: str, *, guard: bool) -> None:
    """The guard against requests to the provider's own network: by name, without resolving."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        raise validation_error("the URL") from None
    if parts.scheme not in ("http", "https") or not host:
        raise validation_error("the URL must be http or https")
    if not guard:
        return
    private = host == "localhost" or host.endswith((".localhost", ".local", ".internal"))
    try:
        private = private or not ipaddress.ip_address(host).is_global
    except ValueError:
        private = private or "." not in host
    if private:
        raise Refusal(400, "The URL must be public", "URL_NOT_ALLOWED")
