"""The media dialer against real servers on loopback, well-behaved and otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import shutil
import socket as sockets
import ssl
import struct
import subprocess
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from tests.pilotstatus.wire import Ear
from voicebridge.errors import MediaUnavailable, MediaUrlRefused
from voicebridge.pilotstatus.media import MediaDialer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path
    from typing import TypeAlias

    Serve: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

pytestmark = pytest.mark.real

TOKEN = "s3cr3t-token"
FRAME = bytes(1920)


@pytest.fixture(autouse=True)
def nothing_leaks() -> Any:
    """No file descriptor outlives a test, and no task or future fails unseen."""
    gc.collect()
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    yield
    gc.collect()
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after <= before


def dialer(**options: Any) -> MediaDialer:
    return MediaDialer([], True, **options)


def url_of(port: int, scheme: str = "ws") -> SecretStr:
    return SecretStr(f"{scheme}://127.0.0.1:{port}/media;v=1?token={TOKEN}%2F")


@contextlib.asynccontextmanager
async def raw_server(handle: Serve) -> AsyncIterator[int]:
    """A TCP server that answers with whatever ``handle`` writes; yields its port."""
    done: list[asyncio.Task[None]] = []

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        done.append(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await handle(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(run, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in done:
            task.cancel()
        await asyncio.gather(*done, return_exceptions=True)
        await asyncio.sleep(0)


async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept the WebSocket handshake by hand."""
    protocol = ServerProtocol()
    protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
    (request,) = protocol.events_received()
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    writer.writelines(protocol.data_to_send())
    await writer.drain()


def binary(data: bytes) -> bytes:
    return Frame(Opcode.BINARY, data).serialize(mask=False)


async def heard(ear: Ear, done: Callable[[Ear], bool]) -> None:
    async with asyncio.timeout(5):
        while not done(ear):
            ear.changed.clear()
            await ear.changed.wait()


async def closed(ear: Ear) -> int | None:
    await heard(ear, lambda ear: bool(ear.closed))
    return ear.closed[0][0]


# a good server


async def test_a_conversation() -> None:
    said: list[object] = []

    async def answer(connection: ServerConnection) -> None:
        async for message in connection:
            said.append(message)
            await connection.send(message)
            await connection.send("noted")

    async with serve(answer, "127.0.0.1", 0) as server:
        ear = Ear()
        socket = await dialer()(url_of(server.sockets[0].getsockname()[1]), ear)
        assert socket.send(FRAME)
        socket.ping(b"1")
        await heard(ear, lambda ear: bool(ear.texts and ear.pongs))
        await socket.close()
    assert said == [FRAME]
    assert (ear.audio, ear.texts, ear.pongs, ear.closed) == (
        [FRAME],
        ["noted"],
        [b"1"],
        [(1000, "")],
    )


async def test_server_sees_no_more_than_a_handshake() -> None:
    seen: list[Request] = []

    def look(_connection: ServerConnection, request: Request) -> Response | None:
        seen.append(request)
        return None

    async def wait(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serve(wait, "127.0.0.1", 0, process_request=look, compression="deflate") as server:
        socket = await dialer()(url_of(server.sockets[0].getsockname()[1]), Ear())
        await socket.close()
    assert seen[0].path == f"/media;v=1?token={TOKEN}%2F"
    names = {name.lower() for name, _ in seen[0].headers.raw_items()}
    assert names == {"host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version"}


# no socket


@pytest.mark.parametrize("status", [200, 301, 302, 307, 401, 403, 404, 410, 429, 500, 503])
@pytest.mark.parametrize("body", ["", "Content-Length: 2\r\n"])
async def test_an_upgrade_that_is_refused(status: int, body: str) -> None:
    requests: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        location = f"Location: ws://127.0.0.1:9/?token={TOKEN}\r\n"
        writer.write(f"HTTP/1.1 {status} No\r\n{location}{body}\r\n".encode())
        await reader.read()  # the body never comes

    async with raw_server(refuse) as port:
        ear = Ear()
        with pytest.raises(MediaUnavailable, match=str(status)) as caught:
            await dialer()(url_of(port), ear)
    assert caught.value.status == status
    assert caught.value.__context__ is None
    assert len(requests) == 1, "a token is good for one attempt"
    assert ear.closed == []


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: bm90IHRoZSByaWdodCBvbmU=\r\n\r\n",
    ],
)
async def test_an_upgrade_that_is_not_websocket(answer: bytes) -> None:
    async def mislead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await reader.read()

    async with raw_server(mislead) as port:
        with pytest.raises(MediaUnavailable, match="not valid WebSocket") as caught:
            await dialer()(url_of(port), Ear())
    assert caught.value.status == 101


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1", b"\x00" * 9000, b"SSH-2.0-OpenSSH_9\r\n"])
async def test_an_upgrade_that_is_cut(answer: bytes) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        with contextlib.suppress(ConnectionError):
            await writer.drain()

    async with raw_server(cut) as port:
        with pytest.raises(MediaUnavailable) as caught:
            await dialer()(url_of(port), Ear())
    assert caught.value.status is None


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101 Switching", b"HTTP/1.1 101 OK\r\nX: 1\r\n"])
async def test_a_handshake_that_hangs(answer: bytes) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        try:
            await reader.read()
        finally:
            hung_up.set()

    hung_up = asyncio.Event()
    async with raw_server(hang) as port:
        with pytest.raises(MediaUnavailable, match="no answer in time"):
            await dialer(connect_timeout=0.05)(url_of(port), Ear())
        async with asyncio.timeout(5):
            await hung_up.wait()


