"""The REST client against a scripted provider, in virtual time.

Tests named b01 to b22 inject one fault of the API each.
"""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pydantic import SecretStr

from tests.pilotstatus.script import CALL, HANG, KEY, LOST, Reply, Script, api_of, call, done, no
from voicebridge.errors import (
    CallNotFound,
    CallOver,
    ConfigError,
    Conflict,
    FeatureNotSupported,
    InstanceNotConnected,
    InvalidRequest,
    MetaCallingError,
    NumberNotFound,
    ProviderError,
    ProviderFault,
    ProviderRefused,
    ProviderUnreachable,
    RateLimited,
    TenantScopeNotAllowed,
    Unauthorized,
)
from voicebridge.pilotstatus.api import ApiLimits, PilotStatusApi
from voicebridge.pilotstatus.models import CallHours, CallingSettingsUpdate, CallStatus
from voicebridge.testing import run_virtual

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

GET = f"GET /calls/{CALL}"
ACCEPT = f"POST /calls/{CALL}/accept"
REJECT = f"POST /calls/{CALL}/reject"
TERMINATE = f"POST /calls/{CALL}/terminate"
PLAY = f"POST /calls/{CALL}/play"
SESSION = f"POST /calls/{CALL}/realtime-session"
DIAL = "POST /calls"
LIST = "GET /calls"

NOT_THERE = no(404, "CALL_NOT_FOUND")
REFUSED_CONNECTION = httpx.ConnectError("refused")
HTML = httpx.Response(200, text="<html>maintenance</html>")


def run(
    routes: dict[str, list[Reply | Callable[[], Reply]]],
    use: Callable[[PilotStatusApi], Awaitable[Any]],
    **options: Any,
) -> tuple[Any, Script]:
    """Use a client of a scripted provider; returns the result or ProviderError, and the script."""
    script = Script(routes)

    async def main() -> Any:
        async with api_of(script, **options) as api:
            try:
                return await use(api)
            except ProviderError as error:
                return error

    return run_virtual(main()), script


def body(script: Script, index: int = -1) -> Any:
    return json.loads(script.request(index).content)


# What goes out


def test_request_carries_key_and_number_in_headers_only() -> None:
    _, script = run({GET: [call()]}, lambda api: api.get_call(CALL), number_id="num_1")
    sent = script.request()
    assert sent.headers["x-api-key"] == KEY
    assert sent.headers["x-whatsapp-number-id"] == "num_1"
    assert "authorization" not in sent.headers
    assert str(sent.url) == f"https://api.example/v1/calls/{CALL}"


@pytest.mark.parametrize("url", ["https://api.example/v1", "https://api.example/v1/"])
def test_base_url_may_be_written_as_in_the_documentation(url: str) -> None:
    _, script = run({GET: [call()]}, lambda api: api.get_call(CALL), url=url)
    assert str(script.request().url) == f"https://api.example/v1/calls/{CALL}"


def test_call_id_cannot_leave_its_path_segment() -> None:
    script = Script({})

    async def main() -> bytes:
        async with api_of(script) as api:
            with pytest.raises(AssertionError):
                await api.terminate("../settings?x=1#y z%/")
        return script.request().url.raw_path

    raw = run_virtual(main())
    assert raw == b"/v1/calls/..%2Fsettings%3Fx%3D1%23y%20z%25%2F/terminate"


@pytest.mark.parametrize("call_id", ["", ".", "..", " ", "x" * 300])
def test_what_cannot_be_an_id_is_not_asked_for(call_id: str) -> None:
    result, script = run({}, lambda api: api.terminate(call_id))
    assert isinstance(result, CallNotFound)
    assert script.log == []


@pytest.mark.parametrize("key", ["", "  ", "ps_é", "ps_a\r\nx: y", "ps a"])
def test_a_key_that_is_none_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PilotStatusApi("https://api.example", SecretStr(key))
    assert not key.strip() or key.strip() not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example",
        "ftp://api.example",
        "https://",
        "https://u:p@api.example",
        "https://a/?k=v",
    ],
)
def test_a_base_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="VOICEBRIDGE_API_URL"):
        PilotStatusApi(url, SecretStr(KEY))


def test_client_may_be_made_before_the_loop_runs_and_shows_no_key() -> None:
    api = PilotStatusApi("https://api.example", SecretStr(KEY))
    assert KEY not in repr(api)
    run_virtual(api.aclose())


def test_on_request_hears_of_every_attempt() -> None:
    heard: list[tuple[str, str]] = []
    run(
        {GET: [no(500), HTML, call()]},
        lambda api: api.get_call(CALL),
        on_request=lambda operation, label: heard.append((operation, label)),
    )
    assert heard == [("get_call", "500"), ("get_call", "garbage"), ("get_call", "200")]


