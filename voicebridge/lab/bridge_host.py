"""The real bridge, started for one demo: the same wiring and server as ``serve``.

One rule: everything about the bridge happens on the loop that called :func:`start_bridge`.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from voicebridge.errors import VoicebridgeError
from voicebridge.lab.record import BridgeFigures
from voicebridge.server.app import ServerConfig, create_app
from voicebridge.server.serve import serve
from voicebridge.settings import load_settings
from voicebridge.wiring import open_bridge

if TYPE_CHECKING:
    from pydantic import SecretStr

    from voicebridge.bridge import Bridge
    from voicebridge.call import Bot
    from voicebridge.settings import Settings

__all__ = ["BridgeOrder", "HostedBridge", "start_bridge"]

_START_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class BridgeOrder:
    """What the bridge must know of the emulator, and the port on which it is expected."""

    bot: str
    port: int
    api_url: str
    api_key: SecretStr = field(repr=False)
    webhook_secret: SecretStr = field(repr=False)


class HostedBridge:
    """A bridge and its HTTP server in one task, until :meth:`close`."""

    def __init__(self, settings: Settings, bot: Bot) -> None:
        self._stop = asyncio.Event()
        self._ready = asyncio.Event()
        self._bridge: Bridge | None = None
        # One task enters and leaves all contexts: cancel scopes must not change tasks.
        self._task = asyncio.create_task(self._host(settings, bot), name="demo-bridge")

    async def ready(self) -> None:
        """Raises what kept the bridge from starting."""
        waiting = asyncio.create_task(self._ready.wait())
        try:
            async with asyncio.timeout(_START_SECONDS):
                await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self._task.done():
            self._task.result()
            raise VoicebridgeError("the bridge ended before it was up; see its log")

    async def figures(self) -> BridgeFigures:
        """Of the newest call; zeros before there was one."""
        calls = self._bridge.summaries() if self._bridge is not None else []
        if not calls:
            return BridgeFigures()
        frames, lead = calls[0].frames, calls[0].lead_ms
        return BridgeFigures(
            sent=frames["sent"],
            received=frames["received"],
            late=frames["late"],
            lost=frames["lost"],
            lead_mean_ms=lead["mean"],
            lead_max_ms=lead["max"],
        )

    async def idle(self, seconds: float) -> None:
        """Waits until no call is live, at most ``seconds``."""
        assert self._bridge is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._bridge.idle()

    async def close(self) -> None:
        self._stop.set()
        await self._task

    async def _host(self, settings: Settings, bot: Bot) -> None:
        async with open_bridge(settings, bot) as running:
            self._bridge = running.bridge
            app = create_app(
                running.bridge,
                ServerConfig(
                    secrets=settings.secrets, signature_mode=settings.effective_signature_mode
                ),
                running.metrics,
                clock=running.clock,
                ready=running.ready,
            )
            await serve(
                app,
                settings.host,
                settings.port,
                on_ready=lambda _address: self._ready.set(),
                stop=self._stop,
            )


def demo_settings(order: BridgeOrder) -> Settings:
    """The operator's settings, with everything that could reach a real account replaced.

    What is left of theirs is how media and calls are handled, so a demo shows their effect.
    """
    return load_settings(
        bot=order.bot,
        host="127.0.0.1",
        port=order.port,
        api_url=order.api_url,
        api_key=order.api_key,
        webhook_secret=order.webhook_secret,
        signature_mode="required",
        media_hosts="127.0.0.1",
        allow_insecure_media=True,
        fallback_prompt_url="",
        redis_url="",
        console_token="",
        capsule_dir="",
    )


async def start_bridge(order: BridgeOrder) -> HostedBridge:
    """Starts bridge and server on the running loop; returns when webhooks are taken.

    Raises:
        BotLoadError: the bot cannot be loaded.
        ConfigError: the operator's settings are wrong, or the port is taken.
    """
    from voicebridge.botspec import load_bot

    hosted = HostedBridge(demo_settings(order), load_bot(order.bot))
    await hosted.ready()
    return hosted
