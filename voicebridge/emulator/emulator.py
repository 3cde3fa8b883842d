"""The other side of every call: an EVO_GO (or META) number that needs no WhatsApp.

``Emulator`` plays the provider's REST API, its webhooks, its media host and the person on
the phone, by a ``Behaviour`` that can be changed while it runs. Three ways to use it:

* ``await start()``: real ports, for a bridge in any process; see ``control`` for driving it
  with HTTP requests;
* ``app`` under an ASGI transport, ``connect_media`` and a ``webhook_transport``: no sockets
  at all, in virtual time;
* a mixture of both.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from voicebridge import __version__
from voicebridge.clock import Clock, LoopClock
from voicebridge.emulator.api import Api, Keys
from voicebridge.emulator.behaviour import Behaviour
from voicebridge.emulator.calling import CallingDesk
from voicebridge.emulator.calls_api import CallsApi
from voicebridge.emulator.control import Control
from voicebridge.emulator.exchange import Exchange
from voicebridge.emulator.ids import Ids
from voicebridge.emulator.media import MediaHost
from voicebridge.emulator.numbers import phone_number
from voicebridge.emulator.serving import HttpPort
from voicebridge.emulator.tickets import Tickets
from voicebridge.emulator.webhooks import WebhookDesk
from voicebridge.emulator.webhooks_api import WebhooksApi

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    import httpx
    from starlette.requests import Request
    from starlette.responses import Response

    from voicebridge.emulator.calls import EmulatedCall
    from voicebridge.emulator.memory import Listener, MemorySocket
    from voicebridge.emulator.script import CallerScript

__all__ = ["Emulator", "EmulatorConfig"]

_INSTANCE = "emulated"
_TENANT_ID = "tenant_emulator"
_MEMORY_URL = "ws://media.emulator"


class EmulatorConfig(BaseModel):
    """What is fixed for an emulator's life; everything else is ``behaviour``.

    Port 0 takes a free one. ``webhook_url`` is subscribed to all events from the start;
    without ``webhook_secret`` webhooks are not signed. ``media_public_url`` goes into
    ``wsUrl`` instead of the media port's own address, for a tunnel. ``seed`` makes ids,
    tokens and noise repeat.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65_535)
    media_port: int = Field(default=0, ge=0, le=65_535)
    media_public_url: str | None = None
    api_key: SecretStr = SecretStr("ps_emulator")
    api_key_id: str = "key_emulator"
    tenant_key: SecretStr = SecretStr("ps_emulator_tenant")
    webhook_url: str | None = Field(default=None, repr=False)
    webhook_secret: SecretStr | None = None
    number: str = Field(default="+5511888880000", repr=False)
    number_id: str = "num_emulator"
    kind: Literal["EVO_GO", "META"] = "EVO_GO"
    behaviour: Behaviour = Behaviour()
    seed: int | None = None


