"""``/v1/webhooks``: subscriptions of the number and their delivery logs.

Shapes: docs.pilotstatus.com.br (Configure webhooks; Create, List, Update webhook; Webhook
delivery events). The signing secret is never told.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from voicebridge.emulator.answers import Refusal, validation_error
from voicebridge.emulator.webhooks import LOG_SIZE, Subscription, WebhookDesk, deliverable

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.routing import Route

    from voicebridge.clock import Clock
    from voicebridge.emulator.api import Answer, Api, Inquiry
    from voicebridge.emulator.behaviour import RestBehaviour
    from voicebridge.emulator.calls import Kind

__all__ = ["WebhooksApi"]

_WEBHOOK = "/v1/webhooks/{webhook_id}"


class WebhooksApi:
    """``number_id`` is the one number there is; ``tenant_id`` owns it."""

    def __init__(
        self,
        desk: WebhookDesk,
        *,
        kind: Kind,
        number_id: str,
        tenant_id: str,
        clock: Callable[[], Clock],
        rest: Callable[[], RestBehaviour],
    ) -> None:
        self._desk = desk
        self._kind: Kind = kind
        self._number_id = number_id
        self._tenant_id = tenant_id
        self._clock = clock
        self._rest = rest

    def routes(self, api: Api) -> list[Route]:
        def route(method: str, path: str, operation: Any, handler: Any) -> Route:
            return api.route(method, path, operation, handler, tenant=True)

        return [
            route("GET", "/v1/webhooks", "list_webhooks", self._list),
            route("POST", "/v1/webhooks", "create_webhook", self._create),
            route("GET", f"{_WEBHOOK}/logs", "webhook_logs", self._logs),
            route("GET", _WEBHOOK, "get_webhook", self._get),
            route("PATCH", _WEBHOOK, "update_webhook", self._update),
            route("DELETE", _WEBHOOK, "delete_webhook", self._delete),
        ]

    async def _list(self, inquiry: Inquiry) -> Answer:
        if inquiry.request.headers.get("x-whatsapp-number-id", self._number_id) != self._number_id:
            return 200, []
        return 200, [self._dto(subscription) for subscription in self._desk.all()]

    async def _create(self, inquiry: Inquiry) -> Answer:
        body = inquiry.body
        self._check_number(inquiry)
        url, name = _url(body.get("url")), _name(body.get("name", "webhook"))
        events = self._events(body.get("events", []))
        self._desk.all()  # the configured webhook comes first
        subscription = self._desk.subscribe(url, name, events)
        if subscription is None:
            raise Refusal(400, "Too many webhooks", "WEBHOOK_LIMIT")
        return 201, self._dto(subscription)

    async def _get(self, inquiry: Inquiry) -> Answer:
        return 200, self._dto(self._webhook(inquiry))

    async def _update(self, inquiry: Inquiry) -> Answer:
        webhook, body = self._webhook(inquiry), inquiry.body
        if body.keys() - {"name", "url", "active", "events"}:
            raise validation_error()
        active = body.get("active", webhook.active)
        if not isinstance(active, bool):
            raise validation_error("active")
        url, name = _url(body.get("url", webhook.url)), _name(body.get("name", webhook.name))
        events = self._events(body["events"]) if "events" in body else webhook.events
        webhook.url, webhook.name, webhook.active, webhook.events = url, name, active, events
        webhook.updated_at = self._clock().utc()
        return 200, self._dto(webhook)

    async def _delete(self, inquiry: Inquiry) -> Answer:
        self._desk.unsubscribe(self._webhook(inquiry).id)
        return 200, {"success": True}

    async def _logs(self, inquiry: Inquiry) -> Answer:
        webhook = self._webhook(inquiry)
        limit = inquiry.query("limit") or str(LOG_SIZE)
        if not re.fullmatch(r"\d{1,3}", limit, re.ASCII) or not 1 <= int(limit) <= LOG_SIZE:
            raise Refusal(400, f"limit must be between 1 and {LOG_SIZE}", "INVALID_LIMIT")
        event = inquiry.query("event")
        entries = [entry for entry in webhook.log if event is None or entry["event"] == event]
        return 200, entries[: int(limit)]

    def _webhook(self, inquiry: Inquiry) -> Subscription:
        webhook = self._desk.find(inquiry.path("webhook_id"))
        if webhook is None:
            raise Refusal(404, "Webhook not found", "WEBHOOK_NOT_FOUND")
        return webhook

    def _check_number(self, inquiry: Inquiry) -> None:
        named = inquiry.body.get("whatsappNumberId")
        if inquiry.scope == "number":
            if named is not None and named != self._number_id:
                raise Refusal(400, "The key belongs to another number", "NUMBER_MISMATCH")
            return
        named = named or inquiry.request.headers.get("x-whatsapp-number-id")
        if named is None:
            raise Refusal(400, "Name the number with whatsappNumberId", "NUMBER_REQUIRED")
        if named != self._number_id:
            raise Refusal(404, "Number not found", "NUMBER_NOT_FOUND")

    def _events(self, events: object) -> list[str]:
        if not isinstance(events, list) or not all(isinstance(name, str) for name in events):
            raise validation_error("events")
        dropped = self._rest().call_events_dropped
        return deliverable(events, self._kind, call_events_dropped=dropped)

    def _dto(self, webhook: Subscription) -> dict[str, Any]:
        return webhook.as_dto(self._tenant_id, self._number_id)


def _url(url: object) -> str:
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        parts = None
    if not isinstance(url, str) or parts is None or parts.scheme not in ("http", "https"):
        raise validation_error("url")
    return url


def _name(name: object) -> str:
    if not isinstance(name, str) or not 1 <= len(name) <= 200:
        raise validation_error("name")
    return name
