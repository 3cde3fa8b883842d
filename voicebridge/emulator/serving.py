"""The emulator's HTTP port: uvicorn inside the running loop, without its signal handlers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from typing import TYPE_CHECKING

import uvicorn

from voicebridge.emulator.api import CUT
from voicebridge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["HttpPort"]

_STOP_S = 1


class HttpPort:
    """``app`` on one port. ``start`` returns when it listens."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> int:
        """Returns the port. Raises ``ConfigError`` where it cannot be had."""
        try:
            sock = socket.create_server((host, port), family=_family(host), backlog=512)
        except OSError as error:
            raise ConfigError(
                f"the emulator cannot listen on port {port} ({error.strerror}): "
                "free it or choose another one"
            ) from error
        bound: int = sock.getsockname()[1]
        config = uvicorn.Config(
            self._serve,
            interface="asgi3",  # a bound method is taken for asgi2 otherwise
            log_config=None,
            access_log=False,
            log_level="critical",
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=_STOP_S,
        )
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[sock]), name="emulator http")
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            await self._task  # raises what went wrong
        return bound

    async def stop(self) -> None:
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            self._server.force_exit = True  # requests that are meant to hang would hold it
            await self._task
        self._server = self._task = None

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The connection is reachable only here, before any middleware wraps `send`.
        transport = getattr(getattr(send, "__self__", None), "transport", None)
        if transport is not None:
            scope[CUT] = functools.partial(_reset, transport)
        await self._app(scope, receive, send)


class _Server(uvicorn.Server):
    """Tells when it listens, and leaves the process's signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _reset(transport: asyncio.Transport) -> None:
    transport.abort()