class Emulator:
    """One emulated number.

    ``clock`` defaults to the running loop's. ``webhook_transport`` takes webhooks instead
    of the network, e.g. ``httpx.ASGITransport(app)`` of a bridge in the same loop.
    """

    def __init__(
        self,
        config: EmulatorConfig | None = None,
        *,
        clock: Clock | None = None,
        webhook_transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.config = config = config or EmulatorConfig()
        self._given_clock = clock
        ids = Ids(config.seed)
        number = phone_number(config.number)
        self.exchange = Exchange(
            config.behaviour, kind=config.kind, number=number, ids=ids, clock=self._clock
        )
        self.webhooks = WebhookDesk(
            lambda: self.behaviour.webhooks,
            clock=self._clock,
            ids=ids,
            secret=config.webhook_secret,
            instance=_INSTANCE,
            default_url=config.webhook_url,
            transport=webhook_transport,
        )
        self.exchange.publish = self.webhooks.publish
        self._calling = CallingDesk(
            self.exchange,
            ids=ids,
            clock=self._clock,
            announce=lambda peer, status: self.webhooks.publish_permission(peer, number, status),
        )
        tickets = Tickets(ids, _INSTANCE)
        self._media = MediaHost(self.exchange, tickets, lambda: self._clock().now())
        self._api_port: int | None = None
        self._media_port: int | None = None
        self.app = self._application(tickets)
        self._http = HttpPort(self.app)

    async def start(self) -> None:
        """Listen on both ports. Raises ``ConfigError`` where one is taken."""
        config = self.config
        self.webhooks.prepare()
        self._media_port = await self._media.start(config.host, config.media_port)
        try:
            self._api_port = await self._http.start(config.host, config.port)
        except BaseException:
            await self._media.stop()
            raise

    async def stop(self) -> None:
        """Close the ports, cut what is open, drop what is not delivered."""
        await self._http.stop()
        await self._media.stop()
        self.exchange.close()
        self._calling.close()
        await self.webhooks.close()

    async def __aenter__(self) -> Emulator:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    @property
    def behaviour(self) -> Behaviour:
        """May be replaced at any time; see ``behaviour`` for what takes effect when."""
        return self.exchange.behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        self.exchange.behaviour = behaviour

    @property
    def calls(self) -> dict[str, EmulatedCall]:
        """By the provider's id, oldest first."""
        return self.exchange.calls

    @property
    def api_url(self) -> str:
        """``http://host:port``; ``http://emulator`` while it does not listen."""
        return "http://emulator" if self._api_port is None else self._url("http", self._api_port)

    @property
    def media_url(self) -> str:
        """The base of every ``wsUrl``."""
        if self.config.media_public_url is not None:
            return self.config.media_public_url.rstrip("/")
        return _MEMORY_URL if self._media_port is None else self._url("ws", self._media_port)

    @property
    def handshakes(self) -> deque[tuple[str, ...]]:
        """Header names of the last handshakes at the media host."""
        return self._media.handshakes

    @property
    def requests(self) -> deque[tuple[Any, int]]:
        """``(operation, status)`` of the last 10,000 requests that got an answer."""
        return self._api.requests

    def script_outbound(self, script: Callable[[str], CallerScript]) -> None:
        """Who answers outbound calls: a script for each called number."""
        self.exchange.outbound_script = script

    async def ring(self, script: CallerScript) -> EmulatedCall:
        """An inbound call; its webhook is on its way when this returns."""
        return self.exchange.ring(script)

    async def hang_up(self, call: EmulatedCall) -> None:
        """The caller hangs up."""
        self.exchange.hang_up(call)

    async def connect_media(self, ws_url: SecretStr, listener: Listener) -> MemorySocket:
        """Open a media socket without a network; same tokens, same faults, same far end.

        Raises ``MediaUnavailable`` where the handshake would have failed.
        """
        return await self._media.connect(ws_url, listener)

    def _application(self, tickets: Tickets) -> Starlette:
        config = self.config
        keys = Keys(config.api_key, config.api_key_id, config.tenant_key)
        self._api = Api(keys, config.kind, lambda: self.behaviour.rest)
        calls = CallsApi(
            self.exchange,
            tickets,
            self._calling,
            kind=config.kind,
            clock=self._clock,
            media_url=lambda: self.media_url,
        )
        webhooks = WebhooksApi(
            self.webhooks,
            kind=config.kind,
            number_id=config.number_id,
            tenant_id=_TENANT_ID,
            clock=self._clock,
            rest=lambda: self.behaviour.rest,
        )
        control = Control(self.exchange, self._about)
        return Starlette(
            routes=[*calls.routes(self._api), *webhooks.routes(self._api), *control.routes()],
            exception_handlers={HTTPException: _http_error},
        )

    def _about(self) -> dict[str, Any]:
        return {
            "version": __version__,
            "kind": self.config.kind,
            "number": self.exchange.number,
            "apiUrl": self.api_url,
            "mediaUrl": self.media_url,
            "webhooks": len(self.webhooks.all()),
            "calls": len(self.calls),
            "liveCalls": sum(1 for call in self.calls.values() if not call.over),
        }

    def _url(self, scheme: str, port: int) -> str:
        host = self.config.host
        shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
        if ":" in shown and not shown.startswith("["):
            shown = f"[{shown}]"
        return f"{scheme}://{shown}:{port}"

    def _clock(self) -> Clock:
        if self._given_clock is None:
            self._given_clock = LoopClock(asyncio.get_running_loop())
        return self._given_clock


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)
