"""A provider that answers by script, for tests in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import SecretStr

from voicebridge.pilotstatus.api import ApiLimits, PilotStatusApi
from voicebridge.testing import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "ps_canary_key_1234567890"
CALL = "call_01HZX"


class Hang:
    """The request arrives and no answer ever comes."""


class Lost:
    """The request takes effect, then the connection breaks."""


HANG, LOST = Hang(), Lost()
Reply = httpx.Response | Exception | Hang | Lost | dict[str, Any] | list[Any]


def no(status: int, code: str | None = None, error: str = "no", **headers: str) -> httpx.Response:
    body = {"error": error} | ({"code": code} if code else {})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json=body, headers=named)


def call(status: str = "RINGING", **fields: Any) -> dict[str, Any]:
    return {
        "id": CALL,
        "externalCallId": "0018F2",
        "direction": "INBOUND",
        "status": status,
    } | fields


def done(status: str = "ACCEPTED") -> dict[str, Any]:
    return {"success": True, "id": CALL, "status": status}


class Script:
    """Answers per ``"METHOD /path"``: each list is used up, its last entry stays.

    A callable entry is asked for the reply. ``log`` holds instant, route and request.
    """

    def __init__(self, routes: dict[str, list[Reply | Callable[[], Reply]]]) -> None:
        self._routes = {route: deque(replies) for route, replies in routes.items()}
        self.log: list[tuple[float, str, httpx.Request]] = []

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._handle)

    def count(self, route: str) -> int:
        return sum(1 for _, each, _ in self.log if each == route)

    def times(self, route: str | None = None) -> list[float]:
        return [at for at, each, _ in self.log if route in (None, each)]

    def request(self, index: int = -1) -> httpx.Request:
        return self.log[index][2]

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        route = f"{request.method} {request.url.path.removeprefix('/v1')}"
        self.log.append((asyncio.get_running_loop().time(), route, request))
        replies = self._routes.get(route)
        if not replies:
            raise AssertionError(f"the script knows nothing of {route}")
        reply = replies.popleft() if len(replies) > 1 else replies[0]
        if callable(reply):
            reply = reply()
        if isinstance(reply, Hang):
            await asyncio.sleep(100_000)
        if isinstance(reply, Lost):
            raise httpx.ReadError("gone", request=request)
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, httpx.Response):
            # A response can be read only once.
            return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)
        return httpx.Response(200, json=reply)


def api_of(
    script: Script,
    *,
    url: str = "https://api.example",
    limits: ApiLimits | None = None,
    on_request: Callable[[str, str], None] | None = None,
    number_id: str | None = None,
    seed: int = 7,
) -> PilotStatusApi:
    """A client of ``script`` with reproducible jitter; make it inside a virtual loop."""
    return PilotStatusApi(
        url,
        SecretStr(KEY),
        clock=VirtualClock(),
        transport=script.transport(),
        number_id=number_id,
        limits=limits,
        on_request=on_request,
        rng=random.Random(seed),
    )