# Accept


def test_b01_accept_after_two_server_errors() -> None:
    result, script = run({ACCEPT: [no(500), no(500), done()], GET: [call()]}, _accept)
    assert result is None
    assert [route for _, route, _ in script.log] == [ACCEPT, GET, ACCEPT, GET, ACCEPT]
    first, second, third = script.times(ACCEPT)
    assert 0 < second - first <= 0.25
    assert 0 < third - second <= 0.5


async def _accept(api: PilotStatusApi) -> None:
    await api.accept(CALL)


def test_b02_accept_that_worked_but_whose_answer_was_lost() -> None:
    result, script = run({ACCEPT: [LOST], GET: [call("ACCEPTED")]}, _accept)
    assert result is None
    assert script.count(ACCEPT) == 1


def test_b03_accept_that_hangs_is_cut_after_five_seconds_and_looked_into() -> None:
    result, script = run({ACCEPT: [HANG, done()], GET: [call()]}, _accept)
    assert result is None
    assert script.times(GET) == [5.0]
    assert 5.0 < script.times(ACCEPT)[1] <= 5.25


@pytest.mark.parametrize("refused", [NOT_THERE, no(409), no(500), LOST])
@pytest.mark.parametrize("status", ["COMPLETED", "MISSED", "REJECTED", "FAILED"])
def test_b04_accept_of_a_call_that_is_over(refused: Reply, status: str) -> None:
    result, script = run({ACCEPT: [refused], GET: [call(status)]}, _accept)
    assert isinstance(result, CallOver)
    assert result.status == status
    assert script.count(ACCEPT) == 1


def test_accept_ahead_of_the_providers_database_is_tried_once_more() -> None:
    result, script = run({ACCEPT: [NOT_THERE, done()], GET: [NOT_THERE]}, _accept)
    assert result is None
    result, script = run({ACCEPT: [NOT_THERE], GET: [NOT_THERE]}, _accept)
    assert isinstance(result, CallNotFound)
    assert script.count(ACCEPT) == 2
    assert script.times()[-1] < 1.0


def test_accept_of_a_number_that_is_offline_stops() -> None:
    offline = no(409, "WHATSAPP_INSTANCE_NOT_CONNECTED")
    result, script = run({ACCEPT: [offline], GET: [call()]}, _accept)
    assert isinstance(result, InstanceNotConnected)
    assert script.count(ACCEPT) == 1


def test_a_call_answered_by_somebody_else_is_a_conflict() -> None:
    result, _ = run({ACCEPT: [no(409)], GET: [call("ACCEPTED")]}, _accept)
    assert isinstance(result, Conflict)


def test_conflict_after_a_gateway_error_is_our_own_success() -> None:
    result, _ = run({ACCEPT: [no(502), no(409)], GET: [call("ACCEPTED")]}, _accept)
    assert result is None


def test_accept_is_not_repeated_while_nothing_can_be_seen() -> None:
    result, script = run({ACCEPT: [LOST], GET: [no(500)]}, _accept)
    assert isinstance(result, ProviderUnreachable)
    assert result.sent
    assert script.count(ACCEPT) == 1


def test_accept_gives_up_at_its_deadline() -> None:
    async def use(api: PilotStatusApi) -> None:
        await api.accept(CALL, deadline=6.0)

    result, script = run({ACCEPT: [HANG], GET: [call()]}, use)
    assert isinstance(result, ProviderUnreachable)
    assert script.count(ACCEPT) == 2
    assert script.times()[-1] < 6.0


def test_accept_after_its_deadline_asks_nothing() -> None:
    async def use(api: PilotStatusApi) -> None:
        await asyncio.sleep(10)
        await api.accept(CALL, deadline=10.0)

    result, script = run({}, use)
    assert isinstance(result, ProviderUnreachable)
    assert not result.sent
    assert script.log == []


def test_accept_stays_within_four_attempts() -> None:
    result, script = run({ACCEPT: [REFUSED_CONNECTION]}, _accept)
    assert isinstance(result, ProviderUnreachable)
    assert not result.sent
    assert script.count(ACCEPT) == 4


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (no(401), Unauthorized),
        (no(403, "TENANT_SCOPE_NOT_ALLOWED"), TenantScopeNotAllowed),
    ],
)
def test_b05_a_refused_key_is_not_retried_and_shows_in_readiness(
    reply: httpx.Response, kind: type[ProviderError], caplog: pytest.LogCaptureFixture
) -> None:
    async def use(api: PilotStatusApi) -> ProviderError:
        with pytest.raises(kind) as caught:
            await api.accept(CALL)
        refused.append(api.key_refused)
        await api.get_call(CALL)
        refused.append(api.key_refused)
        return caught.value

    refused: list[bool] = []
    result, script = run({ACCEPT: [reply], GET: [call()]}, use)
    assert isinstance(result, kind)
    assert script.count(ACCEPT) == 1
    assert refused == [True, False]
    assert [r.levelno for r in caplog.records].count(logging.ERROR) == 1
    assert KEY not in caplog.text


