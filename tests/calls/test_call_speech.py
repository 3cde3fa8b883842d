"""What a bot can say in a call, checked at the caller's ear."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from tests.calls.carried import (
    BEYOND_RECALL_MS,
    PATH_DELAY_MS,
    Source,
    audible_ms,
    carry,
    pitch,
    tone,
)
from tests.calls.speech import CLIPS, clip, find, voiced
from tests.calls.talker import noise, now
from voicebridge.core.events import Playback
from voicebridge.errors import AudioError, CallEnded, CallStateError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from voicebridge import Call
    from voicebridge.emulator.calls import EmulatedCall


@pytest.mark.parametrize("suffix", ["flac", "wav"])
@pytest.mark.parametrize("as_text", [False, True])
def test_a_file_is_played_to_its_end(suffix: str, as_text: bool, tmp_path: Path) -> None:
    speech = clip("en_hello")
    path = CLIPS / "en_hello.flac"
    if suffix == "wav":
        path = tmp_path / "hello.wav"
        soundfile.write(path, speech, 16_000, subtype="PCM_16")

    async def script(call: Call, other: EmulatedCall) -> tuple[Playback, float]:
        started = now()
        return await call.play(str(path) if as_text else path), now() - started

    (played, took), other = carry(script)
    length_ms = len(speech) // 16
    assert played == Playback(length_ms, length_ms, interrupted=False, heard_text=None)
    waited_ms = took * 1_000 - length_ms - PATH_DELAY_MS
    assert 0 <= waited_ms <= BEYOND_RECALL_MS, "until it was heard, and no longer"
    assert find(voiced(speech), other.far_end.heard) is not None


def test_a_stereo_file_of_another_rate_is_mixed_and_resampled(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    left = tone(1.0, 44_100)
    soundfile.write(path, np.stack([left, left], axis=1), 44_100)

    async def script(call: Call, other: EmulatedCall) -> Playback:
        return await call.play(path)

    played, other = carry(script)
    assert played.heard_ms == played.total_ms == pytest.approx(1_000, abs=1)
    heard = other.far_end.heard
    loud = np.flatnonzero(np.abs(heard.astype(np.int32)) > 4_000)
    assert pitch(heard[loud[0] + 800 : loud[0] + 12_800], 16_000) == pytest.approx(440, abs=3)


def test_what_is_no_audio_file_says_so(tmp_path: Path) -> None:
    fake = tmp_path / "fake.wav"
    fake.write_text("not audio")

    async def script(call: Call, other: EmulatedCall) -> None:
        for path in (fake, tmp_path / "missing.flac", tmp_path):
            with pytest.raises(AudioError, match="cannot read audio") as caught:
                await call.play(path)
            assert str(tmp_path.parent) not in str(caught.value)
        await call.play(noise(0.2).tobytes())

    carry(script)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_000, 44_100, 48_000])
def test_bytes_of_any_rate_are_heard_at_their_length(rate: int) -> None:
    async def script(call: Call, other: EmulatedCall) -> Playback:
        return await call.play(tone(1.0, rate).tobytes(), sample_rate=rate)

    played, other = carry(script)
    assert played.heard_ms == played.total_ms == pytest.approx(1_000, abs=5)
    assert audible_ms(other.far_end.heard) == pytest.approx(1_000, abs=10)


@pytest.mark.parametrize("rate", [8_000, 24_000, 48_000])
def test_the_last_sample_of_another_rate_is_heard(rate: int) -> None:
    click = np.zeros(rate // 2, np.int16)
    click[-rate // 2_000 :] = 20_000  # half a millisecond at the very end

    async def script(call: Call, other: EmulatedCall) -> None:
        await call.play(click.tobytes(), sample_rate=rate)

    _, other = carry(script)
    heard = other.far_end.heard.astype(np.int64)
    assert np.abs(heard).sum() == pytest.approx(8 * 20_000, rel=0.4)


def test_utterances_follow_one_another_in_order() -> None:
    words = [voiced(clip(name)) for name in ("en_hello", "es_auth-thankyou", "en_vm-goodbye")]

    async def script(call: Call, other: EmulatedCall) -> None:
        await asyncio.gather(*(call.play(word.tobytes()) for word in words))

    _, other = carry(script)
    places = [find(word, other.far_end.heard) for word in words]
    assert None not in places
    for (place, word), after in itertools.pairwise(zip(places, words, strict=True)):
        assert place is not None
        assert after[0] == place + len(word), "without a gap"


@pytest.mark.parametrize("every", [0.0, 0.02, 0.09])
def test_a_stream_is_played_as_it_is_made(every: float) -> None:
    async def script(call: Call, other: EmulatedCall) -> tuple[Playback, bool]:
        source = Source(20, every=every)
        return await call.play(source.stream()), source.closed

    (played, closed), other = carry(script)
    assert played == Playback(2_000, 2_000, interrupted=False)
    assert closed
    assert find(noise(2.0), other.far_end.heard) is not None
    assert other.far_end.measurement().holes == 0


@pytest.mark.parametrize("how", ["cancel", "cut", "hangup"])
@pytest.mark.parametrize("every", [0.0, 0.05, 30.0])
def test_a_stream_that_nobody_hears_any_more_is_closed(how: str, every: float) -> None:
    async def script(call: Call, other: EmulatedCall) -> Source:
        source = Source(600, every=every)
        playing = asyncio.ensure_future(call.play(source.stream()))
        await asyncio.sleep(2.0 if every < 1 else 31.0)
        asked = now()
        match how:
            case "cancel":
                playing.cancel()
            case "cut":
                call._session.stop_all(now())
            case _:
                await call.hangup("enough")
        (result,) = await asyncio.gather(playing, return_exceptions=True)
        assert now() - asked < (0.15 if how != "hangup" else 12)
        kind = {"cancel": asyncio.CancelledError, "cut": Playback, "hangup": CallEnded}[how]
        assert isinstance(result, kind)
        if isinstance(result, Playback):
            assert result.interrupted
        assert source.closed
        return source

    source, _ = carry(script, audio=noise(60))
    assert source.given < 600


def test_a_source_that_fails_silences_what_it_made() -> None:
    async def source() -> AsyncIterator[bytes]:
        yield noise(5.0).tobytes()
        raise TimeoutError("the voice server does not answer")

    async def script(call: Call, other: EmulatedCall) -> float:
        with pytest.raises(TimeoutError, match="voice server"):
            await call.play(source())
        failed = now()
        await asyncio.sleep(1)
        return other.far_end.audible_after_ms(failed)

    after, _ = carry(script)
    assert after <= BEYOND_RECALL_MS + 60


@pytest.mark.parametrize("after", [0.05, 0.3, 1.234, 2.5])
def test_cancelling_play_silences_it_within_the_lead(after: float) -> None:
    async def script(call: Call, other: EmulatedCall) -> float:
        playing = asyncio.ensure_future(call.play(noise(10).tobytes()))
        await asyncio.sleep(after)
        playing.cancel()
        cut = now()
        with pytest.raises(asyncio.CancelledError):
            await playing
        await asyncio.sleep(1.0)
        return other.far_end.audible_after_ms(cut)

    audible, other = carry(script)
    # The far end plays in frames of 60 ms; the fade may open one more.
    assert audible <= BEYOND_RECALL_MS + 60
    assert audible_ms(other.far_end.heard) <= after * 1_000 + BEYOND_RECALL_MS + 60


def test_twenty_interruptions_in_five_seconds() -> None:
    async def script(call: Call, other: EmulatedCall) -> list[float]:
        late = []
        for _ in range(20):
            playing = asyncio.ensure_future(call.play(noise(2).tobytes()))
            await asyncio.sleep(0.2)
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
            await asyncio.sleep(0.05)
            late.append(other.far_end.audible_after_ms(now() + 0.2))
        return late

    late, other = carry(script)
    assert max(late) == 0
    assert other.far_end.measurement().overflow_drops == 0
    heard = other.far_end.heard
    assert not heard[-1_600:].any()


def test_text_tells_which_words_were_heard() -> None:
    text = "one two three four five six seven eight nine ten"

    async def script(call: Call, other: EmulatedCall) -> tuple[Playback, Playback]:
        whole = await call.play(noise(1).tobytes(), text=text)
        playing = asyncio.ensure_future(call.play(noise(10).tobytes(), text=text))
        await asyncio.sleep(5.0)
        call._session.stop_all(now())
        return whole, await playing

    (whole, cut), _ = carry(script)
    assert (whole.heard_text, whole.interrupted) == (text, False)
    assert cut.interrupted
    assert cut.heard_text is not None
    assert text.startswith(cut.heard_text)
    assert len(cut.heard_text) == pytest.approx(len(text) * cut.heard_ms / 10_000, abs=6)


@pytest.mark.parametrize("interruptible", [True, False])
def test_whether_it_may_be_cut_is_known_to_who_would_cut_it(interruptible: bool) -> None:
    async def script(call: Call, other: EmulatedCall) -> list[tuple[int, bool] | None]:
        seen = []
        playing = asyncio.ensure_future(call.play(noise(1).tobytes(), interruptible=interruptible))
        await asyncio.sleep(0.5)
        seen.append(call._session.speaking())
        await playing
        speech = call.speech(interruptible=interruptible)
        await speech.write(noise(1).tobytes())
        await asyncio.sleep(0.2)
        seen.append(call._session.speaking())
        return seen

    seen, _ = carry(script)
    assert [each is not None and each[1] for each in seen] == [interruptible] * 2


# The primitive.


def test_a_speech_is_written_ended_and_heard() -> None:
    said = noise(1.5)

    async def script(call: Call, other: EmulatedCall) -> tuple[list[bool], Playback, int]:
        speech = call.speech()
        took = [await speech.write(said[i : i + 1_600].tobytes()) for i in range(0, 24_000, 1_600)]
        speech.end()
        speech.end()
        with pytest.raises(CallStateError, match="ended"):
            await speech.write(bytes(2))
        return took, await speech.done(), speech.heard_ms

    (took, played, heard_ms), other = carry(script)
    assert took == [True] * 15
    assert played == Playback(1_500, 1_500, interrupted=False)
    assert heard_ms == 1_500
    assert find(said, other.far_end.heard) is not None


def test_a_stopped_speech_takes_no_more_and_tells_what_was_heard() -> None:
    async def script(call: Call, other: EmulatedCall) -> tuple[bool, Playback, float]:
        speech = call.speech()
        await speech.write(noise(2.0).tobytes(), text="hello world and so on")
        speech.stop()
        speech.stop()
        speech.end()
        stopped = now()
        took = await speech.write(noise(0.1).tobytes())
        played = await speech.done()
        assert now() - stopped < 0.05, "whoever interrupts does not wait for the path"
        await asyncio.sleep(1.0)
        assert speech.cut
        return took, played, other.far_end.audible_after_ms(stopped)

    (took, played, after), other = carry(script)
    assert took is False
    assert played.interrupted
    assert played.total_ms == 2_000
    assert after <= BEYOND_RECALL_MS + 60
    assert played.heard_ms == pytest.approx(audible_ms(other.far_end.heard), abs=60)


def test_what_counts_as_heard_is_what_the_far_end_heard() -> None:
    """To one frame of the far end, and the path delay that the ledger takes off."""

    async def script(call: Call, other: EmulatedCall) -> list[tuple[float, float]]:
        speech = call.speech()
        writing = asyncio.ensure_future(speech.write(noise(6.0).tobytes()))
        samples = []
        await asyncio.sleep(0.5)
        for _ in range(40):
            await asyncio.sleep(0.097)
            samples.append((float(speech.heard_ms), audible_ms(other.far_end.heard)))
        speech.stop()
        await writing
        return samples

    samples, _ = carry(script)
    for by_ledger, by_ear in samples:
        assert by_ear - by_ledger == pytest.approx(PATH_DELAY_MS, abs=60 + 20)


@pytest.mark.parametrize("after", [0.4, 1.0, 2.1])
def test_a_call_cut_by_the_caller_tells_what_was_heard(after: float) -> None:
    async def script(call: Call, other: EmulatedCall) -> int:
        speech = call.speech()
        await speech.write(noise(1.5).tobytes())
        await asyncio.sleep(after)
        with pytest.raises(CallEnded):
            await speech.done()
        return speech.heard_ms

    heard_ms, _ = carry(script, audio=noise(2.2), hangup_after=0.0)
    assert 0 < heard_ms <= 1_500


def test_several_speeches_are_spoken_by_their_first_audio() -> None:
    async def script(call: Call, other: EmulatedCall) -> None:
        empty, second, first = call.speech(), call.speech(), call.speech()
        await first.write(noise(0.5, seed=1).tobytes())
        await second.write(noise(0.5, seed=2).tobytes())
        for speech in (empty, first, second):
            speech.end()
        await asyncio.gather(empty.done(), first.done(), second.done())

    _, other = carry(script)
    places = [find(noise(0.5, seed=seed), other.far_end.heard) for seed in (1, 2)]
    assert places[0] is not None
    assert places[1] == places[0] + 8_000