async def test_a_connect_that_hangs() -> None:
    # The one place of the queue is taken, so that the kernel lets others wait.
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(sockets.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(sockets.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        with pytest.raises(MediaUnavailable, match="no answer in time"):
            await dialer(connect_timeout=0.05)(url_of(server.getsockname()[1]), Ear())


async def test_a_tls_handshake_that_hangs() -> None:
    async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_server(hang) as port:
        with pytest.raises(MediaUnavailable, match="no answer in time"):
            await dialer(connect_timeout=0.05)(url_of(port, "wss"), Ear())


async def test_nobody_listens() -> None:
    with sockets.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(MediaUnavailable, match="ECONNREFUSED") as caught:
        await dialer()(url_of(port), Ear())
    assert str(port) not in str(caught.value)
    assert caught.value.__context__ is None


async def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_args: object, **_options: object) -> None:
        raise sockets.gaierror(sockets.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
    with pytest.raises(MediaUnavailable, match="does not resolve"):
        await MediaDialer(["*.media.test"], False)(SecretStr("wss://a.media.test/"), Ear())


async def test_a_refused_url_reaches_no_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_args: object, **_options: object) -> None:
        raise AssertionError("looked up")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
    with pytest.raises(MediaUrlRefused):
        await MediaDialer(["*.media.test"], False)(SecretStr("wss://evil.test/"), Ear())


async def test_cancelled_while_opening() -> None:
    async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        arrived.set()
        try:
            await reader.read()
        finally:
            hung_up.set()

    arrived, hung_up = asyncio.Event(), asyncio.Event()
    async with raw_server(hang) as port:
        ear = Ear()
        opening = asyncio.create_task(dialer()(url_of(port), ear))
        await arrived.wait()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert ear.closed == []
        async with asyncio.timeout(5):
            await hung_up.wait()


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "wss_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer)
        await reader.read()

    async with raw_server(wait) as port:
        (await dialer()(url_of(port), Ear())).discard()


# a socket that breaks


async def test_reset_in_the_middle_of_a_frame() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer)
        writer.write(binary(FRAME)[:1000])
        await writer.drain()
        await resume.wait()
        raw = writer.get_extra_info("socket")
        raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))

    resume = asyncio.Event()
    async with raw_server(reset) as port:
        ear = Ear()
        socket = await dialer()(url_of(port), ear)
        resume.set()
        assert await closed(ear) == 1006
        assert not socket.send(FRAME)
        await socket.close()
    assert ear.audio == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (Frame(Opcode.BINARY, b"abc").serialize(mask=True), 1002),
        (b"\xc2\x03abc", 1002),
        (Frame(Opcode.TEXT, b"\xff").serialize(mask=False), 1007),
        (b"\x82\x7f" + (2**40).to_bytes(8, "big"), 1009),
    ],
)
async def test_server_that_breaks_the_protocol(data: bytes, code: int) -> None:
    answers: list[bytes] = []

    async def break_it(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer)
        writer.write(binary(b"good") + data)
        answers.append(await reader.read(100))

    async with raw_server(break_it) as port:
        ear = Ear()
        socket = await dialer()(url_of(port), ear)
        assert await closed(ear) == code
        await socket.close()
    assert ear.audio == [b"good"]
    assert answers[0][0] == 0x88, "a close frame says why"


