"""Bots that fail or will not end: each costs its own call, and no other."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING

import pytest

from tests.calls.scripted import Script, Scripted, ended_at, errors, hang_up, listen, writes_on
from tests.calls.talker import PROMPT, noise, now, the_leg
from voicebridge.emulator.behaviour import Behaviour, NetworkBehaviour
from voicebridge.errors import CallEnded
from voicebridge.testing import run_virtual
from voicebridge.testing.world import open_world

if TYPE_CHECKING:
    from voicebridge import Call


async def at_once(call: Call) -> None:
    raise RuntimeError("boom")


async def in_mid_call(call: Call) -> None:
    await call.write(bytes(32_000))
    await asyncio.sleep(2)
    raise KeyError("boom")


async def in_a_group(call: Call) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(listen(call))
        tasks.create_task(at_once(call))


async def out_of_memory(call: Call) -> None:
    raise MemoryError


async def by_exit(call: Call) -> None:
    sys.exit(3)


async def by_a_cancelled_task(call: Call) -> None:
    backend = asyncio.ensure_future(asyncio.sleep(60))
    asyncio.get_running_loop().call_later(1, backend.cancel)
    await backend


async def by_cancelling_itself(call: Call) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(1)


async def with_both(call: Call) -> None:
    raise ExceptionGroup("both", [CallEnded("caller"), ValueError("boom")])


async def by_odd_bytes(call: Call) -> None:
    await call.write(b"\0\0\0")


@pytest.mark.parametrize(
    "script",
    [
        at_once, in_mid_call, in_a_group, out_of_memory, by_exit, by_a_cancelled_task,
        by_cancelling_itself, with_both, by_odd_bytes,
    ],
)  # fmt: skip
def test_a_bot_that_fails_ends_its_call_politely(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        bot = Scripted(script)
        async with open_world(bot, fallback_prompt_url=PROMPT) as world:
            call = await world.ring()
            summary = await world.over(call)
            assert errors(world) == 1
            # The process is none the worse for it.
            bot.script = hang_up
            again = await world.ring()
            assert (await world.over(again)).reason == "done"
            assert errors(world) == 1
        assert summary.reason == "bot_error"
        assert call.plays == [PROMPT]
        assert call.status == "COMPLETED"
        played = call.when("play")
        assert played is not None
        assert ended_at(call) - played == pytest.approx(8, abs=1)

    run_virtual(scenario())
    assert sum("the bot failed" in record.message for record in caplog.records) == 1


def test_a_failed_bot_falls_silent_before_the_prompt() -> None:
    """What it had queued must not speak over the prompt."""

    async def fails(call: Call) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(call.speech().write(noise(60).tobytes()))
            await asyncio.sleep(2)
            raise RuntimeError("boom")

    async def scenario() -> None:
        async with open_world(Scripted(fails), fallback_prompt_url=PROMPT) as world:
            call = await world.ring()
            await world.over(call)
        played = call.when("play")
        assert played is not None
        assert call.far_end.audible_after_ms(played) < 250

    run_virtual(scenario())


async def plays_on(call: Call) -> None:
    while True:
        await call.play(noise(1.0).tobytes())


async def in_a_task_group(call: Call) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(listen(call))
        tasks.create_task(writes_on(call))
        tasks.create_task(plays_on(call))


async def in_nested_groups(call: Call) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(in_a_task_group(call))
        tasks.create_task(writes_on(call))


@pytest.mark.parametrize("script", [writes_on, plays_on, in_a_task_group, in_nested_groups])
def test_the_end_of_a_call_may_be_let_through(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        bot = Scripted(script)
        async with open_world(bot, fallback_prompt_url=PROMPT) as world:
            call = await world.ring()
            await asyncio.sleep(3)
            await world.emulator.hang_up(call)
            summary = await world.over(call)
            assert now() - ended_at(call) < 0.3, "nobody had to be cancelled"
            assert errors(world) == 0
        assert summary.reason == "caller"
        assert (bot.runs, bot.ends) == (1, 1)
        assert call.plays == []

    run_virtual(scenario())
    assert "failed" not in caplog.text


def test_a_bot_that_returns_at_once_hangs_up() -> None:
    async def nothing(call: Call) -> None:
        return

    async def scenario() -> None:
        async with open_world(Scripted(nothing), fallback_prompt_url=PROMPT) as world:
            call = await world.ring()
            summary = await world.over(call)
            assert errors(world) == 0
        assert (summary.reason, call.status, call.plays) == ("bot", "COMPLETED", [])
        assert summary.duration_seconds < 2.5

    run_virtual(scenario())


def test_a_bot_that_never_returns_is_cancelled_after_the_call() -> None:
    async def forever(call: Call) -> None:
        await asyncio.Event().wait()

    async def scenario() -> None:
        bot = Scripted(forever)
        async with open_world(bot) as world:
            call = await world.ring()
            await asyncio.sleep(3)
            await world.emulator.hang_up(call)
            summary = await world.over(call)
            assert now() - ended_at(call) == pytest.approx(5, abs=0.5)
            assert errors(world) == 0
        assert bot.ends == 1
        assert summary.reason == "caller"
        assert summary.duration_seconds < 4, "the call had ended before its bot did"

    run_virtual(scenario())


def test_a_bot_that_will_not_be_cancelled_is_abandoned_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def stubborn(call: Call) -> None:
        for _ in range(3):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(100)

    async def scenario() -> None:
        bot = Scripted(stubborn)
        async with open_world(bot, max_calls=1) as world:
            call = await world.ring()
            await asyncio.sleep(3)
            await world.emulator.hang_up(call)
            await world.over(call)
            assert now() - ended_at(call) == pytest.approx(10, abs=0.5)
            assert errors(world) == 1
            assert bot.ends == 0
            bot.script = hang_up  # its place is free again
            summary = await world.over(await world.ring())
            assert summary.reason == "done"

    run_virtual(scenario())
    assert "abandoned" in caplog.text


def test_the_socket_does_not_wait_for_the_bot() -> None:
    async def forever(call: Call) -> None:
        await asyncio.Event().wait()

    async def scenario() -> None:
        behaviour = Behaviour(network=NetworkBehaviour(delay_ms=2_000))  # of its own goodbye
        async with open_world(Scripted(forever), behaviour, max_call_seconds=5) as world:
            call = await world.ring()
            leg = await the_leg(world)
            await call.ended()
            await asyncio.sleep(0.5)
            assert world.bridge.active == 1
            assert not leg.line.up
            await world.over(call)

    run_virtual(scenario())
