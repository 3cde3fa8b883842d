"""A bridge and the provider's side of the world, in one loop and without a socket.

The bridge is the real one: its HTTP application, API client, call control and media
session. Only the network is replaced: requests pass in memory, and the media socket hands
its messages straight to the emulator's far end. Under `run_virtual` a call of minutes takes
a fraction of a second, the same way each time::

    async def scenario() -> None:
        async with open_world(EchoBot()) as world:
            call = await world.ring(speech, hangup_after=1.0)
            await world.over(call)
            assert heard(call, speech)

    run_virtual(scenario())
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import SecretStr

from voicebridge.emulator.behaviour import Behaviour
from voicebridge.emulator.emulator import Emulator, EmulatorConfig
from voicebridge.emulator.script import CallerScript
from voicebridge.server.app import ServerConfig, create_app
from voicebridge.settings import only
from voicebridge.testing.clock import VirtualClock
from voicebridge.wiring import Running, open_bridge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import numpy as np
    import numpy.typing as npt
    from starlette.applications import Starlette

    from voicebridge.bridge import Bridge
    from voicebridge.call import Bot
    from voicebridge.emulator.calls import EmulatedCall
    from voicebridge.summary import CallSummary

    Pcm = npt.NDArray[np.int16]

SECRET = "world-secret"
KEY = "ps_world"


@dataclass(frozen=True, slots=True)
class World:
    """Both sides of the line."""

    emulator: Emulator
    running: Running
    app: Starlette

    @property
    def bridge(self) -> Bridge:
        return self.running.bridge

    async def ring(
        self,
        audio: Pcm | None = None,
        *,
        hangup_after: float | None = None,
        starts_after: float = 0.5,
        number: str = "+5511999990000",
    ) -> EmulatedCall:
        """A customer calls, says ``audio`` (16 kHz) and hangs up that long after its end."""
        script = CallerScript(
            audio=audio, number=number, hangup_after=hangup_after, starts_after=starts_after
        )
        return await self.emulator.ring(script)

    async def over(self, call: EmulatedCall) -> CallSummary:
        """Waits until both sides have ended the call; what the bridge says of it."""
        await call.ended()
        await self.bridge.idle()
        summary = self.bridge.summary(call.id) or self.bridge.summary(call.external_id or "")
        assert summary is not None, "the bridge never saw this call"
        return summary


@contextlib.asynccontextmanager
async def open_world(
    bot: Bot, behaviour: Behaviour | None = None, **settings: Any
) -> AsyncIterator[World]:
    """A running world.

    Args:
        bot: answers the calls.
        behaviour: how the provider behaves; as documented by default.
        settings: of the bridge, by name, e.g. ``max_calls=2``.
    """
    clock = VirtualClock()
    late = _Late()
    emulator = Emulator(
        EmulatorConfig(
            api_key=SecretStr(KEY),
            webhook_url="http://bridge/webhooks/pilotstatus",
            webhook_secret=SecretStr(SECRET),
            seed=1,
            behaviour=behaviour or Behaviour(),
        ),
        clock=clock,
        webhook_transport=late,
    )
    values: dict[str, Any] = {
        "api_url": "http://emulator",
        "api_key": KEY,
        "webhook_secret": SECRET,
        "allow_insecure_media": True,
    }
    configured = only(**(values | settings))
    async with open_bridge(
        configured,
        bot,
        clock=clock,
        transport=httpx.ASGITransport(app=emulator.app),
        connect=emulator.connect_media,
    ) as running:
        app = create_app(
            running.bridge,
            ServerConfig(
                secrets=configured.secrets, signature_mode=configured.effective_signature_mode
            ),
            running.metrics,
            clock=clock,
            ready=running.ready,
        )
        late.transport = httpx.ASGITransport(app=app)
        try:
            yield World(emulator, running, app)
        finally:
            await emulator.stop()


class _Late(httpx.AsyncBaseTransport):
    """Stands in for a transport that exists only later: each side needs the other's."""

    transport: httpx.AsyncBaseTransport | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.transport is None:
            raise httpx.ConnectError("the bridge is not up yet")
        return await self.transport.handle_async_request(request)