def _date(seconds: float) -> str:
    return format_datetime(
        datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds), usegmt=True
    )


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("1", 1.0, 1.25),
        ("3600", 5.0, 5.25),
        (_date(2), 2.0, 2.25),
        (_date(3600), 5.0, 5.25),
        (_date(-60), 0.0, 0.25),
        ("soon", 0.0, 0.25),
        ("-7", 0.0, 0.25),
    ],
)
def test_b06_retry_after(header: str, least: float, most: float) -> None:
    result, script = run({ACCEPT: [no(429, retry_after=header), done()]}, _accept)
    assert result is None
    first, second = script.times(ACCEPT)
    assert least <= second - first <= most


def test_rate_limit_at_the_end_tells_the_servers_wish() -> None:
    result, _ = run({GET: [no(429, retry_after="60")]}, lambda api: api.get_call(CALL))
    assert isinstance(result, RateLimited)
    assert result.retry_after == 60.0


def test_b07_api_down_for_a_minute() -> None:
    back_at = 60.0

    def reply() -> Reply:
        return call() if asyncio.get_running_loop().time() >= back_at else REFUSED_CONNECTION

    async def use(api: PilotStatusApi) -> float:
        loop = asyncio.get_running_loop()
        recovered: list[float] = []

        async def poll(call_id: str) -> None:
            while not recovered:
                try:
                    await api.get_call(call_id)
                    recovered.append(loop.time())
                except ProviderUnreachable:
                    await asyncio.sleep(1)

        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(poll(CALL))
        return recovered[0]

    recovered, script = run({GET: [reply]}, use)
    assert recovered <= back_at + 3.0
    while_open = [at for at in script.times() if 5.0 <= at < back_at]
    assert len(while_open) < 55
    gaps = [b - a for a, b in pairwise(while_open)]
    assert min(gaps) >= 2.0


def test_b08_recovery_of_many_calls_is_spread_and_within_the_quota() -> None:
    def reply() -> Reply:
        return done() if asyncio.get_running_loop().time() >= 1.0 else no(503)

    async def use(api: PilotStatusApi) -> int:
        calls = [asyncio.ensure_future(api.accept(CALL)) for _ in range(200)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        return sum(1 for each in results if each is None)

    answered, script = run({ACCEPT: [reply]}, use)
    retries = script.times(ACCEPT)[200:]
    assert answered == 200
    assert sum(1 for at in retries if at < 10) <= 20
    assert max(sum(1 for at in retries if t <= at < t + 0.1) for t in retries) <= 40


def test_quota_spares_the_provider_when_reads_fail_in_masses() -> None:
    async def use(api: PilotStatusApi) -> None:
        reads = [api.get_call(CALL) for _ in range(300)]
        await asyncio.gather(*reads, return_exceptions=True)

    _, script = run({GET: [no(503)]}, use)
    assert 300 < script.count(GET) <= 330


# Answers that are none


@pytest.mark.parametrize(
    "reply",
    [
        HTML,
        httpx.Response(200, content=b""),
        httpx.Response(200, content=b'{"id":"call_01HZX","sta'),
        httpx.Response(200, content=b"[" * 200_000),
        httpx.Response(200, content=b"\xff\xfe"),
        httpx.Response(200, json={"status": "RINGING"}),
        httpx.Response(200, json={"id": "  ", "status": "RINGING"}),
        httpx.Response(200, json=["call"]),
        httpx.Response(200, json=None),
    ],
)
def test_b09_garbage_is_a_transient_failure(reply: httpx.Response) -> None:
    result, script = run({GET: [reply, call()]}, lambda api: api.get_call(CALL))
    assert result.status is CallStatus.RINGING
    result, script = run({GET: [reply]}, lambda api: api.get_call(CALL))
    assert isinstance(result, ProviderUnreachable)
    assert script.count(GET) == 3
    assert "maintenance" not in str(result)


def test_b09_a_huge_answer_is_not_read_to_its_end() -> None:
    served = 0

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            nonlocal served
            while True:
                served += 65_536
                yield b" " * 65_536

    async def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Endless())

    async def main() -> None:
        transport = httpx.MockTransport(handle)
        async with PilotStatusApi("https://a.example", SecretStr(KEY), transport=transport) as api:
            with pytest.raises(ProviderUnreachable):
                await api.get_call(CALL)

    run_virtual(main())
    assert served <= 3 * (2 << 20)


