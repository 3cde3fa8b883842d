"""Opens a call's media socket: one fresh realtime session, one socket.

A token is used once and never again, whatever became of the attempt: servers of this
family spend it on any handshake (docs.pilotstatus.com.br: single use, about two minutes).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from voicebridge.errors import FeatureNotSupported, NumberNotFound, ProviderRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voicebridge.line import Line, MediaConnector
    from voicebridge.pilotstatus.models import RealtimeSession
    from voicebridge.provider import Provider

#: A realtime session may be refused for a while after accept ("call not active yet").
#: Relatives of the provider's server become active within seconds; 9 s in all.
NOT_ACTIVE_DELAYS = (0.2, 0.4, 0.8, 1.5, 2.0, 2.0, 2.0)
#: That refusal has no documented status; these are what it may be.
_NOT_ACTIVE = (400, 404, 409, 425)


async def open_line(
    line: Line,
    provider: Provider,
    connect: MediaConnector,
    call_id: str,
    delays: Sequence[float],
) -> None:
    """Mints a session, waiting between refusals for ``delays``, and opens the line with it.

    Raises:
        ProviderError: no session; `FeatureNotSupported` is final.
        MediaError: no socket.
    """
    session = await _mint(provider, call_id, delays)
    await line.open(connect, session.ws_url)


async def _mint(provider: Provider, call_id: str, delays: Sequence[float]) -> RealtimeSession:
    for delay in delays:
        try:
            return await provider.realtime_session(call_id, "talk")
        except (FeatureNotSupported, NumberNotFound):
            raise
        except ProviderRefused as error:
            if error.status not in _NOT_ACTIVE:
                raise
            await asyncio.sleep(delay)
    return await provider.realtime_session(call_id, "talk")
