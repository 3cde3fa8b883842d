"""Nothing that must stay secret gets out: not by logs, metrics, answers, reprs or tracebacks.

Whole calls pass through faults that echo canaries back at the bridge, at debug level and in
both log formats; then every text that came out is searched for them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import logging
import re
import subprocess
import sys
import textwrap
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.conftest import LeakWatch, leaks
from voicebridge import Bot, Call
from voicebridge.call import CallFacts
from voicebridge.emulator import ids
from voicebridge.emulator.behaviour import (
    Behaviour,
    CallerBehaviour,
    MediaBehaviour,
    Operation,
    Outcome,
    RestBehaviour,
    WebhookBehaviour,
)
from voicebridge.emulator.script import CallerScript
from voicebridge.errors import VoicebridgeError
from voicebridge.logs import LogSink, _render_json, configure
from voicebridge.settings import only
from voicebridge.testing import run_virtual
from voicebridge.testing.world import KEY, SECRET, World, open_world

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

ROOT = Path(__file__).parent.parent
CALLER = "5521987650001"
CALLED = "5531976540002"
OWN = "5511888880000"
TICKET = "CANARYticketCANARYticketCANARYticketCANARYx"
CANARIES = (KEY, SECRET, CALLER, CALLED, OWN, TICKET)
ECHO = (
    f"+{CALLER} ({CALLER}@s.whatsapp.net) may not, to +{CALLED}: x-api-key: {KEY}, secret={SECRET},"
    f" wss://media.pilotstatus.com.br/call/ws?token={TICKET}"
)


@pytest.fixture(autouse=True)
def _known_tickets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Media tokens are canaries too, and logging is put back as it was."""
    monkeypatch.setattr(ids.Ids, "token", lambda self: TICKET)
    root = logging.getLogger()
    level = root.level
    quiet = {name: logging.getLogger(name).level for name in ("httpx", "httpcore", "websockets")}
    yield
    for handler in root.handlers[:]:
        if isinstance(handler, LogSink):
            root.removeHandler(handler)
            handler.close()
    root.setLevel(level)
    for name, was in quiet.items():
        logging.getLogger(name).setLevel(was)


class Listener(Bot):
    """Listens; tells what it was given, as a careless bot does."""

    def __init__(self) -> None:
        self.reprs: list[str] = []

    async def run(self, call: Call) -> None:
        self.reprs += [repr(call), str(call)]
        logging.getLogger("careless").warning("call from %s", call.caller)
        async for _ in call.audio():
            pass


class Failing(Listener):
    """Fails with everything it knows in the message."""

    async def run(self, call: Call) -> None:
        await super().run(call) if call.direction == "outbound" else None
        try:
            raise LookupError(f"{call.caller} is unknown")
        except LookupError as cause:
            raise ExceptionGroup(ECHO, [RuntimeError(ECHO), ValueError(call.called)]) from cause


class Talkative(Listener):
    """Hangs up, and says why to everybody."""

    async def run(self, call: Call) -> None:
        await call.hangup(reason=ECHO)


async def ring(world: World) -> None:
    await world.over(await world.ring(hangup_after=1.0, number=f"+{CALLER}"))


async def dial(world: World) -> None:
    await world.bridge.dial(f"+{CALLED}")
    await world.bridge.idle()


async def over_http(world: World) -> list[str]:
    """What the server answers to wrong requests that hold canaries."""
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/calls", {"json": {"to": f"+{CALLED}", CALLER: KEY}}),
        ("POST", "/calls", {"json": {"to": f"+{CALLED}x"}}),
        ("POST", "/calls", {"json": {"to": f"+{CALLED}", "bot": 7}}),
        ("POST", "/calls", {"json": {"to": f"+{CALLED}", "metadata": {CALLER: 7}}}),
        ("POST", "/calls", {"json": {"to": f"+{CALLED}"}}),
        ("POST", "/calls", {"content": ECHO, "headers": {"content-type": "application/json"}}),
        ("GET", f"/calls/{CALLER}", {}),
        ("GET", f"/{KEY}", {}),
    ]
    for body in (
        ECHO.encode(),
        json.dumps([ECHO]).encode(),
        json.dumps({"event": ECHO, "from": CALLER}).encode(),
        json.dumps({"event": "call.ringing", "callId": {"x": ECHO}, "from": [CALLER]}).encode(),
        json.dumps({"event": "call.ringing", "callId": None, "from": f"+{CALLER}"}).encode(),
        json.dumps({"event": "call.ended", "callId": "call_x", "timestamp": ECHO}).encode(),
        json.dumps({"event": "CallOffer", "instanceToken": SECRET, "data": ECHO}).encode(),
        b"\xff" + ECHO.encode(),
    ):
        for signature in (None, SECRET, f"sha256={KEY}"):
            headers = {"x-webhook-signature": signature} if signature else {}
            posted = {"content": body, "headers": headers}
            requests.append(("POST", "/webhooks/pilotstatus", posted))
    async with client_of(world) as client:
        answers = [await client.request(method, path, **rest) for method, path, rest in requests]
    await asyncio.sleep(10)
    assert any(answer.status_code == 400 for answer in answers)
    return [answer.text + repr(dict(answer.headers)) for answer in answers]


