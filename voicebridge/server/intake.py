"""The webhook's door: from a request to an event in the bridge's queue.

The provider wants its 2xx at once and repeats what it did not get one for
(docs.pilotstatus.com.br, guides/receive-messages). One rule: between the last byte of
the body and the answer nothing is awaited, so the answer depends on no network, and
copies that arrive together cannot both be the first.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from voicebridge.errors import WebhookError
from voicebridge.pilotstatus.dedup import Deduplicator, Verdict, body_key
from voicebridge.pilotstatus.webhooks import (
    SIGNATURE_HEADER,
    CallEvent,
    CallEventKind,
    Unknown,
    parse_event,
)
from voicebridge.server.answers import Refusal, refuse
from voicebridge.server.body import read_body

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from starlette.requests import Request

    from voicebridge.metrics import Metrics
    from voicebridge.pilotstatus.webhooks import AccountNotice, SignatureChecker

__all__ = ["WebhookIntake"]

_log = logging.getLogger(__name__)

_NATIVE_NAMES: Final = {
    CallEventKind.RINGING: "CallOffer",
    CallEventKind.CONNECTED: "CallAccept",
    CallEventKind.ENDED: "CallTerminate",
}
_RESULTS: Final = {408: "timeout", 413: "too_large", 415: "encoded", 401: "unauthorized"}
_CODES: Final = {401: "SIGNATURE_INVALID", 400: "BODY_INVALID"}
_COMPLAIN_EVERY: Final = 60.0
_SIGNATURE_HEADER: Final = SIGNATURE_HEADER.encode()


class WebhookIntake:
    """Checks, reads, deduplicates and hands over what is posted to the webhook.

    ``submit`` is the bridge's bounded queue: False makes the answer a 503, so that the
    provider sends the event again. ``on_notice`` is told of Meta's account notices.
    """

    def __init__(
        self,
        submit: Callable[[CallEvent], bool],
        signatures: SignatureChecker,
        metrics: Metrics,
        *,
        now: Callable[[], float],
        limit_bytes: int,
        deadline_seconds: float,
        on_notice: Callable[[AccountNotice], None] | None = None,
    ) -> None:
        self._submit = submit
        self._signatures = signatures
        self._metrics = metrics
        self._now = now
        self._limit_bytes = limit_bytes
        self._deadline_seconds = deadline_seconds
        self._on_notice = on_notice
        self._seen = Deduplicator()
        self._complained: dict[str, float] = {}

    async def receive(self, request: Request) -> Response:
        """The route's endpoint."""
        try:
            body = await read_body(
                request, limit=self._limit_bytes, deadline=self._deadline_seconds
            )
        except Refusal as refusal:
            self._metrics.count_webhook("unread", _RESULTS.get(refusal.status, "malformed"))
            return refusal.response()
        except ClientDisconnect:
            self._metrics.count_webhook("unread", "cut")
            return Response(status_code=400)  # nobody is there to read it
        signatures = [value for name, value in request.headers.raw if name == _SIGNATURE_HEADER]
        return self._take(body, signatures)

    def _take(self, body: bytes, signatures: list[bytes]) -> Response:
        try:
            trusted = self._signatures.check(body, signatures)
            found = parse_event(body, trusted=trusted)
        except WebhookError as error:
            result = _RESULTS.get(error.status, "malformed")
            self._metrics.count_webhook("unread", result)
            self._complain(result, f"webhook refused: {error}")
            return refuse(error.status, _CODES.get(error.status, "REFUSED"), str(error))
        match found:
            case CallEvent():
                return self._take_event(found, body)
            case Unknown(name):
                self._metrics.count_webhook(name, "ignored")
                _log.debug("webhook event %s is not known here; ignored", name)
            case notices:
                self._tell(notices)
        return Response()

    def _take_event(self, event: CallEvent, body: bytes) -> Response:
        name = _name(event)
        if event.call_id is None and event.external_id is None:
            self._metrics.count_webhook(name, "ignored")
            if event.kind is not CallEventKind.PERMISSION_UPDATED:
                self._complain("no-id", f"webhook {name} without a usable call id: ignored")
            return Response()
        keys = _keys(event, name, body)
        now = self._now()
        if self._seen.judge(keys, now) is Verdict.REPLAYED:
            self._metrics.count_webhook(name, "replayed")
            return Response()
        if not self._submit(event):
            self._metrics.count_webhook(name, "overloaded")
            self._complain("overloaded", "webhook refused for now: the intake queue is full")
            return refuse(
                503, "OVERLOADED", "busy; send the event again", headers={"retry-after": "1"}
            )
        self._seen.remember(keys, now)
        self._metrics.count_webhook(name, "accepted")
        return Response()

    def _tell(self, notices: tuple[AccountNotice, ...]) -> None:
        self._metrics.count_webhook("account_notice", "ignored")
        for notice in notices:
            _log.warning("account notice from Meta: %s; see WhatsApp Manager", notice.kind.value)
            if self._on_notice is not None:
                self._on_notice(notice)

    def _complain(self, about: str, message: str) -> None:
        """Warns at most once a minute per subject: strangers decide how often it happens."""
        now = self._now()
        last = self._complained.get(about)
        if last is None or now - last >= _COMPLAIN_EVERY:
            self._complained[about] = now
            _log.warning("%s (further ones are counted, not logged, for a minute)", message)


def _name(event: CallEvent) -> str:
    """The event's name as the sender spells it; the metric's label."""
    return _NATIVE_NAMES[event.kind] if event.native else f"call.{event.kind.value}"


def _keys(event: CallEvent, name: str, body: bytes) -> list[Hashable]:
    keys: list[Hashable] = [body_key(body)]
    if event.timestamp is not None:  # without one, two different events could look alike
        keys.append((event.external_id or event.call_id, name, event.timestamp))
    return keys
