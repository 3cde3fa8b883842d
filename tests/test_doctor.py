"""`voicebridge doctor`: what it finds on lines that work and on lines that do not."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pydantic import SecretStr

from voicebridge.doctor import CALL_EVENTS, Finding, examine
from voicebridge.emulator import Emulator, EmulatorConfig
from voicebridge.emulator.behaviour import Behaviour, Outcome, RestBehaviour
from voicebridge.settings import only
from voicebridge.testing import VirtualClock, run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "ps_canary_5f2d"
SECRET = "canary-secret"
URL = "https://voice.example.com/webhooks/pilotstatus"
ALL = ["*"]


def findings_of(
    *,
    hooks: list[tuple[str, list[str], bool]] | None = None,
    kind: str = "EVO_GO",
    rest: RestBehaviour | None = None,
    prepare: Callable[[Emulator], Any] = lambda emulator: None,
    **settings: Any,
) -> dict[str, Finding]:
    """What is found, by name, with an emulator that has these webhooks (url, events, active)."""
    values: dict[str, Any] = {
        "api_url": "http://127.0.0.1:1",
        "api_key": KEY,
        "webhook_secret": SECRET,
        "allow_insecure_media": True,
        "bot": "echo",
    }

    async def scenario() -> list[Finding]:
        emulator = Emulator(
            EmulatorConfig(
                api_key=SecretStr(KEY),
                kind=kind,  # type: ignore[arg-type]
                seed=1,
                behaviour=Behaviour(rest=rest or RestBehaviour()),
            ),
            clock=VirtualClock(),
        )
        for url, events, active in [(URL, ALL, True)] if hooks is None else hooks:
            hook = emulator.webhooks.subscribe(url, "x", events)
            assert hook is not None
            hook.active = active
        prepare(emulator)
        try:
            transport = httpx.ASGITransport(app=emulator.app)
            return await examine(only(**(values | settings)), transport=transport)
        finally:
            await emulator.stop()

    found = run_virtual(scenario())
    for each in found:
        assert each.name
        assert each.detail
        assert each.verdict == "ok" or each.mend, f"{each.name} does not say how to mend it"
        assert KEY not in str(each)
        assert SECRET not in str(each)
    return {each.name: each for each in found}


def verdicts(found: dict[str, Finding]) -> dict[str, str]:
    return {name: each.verdict for name, each in found.items() if each.verdict != "ok"}


def test_all_is_well_with_the_emulator() -> None:
    found = findings_of()
    assert verdicts(found) == {}
    assert list(found) == [
        "API key", "API access", "provider kind", "webhook", "webhook secret", "media host",
        "clock", "bot",
    ]  # fmt: skip


def test_a_meta_number_cannot_be_bridged() -> None:
    found = findings_of(kind="META", hooks=[(URL, list(CALL_EVENTS), True)])
    assert verdicts(found) == {"provider kind": "bad"}
    assert "EVO_GO" in found["provider kind"].mend


@pytest.mark.parametrize(
    ("hooks", "verdict", "says"),
    [
        ([], "bad", "none of 0"),
        ([("https://voice.example.com/elsewhere", ALL, True)], "bad", "none of 1"),
        ([(URL, ALL, False)], "bad", '{"active": true}'),
        ([(URL, [], True)], "bad", '{"events": ["*"]}'),
        ([(URL, ["call.ended"], True)], "bad", "call.ringing is not among"),
        ([(URL, ["call.ringing", "call.ended"], True)], "warn", "call.connected"),
        ([(URL, list(CALL_EVENTS), True)], "ok", "active"),
        ([(URL + "/", ALL, True)], "ok", "active"),
        ([(URL + "?line=1", ALL, True)], "ok", "active"),
        ([(URL, [], True), (URL, ALL, False), (URL, ALL, True)], "ok", "active"),
    ],
)
def test_webhooks(hooks: list[tuple[str, list[str], bool]], verdict: str, says: str) -> None:
    finding = findings_of(hooks=hooks)["webhook"]
    assert finding.verdict == verdict
    assert says in finding.detail + finding.mend


def test_failed_deliveries_are_told() -> None:
    def fail(emulator: Emulator) -> None:
        (hook,) = emulator.webhooks.all()
        for status in ("SUCCESS", "FAILED", "FAILED"):
            hook.log.appendleft(
                {"event": "call.ringing", "status": status, "statusCode": None, "payload": {},
                 "response": "", "durationMs": 1, "createdAt": "2026-01-01T00:00:00.000Z"}
            )  # fmt: skip

    found = findings_of(prepare=fail)
    assert verdicts(found) == {"webhook deliveries": "warn"}
    assert found["webhook deliveries"].detail.startswith("2 of the last 3")


def answering(status: int, code: str | None = None) -> RestBehaviour:
    outcome = Outcome(status=status, code=code, error=f"{KEY} +5511999990000", repeat=0)
    return RestBehaviour(script={"list_calls": (outcome,)})


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        (answering(401), "refuses the key"),
        (answering(403, "TENANT_SCOPE_NOT_ALLOWED"), "account-wide"),
        (answering(400, "FEATURE_NOT_SUPPORTED"), "cannot make calls"),
        (answering(409, "WHATSAPP_INSTANCE_NOT_CONNECTED"), "not connected"),
        (answering(402), "plan"),
        (answering(500), "HTTP 500"),
        (RestBehaviour(script={"list_calls": (Outcome(kind="hang", repeat=0),)}), "no answer"),
        (RestBehaviour(script={"list_calls": (Outcome(kind="garbage", repeat=0),)}), "not JSON"),
    ],
)
def test_an_api_that_does_not_serve_us(rest: RestBehaviour, says: str) -> None:
    found = findings_of(rest=rest)
    assert verdicts(found) == {"API access": "bad"}
    assert says in found["API access"].detail
    assert "5511999990000" not in str(found)
    assert "webhook" not in found, "what needs the API is not guessed at"


@pytest.mark.parametrize(
    ("settings", "name", "verdict"),
    [
        ({"api_key": ""}, "API key", "bad"),
        ({"webhook_secret": ""}, "webhook secret", "warn"),
        ({"webhook_secret": "", "signature_mode": "required"}, "webhook secret", "bad"),
        ({"bot": ""}, "bot", "warn"),
        ({"bot": "ehco"}, "bot", "bad"),
        ({"api_url": "https://api.example.com"}, "media host", "warn"),
    ],
)
def test_settings(settings: dict[str, Any], name: str, verdict: str) -> None:
    assert findings_of(**settings)[name].verdict == verdict


def test_a_key_that_looks_wrong_is_tried_all_the_same() -> None:
    found = findings_of(api_key="sk-canary")
    assert verdicts(found) == {"API key": "warn", "API access": "bad"}


# Clock.


@pytest.mark.parametrize(
    ("date", "verdict"),
    [
        ("Thu, 01 Jan 2026 00:00:20 GMT", "ok"),
        ("Thu, 01 Jan 2026 00:00:20 -0000", "ok"),
        ("Thu, 01 Jan 2026 00:10:00 GMT", "bad"),
        ("yesterday", "warn"),
        (None, "warn"),
    ],
)
def test_the_clock_is_compared(
    date: str | None, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicebridge.doctor.LoopClock", VirtualClock)
    answer = httpx.Response(401, headers={"date": date} if date else {}, json={})

    async def scenario() -> list[Finding]:
        settings = only(api_key=KEY, api_url="https://api.example.com", allow_insecure_media=True)
        return await examine(settings, transport=httpx.MockTransport(lambda request: answer))

    found = {each.name: each for each in run_virtual(scenario())}
    assert found["clock"].verdict == verdict
    assert verdict == "ok" or found["clock"].mend


# Media host.


class _Writer:
    closed = False

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("error", "verdict", "says"),
    [
        (None, "ok", "valid certificate"),
        (socket.gaierror(), "bad", "DNS"),
        (ssl.SSLCertVerificationError("secret detail"), "bad", "certificate"),
        (ConnectionRefusedError(), "bad", "refused"),
        (TimeoutError(), "bad", "no answer"),
        (OSError("x"), "bad", "OSError"),
    ],
)
@pytest.mark.parametrize(
    ("hosts", "tried"),
    [
        ("*.pilotstatus.com.br", "evolution-go.pilotstatus.com.br"),
        ("*.pilotstatus.com.br,media.example.com", "media.example.com"),
    ],
)
def test_the_media_host_is_tried(
    error: Exception | None,
    verdict: str,
    says: str,
    hosts: str,
    tried: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, int]] = []
    writer = _Writer()

    async def connect(host: str, port: int, *, ssl: object) -> tuple[None, _Writer]:
        asked.append((host, port))
        if error is not None:
            raise error
        return None, writer

    monkeypatch.setattr(asyncio, "open_connection", connect)
    finding = findings_of(allow_insecure_media=False, media_hosts=hosts)["media host"]
    assert asked == [(tried, 443)]
    assert finding.verdict == verdict
    assert says in finding.detail
    assert writer.closed == (error is None)


def test_a_pattern_of_another_domain_cannot_be_tried() -> None:
    found = findings_of(allow_insecure_media=False, media_hosts="*.example.com")
    assert found["media host"].verdict == "warn"


# Over real sockets, with the advice followed to the letter.


@pytest.mark.real
async def test_what_the_doctor_advises_mends_it() -> None:
    async with Emulator(EmulatorConfig(api_key=SecretStr(KEY))) as emulator:
        settings = only(
            api_url=emulator.api_url,
            api_key=KEY,
            webhook_secret=SECRET,
            allow_insecure_media=True,
            bot="echo",
        )

        async def find() -> dict[str, Finding]:
            return {each.name: each for each in await examine(settings)}

        headers = {"x-api-key": KEY}
        async with httpx.AsyncClient(
            base_url=emulator.api_url, headers=headers, trust_env=False
        ) as client:
            found = await find()
            assert verdicts(found) == {"webhook": "bad"}
            assert "POST /v1/webhooks" in found["webhook"].mend
            reply = await client.post("/v1/webhooks", json={"url": URL, "name": "x"})
            hook = reply.json()
            assert hook["events"] == []
            await client.patch(f"/v1/webhooks/{hook['id']}", json={"active": False})
            for _ in ("it is not active", "it has no events"):
                found = await find()
                assert verdicts(found) == {"webhook": "bad"}
                request, _, body = found["webhook"].mend.partition(" with ")
                method, path = request.split()
                assert (await client.request(method, path, json=json.loads(body))).is_success
            assert verdicts(await find()) == {}


@pytest.mark.real
async def test_a_wrong_key_and_nobody_there() -> None:
    async with Emulator(EmulatorConfig(api_key=SecretStr("ps_other"))) as emulator:
        url = emulator.api_url
        wrong = only(api_url=url, api_key=KEY, allow_insecure_media=True, bot="echo")
        found = {each.name: each for each in await examine(wrong)}
        assert found["API access"].detail == "the API refuses the key"
    found = {each.name: each for each in await examine(wrong)}
    assert "cannot connect" in found["API access"].detail
