"""The HTTP server, inside a loop and a process that are ours.

uvicorn is embedded as a library: it installs no signal handler, writes no access log,
names itself in no header and trusts no forwarding header. One rule: the listening
sockets are opened here, so that what stands in their way is told to the operator as a
``ConfigError`` and not by ending the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import uvicorn

from voicebridge.errors import ConfigError
from voicebridge.server.connections import ConnectionGuard, ConnectionLimits, GuardedProtocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp

__all__ = ["ConnectionLimits", "serve"]

# Heads up to this size are read, so that an oversized header can still be answered.
_MAX_HEAD_BYTES = 32 * 1024
# A full queue of unaccepted connections must not exhaust the file descriptors at once.
_BACKLOG = 128
_GRACE_SECONDS = 5


async def serve(
    app: ASGIApp,
    host: str,
    port: int,
    *,
    on_ready: Callable[[str], None],
    stop: asyncio.Event,
    limits: ConnectionLimits | None = None,
) -> None:
    """Serves ``app`` until ``stop`` is set, then lets running requests end (5 s at most).

    ``on_ready`` is called once, as soon as connections are accepted, with the address as
    ``http://host:port``; port 0 takes a free one. Raises ``ConfigError`` where the address
    cannot be had.
    """
    guard = ConnectionGuard(limits or ConnectionLimits())
    sockets = await _open(host, port)
    server = _EmbeddedServer(_configure(app, guard), stop)
    server.on_started = partial(on_ready, _address(host, sockets[0]))
    try:
        await server.serve(sockets)
    finally:
        # Nothing is left of an orderly stop; a cancelled or failed one ends here.
        for listener in getattr(server, "servers", ()):
            listener.close()
        for opened in sockets:
            opened.close()
        guard.cut_all()


class _EmbeddedServer(uvicorn.Server):
    """uvicorn's server without its claim on the process's signals."""

    on_started: Callable[[], None]

    def __init__(self, config: uvicorn.Config, stop: asyncio.Event) -> None:
        super().__init__(config)
        self._stop = stop

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_started()

    async def on_tick(self, counter: int) -> bool:
        self.should_exit = self.should_exit or self._stop.is_set()
        return await super().on_tick(counter)


def _address(host: str, opened: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{opened.getsockname()[1]}"


def _configure(app: ASGIApp, guard: ConnectionGuard) -> uvicorn.Config:
    return uvicorn.Config(
        cast("Any", app),
        # Any callable that makes protocols will do; uvicorn's annotation asks for a class.
        http=cast("Any", partial(GuardedProtocol, guard=guard)),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level=logging.ERROR,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        # A backstop: the guard keeps the number of connections below it.
        limit_concurrency=guard.limits.max_connections + _BACKLOG,
        backlog=_BACKLOG,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
    )


async def _open(host: str, port: int) -> list[socket.socket]:
    """Bound sockets, one per address of ``host``, all on the same port."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise ConfigError(
            f"VOICEBRIDGE_HOST: {host!r} is no address of this machine; use 127.0.0.1, or "
            "0.0.0.0 for all interfaces"
        ) from None
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            wanted = (address[0], sockets[0].getsockname()[1] if sockets else port, *address[2:])
            try:
                sockets.append(_bind(family, wanted))
            except OSError as error:
                # "localhost" may name an IPv6 address on a machine without IPv6.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                absent = error
        if absent is not None and not sockets:
            raise absent
    except OSError as error:
        for opened in sockets:
            opened.close()
        raise _explain(error, host, port) from error
    return sockets


def _bind(family: int, address: tuple[Any, ...]) -> socket.socket:
    # The protocol is named because asyncio sets TCP_NODELAY only on sockets that name it;
    # without it an answer in two writes waits 40 ms for a delayed acknowledgement.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        opened.setblocking(False)
        if os.name == "posix":  # elsewhere it would let two programs share the port
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind(address)
    except BaseException:
        opened.close()
        raise
    return opened


def _explain(error: OSError, host: str, port: int) -> ConfigError:
    match error.errno:
        case errno.EADDRINUSE:
            return ConfigError(
                f"port {port} on {host} is in use: stop the program that holds it, or choose "
                "another with --port or VOICEBRIDGE_PORT"
            )
        case errno.EACCES:
            return ConfigError(
                f"port {port} is not allowed to this user: choose one above 1023 with --port or "
                "VOICEBRIDGE_PORT"
            )
        case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT:
            return ConfigError(
                f"VOICEBRIDGE_HOST: {host!r} is no address of this machine; use 127.0.0.1, or "
                "0.0.0.0 for all interfaces"
            )
    return ConfigError(f"cannot listen on {host} port {port}: {error.strerror or error}")
