"""Calls over HTTP: who may, what is checked, and what every failure looks like."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from tests.server.stand_in import (
    GUARDED,
    SECRET,
    SIGNED,
    TOKEN,
    Site,
    StandInBridge,
    StandInSummary,
    ask,
    chunk,
    ringing,
    site,
)
from voicebridge.errors import (
    BotLoadError,
    CallStateError,
    ConfigError,
    InstanceNotConnected,
    MetaCallingError,
    NumberNotFound,
    ProviderFault,
    ProviderUnreachable,
    RateLimited,
    Unauthorized,
    VoicebridgeError,
)
from voicebridge.server.access import GUESSES, LOCK_SECONDS
from voicebridge.testing.clock import run_virtual

BEARER = {"authorization": f"Bearer {TOKEN.get_secret_value()}"}
GUARDED_PATHS = [
    ("GET", "/calls"),
    ("GET", "/calls/call_1"),
    ("POST", "/calls"),
    ("POST", "/calls/call_1/hangup"),
    ("POST", "/drain"),
]
NUMBER = "+5511999999999"


def with_a_call() -> StandInBridge:
    return StandInBridge(known={"call_1": StandInSummary("call_1")}, live={"call_1"}, active=1)


async def dial(here: Site, content: Any, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if isinstance(content, bytes):
        named = {"content-type": "application/json"} | named
        return await here.client.post("/calls", content=content, headers=named)
    return await here.client.post("/calls", json=content, headers=named)


# What the routes do.


async def test_calls_are_listed() -> None:
    async with site(bridge=with_a_call()) as here:
        answer = await here.client.get("/calls")
        assert answer.json() == {
            "calls": [{"id": "call_1", "caller": None}],
            "active": 1,
            "draining": False,
        }
        assert answer.headers["cache-control"] == "no-store"


async def test_one_call_is_shown() -> None:
    async with site(bridge=with_a_call()) as here:
        assert (await here.client.get("/calls/call_1")).json()["id"] == "call_1"


@pytest.mark.parametrize("path", ["/calls/{}", "/calls/{}/hangup"])
@pytest.mark.parametrize(
    "call_id",
    [
        "call_2",
        "..",
        "..%2f..%2fetc%2fpasswd",
        "%00",
        "a%20b",
        "%0d%0ax:y",
        "%ff",
        "<b>",
        "call_1%3b",
        "%C3%A9",
        "a" * 201,
        "a" * 5_000,
    ],
)
async def test_ids_that_are_no_calls_are_404(path: str, call_id: str) -> None:
    bridge = with_a_call()
    async with site(bridge=bridge) as here:
        method = "POST" if path.endswith("hangup") else "GET"
        answer = await here.client.request(method, path.format(call_id))
        assert answer.status_code == 404
        assert answer.json()["code"] in ("CALL_NOT_FOUND", "NOT_FOUND")
        assert bridge.hung_up == []


async def test_a_call_is_hung_up_once() -> None:
    bridge = with_a_call()
    async with site(bridge=bridge) as here:
        first = await here.client.post("/calls/call_1/hangup")
        again = await here.client.post("/calls/call_1/hangup")
    assert (first.status_code, first.json()["id"]) == (200, "call_1")
    assert (again.status_code, again.json()["code"]) == (409, "CALL_OVER")
    assert bridge.hung_up == ["call_1"]


async def test_draining_starts_and_shows() -> None:
    async with site(bridge=with_a_call()) as here:
        assert (await here.client.get("/readyz")).status_code == 200
        answer = await here.client.post("/drain")
        assert (answer.status_code, answer.json()) == (202, {"draining": True, "active": 1})
        ready = await here.client.get("/readyz")
        assert (ready.status_code, ready.json()["code"]) == (503, "DRAINING")
        assert (await here.client.get("/healthz")).status_code == 200
        assert (await dial(here, {"to": NUMBER})).json()["code"] == "DRAINING"


async def test_a_call_is_placed() -> None:
    async with site() as here:
        answer = await dial(here, {"to": NUMBER, "bot": "echo", "metadata": {"order": "7"}})
        assert (answer.status_code, answer.json()["id"]) == (201, "call_new")
        await dial(here, {"to": "5511999999999"})
        assert here.bridge.dialled == [
            (NUMBER, "echo", {"order": "7"}),
            ("5511999999999", None, None),
        ]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "JSON like"),
        (b"{", "JSON like"),
        (b"[]", "JSON like"),
        (b"null", "JSON like"),
        (b"[" * 10_000, "JSON like"),
        (b'{"to": "\xff"}', ""),
        (b'{"to": "\\ud800"}', ""),
        ({}, '"to"'),
        ({"to": None}, '"to"'),
        ({"to": 5511999999999}, '"to"'),
        ({"to": ""}, '"to"'),
        ({"to": "+0511999999999"}, '"to"'),
        ({"to": "+551199999999\n9"}, '"to"'),
        ({"to": NUMBER + "\n"}, '"to"'),
        ({"to": "123"}, '"to"'),
        ({"to": "1" * 16}, '"to"'),
        ({"to": "٥٥١١٩٩٩٩٩٩٩٩٩"}, '"to"'),
        ({"to": "sip:x@y"}, '"to"'),
        ({"to": NUMBER, "bot": ""}, '"bot"'),
        ({"to": NUMBER, "bot": 1}, '"bot"'),
        ({"to": NUMBER, "bot": "b" * 201}, '"bot"'),
        ({"to": NUMBER, "metadata": []}, '"metadata"'),
        ({"to": NUMBER, "metadata": {"a": 1}}, '"metadata"'),
        ({"to": NUMBER, "metadata": {"": "a"}}, '"metadata"'),
        ({"to": NUMBER, "metadata": {"a": "b" * 513}}, '"metadata"'),
        ({"to": NUMBER, "metadata": {str(n): "" for n in range(33)}}, "metadata"),
        ({"to": NUMBER, "Canary": 1}, "unknown field"),
        ({"to": NUMBER, "from": NUMBER}, "unknown field"),
    ],
)
async def test_a_request_that_is_not_strictly_right_places_nothing(
    content: Any, named: str
) -> None:
    async with site() as here:
        answer = await dial(here, content)
        assert answer.status_code in (400, 415)
        assert answer.json()["code"] in ("REQUEST_INVALID", "JSON_REQUIRED")
        if answer.status_code == 400:
            assert named in answer.json()["error"]
        assert "5511" not in answer.text.replace("+5511...", "")
        assert "anary" not in answer.text
        assert here.bridge.dialled == []


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BotLoadError("no such bot"), 400, "BOT_UNKNOWN"),
        (CallStateError("full"), 409, "NOT_NOW"),
        (
            NumberNotFound("x", operation="initiate", status=400, code="NUMBER_NOT_FOUND"),
            400,
            "NUMBER_NOT_FOUND",
        ),
        (InstanceNotConnected("x", operation="initiate", status=409), 409, "CONFLICT"),
        (
            MetaCallingError("x", operation="initiate", status=400, code=None, meta_code=138006),
            409,
            "CONFLICT",
        ),
        (RateLimited("x", operation="initiate", retry_after=2.6), 429, "RATE_LIMITED"),
        (ProviderUnreachable("x", operation="initiate", sent=True), 504, "PROVIDER_UNREACHABLE"),
        (ProviderFault("x", operation="initiate", status=500), 502, "PROVIDER_FAULT"),
        (Unauthorized("x", operation="initiate", status=401), 502, "PROVIDER_REFUSED"),
        (VoicebridgeError("x"), 409, "NOT_DONE"),
        (RuntimeError("canary"), 500, "INTERNAL"),
    ],
)
async def test_every_failure_to_dial_is_told(error: Exception, status: int, code: str) -> None:
    async with site(bridge=StandInBridge(dial_error=error)) as here:
        answer = await dial(here, {"to": NUMBER})
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert "canary" not in answer.text
        assert answer.headers.get("retry-after") == ("3" if status == 429 else None)


async def test_names_of_strangers_are_inert() -> None:
    name = "<script>\x1b[2J</script>\ud800&\r\n"
    bridge = StandInBridge(known={"call_1": StandInSummary("call_1", caller=name)})
    async with site(bridge=bridge) as here:
        answer = await here.client.get("/calls/call_1")
        assert answer.json()["caller"] == name
        assert not set("<>&\x1b\r") & set(answer.text)
        assert answer.content.isascii()
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"


# Without a token: this machine only.


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1"])
async def test_this_machine_may(peer: str) -> None:
    async with site(peer=peer) as here:
        assert (await here.client.get("/calls")).status_code == 200


@pytest.mark.parametrize("peer", ["192.168.1.7", "8.8.8.8", "::ffff:8.8.8.8", "fe80::1%eth0", "x"])
@pytest.mark.parametrize(("method", "path"), GUARDED_PATHS)
async def test_other_machines_may_not(peer: str, method: str, path: str) -> None:
    bridge = with_a_call()
    async with site(bridge=bridge, peer=peer) as here:
        answer = await here.client.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (403, "LOOPBACK_ONLY")
        assert "VOICEBRIDGE_CONSOLE_TOKEN" in answer.json()["error"]
        assert (bridge.hung_up, bridge.draining) == ([], False)


async def test_a_peer_without_an_address_may_not() -> None:
    async def receive() -> dict[str, Any]:
        return chunk()

    async with site() as here:
        exchange = await ask(here.app, receive, method="GET", path="/calls", client=None)
        assert exchange.status == 403


@pytest.mark.parametrize(
    "header",
    [
        {"x-forwarded-for": "127.0.0.1"},
        {"x-forwarded-for": ""},
        {"forwarded": "for=127.0.0.1"},
        {"x-real-ip": "127.0.0.1"},
        {"via": "1.1 proxy"},
        {"x-forwarded-proto": "https"},
        {"x-forwarded-host": "localhost"},
        {"host": "bridge.example.com"},
        {"host": "127.0.0.1.example.com"},
        {"host": "localhost.example.com:8080"},
        {"host": "[::1"},
        {"host": ""},
    ],
)
async def test_what_came_through_a_proxy_or_by_another_name_is_not_local(
    header: dict[str, str],
) -> None:
    async with site() as here:
        assert (await here.client.get("/calls", headers=header)).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1", "[::1]:8080"])
async def test_loopback_names_are_local(host: str) -> None:
    async with site() as here:
        assert (await here.client.get("/calls", headers={"host": host})).status_code == 200


async def test_a_forwarding_header_cannot_make_a_stranger_local() -> None:
    async with site(peer="8.8.8.8") as here:
        headers = {"x-forwarded-for": "127.0.0.1", "host": "localhost"}
        assert (await here.client.get("/calls", headers=headers)).status_code == 403


# With a token.


@pytest.mark.parametrize(("method", "path"), GUARDED_PATHS)
async def test_with_a_token_configured_even_this_machine_needs_it(method: str, path: str) -> None:
    bridge = with_a_call()
    async with site(GUARDED, bridge=bridge) as here:
        answer = await here.client.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (401, "TOKEN_REQUIRED")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert (bridge.hung_up, bridge.draining) == ([], False)


async def test_the_token_opens_from_anywhere_and_through_proxies() -> None:
    async with site(GUARDED, peer="8.8.8.8", base_url="https://bridge.example.com") as here:
        headers = BEARER | {"x-forwarded-for": "9.9.9.9"}
        assert (await here.client.get("/calls", headers=headers)).status_code == 200
        headers = {"authorization": BEARER["authorization"].replace("Bearer", "bearer")}
        assert (await here.client.get("/calls", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer wrong",
        b"Basic " + TOKEN.get_secret_value().encode(),
        TOKEN.get_secret_value().encode(),
        b"Bearer " + TOKEN.get_secret_value().encode() + b"x",
        b"Bearer " + TOKEN.get_secret_value()[:-1].encode(),
        b"Bearer \xff\xfe",
        b"Bearer " + b"a" * 20_000,
    ],
)
async def test_wrong_tokens_do_not_open(value: bytes) -> None:
    async with site(GUARDED) as here:
        answer = await here.client.get("/calls", headers=[(b"authorization", value)])
        assert answer.status_code == 401
        assert "canary" not in answer.text


async def test_two_tokens_do_not_open() -> None:
    async with site(GUARDED) as here:
        headers = [(b"authorization", BEARER["authorization"].encode())] * 2
        assert (await here.client.get("/calls", headers=headers)).status_code == 401


def test_guessing_is_locked_out_for_a_minute() -> None:
    async def scenario() -> None:
        async with site(GUARDED, peer="203.0.113.5") as here:

            async def attempt(token: str) -> int:
                headers = {"authorization": f"Bearer {token}"}
                return (await here.client.get("/calls", headers=headers)).status_code

            right = TOKEN.get_secret_value()
            statuses = [await attempt(f"guess{n}") for n in range(1_000)]
            assert statuses == [401] * GUESSES + [429] * (1_000 - GUESSES)
            assert await attempt(right) == 429
            await asyncio.sleep(LOCK_SECONDS - 1)
            answer = await here.client.get("/calls", headers=BEARER)
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
            await asyncio.sleep(1)
            assert await attempt(right) == 200

    run_virtual(scenario())


def test_a_lock_out_is_of_one_peer() -> None:
    async def scenario() -> None:
        async with site(GUARDED) as here:

            async def attempt(peer: str, token: str) -> int:
                async def receive() -> dict[str, Any]:
                    return chunk()

                header = (b"authorization", f"Bearer {token}".encode())
                exchange = await ask(
                    here.app, receive, header, method="GET", path="/calls", client=(peer, 1)
                )
                return exchange.status

            right = TOKEN.get_secret_value()
            for n in range(GUESSES):
                await attempt("203.0.113.5", "wrong")
                await attempt(f"2001:db8::{n:x}", "wrong")  # one household, many addresses
            assert await attempt("203.0.113.5", right) == 429
            assert await attempt("2001:db8::ffff", right) == 429
            assert await attempt("203.0.113.6", right) == 200
            assert await attempt("2001:db8:0:1::1", right) == 200

    run_virtual(scenario())


def test_a_slip_now_and_then_locks_nobody_out() -> None:
    async def scenario() -> None:
        async with site(GUARDED) as here:
            for _ in range(3 * GUESSES):
                wrong = {"authorization": "Bearer slip"}
                assert (await here.client.get("/calls", headers=wrong)).status_code == 401
                await asyncio.sleep(LOCK_SECONDS / GUESSES + 1)

    run_virtual(scenario())


async def test_the_right_token_clears_the_count() -> None:
    async with site(GUARDED) as here:
        for _ in range(3):
            for _ in range(GUESSES - 1):
                await here.client.get("/calls", headers={"authorization": "Bearer wrong"})
            assert (await here.client.get("/calls", headers=BEARER)).status_code == 200


@pytest.mark.parametrize("token", ["", "  "])
async def test_an_empty_token_protects_nothing_and_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match="VOICEBRIDGE_CONSOLE_TOKEN"):
        async with site(replace(SIGNED, console_token=SecretStr(token))):
            pass


# Pages of other origins.


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://127.0.0.1:8080.evil.example"},
        {"origin": "ftp://127.0.0.1:8080"},
        {"origin": "127.0.0.1:8080"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
@pytest.mark.parametrize("config", [SIGNED, GUARDED], ids=["local", "token"])
async def test_a_page_of_another_origin_controls_nothing(
    headers: dict[str, str], config: Any
) -> None:
    bridge = with_a_call()
    async with site(config, bridge=bridge) as here:
        sent = BEARER | headers
        for path in ("/calls/call_1/hangup", "/drain"):
            answer = await here.client.post(path, headers=sent)
            assert (answer.status_code, answer.json()["code"]) == (403, "FOREIGN_ORIGIN")
        answer = await here.client.post("/calls", json={"to": NUMBER}, headers=sent)
        assert answer.status_code == 403
        assert (bridge.hung_up, bridge.draining, bridge.dialled) == ([], False, [])


async def test_a_rebound_name_is_no_own_origin() -> None:
    async with site(bridge=with_a_call(), base_url="http://rebound.example:8080") as here:
        headers = {"origin": "http://rebound.example:8080"}
        answer = await here.client.post("/calls/call_1/hangup", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "LOOPBACK_ONLY")


@pytest.mark.parametrize(
    ("base_url", "origin"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://localhost", "http://localhost"),
        ("http://localhost", "HTTP://LOCALHOST:80"),
    ],
)
async def test_a_page_of_our_own_may(base_url: str, origin: str) -> None:
    async with site(bridge=with_a_call(), base_url=base_url) as here:
        headers = {"origin": origin, "sec-fetch-site": "same-origin"}
        answer = await here.client.post("/calls/call_1/hangup", headers=headers)
        assert answer.status_code == 200


async def test_an_allowed_origin_may_where_a_proxy_changes_the_host() -> None:
    config = replace(GUARDED, allowed_origins=["https://console.example.com/"])
    async with site(config, bridge=with_a_call()) as here:
        headers = BEARER | {"origin": "https://console.example.com"}
        assert (await here.client.post("/drain", headers=headers)).status_code == 202


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx"],
)
async def test_forms_are_not_taken(kind: str) -> None:
    async with site(bridge=with_a_call()) as here:
        for path in ("/calls", "/calls/call_1/hangup", "/drain"):
            answer = await here.client.post(
                path, content=b'{"to": "+5511999999999"}', headers={"content-type": kind}
            )
            assert (answer.status_code, answer.json()["code"]) == (415, "JSON_REQUIRED")
        assert (here.bridge.dialled, here.bridge.hung_up) == ([], [])


async def test_json_may_name_its_charset() -> None:
    async with site() as here:
        kind = "Application/JSON; charset=utf-8"
        assert (await dial(here, b'{"to": "5511999999999"}', content_type=kind)).status_code == 201


async def test_a_dial_request_is_small() -> None:
    async with site() as here:
        answer = await dial(here, b'{"to": "' + b"1" * 20_000 + b'"}')
        assert answer.status_code == 413


# What is open to all.


async def test_probes_and_metrics_are_open() -> None:
    async with site(GUARDED, peer="8.8.8.8") as here:
        await here.post_hook(ringing())
        assert (await here.client.get("/healthz")).json() == {"status": "ok"}
        assert (await here.client.get("/readyz")).json() == {"status": "ready"}
        metrics = await here.client.get("/metrics")
        assert metrics.headers["content-type"].startswith("text/plain; version=")
        assert 'voicebridge_webhooks_total{event="call.ringing",result="accepted"}' in metrics.text
        assert "5511" not in metrics.text
        assert "call_1" not in metrics.text
        assert SECRET.get_secret_value() not in metrics.text


async def test_readiness_follows_what_it_is_told() -> None:
    ready = True
    async with site(ready=lambda: ready) as here:
        assert (await here.client.get("/readyz")).status_code == 200
        ready = False
        answer = await here.client.get("/readyz")
        assert (answer.status_code, answer.json()["code"]) == (503, "NOT_READY")
        assert (await here.client.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "NOT_FOUND"),
        ("GET", "/console", 404, "NOT_FOUND"),
        ("POST", "/webhooks/pilotstatus/", 404, "NOT_FOUND"),
        ("POST", "/WEBHOOKS/PILOTSTATUS", 404, "NOT_FOUND"),
        ("GET", "/calls/", 404, "NOT_FOUND"),
        ("GET", "//calls", 404, "NOT_FOUND"),
        ("GET", "/docs", 404, "NOT_FOUND"),
        ("POST", "/healthz", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/drain", 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", "/calls/call_1", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/calls/call_1/hangup", 405, "METHOD_NOT_ALLOWED"),
        ("BREW", "/calls", 405, "METHOD_NOT_ALLOWED"),
    ],
)
async def test_other_paths_and_methods(method: str, path: str, status: int, code: str) -> None:
    async with site() as here:
        answer = await here.client.request(method, "http://127.0.0.1:8080" + path)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert "server" not in answer.headers