def client_of(world: World) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=world.app, client=("127.0.0.1", 50_000))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")


def echoing(operation: Operation, status: int, *, code: str | None = None) -> RestBehaviour:
    outcome = Outcome(status=status, error=ECHO, code=code, repeat=0)
    return RestBehaviour(script={operation: (outcome,)})


FAULTS: dict[str, Behaviour] = {
    "none": Behaviour(),
    "accept 400": Behaviour(rest=echoing("accept", 400)),
    "accept 409": Behaviour(rest=echoing("accept", 409, code="CALL_NOT_RINGING")),
    "accept 500": Behaviour(rest=echoing("accept", 500)),
    "initiate 400": Behaviour(rest=echoing("initiate", 400)),
    "initiate 429": Behaviour(rest=echoing("initiate", 429)),
    "session 400": Behaviour(rest=echoing("realtime_session", 400, code="FEATURE_NOT_SUPPORTED")),
    "session 503": Behaviour(rest=echoing("realtime_session", 503)),
    "play 422": Behaviour(rest=echoing("play", 422), media=MediaBehaviour(uplink="deaf")),
    "terminate 500": Behaviour(rest=echoing("terminate", 500)),
    "get 401": Behaviour(rest=echoing("get_call", 401), webhooks=WebhookBehaviour(native="only")),
    "garbage": Behaviour(
        rest=RestBehaviour(script={"accept": (Outcome(kind="garbage", body=ECHO, repeat=2),)})
    ),
    "url refused": Behaviour(
        rest=RestBehaviour(ws_url=f"wss://evil.example/{CALLER}?token={TICKET}")
    ),
    "url malformed": Behaviour(rest=RestBehaviour(ws_url=ECHO)),
    "handshakes": Behaviour(media=MediaBehaviour(handshakes=(401, 503, "reset"))),
    "cuts": Behaviour(media=MediaBehaviour(cut_after_s=0.4, cuts=0, cut_code=1011)),
    "hello": Behaviour(media=MediaBehaviour(hello="waxum")),
    "unsigned": Behaviour(webhooks=WebhookBehaviour(signature="wrong", retries=0)),
    "native": Behaviour(webhooks=WebhookBehaviour(native="also", copies=2)),
    "odd": Behaviour(webhooks=WebhookBehaviour(timestamp="garbage", peer="lid")),
    "cancelled": Behaviour(caller=CallerBehaviour(cancel="on_accept")),
}


async def attempt(work: Callable[[World], Awaitable[Any]], world: World) -> list[str]:
    """What came of it: its answer, or the error in every way in which one is shown."""
    try:
        return list(await work(world) or [])
    except VoicebridgeError as error:
        chain = "".join(traceback.format_exception(error))
        return [repr(error), str(error), chain, repr(vars(error))]
    except AssertionError:
        return []  # the bridge refused the event, and so never saw the call


async def said(world: World) -> list[str]:
    """All that can be asked of a bridge, and how its parts show themselves."""
    async with client_of(world) as client:
        calls = [f"/calls/{each}" for each in world.emulator.calls]
        paths = ["/calls", "/metrics", "/readyz", *calls]
        texts = [(await client.get(path)).text for path in paths]
    bridge, provider = world.bridge, world.running.provider
    own = world.emulator.config.model_copy(update={"behaviour": Behaviour()})  # holds canaries
    texts += map(repr, (bridge.summaries(), provider, world.running, own))
    for work in (provider.list_calls(), provider.list_webhooks()):
        try:
            texts.append(repr(await work))
        except VoicebridgeError as error:
            texts.append(repr(error))
    return texts


@pytest.mark.parametrize("bot", [Listener, Failing])
@pytest.mark.parametrize("fault", FAULTS)
def test_no_canary_gets_out(fault: str, bot: type[Listener]) -> None:
    console, for_machines = io.StringIO(), io.StringIO()
    texts: list[str] = []

    async def scenario() -> None:
        mine = bot()
        async with open_world(
            mine,
            FAULTS[fault],
            fallback_prompt_url="https://cdn.example.com/sorry.mp3",
            call={"dial_seconds": 10, "deaf_seconds": 3},
        ) as world:
            texts.extend(await attempt(ring, world))
            world.emulator.script_outbound(callee)
            texts.extend(await attempt(dial, world))
            texts.extend(await attempt(over_http, world))
            texts.extend(await said(world))
        texts.extend(mine.reprs)

    sinks = configure("debug", stream=console), LogSink(for_machines, _render_json)
    logging.getLogger().addHandler(sinks[1])
    run_virtual(scenario())
    for sink, stream in zip(sinks, (console, for_machines), strict=True):
        sink.flush(30)
        assert sink.dropped == 0
        assert "call started" in stream.getvalue()
        texts.append(stream.getvalue())
    for text in texts:
        assert_clean(text)