def test_an_encoded_answer_is_refused_unread() -> None:
    async def handle(request: httpx.Request) -> httpx.Response:
        assert request.headers["accept-encoding"] == "identity"
        stream = httpx.ByteStream(b"\x1f\x8b not even gzip")
        return httpx.Response(200, headers={"content-encoding": "gzip"}, stream=stream)

    async def main() -> None:
        transport = httpx.MockTransport(handle)
        async with PilotStatusApi("https://a.example", SecretStr(KEY), transport=transport) as api:
            with pytest.raises(ProviderUnreachable):
                await api.get_call(CALL)

    run_virtual(main())


def test_b09_garbage_after_accept_is_looked_into() -> None:
    result, script = run({ACCEPT: [HTML], GET: [call("ACCEPTED")]}, _accept)
    assert result is None
    result, script = run({ACCEPT: [done() | {"success": False}, done()], GET: [call()]}, _accept)
    assert result is None
    assert script.count(ACCEPT) == 2


def test_b10_an_unknown_status_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    result, _ = run({GET: [call("ON_HOLD")]}, lambda api: api.get_call(CALL))
    assert (result.status, result.raw_status, result.terminal) == (None, "ON_HOLD", False)
    assert "ON_HOLD" in caplog.text
    result, _ = run({TERMINATE: [done("ON_HOLD")]}, lambda api: api.terminate(CALL))
    assert result is None


# Realtime session


@pytest.mark.parametrize("bad", [{}, {"token": "t"}, {"wsUrl": ""}, {"wsUrl": None}, {"wsUrl": 7}])
def test_b11_a_session_without_an_address_is_minted_again(bad: dict[str, Any]) -> None:
    good = {"wsUrl": "wss://media.example/x?token=t"}
    result, script = run({SESSION: [bad, good]}, lambda api: api.realtime_session(CALL))
    assert result.ws_url.get_secret_value() == good["wsUrl"]
    assert body(script) == {"mode": "talk"}
    result, script = run({SESSION: [bad]}, lambda api: api.realtime_session(CALL))
    assert isinstance(result, ProviderUnreachable)
    assert script.count(SESSION) == 3


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [(120, 120), ("120", 120), (0, None), (-1, None), ("soon", None), (None, None)],
)
def test_b11_lifetime_of_a_session(raw: object, seconds: int | None) -> None:
    session = {"wsUrl": "wss://media.example/x?token=secret", "expiresInSeconds": raw}
    result, _ = run({SESSION: [session]}, lambda api: api.realtime_session(CALL, "listen"))
    assert result.expires_in_seconds == seconds
    assert "secret" not in repr(result)


def test_b12_a_provider_kind_without_realtime_is_permanent() -> None:
    result, script = run(
        {SESSION: [no(400, "FEATURE_NOT_SUPPORTED")]}, lambda api: api.realtime_session(CALL)
    )
    assert isinstance(result, FeatureNotSupported)
    assert len(script.log) == 1


def test_a_session_is_minted_again_after_a_lost_answer() -> None:
    session = {"wsUrl": "wss://media.example/x"}
    _, script = run({SESSION: [LOST, session]}, lambda api: api.realtime_session(CALL))
    assert script.count(SESSION) == 2
    assert script.count(GET) == 0


def test_a_session_of_a_call_that_is_over() -> None:
    result, _ = run(
        {SESSION: [no(409)], GET: [call("COMPLETED")]}, lambda api: api.realtime_session(CALL)
    )
    assert isinstance(result, CallOver)
    result, _ = run(
        {SESSION: [no(409)], GET: [call("ACCEPTED")]}, lambda api: api.realtime_session(CALL)
    )
    assert isinstance(result, Conflict)


# Ending


def test_b13_terminate_tries_five_times_within_twenty_seconds_and_reports() -> None:
    result, script = run(
        {TERMINATE: [no(503)], GET: [call("ACCEPTED")]}, lambda api: api.terminate(CALL)
    )
    assert isinstance(result, ProviderFault)
    assert script.count(TERMINATE) == 5
    assert script.times()[-1] < 20


def test_terminate_that_hangs_ends_within_its_budget() -> None:
    async def use(api: PilotStatusApi) -> float:
        with pytest.raises(ProviderUnreachable):
            await api.terminate(CALL)
        return asyncio.get_running_loop().time()

    ended, _ = run({TERMINATE: [HANG], GET: [HANG]}, use)
    assert ended <= 20.0


@pytest.mark.parametrize("operation", ["terminate", "reject"])
@pytest.mark.parametrize("reply", [NOT_THERE, no(409), no(500), LOST])
@pytest.mark.parametrize("seen", [NOT_THERE, call("COMPLETED"), call("MISSED")])
def test_b14_what_is_over_or_gone_counts_as_ended(
    operation: str, reply: Reply, seen: Reply
) -> None:
    routes: dict[str, Any] = {f"POST /calls/{CALL}/{operation}": [reply], GET: [seen]}
    result, script = run(routes, lambda api: getattr(api, operation)(CALL))
    assert result is None
    assert len(script.log) == 2


