"""The webhook's door: what gets in, once, and what every other request is told."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from tests.server.stand_in import (
    HOOK,
    SECRET,
    StandInBridge,
    ask,
    chunk,
    ringing,
    sign,
    site,
)
from voicebridge.pilotstatus.models import AccountNotice, CallEventKind
from voicebridge.server.app import ServerConfig
from voicebridge.testing.clock import run_virtual

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Receive = Callable[[], Awaitable[dict[str, Any]]]

LIMIT = 256 * 1024


async def test_a_signed_event_is_handed_over_and_acknowledged_with_nothing() -> None:
    async with site() as here:
        answer = await here.post_hook(ringing())
        assert (answer.status_code, answer.content) == (200, b"")
        [event] = here.bridge.events
        assert (event.kind, event.call_id) == (CallEventKind.RINGING, "call_1")
        assert event.trusted is True
        assert here.counted() == {("call.ringing", "accepted"): 1}


# Signatures.


async def test_without_a_signature_nothing_is_even_parsed() -> None:
    async with site() as here:
        answer = await here.client.post(HOOK, content=b"{ not JSON")
        assert answer.status_code == 401
        assert answer.json()["code"] == "SIGNATURE_INVALID"
        assert here.bridge.events == []
        assert here.counted() == {("unread", "unauthorized"): 1}


@pytest.mark.parametrize(
    "values",
    [
        [b"0" * 64],
        [b"\xe9\xff" * 32],
        [b"a" * 8192],
        [sign(ringing()).encode()] * 2,
        [sign(ringing()).encode(), b""],
        [b""],
        [sign(json.dumps(json.loads(ringing()), separators=(",", ":")).encode()).encode()],
    ],
    ids=["wrong", "non-ASCII", "8 KB", "twice", "twice, one empty", "empty", "re-serialised"],
)
async def test_bad_signature_headers_are_401(values: list[bytes]) -> None:
    async def receive() -> dict[str, Any]:
        return chunk(ringing())

    async with site() as here:
        headers = [(b"x-pilot-status-signature", value) for value in values]
        exchange = await ask(here.app, receive, *headers)
        assert (exchange.status, exchange.code) == (401, "SIGNATURE_INVALID")
        assert here.bridge.events == []


async def test_unsigned_events_get_in_untrusted_where_no_signature_is_asked_for() -> None:
    async with site(ServerConfig(signature_mode="off")) as here:
        answer = await here.client.post(HOOK, content=ringing())
        assert answer.status_code == 200
        assert here.bridge.events[0].trusted is False


async def test_refusals_and_logs_hold_no_secret_and_no_number(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with site() as here:
        body = ringing(callId=None, externalCallId=None, reason="\r\nforged", status="+5511999")
        answers = [
            await here.post_hook(body, x_pilot_status_signature="0" * 64),
            await here.post_hook(body),
            await here.post_hook(b'{"from": "5511999999999'),
        ]
    shown = caplog.text + "".join(answer.text for answer in answers)
    assert "canary" not in shown
    assert "5511" not in shown
    assert "forged" not in shown


# Repetition.


def test_a_replay_is_acknowledged_and_dropped() -> None:
    async def scenario() -> None:
        async with site() as here:
            for wait in (0, 600, 600):
                await asyncio.sleep(wait)
                assert (await here.post_hook(ringing())).status_code == 200
            assert len(here.bridge.events) == 1
            assert here.counted()["call.ringing", "replayed"] == 2

    run_virtual(scenario())


async def test_five_copies_at_once_are_one() -> None:
    async with site() as here:
        answers = await asyncio.gather(*(here.post_hook(ringing()) for _ in range(5)))
        assert {answer.status_code for answer in answers} == {200}
        assert len(here.bridge.events) == 1


async def test_a_retry_that_was_serialised_anew_is_a_replay() -> None:
    async with site() as here:
        await here.post_hook(ringing())
        await here.post_hook(json.dumps(json.loads(ringing()), indent=1).encode())
        assert len(here.bridge.events) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"event": "call.connected"},
        {"timestamp": "2026-01-01T00:00:01Z"},
        {"externalCallId": "EXT-2"},
        {"event": "CallOffer", "data": {"CallID": "EXT-call_1"}},
    ],
)
async def test_another_event_is_no_replay(changes: dict[str, Any]) -> None:
    async with site() as here:
        await here.post_hook(ringing())
        await here.post_hook(ringing(**changes))
        assert len(here.bridge.events) == 2


async def test_events_without_a_timestamp_are_told_apart_by_their_bytes() -> None:
    async with site() as here:
        for wave in (1, 2, 2):
            await here.post_hook(ringing(timestamp=None, wave=wave))
        assert len(here.bridge.events) == 2


async def test_a_full_queue_asks_to_come_again_and_then_lets_in() -> None:
    async with site(bridge=StandInBridge(room=0)) as here:
        answer = await here.post_hook(ringing())
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        here.bridge.room = 1
        assert (await here.post_hook(ringing())).status_code == 200
        assert len(here.bridge.events) == 1
        assert here.counted() == {
            ("call.ringing", "overloaded"): 1,
            ("call.ringing", "accepted"): 1,
        }


async def test_a_burst_of_a_thousand_is_taken_whole() -> None:
    async with site() as here:
        answers = await asyncio.gather(
            *(here.post_hook(ringing(f"call_{n}")) for n in range(1_000))
        )
        assert {answer.status_code for answer in answers} == {200}
        assert len({event.call_id for event in here.bridge.events}) == 1_000


# What it says.


@pytest.mark.parametrize("name", ["call.future_thing", "message.received", "<b>\r\n", ""])
async def test_unknown_events_are_acknowledged_and_counted_together(name: str) -> None:
    async with site() as here:
        answer = await here.post_hook(json.dumps({"event": name, "data": {}}).encode())
        assert (answer.status_code, answer.content) == (200, b"")
        assert here.bridge.events == []
        assert here.counted() == {("other", "ignored"): 1}


async def test_an_event_about_no_call_is_acknowledged(caplog: pytest.LogCaptureFixture) -> None:
    async with site() as here:
        for _ in range(3):
            answer = await here.post_hook(ringing(callId=None, externalCallId=""))
            assert answer.status_code == 200
        assert here.bridge.events == []
        assert here.counted() == {("call.ringing", "ignored"): 3}
    assert caplog.text.count("without a usable call id") == 1


async def test_native_events_are_counted_by_their_own_names() -> None:
    async with site() as here:
        for name in ("CallOffer", "CallAccept", "CallTerminate"):
            await here.post_hook(json.dumps({"event": name, "data": {"CallID": "1A"}}).encode())
        assert [event.native for event in here.bridge.events] == [True] * 3
        assert here.counted() == {
            (name, "accepted"): 1 for name in ("CallOffer", "CallAccept", "CallTerminate")
        }


async def test_account_notices_are_told_and_act_on_no_call() -> None:
    told: list[AccountNotice] = []
    value = {"event": "ACCOUNT_RESTRICTION", "restriction_info": []}
    changes = [{"field": "account_update", "value": value}]
    body = json.dumps([{"entry": [{"id": "0", "changes": changes * 2}]}]).encode()
    async with site(on_notice=told.append) as here:
        assert (await here.post_hook(body)).status_code == 200
        assert len(told) == 2
        assert here.bridge.events == []
        assert here.counted() == {("account_notice", "ignored"): 1}


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"event=call.ringing", b"{", b"[" * 10_000])
async def test_what_is_no_json_object_is_400(body: bytes) -> None:
    async with site() as here:
        answer = await here.post_hook(body)
        assert (answer.status_code, answer.json()["code"]) == (400, "BODY_INVALID")
        assert here.counted() == {("unread", "malformed"): 1}


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "bogus"])
async def test_the_content_type_does_not_matter_where_the_signature_does(kind: str) -> None:
    async with site() as here:
        assert (await here.post_hook(ringing(), content_type=kind)).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_other_methods_are_405(method: str) -> None:
    async with site() as here:
        answer = await here.client.request(method, HOOK)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


# How it comes.


def never() -> Receive:
    async def receive() -> dict[str, Any]:
        raise AssertionError("the body was read")

    return receive


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "identity, gzip", "br", "zstd", "x"])
async def test_an_encoded_body_is_refused_unread(encoding: str) -> None:
    async with site() as here:
        exchange = await ask(here.app, never(), (b"content-encoding", encoding.encode()))
        assert (exchange.status, exchange.code) == (415, "ENCODING_NOT_SUPPORTED")
        assert exchange.headers["connection"] == "close"
        assert here.counted() == {("unread", "encoded"): 1}


async def test_identity_is_no_encoding() -> None:
    async with site() as here:
        assert (await here.post_hook(ringing(), content_encoding="identity")).status_code == 200


async def test_a_signed_bomb_is_refused_too() -> None:
    bomb = gzip.compress(bytes(1_000_000)) * 4
    async with site() as here:
        assert (await here.post_hook(bomb, content_encoding="gzip")).status_code == 415


@pytest.mark.parametrize("length", [str(LIMIT + 1), "9" * 5_000, "0" * 50 + str(LIMIT + 1)])
async def test_a_declared_length_beyond_the_limit_is_refused_unread(length: str) -> None:
    async with site() as here:
        exchange = await ask(here.app, never(), (b"content-length", length.encode()))
        assert (exchange.status, exchange.code) == (413, "BODY_TOO_LARGE")
        assert exchange.headers["connection"] == "close"
        assert here.counted() == {("unread", "too_large"): 1}


@pytest.mark.parametrize("length", ["", "-1", "1e3", "0x10", "²", "1 2"])
async def test_a_length_that_is_no_number_is_refused_unread(length: str) -> None:
    async with site() as here:
        header = (b"content-length", length.encode("latin-1"))
        assert (await ask(here.app, never(), header)).status == 400


async def test_two_lengths_are_refused_unread() -> None:
    async with site() as here:
        headers = [(b"content-length", b"2"), (b"content-length", b"3")]
        assert (await ask(here.app, never(), *headers)).status == 400


async def test_a_length_and_a_transfer_coding_are_refused_unread() -> None:
    async with site() as here:
        headers = [(b"content-length", b"2"), (b"transfer-encoding", b"chunked")]
        exchange = await ask(here.app, never(), *headers)
        assert (exchange.status, exchange.code) == (400, "FRAMING_AMBIGUOUS")
        assert exchange.headers["connection"] == "close"


async def test_an_endless_chunked_body_is_cut_at_the_limit() -> None:
    taken = 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 16_384
        return chunk(b"x" * 16_384, more=True)

    async with site() as here:
        exchange = await ask(here.app, receive, (b"transfer-encoding", b"chunked"))
        assert (exchange.status, exchange.code) == (413, "BODY_TOO_LARGE")
        assert taken == LIMIT + 16_384


async def test_a_body_of_exactly_the_limit_is_read() -> None:
    body = ringing(pad="")
    body = ringing(pad="x" * (LIMIT - len(body)))
    assert len(body) == LIMIT
    async with site() as here:
        assert (await here.post_hook(body)).status_code == 200


@pytest.mark.parametrize(("seconds_a_byte", "status"), [(1.0, 408), (0.01, 200)])
def test_the_deadline_is_for_the_whole_body(seconds_a_byte: float, status: int) -> None:
    body = ringing()

    async def scenario() -> None:
        rest = iter(body)

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(seconds_a_byte)
            byte = next(rest, None)
            return chunk() if byte is None else chunk(bytes([byte]), more=True)

        loop = asyncio.get_running_loop()
        async with site() as here:
            header = (b"x-pilot-status-signature", sign(body).encode())
            exchange = await ask(here.app, receive, header)
            assert exchange.status == status
            if status == 408:
                assert loop.time() == 5.0
                assert exchange.headers["connection"] == "close"
                assert here.counted() == {("unread", "timeout"): 1}

    run_virtual(scenario())


def test_many_slow_bodies_hold_nobody_else_up() -> None:
    async def scenario() -> None:
        async def receive() -> dict[str, Any]:
            await asyncio.sleep(1)
            return chunk(b"x", more=True)

        async with site() as here, asyncio.TaskGroup() as tasks:
            slow = [tasks.create_task(ask(here.app, receive)) for _ in range(200)]
            await asyncio.sleep(2)
            assert (await here.post_hook(ringing())).status_code == 200
            assert (await here.client.get("/healthz")).status_code == 200
            assert asyncio.get_running_loop().time() == 2.0
        assert {task.result().status for task in slow} == {408}

    run_virtual(scenario())


async def test_a_sender_who_goes_away_is_counted() -> None:
    messages = iter([chunk(b"{", more=True), {"type": "http.disconnect"}])

    async def receive() -> dict[str, Any]:
        return next(messages)

    async with site() as here:
        await ask(here.app, receive)
        assert here.counted() == {("unread", "cut"): 1}


async def test_complaints_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    async with site() as here:
        for _ in range(50):
            await here.client.post(HOOK, content=b"{}")
        assert here.counted() == {("unread", "unauthorized"): 50}
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


async def test_the_secret_may_be_one_of_several() -> None:
    config = ServerConfig(secrets=[SECRET, type(SECRET)("another")])
    async with site(config) as here:
        assert (await here.post_hook(ringing())).status_code == 200