def test_a_bots_own_words_are_cleaned_too() -> None:
    test_no_canary_gets_out("none", Talkative)


def callee(to: str) -> CallerScript:
    return CallerScript(number=to, hangup_after=1.0)


def assert_clean(text: str) -> None:
    for canary in CANARIES:
        at = text.find(canary)
        assert at < 0, f"{text[max(0, at - 200) : at]}<-- here"


def test_a_canary_would_be_seen() -> None:
    """The test above can fail: the same text, but not through the sink."""
    with pytest.raises(AssertionError, match="here"):
        assert_clean(ECHO)


def test_settings_show_none() -> None:
    settings = only(
        api_key=KEY,
        webhook_secret=SECRET,
        console_token=TICKET,
        redis_url=f"redis://:{TICKET}@h",
    )
    dumped = settings.model_dump()
    for text in (repr(settings), str(settings), repr(dumped), settings.model_dump_json()):
        assert_clean(text)


# The watch over all tests.


@pytest.mark.parametrize(
    "text",
    [KEY, SECRET, f"?token={TICKET}", f'"token": "{TICKET}"', "token%3DabcDEF", "+4930123456"],
)
@pytest.mark.parametrize("logger", ["voicebridge.somewhere", "voicebridge"])
def test_the_watch_sees_what_voicebridge_logs(
    leak_watch: LeakWatch, logger: str, text: str
) -> None:
    logging.getLogger(logger).debug("about %s", text)
    logging.getLogger(logger).debug("about", extra={"detail": text})
    assert len(leak_watch.take()) == 2


def test_the_watch_lets_pass_what_the_sink_hides(leak_watch: LeakWatch) -> None:
    logging.getLogger("somebody.else").warning("%s", f"?token={TICKET} of +4930123456")
    logging.getLogger("voicebridge.x").warning("?token=[hidden], 12 tokens: 5")
    assert leak_watch.take() == []
    assert leaks("the token, once used") == []


def run_suite(tmp_path: Path, body: str, **environment: str) -> str:
    """Output of pytest with this suite's rules over another file."""
    (tmp_path / "test_it.py").write_text(textwrap.dedent(body))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    rules = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-q", "-rA"]
    rules.append("--continue-on-collection-errors")
    place = ["--rootdir", str(tmp_path), "-c", str(tmp_path / "pytest.ini"), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *rules, *place],
        cwd=ROOT,
        env={"PATH": "", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


SUITE = f"""
    import logging
    import pytest

    def test_leaks():
        logging.getLogger("voicebridge.x").debug("key %s", "{KEY}")

    def test_skips():
        pytest.skip("no redis-server here")

    @pytest.mark.skipif(True, reason="no compiler")
    def test_is_skipped(): ...

    @pytest.mark.xfail(reason="known")
    def test_fails():
        raise ValueError

    def test_passes():
        logging.getLogger("voicebridge.x").debug("fine")
"""


def test_in_ci_a_leak_and_a_skip_fail(tmp_path: Path) -> None:
    (tmp_path / "test_absent.py").write_text("import pytest\npytest.importorskip('no_such_one')\n")
    output = run_suite(tmp_path, SUITE, CI_NO_SKIP="1")
    assert "secrets or numbers were logged" in output
    assert "voicebridge.x DEBUG: 'key %s'" in output
    for reason in ("no redis-server here", "no compiler", "could not import 'no_such_one'"):
        assert re.search(f"CI_NO_SKIP is set, and this was not run: .*{reason}", output), output
    # A leak is an error of the teardown, a mark's skip of the setup, a module's of collection.
    assert "1 failed, 2 passed, 1 xfailed, 3 errors" in output, output


def test_elsewhere_a_skip_is_a_skip(tmp_path: Path) -> None:
    output = run_suite(tmp_path, SUITE)
    assert "2 passed, 2 skipped, 1 xfailed, 1 error" in output, output


def test_dataclasses_with_numbers_hide_them() -> None:
    facts = CallFacts(
        id="call_1",
        external_id=None,
        direction="inbound",
        caller=CALLER,
        called=OWN,
        metadata={},
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert_clean(repr(facts))
    assert_clean(repr(dataclasses.replace(facts, id="call_2")))
