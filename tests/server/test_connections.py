"""Deadlines and the cap of connections, in virtual time over a transport that is a list."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest
import uvicorn
from uvicorn.server import ServerState

from voicebridge.server.connections import ConnectionGuard, ConnectionLimits, GuardedProtocol
from voicebridge.testing.clock import run_virtual

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

GET = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n"


class Wire(asyncio.Transport):
    """What a protocol wrote, and when it was cut."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.loop = asyncio.get_running_loop()
        self.written = b""
        self.ended_at: float | None = None
        self.protocol: GuardedProtocol | None = None

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.ended_at is not None

    def close(self) -> None:
        if self.ended_at is None:
            self.ended_at = self.loop.time()
            assert self.protocol is not None
            self.loop.call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...

    @property
    def answers(self) -> int:
        return self.written.count(b"HTTP/1.1 200")


class Site:
    """A server without sockets, whose application waits ``work`` seconds."""

    def __init__(self, *, work: float = 0.0, limits: ConnectionLimits | None = None) -> None:
        async def app(scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
            more = scope["method"] == "POST" and scope["path"] != "/unread"
            while more:
                message = await receive()
                more = message.get("more_body", False)
            await asyncio.sleep(work)
            headers = [(b"content-length", b"2")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"ok"})

        self.guard = ConnectionGuard(limits or ConnectionLimits())
        self.config = uvicorn.Config(
            cast("Any", app), ws="none", lifespan="off", log_config=None, proxy_headers=False
        )
        self.config.load()
        self.state = ServerState()

    def connect(self) -> Wire:
        wire = Wire()
        protocol = GuardedProtocol(self.config, self.state, {}, guard=self.guard)
        wire.protocol = protocol
        protocol.connection_made(wire)
        return wire


def send(wire: Wire, data: bytes) -> None:
    assert wire.protocol is not None
    assert not wire.is_closing()
    wire.protocol.data_received(data)


async def drip(wire: Wire, data: bytes, seconds: float) -> None:
    for byte in data:
        await asyncio.sleep(seconds)
        if wire.is_closing():
            return
        send(wire, bytes([byte]))


def test_a_connection_that_says_nothing_is_cut_after_five_seconds() -> None:
    async def scenario() -> None:
        wire = Site().connect()
        await asyncio.sleep(60)
        assert wire.ended_at == 5.0

    run_virtual(scenario())


@pytest.mark.parametrize("seconds", [0.2, 1.0, 4.0])
def test_a_head_that_drips_is_cut_after_five_seconds(seconds: float) -> None:
    async def scenario() -> None:
        wire = Site().connect()
        await drip(wire, GET, seconds)
        await asyncio.sleep(5)
        assert (wire.ended_at, wire.answers) == (5.0, 0)

    run_virtual(scenario())


def test_a_slow_head_within_the_deadline_is_answered() -> None:
    async def scenario() -> None:
        wire = Site().connect()
        await drip(wire, GET, 0.1)
        await asyncio.sleep(1)
        assert (wire.ended_at, wire.answers) == (None, 1)

    run_virtual(scenario())


def test_a_body_that_drips_is_cut_after_ten_seconds() -> None:
    async def scenario() -> None:
        wire = Site().connect()
        send(wire, POST)
        await drip(wire, b"x" * 10, 1.5)
        assert wire.ended_at == 10.0

    run_virtual(scenario())


def test_a_body_that_drips_after_its_answer_is_cut_too() -> None:
    async def scenario() -> None:
        wire = Site().connect()
        send(wire, POST.replace(b" / ", b" /unread "))
        await drip(wire, b"x" * 10, 1.5)
        assert (wire.ended_at, wire.answers) == (10.0, 1)

    run_virtual(scenario())


def test_an_answer_may_take_its_time() -> None:
    async def scenario() -> None:
        wire = Site(work=120).connect()
        send(wire, GET)
        await asyncio.sleep(121)
        assert (wire.ended_at, wire.answers) == (None, 1)

    run_virtual(scenario())


def test_between_requests_a_connection_is_kept_for_five_seconds() -> None:
    async def scenario() -> None:
        wire = Site().connect()
        for _ in range(4):
            send(wire, GET)
            await asyncio.sleep(4)
        assert (wire.ended_at, wire.answers) == (None, 4)
        await asyncio.sleep(5)
        assert wire.ended_at == 12 + 5

    run_virtual(scenario())


def test_a_second_head_that_drips_is_cut() -> None:
    async def scenario() -> None:
        wire = Site().connect()
        send(wire, GET)
        await asyncio.sleep(1)
        await drip(wire, GET, 1)
        assert (wire.ended_at, wire.answers) == (1 + 1 + 5.0, 1)

    run_virtual(scenario())


def test_pipelined_requests_are_answered_in_turn() -> None:
    async def scenario() -> None:
        wire = Site(work=3).connect()
        send(wire, GET * 3 + GET[:10])
        await asyncio.sleep(9)
        await asyncio.sleep(0.1)
        assert (wire.ended_at, wire.answers) == (None, 3)
        await asyncio.sleep(10)
        assert wire.ended_at == 9 + 5  # what is left over is no request

    run_virtual(scenario())


