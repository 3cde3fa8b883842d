"""What becomes of a call whose media socket does not open."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bots.echo import EchoBot
from tests.calls.speech import clip, find, voiced
from tests.calls.talker import (
    FADE_MS,
    PROMPT,
    Talker,
    count,
    coverage,
    instants,
    now,
    until,
)
from voicebridge.emulator.behaviour import (
    Behaviour,
    MediaBehaviour,
    RestBehaviour,
    WebhookBehaviour,
)
from voicebridge.emulator.emulator import Emulator
from voicebridge.pilotstatus.media import MediaDialer
from voicebridge.testing import run_virtual
from voicebridge.testing.world import open_world


@pytest.mark.parametrize("failure", [401, 403, 404, 410, 429, 500, 503, "hang", "reset"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_failed_handshake_costs_a_session_and_not_the_call(failure: Any, times: int) -> None:
    speech = clip("en_hello")

    async def scenario() -> None:
        behaviour = Behaviour(media=MediaBehaviour(handshakes=(failure,) * times))
        async with open_world(EchoBot(), behaviour) as world:
            call = await world.ring(speech, starts_after=12.0, hangup_after=1.5)
            summary = await world.over(call)
            assert count(world, "realtime_session") == times + 1
            assert len(world.emulator.handshakes) == times + 1
        assert summary.reason == "caller"
        assert call.far_end.measurement().tokens_reused == 0
        assert find(voiced(speech), call.far_end.heard) is not None

    run_virtual(scenario())


@pytest.mark.parametrize("failure", [401, 404, 503, "hang", "reset"])
def test_three_failed_handshakes_mean_the_prompt_and_no_bot(failure: Any) -> None:
    async def scenario() -> None:
        bot = Talker(1.0)
        behaviour = Behaviour(media=MediaBehaviour(handshakes=(failure,) * 9))
        async with open_world(bot, behaviour, fallback_prompt_url=PROMPT) as world:
            call = await world.ring()
            summary = await world.over(call)
            assert count(world, "realtime_session") == 3
        assert summary.reason == "media_unavailable"
        assert call.plays == [PROMPT]
        assert bot.runs == 0
        assert call.accepted is not None
        (played,), (ended,) = instants(call, "play"), instants(call, "ended")
        assert played - call.accepted <= 15
        assert 8 <= ended - played <= 15
        assert call.far_end.measurement().tokens_reused == 0

    run_virtual(scenario())


def test_without_a_prompt_a_call_without_media_ends_at_once() -> None:
    async def scenario() -> None:
        behaviour = Behaviour(media=MediaBehaviour(handshakes=(503,) * 9))
        async with open_world(Talker(), behaviour) as world:
            call = await world.ring()
            await world.over(call)
        assert call.accepted is not None
        assert instants(call, "ended")[0] - call.accepted < 2
        assert call.plays == []

    run_virtual(scenario())


@pytest.mark.parametrize("status", [400, 404, 409, 425])
@pytest.mark.parametrize("seconds", [0.5, 3.0, 7.5])
def test_a_session_may_be_refused_for_a_while_after_accept(status: int, seconds: float) -> None:
    async def scenario() -> None:
        bot = Talker(1.0)
        behaviour = Behaviour(
            rest=RestBehaviour(session_ready_after_s=seconds, session_refusal_status=status)
        )
        async with open_world(bot, behaviour) as world:
            call = await world.ring(clip("en_hello"), starts_after=9, hangup_after=3)
            summary = await world.over(call)
        assert summary.reason == "caller"
        assert coverage(bot.said, call.far_end.heard)[0] <= FADE_MS
        assert call.accepted is not None
        assert instants(call, "media_open")[0] - call.accepted < seconds + 2.1

    run_virtual(scenario())


def test_a_session_that_is_refused_for_ever_is_given_up_in_time() -> None:
    async def scenario() -> None:
        bot = Talker()
        behaviour = Behaviour(rest=RestBehaviour(session_ready_after_s=3_600))
        async with open_world(bot, behaviour, fallback_prompt_url=PROMPT) as world:
            call = await world.ring()
            summary = await world.over(call)
        assert summary.reason == "media_unavailable"
        assert bot.runs == 0
        assert call.accepted is not None
        assert instants(call, "play")[0] - call.accepted <= 20

    run_virtual(scenario())


def test_a_call_that_ends_while_media_opens_meets_no_bot() -> None:
    async def scenario() -> None:
        bot = Talker()
        behaviour = Behaviour(media=MediaBehaviour(handshakes=("hang",)))
        async with open_world(bot, behaviour) as world:
            call = await world.ring()
            await asyncio.sleep(1.0)
            await world.emulator.hang_up(call)
            await world.over(call)
            assert now() < 1.5
            assert count(world, "realtime_session") == 1
        assert bot.runs == 0

    run_virtual(scenario())


@pytest.mark.parametrize(
    "ws_url",
    [
        "wss://evil.example/call/media/realtime/ws?token=t0ken",
        "wss://pilotstatus.com.br.evil.example/ws?token=t0ken",
        "wss://media.pilotstatus.com.br@evil.example/ws?token=t0ken",
        "ws://media.pilotstatus.com.br/ws?token=t0ken",
        "wss://127.0.0.1/ws?token=t0ken",
        "wss://[::1]/ws?token=t0ken",
        "https://media.pilotstatus.com.br/ws?token=t0ken",
        "wss://media.pilotstatus.com.br:22/ws?token=t0ken",
    ],
)
def test_a_media_address_that_is_not_the_providers_is_never_called(
    ws_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dialled: list[object] = []

    async def canary(*args: object, **_: object) -> None:
        dialled.append(args)
        raise OSError("nobody may call")

    dialer = MediaDialer(["*.pilotstatus.com.br"], allow_insecure=False)
    monkeypatch.setattr(Emulator, "connect_media", staticmethod(dialer))
    monkeypatch.setattr(asyncio.BaseEventLoop, "create_connection", canary)
    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", canary)

    async def scenario() -> None:
        bot = Talker()
        behaviour = Behaviour(rest=RestBehaviour(ws_url=ws_url))
        async with open_world(bot, behaviour, fallback_prompt_url=PROMPT) as world:
            call = await world.ring()
            summary = await world.over(call)
            assert count(world, "realtime_session") == 1
        assert summary.reason == "media_refused"
        assert call.plays == [PROMPT]
        assert call.status == "COMPLETED"
        assert bot.runs == 0

    run_virtual(scenario())
    assert dialled == []
    assert "t0ken" not in caplog.text


def test_an_operator_who_hangs_up_before_the_greeting_meets_no_bot() -> None:
    async def scenario() -> None:
        bot = Talker()
        async with open_world(bot) as world:
            world.emulator.behaviour = Behaviour(webhooks=WebhookBehaviour(connected="missing"))
            call = await world.ring()
            await until(lambda: instants(call, "media_open"))
            assert await world.bridge.hangup(call.id)
            summary = await world.over(call)
        assert (summary.reason, call.status, bot.runs) == ("operator", "COMPLETED", 0)

    run_virtual(scenario())
