"""One attempt at one request to the provider's API.

One rule: an attempt never raises for what the provider or the network did; it returns an
``Answer`` that says what is known. It never follows a redirect, reads proxies from the
environment, keeps a cookie, or writes a URL to a log, and the API key goes to the
configured origin and nowhere else. For that reason this speaks to httpx's transports and
not to its client.

Two lanes have connections of their own: hung requests of one cannot hold up the other.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import httpx

from voicebridge.errors import ConfigError, ProviderError, ProviderUnreachable
from voicebridge.pilotstatus.refusals import refusal
from voicebridge.pilotstatus.retry import Kind, Lane, Outcome, outcome_of_status, parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from pydantic import SecretStr

__all__ = ["Answer", "ApiLimits", "Request", "Transport", "unreachable"]

T = TypeVar("T")

_USER_AGENT = "voicebridge"
_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.ProxyError,
)


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """Limits of the REST edge. When a lane is full, requests wait within their own time
    limit; when ``max_waiting`` wait already, the next one fails at once.
    """

    connect_seconds: float = 2.0
    attempt_seconds: float = 5.0
    max_answer_bytes: int = 1 << 20
    ordinary_connections: int = 40
    reserved_connections: int = 20
    max_waiting: int = 400


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """What to ask. ``parse`` raises ValueError for an answer that cannot be used.

    ``path`` is percent-encoded already. ``call_id`` is set where the call can be looked
    at after a doubtful outcome.
    """

    operation: str
    kind: Kind
    method: str
    path: str
    parse: Callable[[Any], T] = field(repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    lane: Lane = Lane.ORDINARY
    call_id: str | None = None
    may_be_empty: bool = False


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What came of an attempt: a ``value`` if ``outcome`` is OK, else an ``error``.

    ``label`` is for metrics: the HTTP status, or one of ``queued``,
    ``unsent``, ``lost``, ``garbage``.
    """

    outcome: Outcome
    label: str
    value: T | None = field(default=None, repr=False)
    error: ProviderError | None = None
    retry_after: float | None = None

    @property
    def heard(self) -> bool:
        """Something answered."""
        return self.label not in ("unsent", "lost", "queued")

    @property
    def unheard(self) -> bool:
        """The transport failed; waiting in a queue of our own does not count."""
        return self.label in ("unsent", "lost")


