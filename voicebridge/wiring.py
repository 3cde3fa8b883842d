"""Where things are put together: settings in, a running bridge out.

Nothing else constructs an API client, a dialer or a bridge; tests and the demo give
their own doubles for the two edges of the network.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voicebridge.bridge import Bridge, BridgeConfig
from voicebridge.clock import Clock, LoopClock
from voicebridge.core.watchdog import Limits
from voicebridge.driver import Driver
from voicebridge.errors import BotLoadError, ProviderError
from voicebridge.logs import redact
from voicebridge.metrics import Metrics
from voicebridge.pilotstatus.api import PilotStatusApi
from voicebridge.pilotstatus.media import MediaDialer
from voicebridge.services import LegConfig, Services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from voicebridge.call import Bot
    from voicebridge.line import MediaConnector
    from voicebridge.recording import Recordings
    from voicebridge.settings import Settings

#: How often the loop's lag is put into the metrics.
LAG_SECONDS = 1.0
#: How soon a key that is taken again is noticed.
KEY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Running:
    """A bridge that takes calls, and what stands around it."""

    bridge: Bridge
    metrics: Metrics
    clock: Clock
    provider: PilotStatusApi

    def ready(self) -> bool:
        """Whether new calls may be sent here."""
        return not self.bridge.draining and not self.provider.key_refused


def leg_config(settings: Settings) -> LegConfig:
    """The limits of one call, out of the settings."""
    call = settings.call
    return LegConfig(
        media=settings.media.core(),
        detect_format=settings.media.detect_format,
        greeting_wait=settings.media.greeting_wait_ms / 1000,
        ring_seconds=call.ring_seconds,
        dial_seconds=call.dial_seconds,
        limits=Limits(
            max_call=settings.max_call_seconds,
            deaf=call.deaf_seconds,
            silence=call.silence_seconds,
        ),
        poll_seconds=call.poll_seconds,
        fallback_prompt_url=settings.fallback_prompt_url,
        fallback_prompt_seconds=call.fallback_prompt_seconds,
        bot_grace_seconds=call.bot_grace_seconds,
    )


@contextlib.asynccontextmanager
async def open_bridge(
    settings: Settings,
    bot: Bot,
    *,
    clock: Clock | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    connect: MediaConnector | None = None,
) -> AsyncIterator[Running]:
    """A started bridge; on leaving it hangs up what is left and closes everything.

    Args:
        clock: virtual time in tests.
        transport: in place of the network towards the REST API.
        connect: in place of the network towards the media host.
    """
    clock = clock or LoopClock()
    metrics = Metrics()

    def note(operation: str, status: str) -> None:
        metrics.api_requests_total.labels(operation=operation, status=status).inc()

    async with PilotStatusApi(
        settings.api_url, settings.api_key, clock=clock, transport=transport, on_request=note
    ) as api:
        driver = Driver()
        services = Services(
            provider=api,
            connect=connect
            or MediaDialer(
                allowed_hosts=settings.media_host_patterns,
                allow_insecure=settings.allow_insecure_media,
            ),
            driver=driver,
            clock=clock,
            metrics=metrics,
            config=leg_config(settings),
            recordings=_recordings(settings),
        )
        bridge = Bridge(
            services,
            bot,
            settings.bot or type(bot).__name__,
            BridgeConfig(
                max_calls=settings.max_calls,
                stale_ring_seconds=settings.call.stale_ring_seconds,
                ringing_poll_seconds=settings.call.ringing_poll_seconds,
            ),
        )
        try:
            await bridge.start()
        except Exception as error:
            raise BotLoadError(
                f"the bot's start() failed: {type(error).__name__}: {redact(str(error))}"
            ) from error
        watches = [
            asyncio.create_task(_watch_lag(clock, metrics), name="lag"),
            asyncio.create_task(_watch_key(api), name="key"),
        ]
        try:
            yield Running(bridge, metrics, clock, api)
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
            await bridge.close()
            if services.recordings is not None:
                # Up to ten seconds of a slow disk: not on the loop that answers webhooks.
                await asyncio.get_running_loop().run_in_executor(None, services.recordings.close)


def _recordings(settings: Settings) -> Recordings | None:
    """The writer of recordings, where they are wanted; nothing is imported otherwise."""
    if not settings.recording.dir:
        return None
    from voicebridge.recording import RecordingConfig, Recordings

    wanted = settings.recording
    return Recordings(RecordingConfig(Path(wanted.dir), wanted.format, announced=wanted.announced))


async def _watch_lag(clock: Clock, metrics: Metrics) -> None:
    """How late the loop wakes a sleeper: what every call on it feels."""
    while True:
        due = clock.now() + LAG_SECONDS
        await asyncio.sleep(LAG_SECONDS)
        metrics.event_loop_lag_seconds.observe(max(0.0, clock.now() - due))


async def _watch_key(api: PilotStatusApi) -> None:
    """Asks again while the key is refused: without calls nothing else would notice its return."""
    while True:
        await asyncio.sleep(KEY_SECONDS)
        if api.key_refused:
            with contextlib.suppress(ProviderError):
                await api.list_calls(limit=1)
