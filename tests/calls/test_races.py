"""What may happen in the one moment in which nobody looks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.calls.speech import clip, find, voiced
from tests.calls.test_control import FORGED, PROMPT, Greeter, Waiter, count, post
from voicebridge import Bot, Call
from voicebridge.emulator.behaviour import (
    Behaviour,
    CallerBehaviour,
    MediaBehaviour,
    Outcome,
    RestBehaviour,
    WebhookBehaviour,
)
from voicebridge.errors import CallStateError, ProviderRefused
from voicebridge.testing import run_virtual
from voicebridge.testing.world import World, open_world

if TYPE_CHECKING:
    from pydantic import SecretStr

    from voicebridge.line import MediaListener, MediaSocket


def now() -> float:
    return asyncio.get_running_loop().time()


def test_media_that_is_lost_as_soon_as_it_is_open_is_opened_again() -> None:
    async def scenario() -> None:
        bot = Greeter("en_agent-user")
        async with open_world(bot, Behaviour(media=MediaBehaviour(on_close="keep"))) as world:
            connect = world.emulator.connect_media
            opened: list[MediaSocket] = []

            async def lose_first(ws_url: SecretStr, listener: MediaListener) -> MediaSocket:
                socket = await connect(ws_url, listener)
                opened.append(socket)
                if len(opened) == 1:
                    # After the line has it, before the coroutine that opened it runs on.
                    asyncio.get_running_loop().call_soon(listener.on_close, 1006, "")
                return socket

            object.__setattr__(world.bridge._services, "connect", lose_first)
            call = await world.ring()
            summary = await world.over(call)
        assert len(opened) == 2
        assert summary.reason == "bot"
        assert find(voiced(bot.said)[8_000:], call.far_end.heard) is not None

    run_virtual(scenario())


def test_a_call_that_another_device_has_is_not_hung_up() -> None:
    async def scenario() -> None:
        taken = Outcome(status=409, code="CALL_ALREADY_ACCEPTED", repeat=0)
        behaviour = Behaviour(rest=RestBehaviour(script={"accept": (taken,)}))
        async with open_world(Waiter(), behaviour) as world:
            call = await world.ring()
            await asyncio.sleep(0.01)
            call.status = "ACCEPTED"  # by a person, on the phone that the number is linked to
            await asyncio.sleep(10)
            assert count(world, "terminate") == 0
            assert call.status == "ACCEPTED"
            summary = world.bridge.summary(call.id)
            assert summary is not None
            assert summary.reason == "taken"

    run_virtual(scenario())


def test_calls_that_are_being_dialled_count_for_the_cap() -> None:
    async def scenario() -> None:
        behaviour = Behaviour(
            rest=RestBehaviour(latency_s=0.5), caller=CallerBehaviour(answers_after_s=30)
        )
        async with open_world(Waiter(), behaviour, max_calls=2) as world:
            dials = [world.bridge.dial(f"+551199999000{n}") for n in range(6)]
            results = await asyncio.gather(*dials, return_exceptions=True)
            refused = [each for each in results if isinstance(each, CallStateError)]
            assert len(refused) == 4
            assert world.bridge.active == 2

    run_virtual(scenario())


def test_a_dial_that_nobody_waits_for_any_more_is_carried_all_the_same() -> None:
    async def scenario() -> None:
        bot = Greeter()
        behaviour = Behaviour(rest=RestBehaviour(latency_s=0.5))
        async with open_world(bot, behaviour) as world:
            asking = asyncio.ensure_future(world.bridge.dial("+5511999990000"))
            await asyncio.sleep(0.1)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await world.bridge.idle()
            assert [call.status for call in world.emulator.calls.values()] == ["COMPLETED"]
        assert len(bot.calls) == 1

    run_virtual(scenario())


def test_a_dial_under_way_at_the_end_of_the_process_leaves_no_call() -> None:
    async def scenario() -> None:
        behaviour = Behaviour(rest=RestBehaviour(latency_s=0.5))
        async with open_world(Waiter(), behaviour) as world:
            asking = asyncio.ensure_future(world.bridge.dial("+5511999990000"))
            await asyncio.sleep(0.1)
        await asking
        assert all(call.over for call in world.emulator.calls.values())

    run_virtual(scenario())


@pytest.mark.parametrize("native", ["also", "first"])
def test_our_own_call_under_its_other_name_is_not_turned_away(native: Any) -> None:
    """Native events know only one id, and here the others know only the other one."""

    async def scenario() -> None:
        bot = Waiter()
        behaviour = Behaviour(webhooks=WebhookBehaviour(native=native, ids="pilot_only"))
        async with open_world(bot, behaviour, max_calls=1) as world:
            call = await world.ring()
            await asyncio.sleep(5)
            assert call.status == "ACCEPTED"
            assert (bot.started, count(world, "reject")) == (1, 0)
            assert call.external_id is not None
            assert await world.bridge.hangup(call.external_id)
            await world.over(call)

    run_virtual(scenario())


def test_an_unproven_offer_is_looked_at_before_it_is_turned_away() -> None:
    async def scenario() -> None:
        behaviour = Behaviour(webhooks=WebhookBehaviour(signature="off"))
        async with open_world(Waiter(), behaviour, webhook_secret="", max_calls=1) as world:
            await world.ring()
            await asyncio.sleep(3)
            assert await post(world, FORGED) == 200
            await asyncio.sleep(3)
            assert count(world, "reject") == 0
            second = await world.ring()
            await second.ended()
            assert second.status == "REJECTED"

    run_virtual(scenario())


def test_strangers_cannot_give_a_call_other_names() -> None:
    async def scenario() -> None:
        behaviour = Behaviour(webhooks=WebhookBehaviour(signature="off"))
        async with open_world(Waiter(), behaviour, webhook_secret="") as world:
            call = await world.ring()
            await asyncio.sleep(3)
            for number in range(20):
                event: dict[str, object] = {
                    "event": "call.connected", "callId": f"call_{number}",
                    "externalCallId": call.external_id, "direction": "INBOUND",
                    "status": "ACCEPTED", "from": None, "to": None,
                    "timestamp": "2026-01-01T00:00:00Z",
                }  # fmt: skip
                assert await post(world, event) == 200
            assert world.bridge.summary("call_3") is None
            assert world.bridge.active == 1

    run_virtual(scenario())


@pytest.mark.parametrize("operation", ["play", "terminate"])
def test_whatever_goes_wrong_the_call_is_hung_up(operation: str) -> None:
    class Failing(Bot):
        async def run(self, call: Call) -> None:
            raise ValueError("on purpose")

    async def scenario() -> None:
        async with open_world(Failing(), fallback_prompt_url=PROMPT) as world:
            provider = world.running.provider
            proper = getattr(provider, operation)
            calls = 0

            async def odd(*args: Any, **named: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == 1:
                    raise RuntimeError("nobody thought of this")
                return await proper(*args, **named)

            setattr(provider, operation, odd)
            call = await world.ring()
            summary = await world.over(call)
        assert call.status == "COMPLETED"
        assert summary.reason == "bot_error"

    run_virtual(scenario())


def test_an_api_that_hangs_does_not_hold_up_the_end_of_a_call() -> None:
    async def scenario() -> None:
        hang = Outcome(kind="hang", repeat=0)
        behaviour = Behaviour(rest=RestBehaviour(script={"get_call": (hang,)}))

        class Brief(Bot):
            async def run(self, call: Call) -> None:
                await asyncio.sleep(3.2)

        async with open_world(Brief(), behaviour, call={"poll_seconds": 3}) as world:
            call = await world.ring()
            summary = await world.over(call)
        assert summary.reason == "bot"
        assert summary.duration_seconds < 8

    run_virtual(scenario())


def test_an_operator_hangs_up_a_call_that_is_still_being_answered() -> None:
    async def scenario() -> None:
        behaviour = Behaviour(
            rest=RestBehaviour(script={"accept": (Outcome(kind="hang", repeat=2),)})
        )
        async with open_world(Waiter(), behaviour) as world:
            call = await world.ring()
            await asyncio.sleep(0.5)
            assert await world.bridge.hangup(call.id)
            summary = await world.over(call)
        assert summary.reason == "operator"
        assert summary.duration_seconds < 3

    run_virtual(scenario())


def test_a_session_that_never_comes_ends_in_the_prompt_within_15_seconds() -> None:
    async def scenario() -> None:
        hang = Outcome(kind="hang", repeat=0)
        behaviour = Behaviour(rest=RestBehaviour(script={"realtime_session": (hang,)}))
        async with open_world(Waiter(), behaviour, fallback_prompt_url=PROMPT) as world:
            call = await world.ring()
            started = now()
            while not call.plays:  # noqa: ASYNC110 - the emulator tells nobody
                await asyncio.sleep(0.1)
            assert now() - started <= 15
            summary = await world.over(call)
        assert summary.reason == "media_unavailable"

    run_virtual(scenario())


def test_a_key_that_is_taken_again_is_noticed_without_a_call() -> None:
    async def scenario() -> None:
        no = Outcome(status=401, error="Unauthorized", repeat=2)
        behaviour = Behaviour(rest=RestBehaviour(script={"list_calls": (no,)}))
        async with open_world(Waiter(), behaviour) as world:
            with pytest.raises(ProviderRefused):
                await world.running.provider.list_calls(limit=1)
            assert not world.running.ready()
            await asyncio.sleep(100)
            assert world.running.ready()

    run_virtual(scenario())


def test_who_listens_to_a_long_greeting_is_not_taken_for_deaf() -> None:
    async def scenario() -> None:
        class Reader(Bot):
            async def run(self, call: Call) -> None:
                chapter = clip("en_agent-user").tobytes()
                for _ in range(8):
                    await call.play(chapter)

        async with open_world(Reader(), Behaviour(media=MediaBehaviour(silence="dtx"))) as world:
            call = await world.ring()
            summary = await world.over(call)
        assert summary.reason == "bot"
        assert summary.duration_seconds > 35

    run_virtual(scenario())


def test_a_writer_whose_utterance_was_stopped_does_not_stop_the_world() -> None:
    async def scenario() -> None:
        class Stubborn(Bot):
            async def run(self, call: Call) -> None:
                speech = call.speech()
                await speech.write(bytes(3_200))
                call._session.stop_all(now())
                while True:
                    await speech.write(bytes(640))

        async with open_world(Stubborn()) as world:
            call = await world.ring()
            await asyncio.sleep(2)
            before = now()
            await asyncio.sleep(1)
            assert now() - before == pytest.approx(1)
            await hang_up(world, call.id)

    async def hang_up(world: World, call_id: str) -> None:
        assert await world.bridge.hangup(call_id)
        await world.bridge.idle()

    run_virtual(scenario(), debug=False)