def test_terminate_is_repeated_while_the_call_lives() -> None:
    result, script = run(
        {TERMINATE: [no(409), LOST, done("COMPLETED")], GET: [call("ACCEPTED")]},
        lambda api: api.terminate(CALL),
    )
    assert result is None
    assert script.count(TERMINATE) == 3


def test_reject_of_a_call_that_was_answered_fails() -> None:
    result, _ = run({REJECT: [no(409)], GET: [call("ACCEPTED")]}, lambda api: api.reject(CALL))
    assert isinstance(result, Conflict)


# Play


async def _play(api: PilotStatusApi) -> None:
    await api.play(CALL, "https://files.example/a.wav")


@pytest.mark.parametrize("doubt", [HANG, LOST, no(500), no(502), no(504), HTML])
def test_b15_play_is_not_repeated_in_doubt(doubt: Reply) -> None:
    result, script = run({PLAY: [doubt]}, _play)
    assert isinstance(result, (ProviderUnreachable, ProviderFault))
    assert script.count(PLAY) == 1


@pytest.mark.parametrize("refused", [REFUSED_CONNECTION, no(429), no(503)])
def test_play_is_repeated_once_where_it_certainly_was_not_done(refused: Reply) -> None:
    result, script = run({PLAY: [refused, done()]}, _play)
    assert result is None
    result, script = run({PLAY: [refused]}, _play)
    assert isinstance(result, ProviderError)
    assert script.count(PLAY) == 2


def test_play_learns_the_name_of_its_field() -> None:
    async def use(api: PilotStatusApi) -> None:
        await _play(api)
        await _play(api)

    result, script = run({PLAY: [no(400, error="Validation error"), done()]}, use)
    assert result is None
    assert [list(body(script, index)) for index in range(3)] == [
        ["mediaUrl"],
        ["audioUrl"],
        ["audioUrl"],
    ]


def test_play_keeps_the_name_that_worked() -> None:
    async def use(api: PilotStatusApi) -> None:
        await _play(api)
        await _play(api)

    result, script = run({PLAY: [done(), no(400)]}, use)
    assert isinstance(result, InvalidRequest)
    assert script.count(PLAY) == 2


@pytest.mark.parametrize(
    ("reply", "kind", "asked"),
    [
        (no(400), InvalidRequest, 2),
        (no(400, "FEATURE_NOT_SUPPORTED"), FeatureNotSupported, 1),
        (no(400, "NUMBER_NOT_FOUND"), NumberNotFound, 1),
        (no(422), InvalidRequest, 1),
        (NOT_THERE, CallNotFound, 1),
    ],
)
def test_play_refused(reply: Reply, kind: type[ProviderError], asked: int) -> None:
    result, script = run({PLAY: [reply]}, _play)
    assert isinstance(result, kind)
    assert script.count(PLAY) == asked


# Dialling


async def _dial(api: PilotStatusApi) -> Any:
    return await api.initiate("+55 11 99999-0000", callback_data="order-42")


ACCEPTED_DIAL = httpx.Response(
    201, json={"id": CALL, "externalCallId": None, "status": "INITIATED"}
)


def test_initiate() -> None:
    result, script = run({DIAL: [ACCEPTED_DIAL]}, _dial)
    assert (result.id, result.external_call_id, result.status) == (CALL, None, CallStatus.INITIATED)
    assert body(script) == {"to": "+5511999990000", "bizOpaqueCallbackData": "order-42"}


@pytest.mark.parametrize("doubt", [HANG, LOST, no(500), no(502), no(504), HTML])
def test_b16_a_doubtful_dial_is_looked_up_and_never_repeated(doubt: Reply) -> None:
    ours = call("RINGING", direction="OUTBOUND", bizOpaqueCallbackData="order-42")
    rows = {"calls": [call(), ours | {"id": "call_2"}]}
    result, script = run({DIAL: [doubt], LIST: [{"calls": []}, rows]}, _dial)
    assert result.id == "call_2"
    assert script.count(DIAL) == 1


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [call(direction="OUTBOUND", bizOpaqueCallbackData="other")],
        [call(direction="INBOUND", bizOpaqueCallbackData="order-42")],
        # The same order was called an hour ago.
        [
            call(
                direction="OUTBOUND",
                bizOpaqueCallbackData="order-42",
                createdAt="2025-12-31T23:00:00Z",
            )
        ],
    ],
)
def test_b16_a_dial_that_cannot_be_found_is_reported_as_unknown(rows: list[Any]) -> None:
    result, script = run({DIAL: [LOST], LIST: [{"calls": rows}]}, _dial)
    assert isinstance(result, ProviderUnreachable)
    assert result.sent
    assert "unknown" in str(result)
    assert script.count(DIAL) == 1


