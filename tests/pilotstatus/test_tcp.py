"""What the kernel says about a real connection."""

from __future__ import annotations

import contextlib
import socket as sockets
import sys

import pytest

from voicebridge.pilotstatus.tcp import tune, unacknowledged

pytestmark = pytest.mark.real


@pytest.mark.skipif(sys.platform != "linux", reason="SIOCOUTQ is Linux's")
def test_bytes_that_nobody_takes_are_counted() -> None:
    with sockets.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 2048)
        with sockets.create_connection(server.getsockname()) as client:
            tune(client, 15_000)
            assert client.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY)
            assert unacknowledged(client.fileno()) == 0
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(1000):
                    client.send(bytes(1000))
            assert unacknowledged(client.fileno()) > 0
    assert unacknowledged(-1) == 0
