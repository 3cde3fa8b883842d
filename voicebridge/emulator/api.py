"""What every operation of the REST API shares: key, body, feature rules, faults, envelope.

An operation is a handler that returns (status, body) or raises ``Refusal``; ``Api.route``
wraps it. The one rule: a scripted fault comes after the key was checked and instead of the
handler, unless the outcome says ``processed``.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import httpx
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from voicebridge.emulator.answers import (
    Refusal,
    feature_not_supported,
    not_connected,
    validation_error,
)
from voicebridge.emulator.behaviour import Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pydantic import SecretStr
    from starlette.requests import Request

    from voicebridge.emulator.behaviour import Operation, RestBehaviour
    from voicebridge.emulator.calls import Kind

__all__ = ["CUT", "Answer", "Api", "Inquiry", "Keys", "Scope"]

CUT = "voicebridge.cut"
"""Key of the ASGI scope under which a server offers to cut the connection."""

_MAX_BODY = 256 * 1024
_FINE = Outcome(kind="ok")

Scope = Literal["number", "tenant"]
Answer = tuple[int, Any]


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """Keys that open the API: the number's by value or by id, and the tenant's."""

    number: SecretStr
    number_id: str
    tenant: SecretStr

    def scope(self, request: Request) -> Scope | None:
        """What the request's key is good for; None: it is missing or wrong."""
        key = request.headers.get("x-api-key", "").encode()
        if hmac.compare_digest(key, self.number.get_secret_value().encode()):
            return "number"
        if hmac.compare_digest(key, self.tenant.get_secret_value().encode()):
            return "tenant"
        return "number" if request.headers.get("x-api-key-id") == self.number_id else None


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One request that may be handled; ``body`` is ``{}`` where there was none."""

    request: Request
    body: dict[str, Any]
    scope: Scope

    def path(self, name: str) -> str:
        value: str = self.request.path_params[name]
        return value

    def query(self, name: str) -> str | None:
        return self.request.query_params.get(name)


class Api:
    """Makes routes of handlers. ``kind`` decides which features there are."""

    def __init__(self, keys: Keys, kind: Kind, rest: Callable[[], RestBehaviour]) -> None:
        self._keys = keys
        self._kind: Kind = kind
        self._rest = rest
        self._scripts: dict[Operation, tuple[Outcome, ...]] = {}
        self._pending: dict[Operation, deque[Outcome]] = {}
        self.requests: deque[tuple[Operation, int]] = deque(maxlen=10_000)

    def route(
        self,
        method: str,
        path: str,
        operation: Operation,
        handler: Callable[[Inquiry], Awaitable[Answer]],
        *,
        only: Kind | None = None,
        phone: bool = False,
        tenant: bool = False,
    ) -> Route:
        """``only`` names the provider kind that has the feature, ``phone`` says that it needs
        the instance to be connected, ``tenant`` that a tenant key may use it."""

        async def endpoint(request: Request) -> Response:
            async def handled(scope: Scope) -> Answer:
                body = await _body(request)
                if only is not None and only != self._kind:
                    raise feature_not_supported()
                if phone and self._kind == "EVO_GO" and not self._rest().instance_connected:
                    raise not_connected()
                return await handler(Inquiry(request, body, scope))

            response = await self._answer(request, operation, handled, tenant=tenant)
            self.requests.append((operation, response.status_code))
            return response

        return Route(path, endpoint, methods=[method])

    async def _answer(
        self,
        request: Request,
        operation: Operation,
        handled: Callable[[Scope], Awaitable[Answer]],
        *,
        tenant: bool,
    ) -> Response:
        try:
            scope = self._allowed(request, tenant=tenant)
        except Refusal as refusal:
            return _refused(refusal)
        outcome = self._next(operation)
        delay = self._rest().latency_s + outcome.delay_s
        if delay:
            await asyncio.sleep(delay)
        proper: Response | None = None
        if outcome.kind == "ok" or outcome.processed:
            try:
                status, body = await handled(scope)
                proper = Response(status_code=204) if status == 204 else JSONResponse(body, status)
            except Refusal as refusal:
                proper = _refused(refusal)
        match outcome.kind:
            case "status":
                return _failed(outcome)
            case "hang":
                await _until_client_leaves(request)
            case "reset":
                await _cut(request)
            case "garbage":
                return Response(outcome.body, media_type="text/html")
            case "ok":
                pass
        return proper or Response(status_code=500)

    def _allowed(self, request: Request, *, tenant: bool) -> Scope:
        scope = self._keys.scope(request)
        if scope is None:
            raise Refusal(401, "Unauthorized")
        if scope == "tenant" and not tenant:
            raise Refusal(
                403, "Tenant-scoped keys cannot call number endpoints", "TENANT_SCOPE_NOT_ALLOWED"
            )
        return scope

    def _next(self, operation: Operation) -> Outcome:
        script = self._rest().script.get(operation, ())
        if self._scripts.get(operation, ()) != script:
            self._scripts[operation] = script
            self._pending[operation] = deque(script)
        pending = self._pending.get(operation)
        if not pending:
            return _FINE
        outcome = pending[0]
        if outcome.repeat == 1:
            pending.popleft()
        elif outcome.repeat > 1:
            pending[0] = outcome.model_copy(update={"repeat": outcome.repeat - 1})
        return outcome


async def _body(request: Request) -> dict[str, Any]:
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _MAX_BODY:
            raise Refusal(413, "Payload too large")
    if not raw:
        return {}
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise validation_error() from None
    if not isinstance(body, dict):
        raise validation_error()
    return body


def _refused(refusal: Refusal) -> Response:
    return JSONResponse(refusal.body(), refusal.status)


def _failed(outcome: Outcome) -> Response:
    body = {"error": outcome.error} | ({"code": outcome.code} if outcome.code else {})
    headers = {} if outcome.retry_after is None else {"retry-after": outcome.retry_after}
    return JSONResponse(body, outcome.status, headers=headers)


async def _until_client_leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _cut(request: Request) -> None:
    cut = request.scope.get(CUT)
    if cut is None:
        # In memory there is no connection: the client's own error takes its place.
        raise httpx.ReadError("connection reset by the emulator")
    cut()
    await _until_client_leaves(request)