class Transport:
    """Connections to one origin. ``utc`` tells the wall-clock time, for HTTP dates."""

    def __init__(
        self,
        api_url: str,
        api_key: SecretStr,
        *,
        utc: Callable[[], datetime],
        limits: ApiLimits,
        number_id: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._base = _base_url(api_url)
        self._secret = _header_value(api_key.get_secret_value(), "VOICEBRIDGE_API_KEY")
        self._number_id = _header_value(number_id, "the number id") if number_id else None
        self._utc = utc
        self._limits = limits
        self._slots = {
            Lane.ORDINARY: asyncio.Semaphore(limits.ordinary_connections),
            Lane.RESERVED: asyncio.Semaphore(limits.reserved_connections),
        }
        self._waiting = dict.fromkeys(Lane, 0)
        self._transports = (
            dict.fromkeys(Lane, transport) if transport else _transports(self._base, limits)
        )

    def __repr__(self) -> str:
        return f"Transport({self._base.host!r})"

    async def aclose(self) -> None:
        """Close all connections; requests under way fail."""
        for transport in set(self._transports.values()):
            await transport.aclose()

    async def attempt(self, request: Request[T], seconds: float) -> Answer[T]:
        """Ask once, within ``min(seconds, attempt_seconds)``, waiting for a slot included."""
        slots = self._slots[request.lane]
        if slots.locked() and self._waiting[request.lane] >= self._limits.max_waiting:
            return unreachable(request, "too many requests are waiting already", "queued")
        label = "queued"
        try:
            async with asyncio.timeout(min(seconds, self._limits.attempt_seconds)):
                self._waiting[request.lane] += 1
                try:
                    await slots.acquire()
                finally:
                    self._waiting[request.lane] -= 1
                try:
                    label = "lost"
                    return await self._exchange(request)
                finally:
                    slots.release()
        except TimeoutError:
            return unreachable(request, "no answer in time", label)
        except _NEVER_SENT as error:
            return unreachable(request, f"cannot connect ({type(error).__name__})", "unsent")
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            return unreachable(request, f"connection lost ({type(error).__name__})", "lost")

    async def _exchange(self, request: Request[T]) -> Answer[T]:
        transport = self._transports[request.lane]
        response = await transport.handle_async_request(self._wire(request))
        try:
            content = await self._content(response)
        finally:
            await response.aclose()
        return self._answer(request, response, content)

    def _wire(self, request: Request[T]) -> httpx.Request:
        headers = {
            "x-api-key": self._secret,
            "accept": "application/json",
            # A body that grows while it is read could not be capped before it does.
            "accept-encoding": "identity",
            "user-agent": _USER_AGENT,
        }
        if self._number_id:
            headers["x-whatsapp-number-id"] = self._number_id
        limits = self._limits
        return httpx.Request(
            request.method,
            httpx.URL(f"{self._base}{request.path}", params=dict(request.query) or None),
            headers=headers,
            json=request.body,
            extensions={
                "timeout": {
                    "connect": limits.connect_seconds,
                    "read": limits.attempt_seconds,
                    "write": limits.attempt_seconds,
                    "pool": limits.attempt_seconds,
                }
            },
        )

    async def _content(self, response: httpx.Response) -> bytes | None:
        """The body; None if it is encoded or larger than what the API ever sends."""
        if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
            return None
        content = bytearray()
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > self._limits.max_answer_bytes:
                return None
        return bytes(content)

    def _answer(
        self, request: Request[T], response: httpx.Response, content: bytes | None
    ) -> Answer[T]:
        status = response.status_code
        outcome = outcome_of_status(status)
        readable, body = _decode(content)
        if outcome is not Outcome.OK:
            wish = parse_retry_after(response.headers.get("retry-after"), self._utc())
            error = refusal(request.operation, status, body, retry_after=wish, secret=self._secret)
            return Answer(outcome, str(status), error=error, retry_after=wish)
        if content == b"" and request.may_be_empty:
            readable, body = True, {}
        if not readable:
            return _garbage(request, status, "it is not JSON of a sensible size")
        try:
            return Answer(outcome, str(status), value=request.parse(body))
        except (ValueError, TypeError):
            return _garbage(request, status, "what is needed is missing from it")


def unreachable(request: Request[Any], why: str, label: str) -> Answer[Any]:
    """The answer of an attempt that was not heard; only ``lost`` may have had an effect."""
    sent = label == "lost"
    error = ProviderUnreachable(
        f"{request.operation}: the API cannot be reached: {why}",
        operation=request.operation,
        sent=sent,
    )
    return Answer(Outcome.UNKNOWN if sent else Outcome.NOT_SENT, label, error=error)


def _garbage(request: Request[Any], status: int, why: str) -> Answer[Any]:
    error = ProviderUnreachable(
        f"{request.operation}: the answer (HTTP {status}) cannot be used: {why}; "
        "check VOICEBRIDGE_API_URL and anything between here and there",
        operation=request.operation,
        sent=True,
    )
    return Answer(Outcome.UNKNOWN, "garbage", error=error)


def _decode(content: bytes | None) -> tuple[bool, object]:
    if content is None:
        return False, None
    try:
        return True, json.loads(content)
    except (ValueError, RecursionError):
        return False, None


def _base_url(api_url: str) -> httpx.URL:
    """The origin and path prefix; the docs also show the base with its ``/v1``."""
    try:
        url = httpx.URL(api_url.strip().rstrip("/").removesuffix("/v1"))
    except httpx.InvalidURL:
        raise ConfigError("VOICEBRIDGE_API_URL is not a URL") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError("VOICEBRIDGE_API_URL must look like https://pilotstatus.com.br")
    if url.userinfo or url.query or url.fragment:
        raise ConfigError("VOICEBRIDGE_API_URL must hold no user, query or fragment")
    return url


def _header_value(value: str, name: str) -> str:
    stripped = value.strip()
    if not stripped or not stripped.isascii() or not stripped.isprintable() or " " in stripped:
        raise ConfigError(f"{name} is empty or holds characters that no key has; copy it again")
    return stripped


def _transports(base: httpx.URL, limits: ApiLimits) -> dict[Lane, httpx.AsyncBaseTransport]:
    # One TLS context for both lanes: reading the trust store takes tens of milliseconds.
    verify = httpx.create_ssl_context(trust_env=False) if base.scheme == "https" else False
    sizes = {
        Lane.ORDINARY: limits.ordinary_connections,
        Lane.RESERVED: limits.reserved_connections,
    }
    return {
        lane: httpx.AsyncHTTPTransport(
            verify=verify,
            trust_env=False,
            limits=httpx.Limits(max_connections=size, max_keepalive_connections=size),
        )
        for lane, size in sizes.items()
    }