def test_a_client_that_does_not_read_is_cut_after_ten_seconds() -> None:
    async def scenario() -> None:
        wire = Site().connect()
        assert wire.protocol is not None
        wire.protocol.pause_writing()
        await asyncio.sleep(4)
        # Bytes from the client do not excuse it; the answer hangs in its own buffer.
        send(wire, GET)
        await asyncio.sleep(20)
        assert wire.ended_at == 10.0

    run_virtual(scenario())


def test_a_client_that_reads_again_is_kept() -> None:
    async def scenario() -> None:
        wire = Site().connect()
        assert wire.protocol is not None
        send(wire, GET)
        await asyncio.sleep(0.1)
        for _ in range(3):
            wire.protocol.pause_writing()
            await asyncio.sleep(3)
            wire.protocol.resume_writing()
            send(wire, GET)
            await asyncio.sleep(1)
        assert (wire.ended_at, wire.answers) == (None, 4)

    run_virtual(scenario())


@pytest.mark.parametrize("data", [b"", GET[:9], POST, GET], ids=["open", "head", "body", "kept"])
@pytest.mark.parametrize("error", [None, ConnectionResetError()], ids=["closed", "reset"])
@pytest.mark.parametrize("unread", [False, True])
def test_a_lost_connection_leaves_no_timer(
    data: bytes, error: Exception | None, unread: bool
) -> None:
    async def scenario() -> None:
        site = Site()
        wire = site.connect()
        assert wire.protocol is not None
        if data:
            send(wire, data)
        await asyncio.sleep(0.1)
        if unread:
            wire.protocol.pause_writing()
        wire.ended_at = 0.1
        wire.protocol.connection_lost(error)
        await asyncio.sleep(0.1)
        assert len(site.guard) == 0
        assert site.state.connections == set()
        loop = cast("Any", asyncio.get_running_loop())
        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []

    run_virtual(scenario())


def small(max_connections: int = 3) -> ConnectionLimits:
    return ConnectionLimits(max_connections=max_connections)


def test_two_thousand_idle_connections_hold_no_more_than_the_cap() -> None:
    async def scenario() -> None:
        site = Site()
        wires = [site.connect() for _ in range(2_000)]
        await asyncio.sleep(0.1)
        assert len(site.guard) == len(site.state.connections) == 512
        assert site.guard.cut == 2_000 - 512
        last = site.connect()
        send(last, GET)
        await asyncio.sleep(0.1)
        assert last.answers == 1
        assert [wire.is_closing() for wire in wires] == [True] * 1_489 + [False] * 511

    run_virtual(scenario())


def test_the_idle_make_room_and_the_busy_do_not() -> None:
    async def scenario() -> None:
        site = Site(work=1, limits=small())
        busy, idle, other = site.connect(), site.connect(), site.connect()
        send(busy, GET)
        send(idle, GET[:20])
        newcomer = site.connect()
        assert [w.is_closing() for w in (busy, idle, other, newcomer)] == [
            False,
            True,
            False,
            False,
        ]
        send(newcomer, GET)
        await asyncio.sleep(1.5)
        assert (busy.answers, newcomer.answers) == (1, 1)

    run_virtual(scenario())


def test_where_all_are_busy_the_newcomer_is_cut() -> None:
    async def scenario() -> None:
        site = Site(work=1, limits=small())
        busy = [site.connect() for _ in range(3)]
        for wire in busy:
            send(wire, GET)
        newcomer = site.connect()
        await asyncio.sleep(1.5)
        assert newcomer.is_closing()
        assert [wire.answers for wire in busy] == [1, 1, 1]
        assert len(site.guard) == 3

    run_virtual(scenario())


def test_who_was_answered_goes_to_the_end_of_the_queue() -> None:
    async def scenario() -> None:
        site = Site(limits=small())
        first, second, third = site.connect(), site.connect(), site.connect()
        send(first, GET)
        await asyncio.sleep(0.1)
        send(second, b"G")  # a byte is no reason to stay
        site.connect()
        assert [w.is_closing() for w in (first, second, third)] == [False, True, False]

    run_virtual(scenario())


def test_the_answered_make_room_in_their_turn() -> None:
    async def scenario() -> None:
        site = Site(limits=small())
        wires = [site.connect() for _ in range(3)]
        for wire in wires:
            send(wire, GET)
        await asyncio.sleep(0.1)
        newcomer = site.connect()
        assert [w.is_closing() for w in (*wires, newcomer)] == [True, False, False, False]

    run_virtual(scenario())


def test_all_can_be_cut() -> None:
    async def scenario() -> None:
        site = Site(work=1)
        wires = [site.connect() for _ in range(3)]
        send(wires[0], GET)
        site.guard.cut_all()
        await asyncio.sleep(2)
        assert all(wire.is_closing() for wire in wires)
        assert len(site.guard) == 0

    run_virtual(scenario())
