"""Looking at calls and steering them over HTTP.

One rule: every request passes the guard before anything else is looked at, and is
checked in full before the bridge hears of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, Protocol

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from voicebridge.errors import (
    CallStateError,
    ConfigError,
    Conflict,
    InvalidRequest,
    MetaCallingError,
    ProviderError,
    ProviderFault,
    ProviderRefused,
    ProviderUnreachable,
    RateLimited,
    VoicebridgeError,
)
from voicebridge.server.answers import CLOSE, Refusal, answer
from voicebridge.server.body import read_body

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from voicebridge.pilotstatus.models import CallEvent
    from voicebridge.server.access import Access

__all__ = ["CallControl", "Calls", "Summary"]

_CALL_ID: Final = re.compile(r"[A-Za-z0-9._:=+-]{1,200}", re.ASCII)
_MAX_BODY: Final = 16 * 1024
_BODY_SECONDS: Final = 5.0


class Summary(Protocol):
    """One call as shown: masked numbers, no secrets."""

    def as_dict(self) -> dict[str, object]: ...


class Calls(Protocol):
    """The bridge, as far as the server knows it."""

    def submit(self, event: CallEvent) -> bool: ...
    def summaries(self) -> Sequence[Summary]: ...
    def summary(self, call_id: str) -> Summary | None: ...
    async def dial(
        self, to: str, *, bot: str | None = None, metadata: dict[str, str] | None = None
    ) -> Summary: ...
    async def hangup(self, call_id: str) -> bool: ...
    def drain(self) -> None: ...
    @property
    def draining(self) -> bool: ...
    @property
    def active(self) -> int: ...


_Key = Annotated[str, StringConstraints(min_length=1, max_length=64)]
_Value = Annotated[str, StringConstraints(max_length=512)]


class _DialRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    to: Annotated[str, StringConstraints(pattern=r"^\+?[1-9][0-9]{7,14}$")]
    # Looked up among the bots that the bridge was started with, never imported.
    bot: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    metadata: dict[_Key, _Value] | None = None


class CallControl:
    """The routes under ``/calls`` and ``/drain``."""

    def __init__(self, calls: Calls, access: Access) -> None:
        self._calls = calls
        self._access = access

    def routes(self) -> list[Route]:
        return [
            Route("/calls", self._guarded(self._list), methods=["GET"], name="list"),
            Route("/calls", self._guarded(self._dial), methods=["POST"], name="dial"),
            Route("/calls/{call_id}", self._guarded(self._show), methods=["GET"], name="show"),
            Route(
                "/calls/{call_id}/hangup",
                self._guarded(self._hangup),
                methods=["POST"],
                name="hangup",
            ),
            Route("/drain", self._guarded(self._drain), methods=["POST"], name="drain"),
        ]

    def _guarded(
        self, endpoint: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            self._access.check(request)
            if request.method == "POST":
                _require_json(request)
            return await endpoint(request)

        return guarded

    async def _list(self, request: Request) -> Response:
        return answer(
            {
                "calls": [summary.as_dict() for summary in self._calls.summaries()],
                "active": self._calls.active,
                "draining": self._calls.draining,
            }
        )

    async def _show(self, request: Request) -> Response:
        summary = self._calls.summary(_call_id(request))
        if summary is None:
            raise _no_such_call()
        return answer(summary.as_dict())

    async def _dial(self, request: Request) -> Response:
        wanted = await _read_dial(request)
        if self._calls.draining:
            raise Refusal(
                503,
                "DRAINING",
                "this process takes no more calls; use another",
                headers={"retry-after": "10"},
            )
        try:
            placed = await self._calls.dial(wanted.to, bot=wanted.bot, metadata=wanted.metadata)
        except VoicebridgeError as error:
            raise _explain(error) from error
        return answer(placed.as_dict(), status=201)

    async def _hangup(self, request: Request) -> Response:
        call_id = _call_id(request)
        if self._calls.summary(call_id) is None:
            raise _no_such_call()
        try:
            hung_up = await self._calls.hangup(call_id)
        except VoicebridgeError as error:
            raise _explain(error) from error
        if not hung_up:
            raise Refusal(409, "CALL_OVER", "the call has already ended")
        summary = self._calls.summary(call_id)
        return answer({"id": call_id} if summary is None else summary.as_dict())

    async def _drain(self, request: Request) -> Response:
        self._calls.drain()
        return answer({"draining": True, "active": self._calls.active}, status=202)


def _call_id(request: Request) -> str:
    call_id: str = request.path_params["call_id"]
    if not _CALL_ID.fullmatch(call_id):
        raise _no_such_call()
    return call_id


def _no_such_call() -> Refusal:
    return Refusal(404, "CALL_NOT_FOUND", "no such call here; list them with GET /calls")


def _require_json(request: Request) -> None:
    # A page of another origin can post a form without asking, but not JSON.
    headers = request.headers
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return
    kinds = headers.getlist("content-type")
    if len(kinds) != 1 or kinds[0].partition(";")[0].strip().lower() != "application/json":
        raise Refusal(
            415, "JSON_REQUIRED", "send the body with Content-Type: application/json", headers=CLOSE
        )


async def _read_dial(request: Request) -> _DialRequest:
    try:
        body = await read_body(request, limit=_MAX_BODY, deadline=_BODY_SECONDS)
        wanted = _DialRequest.model_validate_json(body)
    except ClientDisconnect:
        raise Refusal(400, "CUT", "the request was cut") from None
    except ValidationError as error:
        raise Refusal(400, "REQUEST_INVALID", _describe(error)) from None
    if wanted.metadata is not None and len(wanted.metadata) > 32:
        raise Refusal(400, "REQUEST_INVALID", "metadata: at most 32 entries")
    return wanted


def _describe(error: ValidationError) -> str:
    """The first thing that is wrong, naming our own fields only and no values."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    path = [part for part in first["loc"] if part in _DialRequest.model_fields]
    match first["type"], path:
        case "extra_forbidden", _:
            return 'unknown field; a call takes "to", "bot" and "metadata"'
        case _, ["to"]:
            return '"to" must be a phone number in international form, e.g. "+5511..."'
        case _, ["bot"]:
            return '"bot" must be the name of a bot that is running here'
        case _, ["metadata", *_]:
            return '"metadata" must map names (1 to 64 characters) to texts (up to 512)'
    return 'the body must be JSON like {"to": "+5511..."}'


def _explain(error: VoicebridgeError) -> Refusal:
    """The answer for what the bridge or the provider would not do."""
    code = error.code if isinstance(error, ProviderRefused) else None
    match error:
        case ConfigError():
            return Refusal(400, "BOT_UNKNOWN", str(error))
        case CallStateError():
            return Refusal(409, "NOT_NOW", str(error))
        case InvalidRequest():
            return Refusal(400, code or "REQUEST_INVALID", str(error))
        case Conflict() | MetaCallingError():
            return Refusal(409, code or "CONFLICT", str(error))
        case RateLimited():
            wait = "1" if error.retry_after is None else str(max(1, round(error.retry_after)))
            return Refusal(429, code or "RATE_LIMITED", str(error), headers={"retry-after": wait})
        case ProviderUnreachable():
            return Refusal(504, "PROVIDER_UNREACHABLE", str(error))
        case ProviderFault():
            return Refusal(502, code or "PROVIDER_FAULT", str(error))
        case ProviderError():
            return Refusal(502, code or "PROVIDER_REFUSED", str(error))
    return Refusal(409, "NOT_DONE", str(error))
