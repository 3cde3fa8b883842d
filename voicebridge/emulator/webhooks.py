"""Webhooks: who is subscribed to what, and signed delivery with every fault it can have.

The one rule: an empty list of events delivers nothing; ``*`` delivers everything. Each
delivery is a task of its own, as deliveries have no order in the real world either.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from voicebridge.emulator.calls import Kind, iso
from voicebridge.emulator.notices import (
    CALL_EVENTS,
    NATIVE_EVENTS,
    Notice,
    call_notice,
    native_notice,
    permission_notice,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import datetime

    from pydantic import SecretStr

    from voicebridge.clock import Clock
    from voicebridge.emulator.behaviour import WebhookBehaviour
    from voicebridge.emulator.calls import EmulatedCall
    from voicebridge.emulator.ids import Ids

__all__ = ["LOG_SIZE", "SIGNATURE_HEADER", "Subscription", "WebhookDesk", "deliverable"]

SIGNATURE_HEADER = "x-pilot-status-signature"
LOG_SIZE = 50
_MAX_DELIVERIES = 5_000
_MAX_SUBSCRIPTIONS = 100
_RESPONSE_KEPT = 1_000

_OTHER_EVENTS = frozenset(
    {f"message.{name}" for name in ("sent", "delivered", "read", "failed", "reply", "received")}
    | {"message.group", "message.newsletter", "lead.received"}
    | {f"number.{name}" for name in ("created", "connected", "disconnected", "removed", "restored")}
)


def deliverable(events: list[str], kind: Kind, *, call_events_dropped: bool) -> list[str]:
    """``events`` without those that the number's provider cannot emit, each once."""
    known = {"*", *_OTHER_EVENTS}
    if not call_events_dropped:
        known.update(CALL_EVENTS)
    if kind == "EVO_GO":
        known.update(NATIVE_EVENTS.values())
        known.discard("call.permission_updated")
    return [name for name in dict.fromkeys(events) if name in known]


@dataclass(eq=False, repr=False)
class Subscription:
    """One webhook of the number, with its last deliveries, newest first."""

    id: str
    url: str
    name: str
    events: list[str]
    created_at: datetime
    updated_at: datetime
    active: bool = True
    last_triggered: datetime | None = None
    log: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=LOG_SIZE))

    def wants(self, event: str) -> bool:
        if not self.active:
            return False
        if event in NATIVE_EVENTS.values() and any(name in CALL_EVENTS for name in self.events):
            return True
        return "*" in self.events or event in self.events

    def as_dto(self, tenant: str, number_id: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "tenantId": tenant,
            "name": self.name,
            "url": self.url,
            "environment": "LIVE",
            "active": self.active,
            "events": self.events,
            "apiKeys": [],
            "lastTriggered": iso(self.last_triggered),
            "whatsappNumberIds": [number_id],
            "whatsappInstanceIds": [],
            "createdAt": iso(self.created_at),
            "updatedAt": iso(self.updated_at),
        }


