"""The emulator's HTTP port: uvicorn's HTTP/1.1 protocol inside the running loop.

Without uvicorn's server around it there are no signal handlers and no polling, and the end
is sharp: requests that are meant to hang must not hold it up.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from voicebridge.emulator.api import CUT
from voicebridge.emulator.ports import listening_socket

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["HttpPort"]

_STOP_S = 2.0


class HttpPort:
    """``app`` on one port."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._server: asyncio.Server | None = None
        self._state = ServerState()

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises ``ConfigError`` where it cannot be had."""
        config = uvicorn.Config(
            self._serve,
            interface="asgi3",
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            proxy_headers=False,
            timeout_keep_alive=30,
        )
        config.load()
        sock = listening_socket(host, port)
        self._server = await asyncio.get_running_loop().create_server(
            lambda: H11Protocol(config, self._state, {}), sock=sock
        )
        bound: int = sock.getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Close the port and cut every connection, whatever is going on there."""
        if self._server is None:
            return
        self._server.close()
        tasks = list(self._state.tasks)
        for connection in list(self._state.connections):
            connection.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(_STOP_S):
            await self._server.wait_closed()
        self._server = None

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The connection is reachable only here, before any middleware wraps `send`.
        transport = getattr(getattr(send, "__self__", None), "transport", None)
        if transport is not None:
            scope[CUT] = transport.abort
        await self._app(scope, receive, send)
