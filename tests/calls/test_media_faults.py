"""What becomes of a call whose media socket breaks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.calls.talker import (
    PROMPT,
    Talker,
    count,
    coverage,
    instants,
    metric,
    noise,
    now,
    the_leg,
    until,
)
from voicebridge.core.events import Hangup, MediaLost, MediaRestored
from voicebridge.emulator.behaviour import (
    Behaviour,
    MediaBehaviour,
    Outcome,
    RestBehaviour,
    WebhookBehaviour,
)
from voicebridge.testing import run_virtual
from voicebridge.testing.world import open_world


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1011, 1012, 4000])
def test_a_cut_socket_is_replaced_and_nothing_is_forgotten(code: int) -> None:
    async def scenario() -> None:
        bot = Talker(6.0)
        behaviour = Behaviour(
            media=MediaBehaviour(cut_after_s=2, cut_code=code), rest=RestBehaviour(latency_s=0.05)
        )
        async with open_world(bot, behaviour) as world:
            call = await world.ring(noise(8.0), starts_after=0.0, hangup_after=1.0)
            summary = await world.over(call)
            assert metric(world, "media_reconnects_total", result="restored") == 1
            assert count(world, "realtime_session") == 2

        assert (summary.reason, summary.reconnects, bot.runs) == ("caller", 1, 1)
        measured = call.far_end.measurement()
        assert (measured.tokens_reused, measured.text_frames, measured.odd_sizes) == (0, 0, 0)

        cut = instants(call, "media_closed")[0]
        back = next(at for at, _ in call.far_end.messages if at > cut)
        assert back - cut < 1
        assert bot.sounds(after=cut)[0] - cut < 1
        missing, repeated = coverage(bot.said, call.far_end.heard)
        assert missing <= 20, "only the few milliseconds of the fade"
        assert repeated <= 1_000

        lost, restored, over = bot.of(MediaLost), bot.of(MediaRestored), bot.of(Hangup)
        # Once: the provider also closes the socket just before it says that the call is over.
        assert (len(lost), len(restored), len(over)) == (1, 1, 1)
        order = [type(event) for event in bot.events]
        assert order.index(MediaLost) < order.index(MediaRestored)
        assert order[-1] is Hangup
        assert 0 < restored[0].gap_ms < 1_000
        assert restored[0].at_ms - lost[0].at_ms == pytest.approx(restored[0].gap_ms, abs=1)
        heard = len(bot.frames) * 0.020
        assert heard == pytest.approx(instants(call, "ended")[0] - bot.frames[0][0], abs=0.3)

    run_virtual(scenario())


@pytest.mark.parametrize("hold", ["get_call", "realtime_session"])
def test_an_api_that_does_not_answer_does_not_use_up_the_reconnect(hold: Any) -> None:
    async def scenario() -> None:
        bot = Talker()
        behaviour = Behaviour(
            media=MediaBehaviour(cut_after_s=3),
            rest=RestBehaviour(
                script={
                    hold: (Outcome(kind="ok"), Outcome(kind="hang"))
                    if hold == "realtime_session"
                    else (Outcome(kind="hang"),)
                }
            ),
        )
        async with open_world(bot, behaviour) as world:
            call = await world.ring(noise(15.0), hangup_after=1.0)
            summary = await world.over(call)
        assert (summary.reason, summary.reconnects) == ("caller", 1)
        assert bot.of(MediaRestored)[0].gap_ms < (1_500 if hold == "get_call" else 8_000)

    run_virtual(scenario())


@pytest.mark.parametrize("failure", [401, 503, "hang", "reset"])
def test_a_new_socket_that_fails_is_tried_again(failure: Any) -> None:
    async def scenario() -> None:
        bot = Talker(6.0)
        media = MediaBehaviour(cut_after_s=2, handshakes=("ok", failure, failure))
        async with open_world(bot, Behaviour(media=media)) as world:
            call = await world.ring(noise(14.0), hangup_after=2.0)
            summary = await world.over(call)
            assert count(world, "realtime_session") == 4
        assert (summary.reason, summary.reconnects, bot.runs) == ("caller", 1, 1)
        assert coverage(bot.said, call.far_end.heard)[0] <= 20
        assert call.far_end.measurement().tokens_reused == 0
        assert bot.of(MediaRestored)[0].gap_ms < 8_500

    run_virtual(scenario())


def test_media_that_never_comes_back_ends_the_call_with_the_prompt() -> None:
    async def scenario() -> None:
        bot = Talker(3.0)
        media = MediaBehaviour(cut_after_s=2, handshakes=("ok", *(503,) * 20))
        async with open_world(bot, Behaviour(media=media), fallback_prompt_url=PROMPT) as world:
            call = await world.ring()
            summary = await world.over(call)
            assert metric(world, "media_reconnects_total", result="gave_up") == 1
        assert summary.reason == "media_lost"
        assert call.plays == [PROMPT]
        cut = instants(call, "media_closed")[0]
        assert instants(call, "play")[0] - cut < 9
        assert bot.events[-1] == Hangup("media_lost")

    run_virtual(scenario())


def test_a_socket_that_keeps_dropping_is_given_up() -> None:
    async def scenario() -> None:
        bot = Talker()
        media = MediaBehaviour(cut_after_s=2, cuts=0, on_close="keep")
        async with open_world(bot, Behaviour(media=media), fallback_prompt_url=PROMPT) as world:
            call = await world.ring(noise(120))
            summary = await world.over(call)
            assert metric(world, "media_reconnects_total", result="restored") == 5
        assert (summary.reason, summary.reconnects, bot.runs) == ("media_lost", 5, 1)
        assert call.plays == [PROMPT]
        assert call.status == "COMPLETED"
        assert summary.duration_seconds < 30

    run_virtual(scenario())


def test_now_and_then_a_lost_socket_is_no_flapping() -> None:
    async def scenario() -> None:
        media = MediaBehaviour(cut_after_s=7, cuts=0, on_close="keep")
        async with open_world(Talker(), Behaviour(media=media)) as world:
            call = await world.ring(noise(115), hangup_after=1.0)
            summary = await world.over(call)
        assert summary.reason == "caller"
        assert summary.reconnects >= 10

    run_virtual(scenario(), debug=False)


@pytest.mark.parametrize("told", [True, False], ids=["webhook", "asked"])
def test_a_call_that_ends_while_media_is_away_gets_no_new_session(told: bool) -> None:
    async def scenario() -> None:
        bot = Talker()
        behaviour = Behaviour(
            media=MediaBehaviour(cut_after_s=2, handshakes=("ok", "hang")),
            webhooks=WebhookBehaviour(drop=() if told else ("call.ended",)),
        )
        async with open_world(bot, behaviour) as world:
            call = await world.ring()
            await until(lambda: len(world.emulator.handshakes) == 2)
            await world.emulator.hang_up(call)
            ended = now()
            await world.over(call)
            assert now() - ended < (0.1 if told else 5.0)
            assert count(world, "realtime_session") == 2
            assert count(world, "terminate") == 0
            assert metric(world, "media_reconnects_total", result="call_over") == 1
        assert isinstance(bot.events[-1], Hangup)

    run_virtual(scenario())


def test_a_socket_that_closes_because_the_call_ended_opens_no_other() -> None:
    async def scenario() -> None:
        behaviour = Behaviour(webhooks=WebhookBehaviour(drop=("call.ended",)))
        async with open_world(Talker(), behaviour) as world:
            call = await world.ring(noise(1), hangup_after=0.5)
            summary = await world.over(call)
            assert count(world, "realtime_session") == 1
        assert summary.reason == "completed"

    run_virtual(scenario())


def test_an_operator_can_hang_up_while_media_is_away() -> None:
    async def scenario() -> None:
        media = MediaBehaviour(cut_after_s=2, handshakes=("ok", *("hang",) * 9))
        async with open_world(Talker(), Behaviour(media=media)) as world:
            call = await world.ring()
            await until(lambda: len(world.emulator.handshakes) == 2)
            asked = now()
            assert await world.bridge.hangup(call.id)
            summary = await world.over(call)
            assert now() - asked < 2
        assert summary.reason == "operator"
        assert call.status == "COMPLETED"

    run_virtual(scenario())


def test_a_session_that_fails_ends_its_call_instead_of_going_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(now: float) -> None:
        raise ZeroDivisionError

    async def scenario() -> None:
        async with open_world(Talker(9.0)) as world:
            call = await world.ring(noise(9))
            leg = await the_leg(world)
            await asyncio.sleep(3)
            monkeypatch.setattr(leg.line.session, "tick", broken)
            summary = await world.over(call)
        assert summary.reason == "error"
        assert call.status == "COMPLETED"
        assert summary.duration_seconds < 3.5

    run_virtual(scenario())
