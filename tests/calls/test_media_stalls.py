"""What becomes of a call whose media stands still, bursts, or is not what it should be."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from bots.echo import EchoBot
from tests.calls.speech import clip, find, voiced
from tests.calls.talker import (
    FADE_MS,
    Talker,
    coverage,
    instants,
    noise,
    now,
    the_leg,
)
from voicebridge import Bot, Call
from voicebridge.emulator.behaviour import (
    Behaviour,
    MediaBehaviour,
    NetworkBehaviour,
    RestBehaviour,
    Stall,
)
from voicebridge.testing import run_virtual
from voicebridge.testing.world import open_world


def test_a_half_open_socket_is_found_out_and_replaced() -> None:
    async def scenario() -> None:
        bot = Talker(10.0)
        network = NetworkBehaviour(stalls=(Stall(at_s=4, seconds=3.9, way="both"),))
        async with open_world(bot, Behaviour(network=network)) as world:
            call = await world.ring(noise(15), hangup_after=3.0)
            summary = await world.over(call)
        assert (summary.reason, summary.reconnects) == ("caller", 1)
        opened = instants(call, "media_open")
        assert opened[1] - opened[0] == pytest.approx(7, abs=0.5)
        assert bot.sounds(after=opened[1])

    run_virtual(scenario(), debug=False)


@pytest.mark.parametrize("seconds", [1.0, 2.5])
def test_a_short_stall_is_waited_out(seconds: float) -> None:
    async def scenario() -> None:
        bot = Talker(6.0)
        network = NetworkBehaviour(stalls=(Stall(at_s=3, seconds=seconds, way="both"),))
        async with open_world(bot, Behaviour(network=network)) as world:
            call = await world.ring(noise(9), hangup_after=3.0)
            summary = await world.over(call)
        assert (summary.reason, summary.reconnects) == ("caller", 0)
        assert coverage(bot.said, call.far_end.heard)[0] <= 40

    run_virtual(scenario(), debug=False)


@pytest.mark.parametrize("silence", ["frames", "comfort_noise"])
def test_a_server_that_answers_no_ping_is_never_dropped_for_it(silence: Any) -> None:
    async def scenario() -> None:
        media = MediaBehaviour(answer_pings=False, silence=silence)
        async with open_world(Talker(2.0), Behaviour(media=media)) as world:
            call = await world.ring(clip("en_hello"), hangup_after=90.0)
            summary = await world.over(call)
        assert (summary.reason, summary.reconnects) == ("caller", 0)

    run_virtual(scenario(), debug=False)


def test_a_silent_caller_is_no_lost_socket() -> None:
    async def scenario() -> None:
        bot = Talker()
        media = MediaBehaviour(silence="dtx")
        async with open_world(bot, Behaviour(media=media)) as world:
            call = await world.ring(clip("en_hello"), hangup_after=60.0)
            summary = await world.over(call)
        assert (summary.reason, summary.reconnects) == ("caller", 0)
        heard = len(bot.frames) * 0.020
        assert heard == pytest.approx(instants(call, "ended")[0] - bot.frames[0][0], abs=0.4)

    run_virtual(scenario(), debug=False)


def test_a_server_that_stops_reading_fills_nothing_and_is_replaced() -> None:
    async def scenario() -> None:
        bot = Talker(20.0)
        network = NetworkBehaviour(stalls=(Stall(at_s=2, seconds=13, way="from_bridge"),))
        async with open_world(bot, Behaviour(network=network)) as world:
            call = await world.ring(noise(30), hangup_after=12.0)
            leg = await the_leg(world)
            most = 0.0
            async with asyncio.TaskGroup() as tasks:
                over = tasks.create_task(world.over(call))
                while not over.done():
                    session = leg.line.session
                    most = max(most, session.drained_at() - now())
                    await asyncio.sleep(0.1)
            summary = over.result()
        assert (summary.reason, summary.reconnects) == ("caller", 1)
        assert most < 1.6, "the bot waits while the line does not take its audio"
        opened = instants(call, "media_open")
        # Two seconds of audio fit into the buffers of both kernels before it shows.
        assert opened[1] - opened[0] == pytest.approx(2 + 2 + 10, abs=1)
        assert coverage(bot.said[-16_000:], call.far_end.heard)[0] <= 20

    run_virtual(scenario(), debug=False)


@pytest.mark.parametrize("queue", ["block", "drop_newest", "drop_after_30s", "unpaced"])
def test_no_kind_of_queue_at_the_server_overflows(queue: Any) -> None:
    async def scenario() -> None:
        bot = Talker(20.0)
        async with open_world(bot, Behaviour(media=MediaBehaviour(queue=queue))) as world:
            call = await world.ring(noise(20), hangup_after=3.0)
            summary = await world.over(call)
        measured = call.far_end.measurement()
        assert (summary.reason, summary.reconnects) == ("caller", 0)
        assert measured.overflow_drops == 0
        assert measured.max_queue_ms <= 400
        assert coverage(bot.said, call.far_end.heard)[0] <= FADE_MS

    run_virtual(scenario(), debug=False)


# Odd audio.


def test_ten_seconds_that_come_at_once_are_bounded_and_the_call_goes_on() -> None:
    async def scenario() -> None:
        bot = Talker()
        behaviour = Behaviour(
            media=MediaBehaviour(answer_pings=False),
            network=NetworkBehaviour(stalls=(Stall(at_s=2, seconds=10, way="to_bridge"),)),
        )
        async with open_world(bot, behaviour) as world:
            call = await world.ring(noise(20), hangup_after=1.0)
            leg = await the_leg(world)
            summary = await world.over(call)
            assert leg.feed.waiting <= 500
        assert (summary.reason, summary.reconnects) == ("caller", 0)
        said = noise(20)
        heard = np.frombuffer(b"".join(frame for _, frame in bot.frames), np.int16)
        assert coverage(said[16_000 * 15 :], heard)[0] <= 100

    run_virtual(scenario(), debug=False)


def test_a_bot_that_does_not_listen_costs_ten_seconds_of_memory() -> None:
    class Deaf(Bot):
        async def run(self, call: Call) -> None:
            ear = call.audio()
            await asyncio.sleep(60)
            self.left = 0
            async for _ in ear:
                self.left += 1

    async def scenario() -> None:
        bot = Deaf()
        async with open_world(bot) as world:
            call = await world.ring(noise(58), hangup_after=4.0)
            leg = await the_leg(world)
            await asyncio.sleep(55)
            assert leg.feed.waiting == 500
            assert leg.feed.dropped_frames == pytest.approx(50 * (55 - 10), abs=100)
            await world.over(call)
        assert bot.left < 500 + 50 * 4

    run_virtual(scenario(), debug=False)


@pytest.mark.parametrize("size", [0, 1, 2, 319, 1_919, 65_536, 131_072])
def test_messages_of_any_size_are_taken(size: int) -> None:
    speech = clip("en_hello")

    async def scenario() -> None:
        bot = Talker()
        async with open_world(bot) as world:
            call = await world.ring(starts_after=0.0)
            await asyncio.sleep(1.0)
            for _ in range(2):  # an odd byte is carried over, so two of them are whole again
                call.lines[0].send(bytes(size))
            await asyncio.sleep(0.5)
            call.say(speech)
            await asyncio.sleep(3.0)
            await world.emulator.hang_up(call)
            summary = await world.over(call)
        assert (summary.reason, summary.reconnects) == ("caller", 0)
        heard = np.frombuffer(b"".join(frame for _, frame in bot.frames), np.int16)
        assert find(voiced(speech), heard) is not None

    run_virtual(scenario(), debug=False)


@pytest.mark.parametrize("hello", ["start", "waxum", "wadial", "lg"])
def test_audio_wrapped_in_json_is_understood(hello: Any) -> None:
    speech = clip("en_hello")

    async def scenario() -> None:
        media = MediaBehaviour(json_mode=True, hello=hello)
        async with open_world(EchoBot(), Behaviour(media=media)) as world:
            call = await world.ring(speech, hangup_after=1.5)
            summary = await world.over(call)
        assert summary.reason == "caller"
        assert find(voiced(speech), call.far_end.heard) is not None
        assert call.far_end.measurement().text_frames == 0

    run_virtual(scenario(), debug=False)


def test_audio_that_comes_with_the_handshake_is_kept() -> None:
    """The caller is connected before the socket opens; no audio is due for a while after."""
    speech = clip("en_hello")

    async def scenario() -> None:
        behaviour = Behaviour(
            media=MediaBehaviour(prefill_ms=0), rest=RestBehaviour(session_ready_after_s=2)
        )
        async with open_world(EchoBot(), behaviour) as world:
            call = await world.ring(speech, starts_after=10.0, hangup_after=1.5)
            summary = await world.over(call)
        assert summary.reason == "caller"
        assert find(voiced(speech), call.far_end.heard) is not None

    run_virtual(scenario(), debug=False)