def test_b16_the_list_may_fail_too() -> None:
    result, script = run({DIAL: [LOST], LIST: [no(500)]}, _dial)
    assert isinstance(result, ProviderUnreachable)
    assert result.sent
    assert script.count(DIAL) == 1


def test_a_dial_without_callback_data_can_be_found_all_the_same() -> None:
    def rows() -> Reply:
        tag = body(script, 0)["bizOpaqueCallbackData"]
        return [call(direction="OUTBOUND", bizOpaqueCallbackData=tag)]

    script = Script({DIAL: [LOST], LIST: [rows]})

    async def main() -> Any:
        async with api_of(script) as api:
            return await api.initiate("5511999990000")

    assert run_virtual(main()).id == CALL


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (no(503), ProviderFault),
        (no(429), RateLimited),
        (no(400, "MISSING_TO"), InvalidRequest),
        (no(409, "WHATSAPP_INSTANCE_NOT_CONNECTED"), InstanceNotConnected),
    ],
)
def test_a_refused_dial_is_not_searched_for(reply: Reply, kind: type[ProviderError]) -> None:
    result, script = run({DIAL: [reply]}, _dial)
    assert isinstance(result, kind)
    assert len(script.log) == 1


def test_a_dial_that_was_not_sent_is_tried_once_more() -> None:
    result, _ = run({DIAL: [REFUSED_CONNECTION, ACCEPTED_DIAL]}, _dial)
    assert result.id == CALL
    result, _ = run({DIAL: [REFUSED_CONNECTION]}, _dial)
    assert isinstance(result, ProviderUnreachable)
    assert not result.sent


@pytest.mark.parametrize("to", ["", "abc", "123", "5511@g.us", "+" + "1" * 30])
def test_what_is_no_number_is_not_dialled(to: str) -> None:
    result, script = run({}, lambda api: api.initiate(to))
    assert isinstance(result, InvalidRequest)
    assert script.log == []


# The network


def test_b19_redirects_are_not_followed() -> None:
    for status in (301, 302, 307, 308):
        there = httpx.Response(status, headers={"location": "https://evil.example/"})
        result, script = run({GET: [there]}, lambda api: api.get_call(CALL))
        assert type(result) is ProviderRefused
        assert [sent.url.host for _, _, sent in script.log] == ["api.example"]


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    api = PilotStatusApi("https://api.example", SecretStr(KEY))
    for transport in api._transport._transports.values():
        assert type(transport._pool).__name__ == "AsyncConnectionPool"  # type: ignore[attr-defined]
    run_virtual(api.aclose())


def test_b20_hung_requests_leave_terminate_and_get_their_own_lane() -> None:
    limits = ApiLimits(ordinary_connections=20, reserved_connections=5)

    async def use(api: PilotStatusApi) -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        hung = [asyncio.ensure_future(_play(api)) for _ in range(50)]
        await asyncio.sleep(1)
        start = loop.time()
        await api.terminate(CALL)
        await api.get_call(CALL)
        swift = loop.time() - start
        await asyncio.gather(*hung, return_exceptions=True)
        # Their time-outs have opened the breaker of their own lane only.
        start = loop.time()
        await api.terminate(CALL)
        return swift, loop.time() - start

    result, _ = run({PLAY: [HANG], TERMINATE: [done()], GET: [call()]}, use, limits=limits)
    assert result == (0.0, 0.0)


def test_b20_waiting_for_a_slot_is_bounded() -> None:
    limits = ApiLimits(ordinary_connections=1, max_waiting=2)
    labels: list[str] = []

    async def use(api: PilotStatusApi) -> list[Any]:
        calls = [asyncio.ensure_future(_play(api)) for _ in range(6)]
        return await asyncio.gather(*calls, return_exceptions=True)

    results, script = run(
        {PLAY: [HANG]}, use, limits=limits, on_request=lambda _, label: labels.append(label)
    )
    assert all(isinstance(each, ProviderUnreachable) for each in results)
    assert labels.count("queued") >= 3
    assert [each.sent for each in results].count(True) == script.count(PLAY)


def test_b21_a_dead_connection_costs_a_read_one_quick_retry() -> None:
    dead = httpx.RemoteProtocolError("Server disconnected without sending a response.")
    result, script = run({GET: [dead, call()]}, lambda api: api.get_call(CALL))
    assert result.status is CallStatus.RINGING
    assert script.times()[1] <= 0.25


