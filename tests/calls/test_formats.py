"""Servers that speak another format than configured, and recordings, in whole calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from bots.echo import EchoBot
from tests.calls.speech import clip, find, voiced
from voicebridge import Bot, Call
from voicebridge.core.resample import resample_whole
from voicebridge.emulator.behaviour import Behaviour, MediaBehaviour
from voicebridge.errors import ConfigError
from voicebridge.testing import run_virtual
from voicebridge.testing.world import open_world

if TYPE_CHECKING:
    from pathlib import Path


def likeness(heard: npt.NDArray[np.int16], spoken: npt.NDArray[np.int16]) -> float:
    """The highest correlation of the two over all delays, 1 for the same signal."""
    one, other = heard.astype(float), spoken.astype(float)
    size = 1 << (len(one) + len(other)).bit_length()
    product = np.fft.irfft(np.fft.rfft(one, size) * np.conj(np.fft.rfft(other, size)))
    return float(np.max(product) / np.sqrt(np.sum(one**2) * np.sum(other**2)))


class Listener(Bot):
    """Listens for a while, then answers."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.answer = clip("en_one-moment-please")

    async def run(self, call: Call) -> None:
        async for frame in call.audio():
            self.heard += frame
            if len(self.heard) > 17 * 32_000:
                break
        await call.play(self.answer.tobytes())


@pytest.mark.parametrize("rate", [8_000, 24_000, 48_000])
def test_another_rate_than_configured_is_found_out_and_spoken(rate: Any) -> None:
    speech = np.concatenate([clip("en_agent-user")] * 5)

    async def scenario() -> None:
        bot = Listener()
        behaviour = Behaviour(media=MediaBehaviour(sample_rate=rate))
        async with open_world(bot, behaviour) as world:
            call = await world.ring(speech)
            await world.over(call)
            text = world.running.metrics.render()[0].decode()
        assert "voicebridge_media_format_changes_total 1.0" in text
        # What the bot hears from then on is the caller's voice, at the right speed.
        late = np.frombuffer(bytes(bot.heard), np.int16)[-4 * 16_000 :]
        spoken = resample_whole(call.far_end.spoken / 32_768, rate, 16_000)
        assert likeness(late, np.frombuffer(spoken, np.int16)) > 0.3
        # And what the caller hears is the bot's, at the right speed.
        # (What we sent to a slower server before we knew of its rate has filled its queue.)
        answer = resample_whole(bot.answer / 32_768, 16_000, rate)
        if rate > 8_000:
            assert likeness(call.far_end.heard, np.frombuffer(answer, np.int16)) > 0.9

    run_virtual(scenario(), debug=False)


def test_a_plain_server_is_left_as_it_is() -> None:
    async def scenario() -> None:
        async with open_world(EchoBot()) as world:
            call = await world.ring(clip("en_agent-user"), hangup_after=1.5)
            await world.over(call)
            text = world.running.metrics.render()[0].decode()
        assert "voicebridge_media_format_changes_total 0.0" in text

    run_virtual(scenario(), debug=False)


@pytest.mark.parametrize("kind", ["flac", "wav"])
def test_a_recording_holds_both_sides_sample_for_sample(tmp_path: Path, kind: str) -> None:
    speech = clip("en_agent-user")

    async def scenario() -> None:
        recording = {"dir": str(tmp_path / "calls"), "format": kind, "announced": True}
        async with open_world(EchoBot(), recording=recording) as world:
            call = await world.ring(speech, hangup_after=1.5)
            await world.over(call)
        (file,) = (tmp_path / "calls").iterdir()
        assert file.suffix == f".{kind}"
        assert file.stat().st_mode & 0o777 == 0o600
        both, rate = soundfile.read(file, dtype="int16")
        assert (rate, both.shape[1]) == (16_000, 2)
        said, echoed = (find(voiced(speech), both[:, side]) for side in (0, 1))
        assert said is not None
        assert echoed is not None
        assert 0 < (echoed - said) / 16_000 < 0.4

    run_virtual(scenario(), debug=False)


def test_recording_without_telling_callers_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_world(EchoBot(), recording={"dir": str(tmp_path)}):
            pass

    with pytest.raises(ConfigError, match="ANNOUNCED"):
        run_virtual(scenario())