class WebhookDesk:
    """All webhooks of one number.

    ``default_url`` is subscribed to ``*`` when the desk is first used. ``transport`` takes
    the deliveries instead of the network, for tests in memory.
    """

    def __init__(
        self,
        how: Callable[[], WebhookBehaviour],
        *,
        clock: Callable[[], Clock],
        ids: Ids,
        secret: SecretStr | None,
        instance: str,
        default_url: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._how = how
        self._clock = clock
        self._ids = ids
        self._secret = secret
        self._instance = instance
        self._instance_token = ids.token()
        self._default_url = default_url
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._subscriptions: dict[str, Subscription] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def all(self) -> list[Subscription]:
        """Oldest first."""
        if self._default_url is not None:
            url, self._default_url = self._default_url, None
            self.subscribe(url, "emulator", ["*"])
        return list(self._subscriptions.values())

    def find(self, webhook_id: str) -> Subscription | None:
        return next((s for s in self.all() if s.id == webhook_id), None)

    def subscribe(self, url: str, name: str, events: list[str]) -> Subscription | None:
        """None where there are 100 already."""
        if len(self._subscriptions) >= _MAX_SUBSCRIPTIONS:
            return None
        utc = self._clock().utc()
        subscription = Subscription(self._ids.ulid("wh_", utc), url, name, events, utc, utc)
        self._subscriptions[subscription.id] = subscription
        return subscription

    def unsubscribe(self, webhook_id: str) -> None:
        self._subscriptions.pop(webhook_id, None)

    def publish(self, call: EmulatedCall, event: str) -> None:
        """Send ``event`` of ``call`` in both vocabularies, as the behaviour says."""
        how, utc = self._how(), self._clock().utc()
        notice = call_notice(call, event, utc, how)
        native = native_notice(
            call, event, utc, instance=self._instance, instance_token=self._instance_token
        )
        sent: dict[str, tuple[Notice | None, ...]] = {
            "none": (notice,),
            "also": (notice, native),
            "first": (native, notice),
            "only": (native,),
        }
        for one in sent[how.native]:
            if one is not None:
                self._send(one, how)

    def publish_permission(self, peer: str, own: str, status: str) -> None:
        how = self._how()
        self._send(permission_notice(peer, own, status, self._clock().utc(), how), how)

    async def settled(self) -> None:
        """Wait until nothing is being delivered, retried or held back any more."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """Drop what is not delivered yet, and whatever comes later."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _send(self, notice: Notice, how: WebhookBehaviour) -> None:
        copies = how.copies
        if notice.event == "call.connected":
            if how.connected == "missing":
                return
            copies += how.connected == "duplicate"
        if notice.event in how.drop:
            return
        raw = json.dumps(notice.body, separators=(",", ":")).encode()
        for subscription in self.all():
            if not subscription.wants(notice.event):
                continue
            for copy in range(copies):
                self._spawn(self._deliver(subscription, notice, raw, how, first=copy == 0))
            if how.repeat_after_s is not None:
                self._spawn(self._repeat(subscription, notice, raw, how))

    def _spawn(self, delivery: Coroutine[Any, Any, None]) -> None:
        if self._closed or len(self._tasks) >= _MAX_DELIVERIES:
            delivery.close()
            return
        task = asyncio.create_task(delivery, name="webhook delivery")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(
        self,
        subscription: Subscription,
        notice: Notice,
        raw: bytes,
        how: WebhookBehaviour,
        *,
        first: bool,
    ) -> None:
        await self._hold_back(notice, how)
        if first and notice.event in how.lose_first:
            await asyncio.sleep(how.retry_s)
        for attempt in range(how.retries + 1):
            if attempt:
                await asyncio.sleep(how.retry_s)
            if await self._post(subscription, notice, raw, how):
                return

    async def _repeat(
        self, subscription: Subscription, notice: Notice, raw: bytes, how: WebhookBehaviour
    ) -> None:
        await asyncio.sleep(how.repeat_after_s or 0.0)
        await self._post(subscription, notice, raw, how)

    async def _hold_back(self, notice: Notice, how: WebhookBehaviour) -> None:
        if notice.event == "call.connected" and notice.call is not None:
            if how.connected == "late":
                await asyncio.sleep(how.connected_late_s)
            elif how.connected == "after_ended":
                await notice.call.ended()
                await asyncio.sleep(0.2 + how.delays.get("call.ended", how.delay_s))
        await asyncio.sleep(how.delays.get(notice.event, how.delay_s))

    async def _post(
        self, subscription: Subscription, notice: Notice, raw: bytes, how: WebhookBehaviour
    ) -> bool:
        """One attempt; whether it was answered 2xx."""
        began = self._clock().now()
        self._note(notice, began, "webhook", notice.event)
        status, answer = None, ""
        headers = {"content-type": "application/json", "user-agent": "PilotStatus-Webhooks/1.0"}
        try:
            async with asyncio.timeout(how.timeout_s):
                response = await self._http().post(
                    subscription.url, content=raw, headers=headers | self._signature(raw, how)
                )
            status, answer = response.status_code, response.text[:_RESPONSE_KEPT]
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            answer = type(error).__name__
        ended = self._clock().now()
        ok = status is not None and 200 <= status < 300
        self._note(notice, ended, "webhook_answered", f"{notice.event} {status or answer}")
        subscription.last_triggered = self._clock().utc()
        subscription.log.appendleft(
            {
                "event": notice.event,
                "status": "SUCCESS" if ok else "FAILED",
                "statusCode": status,
                "payload": notice.body,
                "response": answer,
                "durationMs": round((ended - began) * 1_000),
                "createdAt": iso(subscription.last_triggered),
            }
        )
        return ok

    def _note(self, notice: Notice, at: float, what: str, detail: str) -> None:
        if notice.call is not None:
            notice.call.note(at, what, detail)

    def _signature(self, raw: bytes, how: WebhookBehaviour) -> dict[str, str]:
        if self._secret is None or how.signature == "off":
            return {}
        digest = hmac.new(self._secret.get_secret_value().encode(), raw, hashlib.sha256).hexdigest()
        match how.signature:
            case "wrong":
                digest = digest[:-1] + ("0" if digest[-1] != "0" else "1")
            case "prefixed":
                digest = f"sha256={digest}"
            case "upper":
                digest = digest.upper()
            case "on":
                pass
        return {SIGNATURE_HEADER: digest}

    def prepare(self) -> None:
        """Loads certificates and the like now: it takes 30 ms, which no call should wait for."""
        self._http()

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                transport=self._transport,
                trust_env=False,
                follow_redirects=False,
                timeout=httpx.Timeout(self._how().timeout_s),
                limits=httpx.Limits(max_connections=100),
            )
        return self._client