async def test_compression_that_was_not_offered() -> None:
    async def compress(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = ServerProtocol()
        protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
        (request,) = protocol.events_received()
        assert isinstance(request, Request)
        response = protocol.accept(request)
        response.headers["Sec-WebSocket-Extensions"] = "permessage-deflate"
        writer.write(response.serialize())
        await reader.read()

    async with raw_server(compress) as port:
        with pytest.raises(MediaUnavailable, match="not valid WebSocket"):
            await dialer()(url_of(port), Ear())


async def test_a_flood_of_pings_from_a_peer_that_reads_nothing_is_bounded() -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        ping = Frame(Opcode.PING, bytes(125)).serialize(mask=False) * 100
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):  # of real time: the network's buffers fill up
                while True:
                    writer.write(ping)
                    await writer.drain()
        stuck.set()
        await reader.read()

    stuck = asyncio.Event()
    async with raw_server(flood) as port:
        socket = await dialer()(url_of(port), Ear())
        await stuck.wait()
        transport = socket._transport
        assert transport is not None
        assert transport.get_write_buffer_size() < 256 * 1024
        socket.discard()


async def test_a_server_that_stops_reading_clogs_the_link() -> None:
    async def stop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = writer.get_extra_info("socket")
        raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        await upgrade(reader, writer)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await release.wait()

    release = asyncio.Event()
    async with raw_server(stop) as port:
        ear = Ear()
        socket = await dialer()(url_of(port), ear)
        taken = 0
        while socket.send(FRAME):
            taken += 1
            assert taken < 1000, "the link takes without end"
            await asyncio.sleep(0)
        transport = socket._transport
        assert transport is not None
        assert transport.get_write_buffer_size() <= 10 * 1928
        assert not socket.send(FRAME)
        release.set()
        await closed(ear)
        await socket.close()


async def test_bursts_lose_nothing_and_keep_their_order() -> None:
    frames = [index.to_bytes(2, "big") * 960 for index in range(170)]

    async def burst(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer)
        writer.write(b"".join(binary(frame) for frame in frames))
        writer.write(b"\x88\x02\x03\xe8")
        await reader.read()

    async with raw_server(burst) as port:
        ear = Ear()
        socket = await dialer()(url_of(port), ear)
        assert await closed(ear) == 1000
        await socket.close()
    assert ear.audio == frames


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and self-signed certificate for 127.0.0.1 in one PEM file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command")
    folder = tmp_path_factory.mktemp("tls")
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += [
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=test",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return both


async def test_tls(certificate: Path) -> None:
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate)

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(echo, "127.0.0.1", 0, ssl=server_side) as server:
        url = url_of(server.sockets[0].getsockname()[1], "wss")
        trusting = ssl.create_default_context(cafile=certificate)
        ear = Ear()
        socket = await dialer(ssl_context=trusting)(url, ear)
        assert socket.send(FRAME)
        await heard(ear, lambda ear: ear.audio == [FRAME])
        await socket.close()
        assert ear.closed == [(1000, "")]
        with pytest.raises(MediaUnavailable, match="not trusted"):
            await dialer()(url, Ear())


# secrets


async def test_the_token_reaches_no_log_and_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nX-Echo: " + request.splitlines()[0] + b"\r\n\r\n")
        await writer.drain()
        await reader.read()

    async def good(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer)
        await reader.read(100)

    texts: list[str] = []
    for handle in (refuse, good):
        async with raw_server(handle) as port:
            ear = Ear()
            try:
                socket = await dialer()(url_of(port), ear)
                texts += [repr(socket), str(vars(socket))]
                socket.send(FRAME)
                await closed(ear)
                await socket.close()
            except MediaUnavailable as error:
                texts += [repr(error), str(vars(error)), "".join(traceback.format_exception(error))]
    assert len(texts) == 5
    ours = [record for record in caplog.records if record.name != "websockets.server"]
    texts += [record.getMessage() + str(vars(record)) for record in ours]
    assert not [text for text in texts if TOKEN in text]
