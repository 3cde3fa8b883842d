from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicebridge.core.audio import from_samples, to_samples
from voicebridge.core.limiter import Duck, Limiter, Volume, linear

RATE = 16_000
FRAME = 960
CEILING = 23_197
"""-3 dBFS."""
TOLERATED = 24_571
"""-2.5 dBFS."""

Floats = npt.NDArray[np.float64]


def tone(hertz: float, amplitude: float, seconds: float = 1.2) -> Floats:
    count = round(seconds * RATE / FRAME) * FRAME
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(count) / RATE)


def limited(audio: Floats, frame: int = FRAME, limiter: Limiter | None = None) -> Floats:
    """The audio in messages through one limiter."""
    limiter = limiter or Limiter(RATE, -3.0)
    pcm = from_samples(audio)
    size = frame * 2
    out = b"".join(limiter.apply(pcm[at : at + size]) for at in range(0, len(pcm), size))
    assert len(out) == len(pcm)
    return to_samples(out).astype(np.float64)


def loud(audio: Floats) -> bool:
    return bool(np.abs(np.rint(audio)).max() > TOLERATED)


def distortion(audio: Floats, hertz: float) -> float:
    """The share of what is not the tone, in amplitude; over whole periods."""
    period = RATE / hertz
    count = round(int(audio.size / period) * period)
    audio = audio[-count:]
    turns = 2j * np.pi * hertz * np.arange(count) / RATE
    amplitude = 2 * np.mean(audio * np.exp(-turns))
    rest = audio - (amplitude * np.exp(turns)).real
    return float(np.sqrt(np.mean(rest**2)) / (abs(amplitude) / np.sqrt(2)))


@pytest.mark.parametrize("peak", [1, 1_000, 20_000, CEILING, TOLERATED])
def test_audio_that_is_not_too_loud_is_the_same_object(peak: int) -> None:
    limiter = Limiter(RATE, -3.0)
    pcm = from_samples(tone(300.0, peak, 0.06))
    assert limiter.apply(pcm) is pcm


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(1, 2_000)), min_size=1, max_size=12),
    st.sampled_from([320, 960, 1323]),
    st.integers(0, 2**31),
)
def test_nothing_exceeds_the_ceiling_whatever_comes(
    stretches: list[tuple[float, int]], frame: int, seed: int
) -> None:
    noise = np.random.default_rng(seed)
    audio = np.concatenate(
        [noise.uniform(-1, 1, count) * level * 32_767 for level, count in stretches]
    )
    out = limited(audio, frame)
    assert np.abs(out).max() <= TOLERATED
    first = next((at for at in range(0, out.size, frame) if loud(audio[at : at + frame])), out.size)
    assert np.abs(out[first : first + frame]).max(initial=0) <= CEILING
    # Never louder than what came in, and of the same sign.
    assert (np.abs(out) <= np.abs(np.rint(audio)) + 1).all()
    assert (out * np.rint(audio) >= 0).all()


