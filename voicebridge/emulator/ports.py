"""A listening socket, or an error that says what to do."""

from __future__ import annotations

import socket

from voicebridge.errors import ConfigError

__all__ = ["listening_socket"]


def listening_socket(host: str, port: int) -> socket.socket:
    """Bound and listening; ``port`` 0 takes a free one. Raises ``ConfigError``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        server = socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise ConfigError(
            f"the emulator cannot listen on port {port} ({error.strerror}): "
            "free it or choose another one"
        ) from error
    # Accepted sockets inherit it. asyncio sets it only on sockets that name their protocol,
    # and an answer in two writes would wait 40 ms for a delayed acknowledgement.
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return server
