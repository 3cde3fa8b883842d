"""Bots that flood, hang up, serve many calls at once; and their own beginning and end."""

from __future__ import annotations

import asyncio
import tracemalloc

import numpy as np
import pytest

from bots.echo import EchoBot
from tests.calls.scripted import Scripted, ended_at, errors, hang_up, listen, writes_on
from tests.calls.speech import clip, find, voiced
from tests.calls.talker import now
from voicebridge import Bot, Call
from voicebridge.errors import BotLoadError, CallEnded
from voicebridge.testing import run_virtual
from voicebridge.testing.world import open_world


@pytest.mark.parametrize("rate", [16_000, 24_000])
@pytest.mark.parametrize("how", ["write", "play", "speech"])
def test_an_hour_of_audio_at_once_is_spoken_in_real_time_and_bounded(how: str, rate: int) -> None:
    hour = bytes(3_600 * 2 * rate)

    async def floods(call: Call) -> None:
        match how:
            case "write":
                await call.write(hour, sample_rate=rate)
            case "play":
                await call.play(hour, sample_rate=rate)
            case _:
                await call.speech(sample_rate=rate).write(hour)

    async def scenario() -> None:
        bot = Scripted(floods)
        async with open_world(bot) as world:
            tracemalloc.start()
            before, _ = tracemalloc.get_traced_memory()
            call = await world.ring()
            await asyncio.sleep(8)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak - before < 16e6, "a queue of two minutes and the work of making it"
            await world.emulator.hang_up(call)
            summary = await world.over(call)
            assert now() - ended_at(call) < 0.3
        assert summary.reason == "caller"
        assert call.far_end.measurement().overflow_drops == 0
        assert call.far_end.measurement().max_queue_ms <= 400

    run_virtual(scenario(), debug=False)


def test_a_bot_that_writes_for_ever_hears_its_caller_all_the_same() -> None:
    speech = clip("en_hello")
    heard: list[bytes] = []

    async def both(call: Call) -> None:
        async def ear() -> None:
            heard.extend([frame async for frame in call.audio()])

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ear())
            tasks.create_task(writes_on(call))

    async def scenario() -> None:
        async with open_world(Scripted(both)) as world:
            call = await world.ring(speech, hangup_after=1.0)
            await world.over(call)

    run_virtual(scenario())
    assert find(voiced(speech), np.frombuffer(b"".join(heard), np.int16)) is not None


def test_hanging_up_waits_for_the_end_and_for_the_last_word() -> None:
    said = clip("en_one-moment-please")
    after: list[str] = []

    async def says_goodbye(call: Call) -> None:
        await call.write(said.tobytes())
        await call.hangup("goodbye")
        after.append("returned")
        with pytest.raises(CallEnded, match="goodbye"):
            await call.write(bytes(640))
        after.append("refused")

    async def scenario() -> None:
        async with open_world(Scripted(says_goodbye)) as world:
            call = await world.ring()
            summary = await world.over(call)
            assert errors(world) == 0
        assert (summary.reason, after) == ("goodbye", ["returned", "refused"])
        assert find(voiced(said), call.far_end.heard) is not None
        assert call.far_end.measurement().tail_cut_ms == 0

    run_virtual(scenario())


def test_hanging_up_works_from_any_task_and_twice() -> None:
    async def twice(call: Call) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listen(call))
            tasks.create_task(call.hangup("first"))
            tasks.create_task(call.hangup("second"))

    async def scenario() -> None:
        async with open_world(Scripted(twice)) as world:
            summary = await world.over(await world.ring())
            assert errors(world) == 0
        assert summary.reason == "first"

    run_virtual(scenario())


def test_a_failing_call_does_not_touch_another() -> None:
    speech = clip("en_agent-user")

    class Mixed(Bot):
        async def run(self, call: Call) -> None:
            if call.caller == "5511999990001":
                await asyncio.sleep(1.0)
                raise RuntimeError("boom")
            await EchoBot().run(call)

    async def scenario() -> None:
        async with open_world(Mixed()) as world:
            good = await world.ring(speech, hangup_after=1.5)
            bad = await world.ring(speech, number="+5511999990001")
            failed, well = await asyncio.gather(world.over(bad), world.over(good))
            assert errors(world, "Mixed") == 1
        assert (failed.reason, well.reason) == ("bot_error", "caller")
        assert find(voiced(speech), good.far_end.heard) is not None
        assert good.far_end.measurement().holes == 0

    run_virtual(scenario())


def test_a_bot_is_started_and_closed_once_however_many_calls_it_serves() -> None:
    async def scenario() -> None:
        bot = Scripted(hang_up)
        async with open_world(bot) as world:
            assert (bot.starts, bot.closes) == (1, 0)
            await asyncio.gather(*[world.over(await world.ring()) for _ in range(3)])
            assert (bot.starts, bot.runs, bot.closes) == (1, 3, 0)
        assert (bot.starts, bot.runs, bot.ends, bot.closes) == (1, 3, 3, 1)

    run_virtual(scenario())


def test_live_calls_end_before_their_bot_is_closed() -> None:
    order: list[str] = []

    class Orderly(Bot):
        async def run(self, call: Call) -> None:
            await listen(call)
            order.append("run")

        async def close(self) -> None:
            order.append("close")

    async def scenario() -> None:
        async with open_world(Orderly()) as world:
            await world.ring()
            await asyncio.sleep(3)

    run_virtual(scenario())
    assert order == ["run", "close"]


@pytest.mark.parametrize("way", ["raises", "hangs"])
def test_a_bot_that_cannot_be_closed_does_not_hold_up_the_end(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Sticky(Bot):
        async def run(self, call: Call) -> None:
            await listen(call)

        async def close(self) -> None:
            if way == "raises":
                raise RuntimeError("boom")
            await asyncio.Event().wait()

    async def scenario() -> None:
        async with open_world(Sticky()) as world:
            call = await world.ring(hangup_after=1.0)
            await world.over(call)
            ended = now()
        assert now() - ended < 11

    run_virtual(scenario())
    assert "could not be closed" in caplog.text


def test_a_bot_that_cannot_start_stops_the_start() -> None:
    class Broken(Bot):
        async def start(self) -> None:
            raise RuntimeError("no model")

    async def scenario() -> None:
        with pytest.raises(BotLoadError, match="no model"):
            async with open_world(Broken()):
                raise AssertionError("must not get here")

    run_virtual(scenario())
