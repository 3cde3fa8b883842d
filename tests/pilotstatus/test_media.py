"""The media socket against a scripted server, in memory and virtual time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from tests.pilotstatus.wire import TARGET, Ear, Wire, connect
from voicebridge.errors import MediaUnavailable
from voicebridge.pilotstatus.media import MAX_IN_FLIGHT_BYTES, MAX_MESSAGE_BYTES, MediaSocket
from voicebridge.testing import run_virtual

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FRAME = bytes(1920)


def now() -> float:
    return asyncio.get_running_loop().time()


def play(script: Callable[[Wire, Ear], Awaitable[None]]) -> Ear:
    """Run ``script`` over an open socket and return what its listener heard."""

    async def main() -> Ear:
        ear = Ear()
        wire = connect(ear)
        await script(wire, ear)
        return ear

    return run_virtual(main())


# the handshake


def test_request_says_nothing_that_it_need_not() -> None:
    async def script(wire: Wire, _ear: Ear) -> None:
        (request,) = wire.requests
        assert request.path == TARGET.resource
        assert sorted(name.lower() for name, _ in request.headers.raw_items()) == [
            "connection",
            "host",
            "sec-websocket-key",
            "sec-websocket-version",
            "upgrade",
        ]

    play(script)


def test_first_audio_may_share_a_packet_with_the_upgrade() -> None:
    async def main() -> list[bytes]:
        ear = Ear()
        wire = Wire(MediaSocket(TARGET, ear))
        wire.server.send_response(wire.respond())
        wire.server.send_binary(FRAME)
        wire.deliver()
        return ear.audio

    assert run_virtual(main()) == [FRAME]


@pytest.mark.parametrize("header", ["Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"])
def test_what_was_not_offered_cannot_be_chosen(header: str) -> None:
    async def main() -> None:
        ear = Ear()
        wire = Wire(MediaSocket(TARGET, ear))
        response = wire.respond()
        response.headers[header] = "permessage-deflate"
        wire.server.send_response(response)
        wire.server.send_binary(FRAME)
        wire.deliver()
        failure = await wire.socket.opened
        assert isinstance(failure, MediaUnavailable)
        assert failure.status == 101
        assert wire.is_closing()
        assert (ear.audio, ear.closed) == ([], [])

    run_virtual(main())


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_answer_to_the_upgrade_is_an_answer_or_a_failure(answer: bytes, chunk: int) -> None:
    async def main() -> None:
        ear = Ear()
        wire = Wire(MediaSocket(TARGET, ear))
        wire.feed(answer, chunk)
        wire.end()
        assert isinstance(await wire.socket.opened, MediaUnavailable)
        await asyncio.sleep(60)
        assert ear.closed == []

    run_virtual(main(), debug=False)


# receiving


MESSAGES = st.lists(
    st.tuples(st.one_of(st.binary(max_size=400), st.text(max_size=100)), st.integers(1, 5)),
    max_size=8,
)


@given(MESSAGES, st.integers(1, 700))
def test_messages_survive_fragments_pings_and_any_chunking(
    messages: list[tuple[bytes | str, int]], chunk: int
) -> None:
    async def script(wire: Wire, _ear: Ear) -> None:
        for message, fragments in messages:
            is_text = isinstance(message, str)
            data = message.encode() if isinstance(message, str) else message
            step = len(data) // fragments + 1
            pieces = [data[at : at + step] for at in range(0, len(data), step)] or [b""]
            for index, piece in enumerate(pieces):
                last = index == len(pieces) - 1
                if index:
                    wire.server.send_continuation(piece, fin=last)
                else:
                    (wire.server.send_text if is_text else wire.server.send_binary)(piece, last)
                wire.server.send_ping(b"%d" % index)
        wire.deliver(chunk)

    ear = play(script)
    assert ear.audio == [message for message, _ in messages if isinstance(message, bytes)]
    assert ear.texts == [message for message, _ in messages if isinstance(message, str)]


def test_server_pings_are_answered() -> None:
    async def script(wire: Wire, _ear: Ear) -> None:
        wire.server.send_ping(b"are you there")
        wire.deliver()
        assert [(f.opcode, bytes(f.data)) for f in wire.frames] == [(Opcode.PONG, b"are you there")]

    play(script)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xc2\x03abc", 1002),  # compressed, says its reserved bit
        (Frame(Opcode.BINARY, b"abc").serialize(mask=True), 1002),
        (Frame(Opcode.CONT, b"abc").serialize(mask=False), 1002),
        (b"\x83\x00", 1002),  # a reserved opcode
        (b"\x88\x01\x03", 1002),  # a close code of one byte
        (b"\x88\x02\x03\xed", 1002),  # 1005, which may not be sent
        (b"\x09\x00", 1002),  # a ping in fragments
        (Frame(Opcode.TEXT, b"caf\xe9").serialize(mask=False), 1007),
        (b"\x88\x04\x03\xe8\xff\xff", 1007),
        (b"\x82\x7f" + (MAX_MESSAGE_BYTES + 1).to_bytes(8, "big"), 1009),
    ],
)
def test_protocol_errors_end_it_with_their_code(data: bytes, code: int) -> None:
    async def script(wire: Wire, ear: Ear) -> None:
        wire.feed(data + Frame(Opcode.BINARY, FRAME).serialize(mask=False))
        assert [closed for closed, _ in ear.closed] == [code]
        assert wire.frames[-1].opcode is Opcode.CLOSE
        assert not wire.socket.send(FRAME)
        await asyncio.sleep(2)
        assert wire.is_closing(), "a peer that does not hang up is cut off"

    assert play(script).audio == []


def test_fragments_together_are_bounded() -> None:
    async def script(wire: Wire, ear: Ear) -> None:
        half = bytes(MAX_MESSAGE_BYTES // 2)
        wire.server.send_binary(half, fin=False)
        wire.server.send_continuation(half, fin=False)
        wire.server.send_continuation(b"x", fin=False)
        wire.deliver()
        assert [code for code, _ in ear.closed] == [1009]

    assert play(script).audio == []


# the end


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1008, 1011, 1012, 4000, None])
def test_close_by_the_server(code: int | None) -> None:
    async def script(wire: Wire, ear: Ear) -> None:
        if code == 1006:
            wire.end()
            await asyncio.sleep(0)
        else:
            wire.server.send_close(code, "because" if code else "")
            wire.deliver()
        assert [closed for closed, _ in ear.closed] == [1005 if code is None else code]
        assert not wire.socket.send(FRAME)
        wire.socket.ping(b"")
        await wire.socket.close()

    play(script)


def test_reset_by_peer() -> None:
    async def script(wire: Wire, _ear: Ear) -> None:
        wire.end(ConnectionResetError())
        await asyncio.sleep(0)

    assert play(script).closed == [(1006, "")]


def test_close_waits_for_the_peer_no_longer_than_needed() -> None:
    async def script(wire: Wire, ear: Ear) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wire.socket.close())
            await asyncio.sleep(0.5)
            # Said before it saw our close frame, then its answer to that.
            wire.feed(Frame(Opcode.BINARY, FRAME).serialize(mask=False))
            wire.deliver()
            wire.end()
        assert now() == 0.5
        assert ear.audio == [FRAME]

    assert play(script).closed == [(1000, "")]


def test_close_of_a_silent_peer_cuts_after_two_seconds() -> None:
    async def script(wire: Wire, ear: Ear) -> None:
        await wire.socket.close()
        assert now() == 2.0
        assert wire.is_closing()
        assert ear.closed == [(1000, "")]
        await wire.socket.close()
        assert now() == 2.0

    play(script)


def test_cancelled_close_cuts_at_once() -> None:
    async def script(wire: Wire, ear: Ear) -> None:
        closing = asyncio.create_task(wire.socket.close())
        await asyncio.sleep(0.1)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert wire.is_closing()
        assert len(ear.closed) == 1

    play(script)


class Ending:
    """What a random script does to the connection."""

    EOF, RESET, CLOSE, SERVER_CLOSE, LISTEN = range(5)


@given(
    st.lists(
        st.one_of(st.binary(max_size=40), st.integers(Ending.EOF, Ending.LISTEN)), max_size=12
    ),
    st.integers(1, 20),
)
def test_whatever_happens_close_is_told_exactly_once(steps: list[bytes | int], chunk: int) -> None:
    async def script(wire: Wire, ear: Ear) -> None:
        async with asyncio.TaskGroup() as tasks:
            for step in steps:
                if isinstance(step, bytes):
                    wire.feed(step, chunk)
                elif step == Ending.EOF:
                    wire.end()
                elif step == Ending.RESET:
                    wire.end(ConnectionResetError())
                elif step == Ending.CLOSE:
                    tasks.create_task(wire.socket.close())
                elif step == Ending.SERVER_CLOSE:
                    wire.feed(b"\x88\x02\x03\xe8", chunk)
                else:
                    wire.socket.send(FRAME)
                    wire.socket.ping(b"?")
                await asyncio.sleep(0)
        await wire.socket.close()
        assert len(ear.closed) == 1
        assert wire.is_closing()
        await asyncio.sleep(120)  # nothing is left that could call back

    play(script)


def test_discard_is_silent() -> None:
    async def script(wire: Wire, _ear: Ear) -> None:
        wire.socket.discard()
        assert wire.is_closing()
        await asyncio.sleep(60)

    assert play(script).closed == []


def test_a_connection_that_comes_too_late_is_dropped() -> None:
    async def main() -> None:
        socket = MediaSocket(TARGET, Ear())
        socket.discard()
        wire = Wire(socket)
        assert wire.is_closing()
        assert wire.requests == []

    run_virtual(main())


def test_an_upgrade_that_comes_when_nobody_waits_any_more() -> None:
    async def main() -> None:
        ear = Ear()
        wire = Wire(MediaSocket(TARGET, ear))
        wire.socket.opened.cancel()  # the dialer's time was up; it has yet to discard
        wire.server.send_response(wire.respond())
        wire.server.send_binary(FRAME)
        wire.deliver()
        wire.end()
        await asyncio.sleep(60)
        assert (ear.audio, ear.closed) == ([], [])

    run_virtual(main())


# sending


def test_send_writes_one_masked_message_at_once() -> None:
    async def script(wire: Wire, _ear: Ear) -> None:
        assert wire.socket.send(b"\x01\x02")
        assert [(f.opcode, bytes(f.data), f.fin) for f in wire.frames] == [
            (Opcode.BINARY, b"\x01\x02", True)
        ]

    play(script)


def test_send_refuses_what_would_queue_up() -> None:
    async def script(wire: Wire, _ear: Ear) -> None:
        wire.clogged = MAX_IN_FLIGHT_BYTES + 1
        assert not wire.socket.send(FRAME)
        assert wire.frames == []
        wire.clogged = MAX_IN_FLIGHT_BYTES
        assert wire.socket.send(FRAME)

    play(script)


def test_a_peer_that_does_not_read_is_not_read_from() -> None:
    async def script(wire: Wire, _ear: Ear) -> None:
        wire.socket.pause_writing()
        assert not wire.reading
        wire.socket.resume_writing()
        assert wire.reading

    play(script)


# keeping alive


def test_pings_every_20_s_keep_a_quiet_call() -> None:
    async def script(wire: Wire, ear: Ear) -> None:
        for _ in range(3000):
            await asyncio.sleep(0.1)
            wire.deliver()  # the pongs that the server has ready
        assert [f.opcode for f in wire.frames] == [Opcode.PING] * 14  # 20, 40 ... 280
        assert ear.closed == []
        assert ear.pongs == [], "the listener is told of its own pings only"

    play(script)


def test_audio_without_pongs_is_alive() -> None:
    async def script(wire: Wire, ear: Ear) -> None:
        for _ in range(20):
            await asyncio.sleep(14)
            wire.server.data_to_send()  # the pongs get lost
            wire.server.send_binary(FRAME)
            wire.deliver()
        assert len(ear.audio) == 20
        assert ear.closed == []

    play(script)


def test_nothing_at_all_for_30_s_is_the_end() -> None:
    async def script(wire: Wire, ear: Ear) -> None:
        await asyncio.sleep(5)
        wire.server.send_binary(FRAME)
        wire.deliver()
        await asyncio.sleep(29.99)
        assert ear.closed == []
        await asyncio.sleep(0.02)
        assert ear.closed == [(1006, "nothing heard")]
        assert wire.is_closing()

    play(script)


def test_pongs_answer_the_listeners_pings() -> None:
    async def script(wire: Wire, _ear: Ear) -> None:
        wire.socket.ping(b"7")
        wire.deliver()

    assert play(script).pongs == [b"7"]
