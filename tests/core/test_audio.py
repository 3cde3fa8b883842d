from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicebridge.core import audio
from voicebridge.errors import AudioError

SAMPLES = st.lists(st.integers(-32768, 32767), max_size=200)


def pcm(values: list[int]) -> bytes:
    return np.array(values, dtype="<i2").tobytes()


@given(SAMPLES)
def test_samples_survive_every_conversion_and_back(values: list[int]) -> None:
    data = pcm(values)
    assert audio.from_samples(audio.to_samples(data)) == data
    assert audio.from_float(audio.to_float(data)) == data


def test_what_does_not_fit_saturates_and_never_wraps() -> None:
    loud = np.array([1.5, -1.5, 1.0, -1.0])
    assert audio.to_samples(audio.from_float(loud)).tolist() == [32767, -32768, 32767, -32768]
    assert audio.to_samples(audio.from_samples(np.array([40_000, -40_000]))).tolist() == [
        32767,
        -32768,
    ]


def test_rounding_is_to_the_nearest() -> None:
    assert audio.to_samples(audio.from_samples(np.array([0.6, -0.6, 0.4]))).tolist() == [1, -1, 0]


@pytest.mark.parametrize("function", [audio.to_samples, audio.to_float, audio.level_dbfs])
def test_half_a_sample_is_refused(function: object) -> None:
    assert callable(function)
    with pytest.raises(AudioError):
        function(b"\0\0\0")


@pytest.mark.parametrize(
    ("milliseconds", "rate", "samples"),
    [(20, 16_000, 320), (60, 16_000, 960), (20, 22_050, 441), (10, 44_100, 441), (0, 8_000, 0)],
)
def test_times_and_samples(milliseconds: int, rate: int, samples: int) -> None:
    assert audio.samples_in(milliseconds, rate) == samples
    assert audio.ms_of(samples, rate) == milliseconds
    assert len(audio.silence(samples)) == 2 * samples


def test_milliseconds_are_rounded_down() -> None:
    assert audio.ms_of(959, 16_000) == 59


def test_levels() -> None:
    assert audio.level_dbfs(b"") == -100.0
    assert audio.level_dbfs(bytes(640)) == -100.0
    assert audio.level_dbfs(pcm([-32768] * 160)) == pytest.approx(0.0)
    sine = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    assert audio.level_dbfs(audio.from_float(sine)) == pytest.approx(-9.03, abs=0.01)


def test_the_peak_of_the_most_negative_sample_does_not_wrap() -> None:
    assert audio.peak(pcm([5, -32768, 7])) == 32768
    assert audio.peak(pcm([5, -7])) == 7
    assert audio.peak(b"") == 0
    assert audio.peak(b"\x05") == 0
    assert audio.peak(pcm([3, -2]) + b"\x7f") == 3


@given(st.integers(0, 300), st.integers(0, 300))
def test_a_fade_reaches_silence_and_leaves_the_rest_alone(length: int, fade: int) -> None:
    data = pcm([10_000] * length)
    out = audio.to_samples(audio.fade_out(data, fade))
    assert audio.to_samples(audio.fade_in(data, fade)).tolist() == out[::-1].tolist()
    touched = min(length, fade)
    assert (out[: length - touched] == 10_000).all()
    assert (np.diff(out.astype(int)) <= 0).all()
    if touched:
        assert out[-1] == 0
