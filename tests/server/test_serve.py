"""The server on real loopback sockets: raw bytes in, raw bytes out."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import signal
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.server.stand_in import GUARDED, HOOK, SIGNED, StandInBridge, ringing, sign
from voicebridge.clock import LoopClock
from voicebridge.errors import ConfigError
from voicebridge.metrics import Metrics
from voicebridge.server.access import GUESSES
from voicebridge.server.app import ServerConfig, create_app
from voicebridge.server.serve import ConnectionLimits, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.real

PATIENCE = 10.0
GET = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
LAST = GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")


@dataclass
class Running:
    bridge: StandInBridge
    address: str
    port: int
    stop: asyncio.Event

    async def exchange(self, data: bytes, *, finish: bool = True) -> bytes:
        """Everything that comes back for ``data`` until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data + (LAST if finish else b""))
            async with asyncio.timeout(PATIENCE):
                return await reader.read()
        finally:
            writer.close()

    async def status(self, data: bytes) -> int:
        """The status of the one answer that comes for ``data`` before the server closes."""
        return int((await self.exchange(data, finish=False)).split(b" ", 2)[1])

    async def alive(self) -> bool:
        return (await self.exchange(b"")).startswith(b"HTTP/1.1 200")


@contextlib.asynccontextmanager
async def running(
    config: ServerConfig = SIGNED, limits: ConnectionLimits | None = None
) -> AsyncIterator[Running]:
    bridge = StandInBridge()
    app = create_app(bridge, config, Metrics(), clock=LoopClock())
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    serving = asyncio.create_task(
        serve(app, "127.0.0.1", 0, on_ready=ready.set_result, stop=stop, limits=limits)
    )
    try:
        async with asyncio.timeout(PATIENCE):
            address = await ready
        yield Running(bridge, address, int(address.rpartition(":")[2]), stop)
    finally:
        stop.set()
        async with asyncio.timeout(PATIENCE):
            await serving