@pytest.mark.parametrize("hertz", [80.0, 220.0, 440.0, 1_000.0, 3_150.0])
@pytest.mark.parametrize("amplitude", [25_000.0, 32_767.0])
def test_a_loud_tone_keeps_its_form(hertz: float, amplitude: float) -> None:
    out = limited(tone(hertz, amplitude))
    settled = out[RATE // 5 :]
    # A block's peak may lie between two samples, and its loudest one differs from the next's.
    assert settled.max() == pytest.approx(CEILING, rel=0.03)
    assert distortion(settled, hertz) < 0.005


def test_the_gain_comes_back_slowly_and_then_wholly() -> None:
    limiter = Limiter(RATE, -3.0)
    audio = np.concatenate((tone(400.0, 32_000.0, 0.3), tone(400.0, 8_000.0, 0.9)))
    out = limited(audio, limiter=limiter)
    quiet = out[round(0.3 * RATE) :] / np.where(audio == 0, 1, audio)[round(0.3 * RATE) :]
    loud = np.abs(audio[round(0.3 * RATE) :]) > 4_000
    gains = quiet[loud]
    assert gains[0] == pytest.approx(CEILING / 32_000, rel=0.01)
    assert gains[-1] == pytest.approx(1.0, abs=1e-3)
    steps = np.diff(gains)
    assert steps.min() > -1e-3  # one way
    assert steps.max() < 0.01  # and no jump
    pcm = from_samples(tone(400.0, 8_000.0, 0.06))
    assert limiter.apply(pcm) is pcm


def test_the_gain_goes_down_before_the_peak_within_a_millisecond_and_no_click() -> None:
    audio = tone(500.0, 15_000.0, 0.06)
    audio[480:] *= 2
    out = limited(audio)
    assert np.abs(out[:456] - np.rint(audio[:456])).max() <= 1  # 1.5 ms before: as it came
    jump = np.abs(np.diff(audio)).max()
    assert np.abs(np.diff(out)).max() <= jump


def test_a_message_that_begins_too_loud_is_clipped_for_a_millisecond_at_most() -> None:
    quiet, loud = tone(440.0, 10_000.0, 0.06), tone(440.0, 32_000.0, 0.06)
    out = limited(np.concatenate((quiet, loud)))
    assert np.abs(out).max() <= CEILING
    gain = out[FRAME + 16 :] / np.where(loud == 0, 1, loud)[16:]
    assert gain[np.abs(loud[16:]) > 5_000] == pytest.approx(CEILING / 32_000, rel=0.03)


# Ducking.


def test_a_gain_of_one_passes_the_same_object() -> None:
    pcm = from_samples(tone(300.0, 30_000.0, 0.06))
    assert Duck(RATE).apply(pcm) is pcm


@pytest.mark.parametrize("frame", [320, 960])
def test_ducking_is_a_short_smooth_ramp_and_back_again(frame: int) -> None:
    duck = Duck(RATE)
    level = np.full(frame, 20_000.0)
    pcm = from_samples(level)
    duck.target = linear(-12.0)
    down = to_samples(duck.apply(pcm)).astype(int)
    held = to_samples(duck.apply(pcm)).astype(int)
    duck.target = 1.0
    up = to_samples(duck.apply(pcm)).astype(int)
    assert duck.apply(pcm) is pcm
    low = round(20_000 * linear(-12.0))
    assert set(held) == {low}
    assert set(down[240:]) == {low}
    assert set(up[240:]) == {20_000}
    for edges in ((20_000, *down), (low, *up)):
        assert np.abs(np.diff(edges)).max() < 110  # -36 dBFS would be heard as a click: 512
        assert np.unique(np.sign(np.diff(edges))).size <= 2  # one way, then level


def test_messages_that_did_not_go_out_leave_no_trace() -> None:
    loud = from_samples(tone(440.0, 32_000.0, 0.06))
    volume, other = Volume(RATE, -3.0), Volume(RATE, -3.0)
    for each in (volume, other):
        each.apply(loud)
        each.duck.target = 0.5
    first = volume.apply(loud)
    volume.rest()
    volume.apply(loud)
    volume.take_back(3)
    assert volume.apply(loud) == first == other.apply(loud)
    for _ in range(40):
        volume.apply(loud)
    volume.take_back(1)


def test_without_a_ceiling_full_scale_passes() -> None:
    pcm = from_samples(tone(440.0, 32_767.0, 0.06))
    volume = Volume(RATE, None)
    assert volume.apply(pcm) is pcm
    volume.rest()
    volume.take_back(2)


def test_silence_ends_what_went_before() -> None:
    volume = Volume(RATE, -3.0)
    volume.apply(from_samples(tone(440.0, 32_767.0, 0.06)))
    volume.duck.target = 0.25
    volume.rest()
    quiet = from_samples(tone(440.0, 10_000.0, 0.06))
    ducked = to_samples(volume.apply(quiet)).astype(int)
    assert np.abs(ducked - to_samples(quiet) * 0.25).max() <= 1
