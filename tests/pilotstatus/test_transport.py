"""The real transport on loopback sockets: what was sent, and what it is called when it fails."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from tests.pilotstatus.script import CALL, KEY
from voicebridge.errors import CallOver, ProviderUnreachable
from voicebridge.pilotstatus.api import ApiLimits, PilotStatusApi

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.real


class Server:
    """A TCP server on loopback; ``received`` is every byte it got."""

    def __init__(self, answer: Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]) -> None:
        self._answer = answer
        self.received: list[bytes] = []
        self.connections = 0

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while data := await reader.read(65_536):
                self.received.append(data)
                await self._answer(data, writer)
                if writer.is_closing():
                    return
        except ConnectionError:
            pass
        finally:
            writer.close()


def http(status: int, body: object) -> bytes:
    content = json.dumps(body).encode()
    return b"HTTP/1.1 %d x\r\ncontent-length: %d\r\n\r\n%s" % (status, len(content), content)


def client(port: int, scheme: str = "http") -> PilotStatusApi:
    limits = ApiLimits(connect_seconds=0.5, attempt_seconds=1.0)
    return PilotStatusApi(f"{scheme}://127.0.0.1:{port}", SecretStr(KEY), limits=limits)


async def test_a_connection_is_used_again() -> None:
    async def answer(data: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(http(200, {"id": CALL, "status": "RINGING"}))

    async with Server(answer) as server, client(server.port) as api:
        await api.get_call(CALL)
        await api.get_call(CALL)
        assert server.connections == 1
        head = server.received[0].decode()
        assert head.startswith(f"GET /v1/calls/{CALL} HTTP/1.1\r\n")
        assert f"x-api-key: {KEY}\r\n" in head


async def test_a_port_that_nobody_listens_on_is_certainly_unsent() -> None:
    async with Server(lambda data, writer: asyncio.sleep(0)) as server:
        port = server.port
    async with client(port) as api:
        with pytest.raises(ProviderUnreachable) as caught:
            await api.play(CALL, "https://files.example/a.wav")
    assert not caught.value.sent


async def test_an_answer_cut_off_after_the_request_leaves_doubt() -> None:
    async def answer(data: bytes, writer: asyncio.StreamWriter) -> None:
        if data.startswith(b"POST"):
            writer.close()
        else:
            writer.write(http(200, {"id": CALL, "status": "MISSED"}))

    async with Server(answer) as server, client(server.port) as api:
        with pytest.raises(ProviderUnreachable) as caught:
            await api.play(CALL, "https://files.example/a.wav")
        assert caught.value.sent
        with pytest.raises(CallOver):
            await api.accept(CALL)


async def test_a_truncated_answer_is_asked_for_again() -> None:
    async def answer(data: bytes, writer: asyncio.StreamWriter) -> None:
        whole = http(200, {"id": CALL, "status": "RINGING"})
        if server.connections == 1:
            writer.write(whole[:-10])
            writer.close()
        else:
            writer.write(whole)

    server = Server(answer)
    async with server, client(server.port) as api:
        assert (await api.get_call(CALL)).id == CALL
        assert server.connections == 2


async def test_without_tls_the_key_is_never_sent() -> None:
    async def answer(data: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with Server(answer) as server, client(server.port, "https") as api:
        with pytest.raises(ProviderUnreachable) as caught:
            await api.get_call(CALL)
        assert not caught.value.sent
        assert server.received
        assert KEY.encode() not in b"".join(server.received)
