"""The Pilot Status REST API, a method per endpoint.

One rule: a method returns when its effect is certain, or raises a typed
``ProviderError``; whatever can be found out in between is found out here.

Sources: https://docs.pilotstatus.com.br/api/calls/endpoints and
https://docs.pilotstatus.com.br/api/webhooks/configure
"""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from voicebridge.clock import Clock, LoopClock
from voicebridge.errors import (
    CallNotFound,
    InvalidRequest,
    NumberNotFound,
    ProviderError,
    ProviderFault,
    ProviderUnreachable,
)
from voicebridge.pilotstatus import endpoints
from voicebridge.pilotstatus.courier import Courier
from voicebridge.pilotstatus.models import (
    CallDetails,
    CallingSettings,
    CallingSettingsUpdate,
    CallPermission,
    Direction,
    InitiatedCall,
    PermissionRequest,
    RealtimeSession,
    Webhook,
    WebhookLogEntry,
)
from voicebridge.pilotstatus.transport import ApiLimits, Request, Transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from datetime import datetime
    from types import TracebackType

    import httpx
    from pydantic import SecretStr

__all__ = ["ApiLimits", "PilotStatusApi"]

T = TypeVar("T")

_MAX_PAGE = 100
# The list may trail a call that was just placed.
_SEARCH_AFTER_SECONDS = (0.5, 1.0, 2.0)
_CLOCK_SKEW = timedelta(minutes=2)


