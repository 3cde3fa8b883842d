"""On loopback sockets and in real time: the ports, the WebSocket, and cut connections."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.emulator.world import FRAME, KEY, loud, media, tone
from voicebridge.emulator import (
    Behaviour,
    CallerBehaviour,
    CallerScript,
    Emulator,
    EmulatorConfig,
    MediaBehaviour,
    NetworkBehaviour,
    Outcome,
    RestBehaviour,
    Stall,
)
from voicebridge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from voicebridge.emulator import EmulatedCall

pytestmark = pytest.mark.real

QUICK = CallerBehaviour(connect_after_s=0.0)


def emulator(behaviour: Behaviour | None = None) -> Emulator:
    behaviour = behaviour or Behaviour()
    return Emulator(EmulatorConfig(behaviour=behaviour.model_copy(update={"caller": QUICK})))


def client(running: Emulator) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=running.api_url, headers=KEY, timeout=5.0, trust_env=False)


async def accepted(running: Emulator, script: CallerScript) -> tuple[EmulatedCall, str]:
    call = await running.ring(script)
    async with client(running) as http:
        assert (await http.post(f"/v1/calls/{call.id}/accept")).status_code == 200
        reply = await http.post(f"/v1/calls/{call.id}/realtime-session", json={"mode": "talk"})
    url: str = reply.json()["wsUrl"]
    return call, url


def dial(url: str) -> AbstractAsyncContextManager[ClientConnection]:
    return connect(url, compression=None, proxy=None, ping_interval=None)


async def received(ws: ClientConnection) -> AsyncIterator[bytes]:
    try:
        while True:
            message = await ws.recv()
            assert isinstance(message, bytes)
            yield message
    except ConnectionClosed:
        return


async def send_without_end(ws: ClientConnection) -> None:
    while True:
        await ws.send(bytes(1 << 16))


async def test_a_call_over_real_sockets() -> None:
    async with emulator(media(prefill_ms=0)) as running:
        speech = tone(0.3)
        script = CallerScript(audio=speech, starts_after=0.1, hangup_after=0.2)
        call, url = await accepted(running, script)
        async with dial(url) as ws:
            for _ in range(3):
                await ws.send(loud())
            got = b"".join([message async for message in received(ws)])
            assert ws.close_code == 1000
        await call.ended()
        samples = np.frombuffer(got, "<i2")
        np.testing.assert_array_equal(samples[samples != 0], speech)
        assert np.count_nonzero(call.far_end.heard) == 3 * FRAME // 2
        assert "sec-websocket-extensions" not in running.handshakes[0]
        assert call.far_end.measurement().text_frames == 0


async def test_fragments_text_and_pings_of_a_client() -> None:
    async with emulator(media(uplink="deaf")) as running:
        call, url = await accepted(running, CallerScript())
        async with dial(url) as ws:
            await ws.send([loud()[:500], loud()[500:]])
            await ws.send("hello")
            await asyncio.wait_for(await ws.ping(), 2.0)
            figures = call.far_end.measurement()
            assert (figures.messages, figures.samples_in, figures.text_frames) == (1, 960, 1)


async def test_json_hello_and_server_pings() -> None:
    async with emulator(media(hello="waxum", ping_every_s=0.05, uplink="deaf")) as running:
        call, url = await accepted(running, CallerScript())
        async with dial(url) as ws:
            assert json.loads(await ws.recv())["type"] == "call_started"
            await asyncio.wait_for(await ws.ping(), 2.0)
            await running.hang_up(call)
            assert [message async for message in received(ws)] == []


async def test_pings_may_stay_unanswered() -> None:
    async with emulator(media(answer_pings=False)) as running:
        _, url = await accepted(running, CallerScript())
        async with dial(url) as ws:
            pong = asyncio.ensure_future(await ws.ping())
            await ws.recv()
            await ws.recv()
            assert not pong.done()
            pong.cancel()


async def raw_handshake(url: str) -> bytes:
    """What the media port answers, without a client that follows redirects."""
    target = urlsplit(url)
    reader, writer = await asyncio.open_connection(target.hostname, target.port)
    writer.write(
        f"GET {target.path}?{target.query} HTTP/1.1\r\nHost: media\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    try:
        return await asyncio.wait_for(reader.read(), 2.0)
    finally:
        writer.close()


@pytest.mark.parametrize("status", [200, 302, 401, 429, 499, 503])
async def test_refused_handshakes(status: int) -> None:
    async with emulator(media(handshakes=(status,))) as running:
        _, url = await accepted(running, CallerScript())
        reply = await raw_handshake(url)
        assert reply.startswith(f"HTTP/1.1 {status} ".encode())
        assert (b"\r\nLocation: " in reply) == (status == 302)
        with pytest.raises(InvalidStatus) as again:
            async with dial(url):
                pass
        assert again.value.response.status_code == 401


async def test_handshakes_that_hang_or_break() -> None:
    async with emulator(media(handshakes=("hang", "reset"))) as running:
        _, url = await accepted(running, CallerScript())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), dial(url):
                pass
        call_id = next(iter(running.calls))
        async with client(running) as http:
            reply = await http.post(f"/v1/calls/{call_id}/realtime-session")
        with pytest.raises(ConnectionResetError):
            await raw_handshake(reply.json()["wsUrl"])


@pytest.mark.parametrize(("code", "seen"), [(1001, 1001), (1011, 1011), (1006, 1006)])
async def test_cut_connections(code: int, seen: int) -> None:
    async with emulator(media(cut_after_s=0.1, cut_code=code)) as running:
        call, url = await accepted(running, CallerScript())
        async with dial(url) as ws:
            async for _ in received(ws):
                pass
            assert ws.close_code == seen
        assert call.status == "ACCEPTED"


async def test_a_stall_holds_pongs_back() -> None:
    stall = Stall(at_s=0.0, seconds=0.3)
    behaviour = Behaviour(
        network=NetworkBehaviour(stalls=(stall,)), media=MediaBehaviour(uplink="deaf")
    )
    async with emulator(behaviour) as running:
        _, url = await accepted(running, CallerScript())
        loop = asyncio.get_running_loop()
        begun = loop.time()  # before the stall, which begins with the socket
        async with dial(url) as ws:
            await asyncio.wait_for(await ws.ping(), 5.0)
            assert loop.time() - begun >= 0.3


async def test_a_server_that_does_not_read_fills_the_clients_buffers() -> None:
    stall = Stall(at_s=0.0, seconds=60.0, way="from_bridge")
    async with emulator(Behaviour(network=NetworkBehaviour(stalls=(stall,)))) as running:
        call, url = await accepted(running, CallerScript())
        async with dial(url) as ws:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(send_without_end(ws), 0.3)
            assert call.far_end.measurement().messages == 0
            ws.transport.abort()


async def test_garbage_on_the_media_port() -> None:
    async with emulator() as running:
        port = int(running.media_url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01nonsense\r\n\r\n")
        assert await asyncio.wait_for(reader.read(), 2.0) == b""
        writer.close()
        async with httpx.AsyncClient(trust_env=False) as http:
            reply = await http.get(f"http://127.0.0.1:{port}/call/media/realtime/ws?token=x")
        assert reply.status_code == 401


async def test_faults_of_the_http_port() -> None:
    script: Any = {
        "accept": (Outcome(kind="reset", processed=True),),
        "get_call": (Outcome(kind="hang"), Outcome(kind="garbage", body="")),
    }
    async with emulator(Behaviour(rest=RestBehaviour(script=script))) as running:
        call = await running.ring(CallerScript())
        async with client(running) as http:
            with pytest.raises(httpx.TransportError):
                await http.post(f"/v1/calls/{call.id}/accept")
            assert call.status == "ACCEPTED"
            with pytest.raises(httpx.ReadTimeout):
                await http.get(f"/v1/calls/{call.id}", timeout=0.2)
            assert (await http.get(f"/v1/calls/{call.id}")).text == ""
            assert (await http.get(f"/v1/calls/{call.id}")).json()["status"] == "ACCEPTED"


async def test_stopping_does_not_wait_for_hanging_requests_and_sockets() -> None:
    script: Any = {"list_calls": (Outcome(kind="hang"),)}
    running = emulator(Behaviour(rest=RestBehaviour(script=script)))
    await running.start()
    _, url = await accepted(running, CallerScript())
    async with client(running) as http, dial(url) as ws:
        hanging = asyncio.create_task(http.get("/v1/calls"))
        await ws.recv()
        async with asyncio.timeout(2.0):
            await running.stop()
        with pytest.raises(httpx.TransportError):
            await hanging
        async for _ in received(ws):
            pass
        assert ws.close_code == 1006


async def test_webhooks_over_http() -> None:
    bodies: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        bodies.append(await reader.readexactly(length))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = EmulatorConfig(webhook_url=f"http://127.0.0.1:{port}/hook")
    async with Emulator(config) as running:
        call = await running.ring(CallerScript())
        await running.webhooks.settled()
        assert json.loads(bodies[0])["callId"] == call.id
    server.close()
    await server.wait_closed()


async def test_a_taken_port_says_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for ports in ({"port": port}, {"media_port": port}):
            with pytest.raises(ConfigError, match="free it or choose another"):
                await Emulator(EmulatorConfig.model_validate(ports)).start()
