"""A bridge that only notes what it is told, and requests made without a network."""

from __future__ import annotations

import hashlib
import hmac
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from voicebridge.clock import LoopClock
from voicebridge.metrics import Metrics
from voicebridge.server.app import ServerConfig, create_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.applications import Starlette

    from voicebridge.pilotstatus.models import CallEvent

SECRET = SecretStr("whsec_canary")
TOKEN = SecretStr("console_canary_0123456789")
HOOK = "/webhooks/pilotstatus"


@dataclass
class StandInSummary:
    id: str
    caller: str | None = None

    def as_dict(self) -> dict[str, object]:
        return {"id": self.id, "caller": self.caller}


@dataclass
class StandInBridge:
    room: int = 10_000
    draining: bool = False
    active: int = 0
    events: list[CallEvent] = field(default_factory=list)
    known: dict[str, StandInSummary] = field(default_factory=dict)
    live: set[str] = field(default_factory=set)
    dialled: list[tuple[str, str | None, dict[str, str] | None]] = field(default_factory=list)
    hung_up: list[str] = field(default_factory=list)
    dial_error: Exception | None = None

    def submit(self, event: CallEvent) -> bool:
        if len(self.events) >= self.room:
            return False
        self.events.append(event)
        return True

    def summaries(self) -> list[StandInSummary]:
        return list(self.known.values())

    def summary(self, call_id: str) -> StandInSummary | None:
        return self.known.get(call_id)

    async def dial(
        self, to: str, *, bot: str | None = None, metadata: dict[str, str] | None = None
    ) -> StandInSummary:
        if self.dial_error is not None:
            raise self.dial_error
        self.dialled.append((to, bot, metadata))
        return StandInSummary("call_new")

    async def hangup(self, call_id: str) -> bool:
        if call_id not in self.live:
            return False
        self.live.remove(call_id)
        self.hung_up.append(call_id)
        return True

    def drain(self) -> None:
        self.draining = True


@dataclass
class Site:
    """An application over a stand-in, and a client of it on the same machine."""

    bridge: StandInBridge
    metrics: Metrics
    app: Starlette
    client: httpx.AsyncClient

    async def post_hook(self, body: bytes, **headers: str) -> httpx.Response:
        signed = {"x-pilot-status-signature": sign(body)} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        return await self.client.post(HOOK, content=body, headers=signed)

    def counted(self) -> dict[tuple[str, str], int]:
        """``{(event, result): count}`` of the webhooks so far."""
        families = text_string_to_metric_families(self.metrics.render()[0].decode())
        return {
            (sample.labels["event"], sample.labels["result"]): int(sample.value)
            for family in families
            for sample in family.samples
            if sample.name == "voicebridge_webhooks_total"
        }


SIGNED = ServerConfig(secrets=(SECRET,))
GUARDED = ServerConfig(secrets=(SECRET,), console_token=TOKEN)


@asynccontextmanager
async def site(
    config: ServerConfig = SIGNED,
    *,
    bridge: StandInBridge | None = None,
    peer: str = "127.0.0.1",
    base_url: str = "http://127.0.0.1:8080",
    **parts: Any,
) -> AsyncIterator[Site]:
    bridge = bridge or StandInBridge()
    metrics = Metrics()
    app = create_app(bridge, config, metrics, clock=LoopClock(), **parts)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(peer, 40_000))
    async with httpx.AsyncClient(transport=transport, base_url=base_url) as client:
        yield Site(bridge, metrics, app, client)


def sign(body: bytes, secret: SecretStr = SECRET) -> str:
    return hmac.new(secret.get_secret_value().encode(), body, hashlib.sha256).hexdigest()


def ringing(call_id: str = "call_1", **changes: Any) -> bytes:
    document = {
        "event": "call.ringing",
        "callId": call_id,
        "externalCallId": f"EXT-{call_id}",
        "direction": "INBOUND",
        "status": "RINGING",
        "from": "+5511999999999",
        "to": "+5511888888888",
        "timestamp": "2026-01-01T00:00:00Z",
    }
    return json.dumps(document | changes).encode()


@dataclass
class Exchange:
    """What an application answered to one raw ASGI request."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def code(self) -> object:
        return json.loads(self.body)["code"]


async def ask(
    app: Starlette,
    receive: Callable[[], Awaitable[dict[str, Any]]],
    *headers: tuple[bytes, bytes],
    method: str = "POST",
    path: str = HOOK,
    client: tuple[str, int] | None = ("127.0.0.1", 40_000),
) -> Exchange:
    """One request beneath HTTP: any headers, and a body that comes as ``receive`` says."""
    exchange = Exchange()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
            exchange.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            exchange.body += message.get("body", b"")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1"), *headers],
        "client": client,
        "server": ("127.0.0.1", 8080),
    }
    await app(scope, receive, send)
    return exchange


def chunk(body: bytes = b"", *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}