class PilotStatusApi:
    """One number's calls. Use as an async context manager, or ``aclose`` it.

    ``on_request`` is told of every attempt: operation and a short label (HTTP status,
    ``queued``, ``unsent``, ``lost`` or ``garbage``). ``number_id`` names the number for
    an account-wide key; a number's own key needs none.
    """

    def __init__(
        self,
        api_url: str,
        api_key: SecretStr,
        *,
        clock: Clock | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        number_id: str | None = None,
        limits: ApiLimits | None = None,
        on_request: Callable[[str, str], None] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._given_clock = clock
        self._rng = rng or random.Random()
        self._transport = Transport(
            api_url,
            api_key,
            utc=self._utc,
            limits=limits or ApiLimits(),
            number_id=number_id,
            transport=transport,
        )
        self._courier = Courier(
            self._transport,
            now=self._now,
            rng=self._rng,
            look=endpoints.get_call,
            on_request=on_request,
        )
        self._play_field = "mediaUrl"
        self._play_field_proven = False

    def __repr__(self) -> str:
        return f"PilotStatusApi({self._transport!r})"

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    @property
    def key_refused(self) -> bool:
        """Whether the last answer that tells said that the key is not taken (401, 403)."""
        return self._courier.key_refused

    # Calls

    async def initiate(
        self, to: str, *, callback_data: str | None = None, sdp: str | None = None
    ) -> InitiatedCall:
        """Place a call. ``sdp`` is the offer that only Meta numbers need.

        Never dials twice: when the answer is lost, the call is looked for by
        ``callback_data`` (one is made up if none is given) among the newest calls. Not
        found, ``ProviderUnreachable`` with ``sent`` tells that the outcome is unknown.
        """
        tag = callback_data or f"voicebridge-{self._rng.getrandbits(96):024x}"
        since = self._utc() - _CLOCK_SKEW
        try:
            return await self._fetch(endpoints.initiate(to, tag, sdp))
        except (ProviderUnreachable, ProviderFault) as error:
            # 503 is a refusal: nothing was dialled.
            certain = error.status == 503 if isinstance(error, ProviderFault) else not error.sent
            if certain:
                raise
            found = await self._dialled(tag, since)
            if found is not None:
                return found
            raise ProviderUnreachable(
                "initiate: the answer was lost and the outcome is unknown; "
                "look at list_calls before dialling again",
                operation="initiate",
                sent=True,
            ) from error

    async def list_calls(self, *, limit: int = 25, before: str | None = None) -> list[CallDetails]:
        """The newest calls, at most ``limit`` (1 to 100), strictly older than ``before``."""
        return await self._fetch(endpoints.list_calls(limit, before))

    async def iter_calls(
        self, *, since: datetime | None = None, page: int = _MAX_PAGE, max_pages: int = 100
    ) -> AsyncIterator[CallDetails]:
        """Calls from the newest to the oldest, each once, none created before ``since``.

        Stops where a page repeats, brings nothing new or does not lead further back, and
        after ``max_pages``: a list that turns in circles ends.
        """
        cursor: datetime | None = None
        previous: frozenset[str] = frozenset()
        for _ in range(max_pages):
            # One millisecond back, or calls of the same instant would be skipped.
            before = _iso(cursor + timedelta(milliseconds=1)) if cursor else None
            rows = await self.list_calls(limit=page, before=before)
            fresh = [call for call in rows if call.id not in previous]
            for call in fresh:
                if since is not None and call.created_at is not None and call.created_at < since:
                    return
                yield call
            oldest = min((c.created_at for c in rows if c.created_at is not None), default=None)
            if not fresh or oldest is None or (cursor is not None and oldest >= cursor):
                return
            cursor, previous = oldest, frozenset(call.id for call in rows)

    async def get_call(self, call_id: str, *, include_sdp: bool = False) -> CallDetails:
        """The call as it stands. ``include_sdp`` matters on Meta numbers only."""
        return await self._fetch(endpoints.get_call(call_id, include_sdp=include_sdp))

    async def accept(
        self, call_id: str, *, deadline: float | None = None, sdp: str | None = None
    ) -> None:
        """Answer an inbound call; nothing is tried after ``deadline`` (monotonic).

        Raises:
            CallOver: the call ended before it was answered.
            CallNotFound: not even a moment later the API knew this call.
            Conflict: somebody else answered, or the number cannot.
        """
        await self._courier.carry(endpoints.accept(call_id, sdp), deadline)

    async def pre_accept(self, call_id: str, sdp: str) -> None:
        """Give the SDP answer early, against clipping. Meta numbers only."""
        await self._courier.carry(endpoints.pre_accept(call_id, sdp))

    async def reject(self, call_id: str) -> None:
        """Decline an inbound call; one that is over or gone counts as declined."""
        await self._courier.carry(endpoints.reject(call_id))

    async def terminate(self, call_id: str) -> None:
        """Hang up; a call that is over or gone counts as hung up. Takes 20 s at most."""
        await self._courier.carry(endpoints.terminate(call_id))

    async def play(self, call_id: str, url: str) -> None:
        """Have the provider fetch an audio file and play it into the call. Evolution GO only.

        Not repeated when in doubt: the prompt might be heard twice.
        """
        try:
            await self._play(call_id, url, self._play_field)
        except NumberNotFound:
            raise
        except InvalidRequest as error:
            # The endpoint's page and its reference name the field differently.
            if self._play_field_proven or error.status != 400:
                raise
            other = "audioUrl" if self._play_field == "mediaUrl" else "mediaUrl"
            try:
                await self._play(call_id, url, other)
            except InvalidRequest:
                raise error from None
            self._play_field = other
        self._play_field_proven = True

    async def realtime_session(
        self, call_id: str, mode: Literal["talk", "listen"] = "talk"
    ) -> RealtimeSession:
        """A fresh media socket address: single use, about two minutes. Evolution GO only."""
        return await self._fetch(endpoints.realtime_session(call_id, mode))

    # Meta numbers only

    async def get_settings(self) -> CallingSettings:
        """The number's calling settings; ``FeatureNotSupported`` on Evolution GO numbers."""
        return await self._fetch(endpoints.get_settings())

    async def update_settings(self, update: CallingSettingsUpdate) -> None:
        """Change what ``update`` sets. Raises ConfigError for holidays in the past."""
        now = self._utc()
        update.check(update.call_hours.local_date(now) if update.call_hours else now.date())
        await self._courier.carry(endpoints.update_settings(update.payload()))

    async def get_permissions(self, to: str) -> CallPermission:
        """Whether the business may call ``to`` now."""
        return await self._fetch(endpoints.get_permissions(to))

    async def request_permission(self, to: str, *, text: str | None = None) -> PermissionRequest:
        """Ask ``to`` for permission to call; not repeated when in doubt."""
        return await self._fetch(endpoints.request_permission(to, text))

    # Webhooks

    async def list_webhooks(self) -> list[Webhook]:
        """The webhooks of this key's number."""
        return await self._fetch(endpoints.list_webhooks())

    async def create_webhook(self, url: str, *, name: str, events: Sequence[str]) -> Webhook:
        """Subscribe ``url``. Compare ``events`` of what returns: some may be dropped."""
        return await self._fetch(endpoints.create_webhook(url, name, events))

    async def get_webhook(self, webhook_id: str) -> Webhook:
        return await self._fetch(endpoints.get_webhook(webhook_id))

    async def update_webhook(
        self,
        webhook_id: str,
        *,
        url: str | None = None,
        name: str | None = None,
        active: bool | None = None,
        events: Sequence[str] | None = None,
    ) -> Webhook:
        """Change what is given; ``events`` replaces the whole list."""
        changes = {
            "url": url,
            "name": name,
            "active": active,
            "events": None if events is None else list(events),
        }
        body = {key: value for key, value in changes.items() if value is not None}
        return await self._fetch(endpoints.update_webhook(webhook_id, body))

    async def delete_webhook(self, webhook_id: str) -> None:
        """Remove a webhook; one that is gone already counts as removed."""
        try:
            await self._courier.carry(endpoints.delete_webhook(webhook_id))
        except CallNotFound:
            return

    async def webhook_logs(
        self, webhook_id: str, *, limit: int = 20, event: str | None = None
    ) -> list[WebhookLogEntry]:
        """The last deliveries, newest first, at most 50."""
        return await self._fetch(endpoints.webhook_logs(webhook_id, limit, event))

    # Inside

    def _now(self) -> float:
        return self._clock.now()

    def _utc(self) -> datetime:
        return self._clock.utc()

    @property
    def _clock(self) -> Clock:
        # Built on first use: the object may be made before the loop runs.
        if self._given_clock is None:
            self._given_clock = LoopClock()
        return self._given_clock

    async def _fetch(self, request: Request[T]) -> T:
        value = await self._courier.carry(request)
        assert value is not None
        return value

    async def _play(self, call_id: str, url: str, field: str) -> None:
        await self._courier.carry(endpoints.play(call_id, url, field))

    async def _dialled(self, tag: str, since: datetime) -> InitiatedCall | None:
        """The call that carries ``tag``, if the list shows it soon enough."""
        for delay in _SEARCH_AFTER_SECONDS:
            await asyncio.sleep(delay)
            try:
                calls = await self.list_calls()
            except ProviderError:
                continue
            for call in calls:
                fresh = call.created_at is None or call.created_at >= since
                if call.biz_opaque_callback_data == tag and fresh and _is_ours(call):
                    return InitiatedCall(
                        id=call.id, external_call_id=call.external_call_id, status=call.status
                    )
        return None


def _is_ours(call: CallDetails) -> bool:
    return call.direction is not Direction.INBOUND


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
