"""What `voicebridge serve` does: refuse wrong configuration, serve, drain on signals."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import TYPE_CHECKING

from voicebridge.errors import ConfigError, ProviderError
from voicebridge.server.app import ServerConfig, create_app
from voicebridge.server.serve import serve
from voicebridge.wiring import Running, open_bridge

if TYPE_CHECKING:
    from voicebridge.call import Bot
    from voicebridge.settings import Settings

_log = logging.getLogger(__name__)


def check_key(settings: Settings) -> None:
    """Refuses to start without an API key.

    Raises:
        ConfigError
    """
    if not settings.api_key.get_secret_value():
        raise ConfigError(
            "VOICEBRIDGE_API_KEY is not set; create a number-scoped key (ps_...) in the "
            "Pilot Status dashboard, or take the one that `voicebridge emulator` prints"
        )


def check_production(settings: Settings) -> None:
    """Refuses what cannot work, before anything is opened.

    Raises:
        ConfigError
    """
    check_key(settings)
    if not settings.bot:
        raise ConfigError("no bot: give --bot SPEC or VOICEBRIDGE_BOT, e.g. --bot echo")
    if settings.effective_signature_mode == "required" and not settings.secrets:
        raise ConfigError(
            "VOICEBRIDGE_SIGNATURE_MODE=required needs VOICEBRIDGE_WEBHOOK_SECRET; the secret "
            "stands in the Pilot Status dashboard, no API returns it"
        )
    if settings.redis_url.get_secret_value():
        raise ConfigError(
            "VOICEBRIDGE_REDIS_URL: this version runs one worker per number; unset it"
        )
    if settings.capsule_dir:
        raise ConfigError("VOICEBRIDGE_CAPSULE_DIR: this version records no capsules; unset it")


async def run_server(settings: Settings, bot: Bot) -> None:
    """Serves until a signal, then drains; a second signal ends at once."""
    stop = asyncio.Event()
    async with open_bridge(settings, bot) as running:
        app = create_app(
            running.bridge,
            ServerConfig(
                secrets=settings.secrets,
                signature_mode=settings.effective_signature_mode,
                console_token=settings.console_token
                if settings.console_token.get_secret_value()
                else None,
            ),
            running.metrics,
            clock=running.clock,
            ready=running.ready,
        )
        signals = _Signals(running, settings.drain_seconds, stop)
        signals.install()
        _warn(settings)
        probe = asyncio.create_task(_probe(running), name="probe")
        try:
            await serve(
                app,
                settings.host,
                settings.port,
                on_ready=lambda address: _log.info(
                    "ready", extra={"address": address, "bot": settings.bot}
                ),
                stop=stop,
            )
        finally:
            probe.cancel()
            signals.cancel()
            await asyncio.gather(probe, return_exceptions=True)
    if running.bridge.abandoned:
        # asyncio would wait for ever for a bot that takes no cancellation.
        _log.error("bots that do not end are left behind; the process ends now")
        logging.shutdown()
        os._exit(1)


def _warn(settings: Settings) -> None:
    if settings.effective_signature_mode != "required":
        _log.warning(
            "webhook signatures are not required: every event is confirmed with the API "
            "before it is acted upon; set VOICEBRIDGE_WEBHOOK_SECRET, and leave "
            "VOICEBRIDGE_SIGNATURE_MODE unset"
        )
    if settings.allow_insecure_media:
        _log.warning("VOICEBRIDGE_ALLOW_INSECURE_MEDIA is on: for the emulator only")
    if not settings.fallback_prompt_url:
        _log.warning(
            "VOICEBRIDGE_FALLBACK_PROMPT_URL is not set: a caller hears nothing when media "
            "cannot be opened"
        )


async def _probe(running: Running) -> None:
    """Asks the API once whether it takes our key; readiness shows the answer."""
    try:
        await running.provider.list_calls(limit=1)
    except ProviderError as error:
        _log.error("the API does not answer as it should: %s", error)


class _Signals:
    """SIGTERM and SIGINT: the first drains, the second ends."""

    def __init__(self, running: Running, drain_seconds: float, stop: asyncio.Event) -> None:
        self._running = running
        self._drain_seconds = drain_seconds
        self._stop = stop
        self._draining: asyncio.Task[None] | None = None

    def install(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._received)

    def cancel(self) -> None:
        if self._draining is not None:
            self._draining.cancel()

    def _received(self) -> None:
        if self._draining is not None:
            _log.warning("second signal: ending now")
            self._stop.set()
            return
        bridge = self._running.bridge
        bridge.drain()
        _log.info("draining", extra={"calls": bridge.active, "seconds": self._drain_seconds})
        self._draining = asyncio.create_task(self._drain(), name="drain")

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._drain_seconds):
                await self._running.bridge.idle()
        except TimeoutError:
            _log.warning("the drain's time is over; hanging up what is left")
        self._stop.set()
