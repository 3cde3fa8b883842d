"""Opens a call's media socket, and opens it again: one fresh realtime session, one socket.

A token is used once and never again, whatever became of the attempt: servers of this
family spend it on any handshake (docs.pilotstatus.com.br: single use, about two minutes).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from voicebridge.errors import (
    CallOver,
    FeatureNotSupported,
    MediaError,
    MediaUnavailable,
    MediaUrlRefused,
    NumberNotFound,
    ProviderError,
    ProviderRefused,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from voicebridge.line import Line
    from voicebridge.pilotstatus.models import RealtimeSession
    from voicebridge.services import Services

#: A realtime session may be refused for a while after accept ("call not active yet").
#: Relatives of the provider's server become active within seconds; 9 s in all.
NOT_ACTIVE_DELAYS = (0.2, 0.4, 0.8, 1.5, 2.0, 2.0, 2.0)
#: That refusal has no documented status; these are what it may be.
_NOT_ACTIVE = (400, 404, 409, 425)
OPEN_ATTEMPTS = 3
#: In all, whatever hangs: then the prompt, and the end.
FIRST_WINDOW = 12.0
#: For any connector, whatever it promises: a handshake that hangs must not hold a call.
CONNECT_LIMIT = 3.0
#: After a loss; within the ten seconds for which one known server keeps the call.
RECONNECT_DELAYS = (0.0, 0.3, 1.0, 2.0, 2.0)
RECONNECT_WINDOW = 8.0
#: The question whether the call is still up may not use up that window.
LOOK_LIMIT = 1.0
#: A socket that keeps dropping is given up: so many losses within so long.
FLAP_LIMIT, FLAP_WINDOW = 5, 30.0

_log = logging.getLogger(__name__)


class Opener:
    """Opens the line of one call, and knows how often it was lost."""

    def __init__(self, line: Line, services: Services, call_id: str) -> None:
        self._line = line
        self._services = services
        self._call_id = call_id
        self._losses: list[float] = []

    async def first(self) -> None:
        """Opens the first socket, in up to three attempts.

        Raises:
            FeatureNotSupported, MediaUrlRefused, CallOver: no attempt can help.
            MediaError, ProviderError: of the last attempt.
        """
        try:
            async with asyncio.timeout(FIRST_WINDOW):
                await self._first()
        except TimeoutError:
            raise MediaUnavailable("no media session within the time a caller waits") from None

    async def _first(self) -> None:
        # One stock of patience for all attempts: the caller hears nothing meanwhile.
        patience = iter(NOT_ACTIVE_DELAYS)
        for attempt in range(1, OPEN_ATTEMPTS + 1):
            try:
                return await self._open(patience)
            except (FeatureNotSupported, MediaUrlRefused, CallOver):
                raise
            except (MediaError, ProviderError) as error:
                _log.warning("media did not open (attempt %d): %s", attempt, error)
                if attempt == OPEN_ATTEMPTS:
                    raise
                await asyncio.sleep(0.1 * 2**attempt)
        return None

    async def again(self, look: Callable[[], Awaitable[None]]) -> bool:
        """Opens a new socket after a loss; False where that is given up.

        ``look`` is called before each attempt, and raises where the call is over.
        """
        now = self._services.clock.now()
        self._losses = [*(at for at in self._losses if at > now - FLAP_WINDOW), now]
        await self._line.retire()
        if len(self._losses) > FLAP_LIMIT:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(now + RECONNECT_WINDOW):
                for delay in RECONNECT_DELAYS:
                    await asyncio.sleep(delay)
                    if await self._attempt(look):
                        return True
        return False

    async def _attempt(self, look: Callable[[], Awaitable[None]]) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_LIMIT):
                await look()
        try:
            await self._open(())
        except CallOver:
            raise
        except (MediaError, ProviderError) as error:
            _log.warning("media did not come back yet: %s", error)
            return False
        return True

    async def _open(self, delays: Iterable[float]) -> None:
        session = await self._mint(delays)
        try:
            async with asyncio.timeout(CONNECT_LIMIT):
                await self._line.open(self._services.connect, session.ws_url)
        except TimeoutError:
            raise MediaUnavailable("the media server did not finish the handshake") from None

    async def _mint(self, delays: Iterable[float]) -> RealtimeSession:
        """A new session, waiting between refusals for ``delays``."""
        provider = self._services.provider
        for delay in delays:
            try:
                return await provider.realtime_session(self._call_id, "talk")
            except (FeatureNotSupported, NumberNotFound):
                raise
            except ProviderRefused as error:
                if error.status not in _NOT_ACTIVE:
                    raise
                await asyncio.sleep(delay)
        return await provider.realtime_session(self._call_id, "talk")
