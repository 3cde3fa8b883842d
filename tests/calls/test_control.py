"""Call control: which calls are answered, how often, and how they end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bots.echo import EchoBot
from tests.calls.speech import clip, find, voiced
from voicebridge import Bot, Call
from voicebridge.emulator.behaviour import (
    Behaviour,
    CallerBehaviour,
    MediaBehaviour,
    Outcome,
    RestBehaviour,
    WebhookBehaviour,
)
from voicebridge.errors import CallStateError, FeatureNotSupported
from voicebridge.testing import run_virtual
from voicebridge.testing.world import World, open_world

FORGED: dict[str, object] = {
    "event": "call.ringing", "callId": "call_forged", "externalCallId": None,
    "direction": "INBOUND", "status": "RINGING", "from": None, "to": None,
    "timestamp": "2026-01-01T00:00:00Z",
}  # fmt: skip
PROMPT = "https://cdn.example.com/sorry.mp3"


class Greeter(Bot):
    """Says one clip and hangs up; counts its calls."""

    def __init__(self, name: str = "en_one-moment-please") -> None:
        self.said = clip(name)
        self.calls: list[Call] = []

    async def run(self, call: Call) -> None:
        self.calls.append(call)
        await call.write(self.said.tobytes())


class Waiter(Bot):
    """Listens until the call is over."""

    def __init__(self) -> None:
        self.started = 0

    async def run(self, call: Call) -> None:
        self.started += 1
        async for _ in call.audio():
            pass


def count(world: World, operation: str, status: int | None = None) -> int:
    """How often the provider was asked for something."""
    return sum(
        name == operation and (status is None or code == status)
        for name, code in world.emulator.requests
    )


def test_the_last_word_is_heard_before_the_bot_hangs_up() -> None:
    async def scenario() -> None:
        bot = Greeter()
        async with open_world(bot) as world:
            call = await world.ring()
            summary = await world.over(call)
        assert summary.reason == "bot"
        assert call.status == "COMPLETED"
        assert find(voiced(bot.said), call.far_end.heard) is not None
        assert call.far_end.measurement().tail_cut_ms == 0
        assert count(world, "terminate") == 1

    run_virtual(scenario())


@pytest.mark.parametrize(
    "webhooks",
    [
        WebhookBehaviour(copies=5),
        WebhookBehaviour(native="also"),
        WebhookBehaviour(native="first", copies=3),
        WebhookBehaviour(native="only"),
        WebhookBehaviour(shape="wrapped"),
        WebhookBehaviour(ids="external_only"),
        WebhookBehaviour(ids="pilot_only"),
        WebhookBehaviour(repeat_after_s=30),
        WebhookBehaviour(connected="missing"),
        WebhookBehaviour(connected="late"),
        WebhookBehaviour(connected="duplicate"),
        WebhookBehaviour(connected="after_ended"),
        WebhookBehaviour(signature="prefixed"),
        WebhookBehaviour(signature="upper"),
        WebhookBehaviour(peer="lid"),
        WebhookBehaviour(peer="null"),
        WebhookBehaviour(timestamp="epoch_ms"),
        WebhookBehaviour(timestamp="garbage"),
        WebhookBehaviour(timestamp="naive"),
        WebhookBehaviour(timestamp_skew_s=-40),
        WebhookBehaviour(timestamp_skew_s=-400),
        WebhookBehaviour(timestamp_skew_s=400),
        WebhookBehaviour(duration_field="both"),
    ],
    ids=lambda value: ",".join(
        f"{k}={v}" for k, v in value.model_dump(exclude_defaults=True).items()
    ),
)
def test_a_call_is_answered_exactly_once_however_it_is_told(webhooks: WebhookBehaviour) -> None:
    async def scenario() -> None:
        bot = Greeter()
        async with open_world(bot, Behaviour(webhooks=webhooks)) as world:
            call = await world.ring()
            await world.over(call)
            await asyncio.sleep(60)
            assert count(world, "accept") == 1
            assert len(bot.calls) == 1
            assert call.status == "COMPLETED"

    run_virtual(scenario())


def test_calls_beyond_the_cap_are_rejected_and_room_is_given_back() -> None:
    async def scenario() -> None:
        async with open_world(Waiter(), max_calls=2) as world:
            calls = [await world.ring(hangup_after=None) for _ in range(3)]
            await calls[2].ended()
            assert calls[2].status == "REJECTED"
            assert world.bridge.active == 2
            await world.emulator.hang_up(calls[0])
            await calls[0].ended()
            await asyncio.sleep(5)
            assert world.bridge.active == 1
            again = await world.ring()
            await asyncio.sleep(2)
            assert again.status == "ACCEPTED"
            for call in (calls[1], again):
                await world.emulator.hang_up(call)
                await world.over(call)

    run_virtual(scenario())


@pytest.mark.parametrize("cancel", ["ringing", "on_accept", "after_accept"])
def test_a_caller_who_gives_up_meets_no_bot(cancel: Any) -> None:
    async def scenario() -> None:
        bot = Waiter()
        behaviour = Behaviour(
            caller=CallerBehaviour(cancel=cancel, cancel_after_s=0.05),
            rest=RestBehaviour(latency_s=0.1),
        )
        async with open_world(bot, behaviour) as world:
            call = await world.ring()
            summary = await world.over(call)
        assert bot.started == 0
        assert summary.state == "ended"
        assert summary.reason in ("missed", "caller", "completed")

    run_virtual(scenario())


def test_a_call_that_another_device_took_is_left_alone() -> None:
    async def scenario() -> None:
        bot = Waiter()
        behaviour = Behaviour(
            caller=CallerBehaviour(elsewhere_after_s=0.05), rest=RestBehaviour(latency_s=0.2)
        )
        async with open_world(bot, behaviour) as world:
            call = await world.ring()
            await world.over(call)
        assert bot.started == 0

    run_virtual(scenario())


@pytest.mark.parametrize(
    "outcomes",
    [
        (Outcome(status=500, repeat=2),),
        (Outcome(status=503, repeat=3),),
        (Outcome(kind="reset", processed=True),),
        (Outcome(kind="hang"),),
        (Outcome(kind="garbage"),),
        (Outcome(status=429, retry_after="1"),),
        (Outcome(status=404, code="CALL_NOT_FOUND"),),
    ],
    ids=["500x2", "503x3", "reset-processed", "hang", "garbage", "429", "404-race"],
)
def test_accept_survives_a_bad_moment_of_the_api(outcomes: tuple[Outcome, ...]) -> None:
    async def scenario() -> None:
        bot = Greeter()
        behaviour = Behaviour(rest=RestBehaviour(script={"accept": outcomes}))
        async with open_world(bot, behaviour) as world:
            call = await world.ring()
            summary = await world.over(call)
        assert len(bot.calls) == 1
        assert summary.reason == "bot"

    run_virtual(scenario())


def test_a_hang_up_that_fails_is_tried_until_it_works() -> None:
    async def scenario() -> None:
        behaviour = Behaviour(
            rest=RestBehaviour(script={"terminate": (Outcome(status=500, repeat=8),)})
        )
        async with open_world(Greeter(), behaviour) as world:
            call = await world.ring()
            await world.over(call)
        assert call.status == "COMPLETED"

    run_virtual(scenario())


def test_an_end_that_nobody_told_is_found_out() -> None:
    async def scenario() -> None:
        behaviour = Behaviour(
            webhooks=WebhookBehaviour(drop=("call.ended",)),
            media=MediaBehaviour(end_code=1006),
        )
        async with open_world(Waiter(), behaviour) as world:
            call = await world.ring(hangup_after=1.0)
            await call.ended()
            ended = asyncio.get_running_loop().time()
            summary = await world.over(call)
            assert asyncio.get_running_loop().time() - ended < 2
        assert summary.reason == "completed"

    run_virtual(scenario())


def test_a_webhook_that_never_comes_is_made_up_for_by_asking() -> None:
    async def scenario() -> None:
        bot = Greeter()
        behaviour = Behaviour(webhooks=WebhookBehaviour(drop=("call.ringing",)))
        async with open_world(bot, behaviour, call={"ringing_poll_seconds": 5}) as world:
            call = await world.ring()
            await world.over(call)
        assert len(bot.calls) == 1

    run_virtual(scenario())


def test_unsigned_events_are_only_hints() -> None:
    """A forged offer is not answered, a forged end ends nothing, a true offer is answered."""

    async def scenario() -> None:
        bot = Waiter()
        behaviour = Behaviour(webhooks=WebhookBehaviour(signature="off"))
        async with open_world(bot, behaviour, webhook_secret="") as world:
            assert await post(world, FORGED) == 200
            await asyncio.sleep(5)
            assert count(world, "accept") == 0
            assert bot.started == 0

            call = await world.ring(hangup_after=None)
            await asyncio.sleep(3)
            assert bot.started == 1
            end = FORGED | {"event": "call.ended", "callId": call.id, "status": "COMPLETED"}
            assert await post(world, end) == 200
            await asyncio.sleep(3)
            assert world.bridge.active == 1
            await world.emulator.hang_up(call)
            await world.over(call)

    run_virtual(scenario())


async def post(world: World, event: dict[str, object]) -> int:
    import httpx

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=world.app), base_url="http://bridge"
    ) as client:
        return (await client.post("/webhooks/pilotstatus", json=event)).status_code


@pytest.mark.parametrize("late_id", [False, True])
def test_an_outbound_call_greets_only_who_answers(late_id: bool) -> None:
    async def scenario() -> None:
        bot = Greeter()
        behaviour = Behaviour(
            caller=CallerBehaviour(
                answers_after_s=4, media_before_answer=True, external_id_late=late_id
            )
        )
        async with open_world(bot, behaviour) as world:
            placed = await world.bridge.dial("+5511999990000", metadata={"order": "42"})
            await asyncio.sleep(3.9)
            assert not bot.calls
            await world.bridge.idle()
            call = world.emulator.calls[placed.id]
        assert bot.calls[0].metadata == {"order": "42"}
        assert bot.calls[0].direction == "outbound"
        assert bot.calls[0].called == "5511999990000"
        assert find(voiced(bot.said), call.far_end.heard) is not None
        assert count(world, "initiate") == 1

    run_virtual(scenario())


@pytest.mark.parametrize("lost", [(), ("call.connected", "call.ended", "call.missed")])
@pytest.mark.parametrize("dialled", ["declines", "no_answer", "unreachable"])
def test_an_outbound_call_that_nobody_takes_ends_by_itself(
    dialled: Any, lost: tuple[str, ...]
) -> None:
    async def scenario() -> None:
        bot = Greeter()
        behaviour = Behaviour(
            caller=CallerBehaviour(dialled=dialled), webhooks=WebhookBehaviour(drop=lost)
        )
        async with open_world(bot, behaviour, call={"dial_seconds": 20}) as world:
            placed = await world.bridge.dial("+5511999990000")
            await world.bridge.idle()
            assert world.emulator.calls[placed.id].over
        assert not bot.calls

    run_virtual(scenario())


def test_an_unclear_dial_is_not_repeated() -> None:
    async def scenario() -> None:
        behaviour = Behaviour(
            rest=RestBehaviour(script={"initiate": (Outcome(kind="reset", processed=True),)})
        )
        bot = Greeter()
        async with open_world(bot, behaviour) as world:
            await world.bridge.dial("+5511999990000")
            await world.bridge.idle()
        assert len(world.emulator.calls) == 1
        assert len(bot.calls) == 1

    run_virtual(scenario())


def test_a_draining_bridge_takes_no_calls_and_finishes_its_own() -> None:
    async def scenario() -> None:
        async with open_world(EchoBot()) as world:
            speech = clip("en_agent-user")
            first = await world.ring(speech, hangup_after=1.0)
            await asyncio.sleep(1)
            world.bridge.drain()
            second = await world.ring()
            await second.ended()
            assert second.status == "REJECTED"
            with pytest.raises(CallStateError, match="draining"):
                await world.bridge.dial("+5511999990000")
            summary = await world.over(first)
        assert summary.reason == "caller"
        assert find(voiced(speech), first.far_end.heard) is not None

    run_virtual(scenario())


def test_closing_the_bridge_hangs_up_what_is_left() -> None:
    async def scenario() -> None:
        async with open_world(Waiter()) as world:
            call = await world.ring(hangup_after=None)
            await asyncio.sleep(2)
        assert call.status == "COMPLETED"
        assert world.bridge.active == 0

    run_virtual(scenario())


def test_an_operator_hangs_up_by_any_id() -> None:
    async def scenario() -> None:
        async with open_world(Waiter()) as world:
            call = await world.ring(hangup_after=None)
            await asyncio.sleep(2)
            assert call.external_id is not None
            assert await world.bridge.hangup(call.external_id) is True
            assert await world.bridge.hangup("call_unknown") is False
            summary = await world.over(call)
        assert summary.reason == "operator"

    run_virtual(scenario())


@pytest.mark.parametrize(
    ("settings", "media", "reason", "seconds"),
    [
        ({"max_call_seconds": 30}, MediaBehaviour(), "max_duration", 30),
        ({}, MediaBehaviour(uplink="deaf"), "deaf", 22),
        ({}, MediaBehaviour(uplink="comfort_only"), "deaf", 22),
        ({}, MediaBehaviour(uplink="deaf_after_comfort"), "deaf", 22),
        ({"call": {"silence_seconds": 40}}, MediaBehaviour(silence="dtx"), "silence", 45),
    ],
    ids=["long", "deaf", "noise", "deaf-later", "silent"],
)
def test_a_call_that_leads_nowhere_is_ended(
    settings: dict[str, object], media: MediaBehaviour, reason: str, seconds: float
) -> None:
    async def scenario() -> None:
        async with open_world(
            Waiter(), Behaviour(media=media), fallback_prompt_url=PROMPT, **settings
        ) as world:
            call = await world.ring(clip("en_hello") if reason != "deaf" else None)
            summary = await world.over(call)
        assert summary.reason == reason
        prompt = 8 if reason == "deaf" else 0
        assert summary.duration_seconds == pytest.approx(seconds + prompt, abs=4)
        assert call.plays == ([PROMPT] if reason == "deaf" else [])

    run_virtual(scenario())


def test_a_meta_number_is_said_to_be_one() -> None:
    async def scenario() -> None:
        async with open_world(Waiter()) as world:
            world.emulator.behaviour = Behaviour(
                rest=RestBehaviour(
                    script={
                        "realtime_session": (
                            Outcome(status=400, code="FEATURE_NOT_SUPPORTED", repeat=0),
                        )
                    }
                )
            )
            call = await world.ring()
            summary = await world.over(call)
            assert summary.reason == "media_unsupported"
            assert count(world, "realtime_session") == 1
            with pytest.raises(FeatureNotSupported):
                await world.running.provider.realtime_session(call.id)

    run_virtual(scenario())
