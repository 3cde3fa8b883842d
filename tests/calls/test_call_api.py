"""What a bot can do with a call, checked at the caller's ear: hearing, writing, the end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.calls.carried import BEYOND_RECALL_MS, Scripted, Source, audible_ms, carry, pitch, tone
from tests.calls.speech import CLIPS, clip, find, voiced
from tests.calls.talker import noise, now
from voicebridge.core.events import Event, Hangup, PlaybackFinished
from voicebridge.errors import AudioError, CallEnded
from voicebridge.testing import run_virtual
from voicebridge.testing.world import open_world

if TYPE_CHECKING:
    from collections.abc import Callable

    from voicebridge import Call
    from voicebridge.emulator.calls import EmulatedCall

# What it knows.


def test_facts_of_the_call() -> None:
    async def script(call: Call, other: EmulatedCall) -> None:
        assert call.id == other.id
        assert call.external_id == other.external_id
        assert call.direction == "inbound"
        assert call.caller == other.peer.lstrip("+") == "5511999990000"
        assert call.called == other.own.lstrip("+")
        assert call.metadata == {}
        assert call.sample_rate == 16_000
        assert call.started_at == other.created_at
        for shown in (repr(call), str(call), f"{call.speech()!r}"):
            assert "9999" not in shown
            assert "8888" not in shown
        assert call.id in repr(call)

    carry(script)


# Hearing.


@pytest.mark.parametrize("rate", [None, 8_000, 16_000, 24_000, 48_000])
def test_audio_comes_in_frames_of_20_ms_at_any_rate(rate: int | None) -> None:
    async def script(call: Call, other: EmulatedCall) -> list[bytes]:
        return [frame async for frame in call.audio(rate)]

    frames, other = carry(script, audio=tone(2.0, 16_000), hangup_after=1.0)
    wire = rate or 16_000
    assert {len(frame) for frame in frames} == {wire // 50 * 2}
    assert len(frames) * 0.02 == pytest.approx(other.far_end.seconds, abs=0.5)
    heard = np.frombuffer(b"".join(frames), np.int16)
    loud = np.flatnonzero(np.abs(heard.astype(np.int32)) > 4_000)
    assert (loud[-1] - loud[0]) / wire == pytest.approx(2.0, abs=0.01)
    middle = heard[loud[0] + wire // 4 : loud[0] + wire]
    assert pitch(middle, wire) == pytest.approx(440, abs=5)


def test_every_listener_hears_all_and_a_late_one_hears_the_rest() -> None:
    speech = clip("en_agent-user")

    async def script(call: Call, other: EmulatedCall) -> tuple[bytes, ...]:
        async def ear(rate: int | None, delay: float) -> bytes:
            await asyncio.sleep(delay)
            return b"".join([frame async for frame in call.audio(rate)])

        return await asyncio.gather(ear(None, 0), ear(None, 0.001), ear(8_000, 0), ear(None, 2.0))

    (first, second, narrow, late), _ = carry(script, audio=speech, hangup_after=1.0)
    assert find(voiced(speech), np.frombuffer(first, np.int16)) is not None
    assert first.endswith(second)
    assert len(second) > 0.9 * len(first)
    assert len(narrow) == pytest.approx(len(second) / 2, abs=2_000)
    assert first.endswith(late)
    assert len(first) - len(late) == pytest.approx(2.0 * 32_000, abs=0.5 * 32_000)


def test_what_is_said_before_the_bot_listens_is_not_lost() -> None:
    speech = clip("en_hello")

    async def script(call: Call, other: EmulatedCall) -> bytes:
        await asyncio.sleep(4)
        return b"".join([frame async for frame in call.audio()])

    heard, _ = carry(script, audio=speech, hangup_after=5.0)
    assert find(voiced(speech), np.frombuffer(heard, np.int16)) is not None


def test_a_listener_that_leaves_costs_nothing_any_more() -> None:
    async def script(call: Call, other: EmulatedCall) -> None:
        for _ in range(3):
            frames = call.audio()
            async for _ in frames:
                break
            await frames.aclose()  # type: ignore[attr-defined]
        assert call._feed._ears == []
        events = call.events()
        task = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await events.aclose()  # type: ignore[attr-defined]
        assert call._feed._watchers == []

    carry(script, audio=noise(2))


# Writing.


@pytest.mark.parametrize("chunk_ms", [10, 20, 60, 250])
@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_a_writer_is_never_much_ahead_of_the_caller(chunk_ms: int, rate: int) -> None:
    async def script(call: Call, other: EmulatedCall) -> float:
        chunk = noise(chunk_ms / 1_000 * rate / 16_000).tobytes()
        started, written, most = now(), 0.0, 0.0
        while written < 6.0:
            await call.write(chunk, sample_rate=rate)
            written += chunk_ms / 1_000
            most = max(most, written - (now() - started))
        return most

    most, other = carry(script, debug=False)
    # A second in the queue, and what is on the wire already.
    assert 0.9 < most <= 1.0 + (chunk_ms + BEYOND_RECALL_MS) / 1_000
    measured = other.far_end.measurement()
    assert (measured.holes, measured.overflow_drops, measured.tail_cut_ms) == (0, 0, 0)
    assert audible_ms(other.far_end.heard) == pytest.approx(6_000, abs=60 + chunk_ms)


def test_written_audio_of_another_rate_is_the_same_sound() -> None:
    said = tone(1.0, 24_000)

    async def script(call: Call, other: EmulatedCall) -> None:
        for start in range(0, len(said), 333):
            await call.write(said[start : start + 333].tobytes(), 24_000)

    _, other = carry(script)
    heard = other.far_end.heard
    assert audible_ms(heard) == pytest.approx(1_000, abs=10)
    loud = np.flatnonzero(np.abs(heard.astype(np.int32)) > 4_000)
    assert pitch(heard[loud[0] + 800 : loud[0] + 12_800], 16_000) == pytest.approx(440, abs=3)


def test_the_rate_may_change_in_mid_call() -> None:
    async def script(call: Call, other: EmulatedCall) -> None:
        for rate in (16_000, 24_000, 8_000, 16_000):
            await call.write(tone(0.3, rate).tobytes(), rate)

    _, other = carry(script)
    assert audible_ms(other.far_end.heard) == pytest.approx(1_200, abs=15)


@pytest.mark.parametrize("size", [1, 3, 641])
def test_half_a_sample_is_refused_and_nothing_is_said(size: int) -> None:
    async def script(call: Call, other: EmulatedCall) -> None:
        for attempt in (
            call.write(b"\x55" * size),
            call.write(b"\x55" * size, 24_000),
            call.play(b"\x55" * size),
            call.speech().write(b"\x55" * size),
        ):
            with pytest.raises(AudioError, match=r"odd|even|whole"):
                await attempt
        with pytest.raises(AudioError, match="12345"):
            await call.write(b"\0\0", 12_345)
        await call.write(b"")

    _, other = carry(script)
    assert not other.far_end.heard.any()


# The rest.


def test_play_url_asks_the_provider() -> None:
    async def script(call: Call, other: EmulatedCall) -> None:
        await call.play_url("https://cdn.example.com/jingle.mp3")

    _, other = carry(script)
    assert other.plays == ["https://cdn.example.com/jingle.mp3"]


@pytest.mark.parametrize("reason", [None, "done", "transferred to a person"])
def test_hangup_gives_its_reason_to_everybody(reason: str | None) -> None:
    async def scenario() -> None:
        async def script(call: Call, other: EmulatedCall) -> list[Event]:
            async def watch() -> list[Event]:
                return [event async for event in call.events()]

            watching = asyncio.ensure_future(watch())
            await asyncio.sleep(0)
            await call.hangup(reason)
            return await watching

        bot = Scripted(script)
        async with open_world(bot) as world:
            bot.world = world
            summary = await world.over(await world.ring())
            events = await bot.result
        assert summary.reason == (reason or "hangup")
        assert events[-1] == Hangup(reason or "hangup")

    run_virtual(scenario())


def test_events_come_in_order_to_everybody_who_watches() -> None:
    async def script(call: Call, other: EmulatedCall) -> list[list[Event]]:
        async def watch() -> list[Event]:
            return [event async for event in call.events()]

        watching = [asyncio.ensure_future(watch()) for _ in range(2)]
        await asyncio.sleep(0)
        speeches = [call.speech() for _ in range(3)]
        for speech in speeches:
            await speech.write(noise(0.3).tobytes())
            speech.end()
        await speeches[-1].done()
        late = asyncio.ensure_future(watch())
        await asyncio.sleep(0)
        await call.hangup("done")
        return list(await asyncio.gather(*watching, late))

    (first, second, late), _ = carry(script)
    assert first == second
    finished = [event for event in first if isinstance(event, PlaybackFinished)]
    assert [event.utterance for event in finished] == sorted(e.utterance for e in finished)
    assert [event.playback.heard_ms for event in finished] == [300] * 3
    assert first[-1] == Hangup("done")
    assert PlaybackFinished not in [type(event) for event in late]
    assert late[-1] == Hangup("done")


def test_after_the_end_iterators_are_empty_and_all_else_raises() -> None:
    async def script(call: Call, other: EmulatedCall) -> None:
        open_speech, ended_speech = call.speech(), call.speech()
        await open_speech.write(noise(0.1).tobytes())
        ended_speech.end()
        frames = call.audio()
        async for _ in frames:
            pass  # ends quietly

        attempts: list[Callable[[], Any]] = [
            lambda: call.write(bytes(640)),
            lambda: call.write(bytes(640), 24_000),
            lambda: call.play(bytes(640)),
            lambda: call.play(CLIPS / "en_hello.flac"),
            lambda: call.play(Source(3).stream()),
            lambda: call.play_url("https://cdn.example.com/a.mp3"),
            lambda: call.hangup(),
            lambda: open_speech.write(bytes(640)),
            lambda: ended_speech.write(bytes(640)),
            lambda: open_speech.done(),
            call.speech,
        ]
        for attempt in attempts:
            with pytest.raises(CallEnded) as caught:
                await attempt()
            assert caught.value.reason == "caller"
        open_speech.end()
        open_speech.stop()
        assert open_speech.heard_ms == 100
        assert open_speech.cut
        assert [frame async for frame in call.audio()] == []
        assert [event async for event in call.events()] == []

    carry(script, audio=noise(1), hangup_after=1.0)


def test_a_wait_that_was_given_up_does_not_end_the_listening() -> None:
    """With a generator the next frame after a time-out would look like the end of the call."""

    async def script(call: Call, other: EmulatedCall) -> None:
        events = call.events()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(events), 0.1)
        frames = call.audio()
        await anext(frames)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(anext(frames), 0.001)
        assert len(await anext(frames)) == 640
        await call.play(bytes(3_200))
        assert isinstance(await anext(events), PlaybackFinished)

    carry(script, audio=noise(2))