def post(body: bytes, *headers: str, signature: str | None = None, version: str = "1.1") -> bytes:
    lines = [
        f"POST {HOOK} HTTP/{version}",
        "host: localhost",
        f"x-pilot-status-signature: {signature or sign(body)}",
        f"content-length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


async def test_what_it_says_of_itself() -> None:
    async with running() as here:
        assert here.address == f"http://127.0.0.1:{here.port}"
        head = (await here.exchange(b"")).partition(b"\r\n\r\n")[0].lower()
        assert b"\r\nserver:" not in head
        assert b"\r\ndate:" in head


async def test_webhooks_over_every_kind_of_connection() -> None:
    async with running() as here:
        pipelined = b"".join(post(ringing(f"call_{n}")) for n in range(5))
        answer = await here.exchange(pipelined)
        assert answer.count(b"HTTP/1.1 200 OK") == 6
        body = ringing("call_old")
        assert await here.status(post(body, version="1.0")) == 200
        body = ringing("call_chunked")
        head = post(body, "transfer-encoding: chunked").partition(b"\r\n\r\n")[0]
        head = head.replace(f"content-length: {len(body)}\r\n".encode(), b"")
        pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
        assert (await here.exchange(head + b"\r\n\r\n" + pieces + b"0\r\n\r\n")).count(b"200") == 2
        assert [event.call_id for event in here.bridge.events] == [
            *(f"call_{n}" for n in range(5)),
            "call_old",
            "call_chunked",
        ]


CLOSE = "connection: close"
CHUNKED = f"POST {HOOK} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
SMUGGLED = b"POST /drain HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"
TABLE = {
    "non-ASCII signature": (post(b"{}", CLOSE, signature="\xe9" * 64), 401),
    "8 KB signature": (post(b"{}", CLOSE, signature="a" * 8192), 401),
    "signature twice": (post(b"{}", CLOSE, "X-Pilot-Status-Signature: " + sign(b"{}")), 401),
    "gzip": (post(gzip.compress(bytes(200_000)), "content-encoding: gzip"), 415),
    "gzip members": (post(gzip.compress(b"{}") * 500, "content-encoding: gzip"), 415),
    "declared too large": (post(b"").replace(b"length: 0", b"length: 999999"), 413),
    "both framings": (post(b"0\r\n\r\n" + SMUGGLED, "transfer-encoding: chunked"), 400),
    "two lengths": (post(b"{}", "content-length: 3"), 400),
    "negative length": (post(b"").replace(b"length: 0", b"length: -1"), 400),
    "unknown coding": (
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        400,  # uvicorn's one answer to all broken framing
    ),
    "bad chunk": (CHUNKED + b"zz\r\n", 400),
    "folded header": (LAST.replace(b"close", b"\r\n close"), 200),  # as RFC 9112 allows
    "NUL in a header": (GET.replace(b"localhost", b"local\0host"), 400),
    "no host": (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "endless head": (b"GET /healthz HTTP/1.1\r\nx: " + b"a" * 80_000, 400),
}


async def test_a_table_of_bad_requests() -> None:
    async with running() as here:
        got = {name: await here.exchange(data, finish=False) for name, (data, _) in TABLE.items()}
        statuses = {name: int(answer.split(b" ", 2)[1]) for name, answer in got.items()}
        assert statuses == {name: status for name, (_, status) in TABLE.items()}
        assert {name: answer.count(b"HTTP/1.1 ") for name, answer in got.items()} == dict.fromkeys(
            TABLE, 1
        )
        assert (here.bridge.events, here.bridge.draining) == ([], False)
        assert await here.alive()


async def test_paths_and_methods() -> None:
    async with running() as here:
        for request, status in (
            (b"GET http://localhost/healthz HTTP/1.1", 404),
            (b"OPTIONS * HTTP/1.1", 404),
            (b"GET /webhooks/pilotstatus HTTP/1.1", 405),
            (b"POST /webhooks/pilotstatus/../../drain HTTP/1.1", 404),
            (b"GET /calls/%2e%2e%2f HTTP/1.1", 404),
            (b"BREW /healthz HTTP/1.1", 405),
        ):
            head = request + b"\r\nhost: localhost\r\nconnection: close\r\n\r\n"
            assert await here.status(head) == status, request


async def test_a_chunked_body_beyond_the_limit() -> None:
    async with running() as here:
        head = post(b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
        chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        assert await here.status(head + chunk * 5) == 413
        assert await here.alive()


async def test_a_body_that_never_ends_is_told_so_and_closed() -> None:
    config = ServerConfig(secrets=SIGNED.secrets, webhook_deadline_seconds=0.1)
    async with running(config) as here:
        answer = await here.exchange(post(b"x" * 100)[:-50], finish=False)
        assert answer.startswith(b"HTTP/1.1 408")
        assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["code"] == "BODY_TIMEOUT"


async def test_heads_that_never_end_are_closed_and_hold_nobody_up() -> None:
    limits = ConnectionLimits(head_seconds=0.3)
    async with running(limits=limits) as here, asyncio.TaskGroup() as tasks:
        slow = [
            tasks.create_task(here.exchange(GET[:-2] + b"x: y", finish=False)) for _ in range(100)
        ]
        assert await here.alive()
        assert await here.status(post(ringing(), "connection: close")) == 200
        assert {await task for task in slow} == {b""}


async def test_idle_connections_beyond_the_cap_are_cut_and_health_answers() -> None:
    async with running(limits=ConnectionLimits(max_connections=50, head_seconds=PATIENCE)) as here:
        idle = [await asyncio.open_connection("127.0.0.1", here.port) for _ in range(300)]
        try:
            assert await here.alive()
            assert await here.status(post(ringing(), "connection: close")) == 200
            async with asyncio.timeout(PATIENCE):  # the oldest were cut to make room
                for reader, _ in idle[:250]:
                    with contextlib.suppress(ConnectionResetError):
                        assert await reader.read() == b""
        finally:
            for _, writer in idle:
                writer.close()


async def test_a_forwarding_header_gives_a_guesser_no_new_address() -> None:
    async with running(GUARDED) as here:
        request = (
            "GET /calls HTTP/1.1\r\nhost: localhost\r\n"
            "authorization: Bearer guess\r\nx-forwarded-for: {}"
        )
        guesses = [request.format(f"203.0.113.{n}").encode() for n in range(GUESSES + 1)]
        answers = await here.exchange(b"\r\n\r\n".join(guesses) + b"\r\n\r\n")
        assert (answers.count(b"HTTP/1.1 401"), answers.count(b"HTTP/1.1 429")) == (GUESSES, 1)


async def test_the_processs_signals_stay_its_own() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    async with running():
        during = {number: signal.getsignal(number) for number in before}
    assert during == before


async def test_a_request_under_way_is_answered_before_the_server_ends() -> None:
    async with running() as here:
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        request = post(ringing())
        writer.write(request[:-10])
        assert await here.alive()
        here.stop.set()
        async with asyncio.timeout(PATIENCE):
            while True:  # until nobody listens any more
                try:
                    _, probe = await asyncio.open_connection("127.0.0.1", here.port)
                except OSError:
                    break
                probe.close()
                await asyncio.sleep(0)
            writer.write(request[-10:])
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
        assert len(here.bridge.events) == 1


async def test_a_port_in_use_is_told() -> None:
    async with running() as here:
        app = create_app(StandInBridge(), SIGNED, Metrics(), clock=LoopClock())
        with pytest.raises(ConfigError, match=rf"port {here.port} .* in use.*VOICEBRIDGE_PORT"):
            await serve(app, "127.0.0.1", here.port, on_ready=lambda _: None, stop=asyncio.Event())


@pytest.mark.parametrize("host", ["192.0.2.1", "not a host", "a" * 70 + ".example"])
async def test_a_host_that_is_not_ours_is_told(host: str) -> None:
    app = create_app(StandInBridge(), SIGNED, Metrics(), clock=LoopClock())
    with pytest.raises(ConfigError, match="VOICEBRIDGE_HOST"):
        await serve(app, host, 0, on_ready=lambda _: None, stop=asyncio.Event())


async def test_a_cancelled_server_lets_go_of_its_port_and_connections() -> None:
    app = create_app(StandInBridge(), SIGNED, Metrics(), clock=LoopClock())
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve(app, "127.0.0.1", 0, on_ready=ready.set_result, stop=asyncio.Event())
    )
    port = int((await ready).rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET)
    await reader.readline()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    async with asyncio.timeout(PATIENCE):
        await reader.read()
    writer.close()
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
        again.listen()


async def test_localhost_listens_on_every_loopback_address() -> None:
    app = create_app(StandInBridge(), SIGNED, Metrics(), clock=LoopClock())
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve(app, "localhost", 0, on_ready=ready.set_result, stop=stop))
        address = await ready
        assert address.startswith("http://localhost:")
        port = int(address.rpartition(":")[2])
        for info in await asyncio.get_running_loop().getaddrinfo(
            "localhost", port, type=socket.SOCK_STREAM
        ):
            _, writer = await asyncio.open_connection(str(info[4][0]), port)
            writer.close()
        stop.set()
