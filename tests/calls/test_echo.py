"""The main job, whole and in virtual time: ring, answer, carry, end."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from bots.echo import EchoBot
from tests.calls.speech import clip, find, voiced
from voicebridge.emulator.behaviour import Behaviour, MediaBehaviour, NetworkBehaviour
from voicebridge.testing import run_virtual
from voicebridge.testing.world import open_world


@pytest.mark.parametrize("frame_ms", [20, 60])
def test_what_the_caller_says_comes_back_bit_for_bit(frame_ms: int) -> None:
    speech = clip("en_agent-user")

    async def scenario() -> None:
        async with open_world(
            EchoBot(), Behaviour(media=MediaBehaviour(frame_ms=frame_ms))
        ) as world:
            call = await world.ring(speech, hangup_after=1.5)
            summary = await world.over(call)
            measured = call.far_end.measurement()

        assert find(voiced(speech), call.far_end.heard) is not None
        assert summary.reason == "caller"
        assert summary.state == "ended"
        assert summary.frames["late"] == summary.frames["lost"] == 0
        assert summary.lead_ms["max"] <= 180
        assert measured.sizes == {1920: summary.frames["sent"]}
        assert (measured.text_frames, measured.tokens_reused) == (0, 0)
        assert (measured.holes, measured.overflow_drops) == (0, 0)

    run_virtual(scenario())


@pytest.mark.parametrize("frame_ms", [20, 60])
def test_five_minutes_without_drift_loss_or_growing_delay(frame_ms: int) -> None:
    word = voiced(clip("en_hello"))
    silence = np.zeros(16_000 * 10, np.int16)
    minutes = np.concatenate([np.concatenate([word, silence])[: 16_000 * 10]] * 31)

    async def scenario() -> None:
        behaviour = Behaviour(
            media=MediaBehaviour(frame_ms=frame_ms), network=NetworkBehaviour(jitter_ms=15)
        )
        async with open_world(EchoBot(), behaviour) as world:
            call = await world.ring(minutes, hangup_after=1.5)
            summary = await world.over(call)

        measured = call.far_end.measurement()
        assert summary.duration_seconds > 300
        assert summary.frames["late"] == summary.frames["lost"] == 0
        assert measured.drift_ppm == pytest.approx(0, abs=1)
        assert measured.holes == 0
        heard, spoken = call.far_end.heard, call.far_end.spoken
        delays = []
        for second in range(0, 300, 10):
            said = find(word, spoken[second * 16_000 :])
            back = find(word, heard[second * 16_000 :])
            assert said is not None
            assert back is not None
            delays.append(back - said)
        assert max(delays) == min(delays), "the echo's delay must not wander"

    run_virtual(scenario(), debug=False)


def test_many_calls_at_once_do_not_mix() -> None:
    words = [voiced(clip(name)) for name in ("en_hello", "en_vm-goodbye", "es_auth-thankyou")]

    async def scenario() -> None:
        async with open_world(EchoBot()) as world:
            calls = [await world.ring(word, hangup_after=1.5) for word in words]
            await asyncio.gather(*(world.over(call) for call in calls))
        for word, call in zip(words, calls, strict=True):
            assert find(word, call.far_end.heard) is not None
            for other in words:
                if other is not word:
                    assert find(other, call.far_end.heard) is None

    run_virtual(scenario())


@pytest.mark.parametrize(
    "media",
    [
        MediaBehaviour(odd_lengths=True),
        MediaBehaviour(frames_per_message=3),
        MediaBehaviour(frame_ms=10),
        MediaBehaviour(silence="dtx"),
        MediaBehaviour(silence="comfort_noise"),
        MediaBehaviour(hello="waxum"),
        MediaBehaviour(hello="lg"),
        MediaBehaviour(hello="wadial"),
        MediaBehaviour(wrong_size="close"),
        MediaBehaviour(under_run="stall"),
        MediaBehaviour(queue="block"),
        MediaBehaviour(queue="drop_after_30s"),
        MediaBehaviour(end_code=1006),
        MediaBehaviour(answer_pings=False),
        MediaBehaviour(prefill_ms=0),
        MediaBehaviour(prefill_ms=600),
    ],
    ids=lambda media: ",".join(
        f"{k}={v}" for k, v in media.model_dump(exclude_defaults=True).items()
    ),
)
def test_every_server_of_the_family_is_served(media: MediaBehaviour) -> None:
    speech = clip("en_one-moment-please")

    async def scenario() -> None:
        async with open_world(EchoBot(), Behaviour(media=media)) as world:
            call = await world.ring(speech, hangup_after=2.0)
            summary = await world.over(call)
        assert summary.reason == "caller"
        assert find(voiced(speech), call.far_end.heard) is not None
        assert call.far_end.measurement().overflow_drops == 0

    run_virtual(scenario())