def test_a_cancelled_request_leaves_its_slot() -> None:
    limits = ApiLimits(ordinary_connections=1)

    async def use(api: PilotStatusApi) -> None:
        task = asyncio.ensure_future(_play(api))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await _play(api)

    result, _ = run({PLAY: [HANG, done()]}, use, limits=limits)
    assert result is None


def test_nothing_private_is_logged_or_chained(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    private = f"bad key {KEY} for +5511999990000, wss://media.example/?token=sesame"
    told = no(500, error=private)

    async def use(api: PilotStatusApi) -> list[Any]:
        operations = [
            api.initiate("+5511999990000"),
            api.get_permissions("+5511999990000"),
            api.accept(CALL),
            _play(api),
        ]
        return [await asyncio.gather(each, return_exceptions=True) for each in operations]

    results, _ = run(
        {
            DIAL: [told],
            LIST: [told],
            GET: [told],
            ACCEPT: [LOST],
            PLAY: [told],
            "GET /calls/permissions": [httpx.ReadError(private)],
        },
        use,
    )
    shown = caplog.text
    for (error,) in results:
        assert isinstance(error, ProviderError)
        shown += "".join(traceback.format_exception(error))
    assert "accept" in shown
    for secret in (KEY, "5511999990000", "sesame"):
        assert secret not in shown


# Paging


def page(*days: int) -> dict[str, Any]:
    return {
        "calls": [call(id=f"call_{day}", createdAt=f"2026-06-{day:02d}T00:00:00Z") for day in days]
    }


def pages(*replies: Reply, **options: Any) -> tuple[list[str], Script]:
    async def use(api: PilotStatusApi) -> list[str]:
        return [each.id async for each in api.iter_calls(**options)]

    return run({LIST: list(replies)}, use)


def test_iter_calls_walks_back_in_time() -> None:
    ids, script = pages(page(9, 8), page(8, 7), page(7), {"calls": []})
    assert ids == ["call_9", "call_8", "call_7"]
    assert [dict(sent.url.params).get("before") for _, _, sent in script.log] == [
        None,
        "2026-06-08T00:00:00.001Z",
        "2026-06-07T00:00:00.001Z",
    ]


def test_b22_a_list_that_repeats_or_turns_in_circles_ends() -> None:
    assert pages(page(9, 8))[0] == ["call_9", "call_8"]
    ids, script = pages(page(9, 8), page(7, 6), page(9, 8), page(7, 6), page(9, 8))
    assert ids == ["call_9", "call_8", "call_7", "call_6", "call_9", "call_8"]
    assert len(script.log) == 3
    undated = {"calls": [call(id="call_a")]}
    assert pages(undated)[0] == ["call_a"]


def test_iter_calls_stops_at_an_age_and_at_a_number_of_pages() -> None:
    since = datetime(2026, 6, 8, tzinfo=UTC)
    assert pages(page(9, 8, 7), page(6), since=since)[0] == ["call_9", "call_8"]
    assert pages(page(9), page(8), page(7), max_pages=2)[0] == ["call_9", "call_8"]


def test_rows_that_cannot_be_read_are_left_out() -> None:
    result, _ = run(
        {LIST: [{"calls": [7, {"status": "RINGING"}, call()]}]},
        lambda api: api.list_calls(limit=500),
    )
    assert [each.id for each in result] == [CALL]


# Meta's endpoints


def test_settings_are_read_and_updated() -> None:
    async def use(api: PilotStatusApi) -> Any:
        hours = CallHours.model_validate(
            {
                "status": "ENABLED",
                "timezone_id": "America/Sao_Paulo",
                "weekly_operating_hours": [
                    {"day_of_week": "MONDAY", "open_time": "0900", "close_time": "1800"}
                ],
                # 1 January UTC is still 31 December in Sao Paulo.
                "holiday_schedule": [
                    {"date": "2025-12-31", "start_time": "0000", "end_time": "1200"}
                ],
            }
        )
        await api.update_settings(CallingSettingsUpdate(status="ENABLED", call_hours=hours))
        return await api.get_settings()

    result, script = run(
        {
            "PUT /calls/settings": [{"success": True}],
            "GET /calls/settings": [{"calling": {"status": "ENABLED", "sip": {"status": "x"}}}],
        },
        use,
    )
    assert result.enabled
    assert "sip" not in result.raw
    assert body(script, 0)["call_hours"]["holiday_schedule"][0]["date"] == "2025-12-31"


def test_a_holiday_in_the_past_is_not_sent() -> None:
    holiday = {"date": date(2025, 12, 1), "start_time": "0000", "end_time": "1200"}
    hours = CallHours.model_validate(
        {
            "status": "ENABLED",
            "timezone_id": "UTC",
            "weekly_operating_hours": [
                {"day_of_week": "MONDAY", "open_time": "0900", "close_time": "1800"}
            ],
            "holiday_schedule": [holiday],
        }
    )

    async def use(api: PilotStatusApi) -> None:
        with pytest.raises(ConfigError, match="2025-12-01"):
            await api.update_settings(CallingSettingsUpdate(call_hours=hours))

    _, script = run({}, use)
    assert script.log == []


def test_permissions() -> None:
    async def use(api: PilotStatusApi) -> Any:
        permission = await api.get_permissions("+5511999990000")
        request = await api.request_permission("5511999990000", text="May we call?")
        return permission, request

    (permission, request), script = run(
        {
            "GET /calls/permissions": [
                {
                    "permission": {"status": "temporary", "expiration_time": 1768550400},
                    "actions": [
                        {
                            "action_name": "start_call",
                            "can_perform_action": True,
                            "limits": [
                                {"time_period": "PT24H", "max_allowed": 1, "current_usage": 0}
                            ],
                        }
                    ],
                }
            ],
            "POST /calls/permissions/request": [
                httpx.Response(201, json={"messageId": "wamid.HBgM"})
            ],
        },
        use,
    )
    assert permission.status == "temporary"
    assert permission.allows("start_call")
    assert not permission.allows("send_call_permission_request")
    assert request.message_id == "wamid.HBgM"
    assert script.request(0).url.query == b"to=%2B5511999990000"
    assert body(script) == {"to": "+5511999990000", "text": "May we call?"}


def test_meta_errors_reach_the_caller() -> None:
    reply = no(400, "META_CALL_PERMISSION_REQUIRED", "(#138006) No approved call permission")
    result, _ = run({DIAL: [reply]}, _dial)
    assert isinstance(result, MetaCallingError)
    assert result.meta_code == 138006


def test_pre_accept_and_sdp() -> None:
    async def use(api: PilotStatusApi) -> Any:
        await api.pre_accept(CALL, "v=0")
        await api.accept(CALL, sdp="v=0")
        await api.initiate("5511999990000", sdp="v=0")
        return await api.get_call(CALL, include_sdp=True)

    result, script = run(
        {
            f"POST /calls/{CALL}/pre-accept": [done()],
            ACCEPT: [done()],
            DIAL: [ACCEPTED_DIAL],
            GET: [call(sdpOffer="v=0 offer")],
        },
        use,
    )
    assert result.sdp_offer == "v=0 offer"
    assert [body(script, index).get("sdp") for index in range(3)] == ["v=0"] * 3
    assert script.request().url.query == b"includeSdp=1"


# Webhooks

HOOK = {"id": "wh_1", "url": "https://hooks.example", "active": True, "events": ["call.ringing"]}


def test_webhooks_life() -> None:
    async def use(api: PilotStatusApi) -> Any:
        created = await api.create_webhook(
            "https://hooks.example", name="v", events=["call.ringing"]
        )
        listed = await api.list_webhooks()
        got = await api.get_webhook(created.id)
        updated = await api.update_webhook(created.id, active=False, events=["*"])
        logs = await api.webhook_logs(created.id, limit=500, event="call.ringing")
        await api.delete_webhook(created.id)
        return created, listed, got, updated, logs

    (created, listed, got, updated, logs), script = run(
        {
            "POST /webhooks": [httpx.Response(201, json=HOOK)],
            "GET /webhooks": [[HOOK]],
            "GET /webhooks/wh_1": [HOOK],
            "PATCH /webhooks/wh_1": [HOOK | {"active": False, "events": ["*"]}],
            "GET /webhooks/wh_1/logs": [
                [{"event": "call.ringing", "status": "SUCCESS", "statusCode": 200}]
            ],
            "DELETE /webhooks/wh_1": [httpx.Response(204)],
        },
        use,
    )
    assert listed == [created] == [got]
    assert created.delivers("call.ringing")
    assert not created.delivers("call.ended")
    assert not updated.delivers("call.ended")
    assert logs[0].delivered
    assert body(script, 0) == {
        "url": "https://hooks.example",
        "name": "v",
        "events": ["call.ringing"],
    }
    assert body(script, 3) == {"active": False, "events": ["*"]}
    assert dict(script.request(4).url.params) == {"limit": "50", "event": "call.ringing"}


def test_deleting_a_webhook_twice_is_deleting_it() -> None:
    gone = no(404, "WEBHOOK_NOT_FOUND")
    result, _ = run({"DELETE /webhooks/wh_1": [LOST, gone]}, lambda api: api.delete_webhook("wh_1"))
    assert result is None


def test_creating_a_webhook_is_not_repeated_in_doubt() -> None:
    result, script = run(
        {"POST /webhooks": [LOST]},
        lambda api: api.create_webhook("https://hooks.example", name="v", events=["*"]),
    )
    assert isinstance(result, ProviderUnreachable)
    assert len(script.log) == 1
