"""Key tones: what Q.24 wants detected is, what it wants refused is not, and speech is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from voicebridge.core.dtmf import HIGH_HZ, KEYS, LOW_HZ, PHONE, Q24, DtmfDetector, Profile

ALL = "".join(KEYS)
RATE = 16_000


def tone(
    digit: str,
    seconds: float,
    *,
    dbm0: float = -10.0,
    twist: float = 0.0,
    off: float = 0.0,
    rate: int = RATE,
) -> npt.NDArray[np.float64]:
    """A key; ``twist`` is low less high in dB, ``off`` a share of the frequency."""
    row = next(index for index, keys in enumerate(KEYS) if digit in keys)
    column = KEYS[row].index(digit)
    time = np.arange(round(seconds * rate)) / rate
    amplitude = 32_768 * 10 ** ((dbm0 - 3.14) / 20)
    low = np.sin(2 * np.pi * LOW_HZ[row] * (1 + off) * time)
    high = np.sin(2 * np.pi * HIGH_HZ[column] * (1 + off) * time + 0.7)
    return amplitude * (low * 10 ** (twist / 40) + high * 10 ** (-twist / 40))


def gap(seconds: float, rate: int = RATE) -> npt.NDArray[np.float64]:
    return np.zeros(round(seconds * rate))


def keys(*parts: npt.NDArray[np.float64], profile: Profile = PHONE, rate: int = RATE) -> str:
    samples = np.clip(np.concatenate(parts), -32_768, 32_767).astype("<i2")
    detector = DtmfDetector(rate, profile)
    return "".join(key.digit for key in detector.process(samples.tobytes()))


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 48_000])
@pytest.mark.parametrize("profile", [PHONE, Q24], ids=["phone", "q24"])
def test_all_keys_in_the_cadence_of_a_phone(rate: int, profile: Profile) -> None:
    parts = [part for digit in ALL for part in (tone(digit, 0.1, rate=rate), gap(0.1, rate))]
    assert keys(*parts, profile=profile, rate=rate) == ALL


@pytest.mark.parametrize("dbm0", [-3, -10, -25, -36])
@pytest.mark.parametrize("off", [-0.015, 0.0, 0.015])
@pytest.mark.parametrize("twist", [-4, 0, 5])
def test_tones_within_the_limits_are_keys(dbm0: float, off: float, twist: float) -> None:
    parts = [
        part
        for digit in ALL
        for part in (tone(digit, 0.1, dbm0=dbm0, off=off, twist=twist), gap(0.1))
    ]
    assert keys(*parts) == ALL


@pytest.mark.parametrize(
    ("dbm0", "off", "twist"),
    [(-50, 0, 0), (-10, 0.035, 0), (-10, -0.035, 0), (-10, 0, 14), (-10, 0, -9)],
)
def test_tones_beyond_the_limits_are_none(dbm0: float, off: float, twist: float) -> None:
    parts = [
        part
        for digit in ALL
        for part in (tone(digit, 0.2, dbm0=dbm0, off=off, twist=twist), gap(0.1))
    ]
    assert keys(*parts) == ""


def test_how_long_a_key_must_be_held() -> None:
    assert keys(tone("5", 0.035), gap(0.1)) == ""
    assert keys(tone("5", 0.070), gap(0.1)) == "5"
    assert keys(tone("5", 0.020), gap(0.1), profile=Q24) == ""
    assert keys(tone("5", 0.040), gap(0.1), profile=Q24) == "5"


def test_one_key_held_long_is_one_and_pressed_twice_is_two() -> None:
    assert keys(tone("7", 3.0)) == "7"
    assert keys(tone("7", 0.1), gap(0.1), tone("7", 0.1), gap(0.1)) == "77"


def test_a_short_hole_does_not_make_two_keys_of_one() -> None:
    assert keys(tone("7", 0.1), gap(0.02), tone("7", 0.1)) == "7"


def test_one_key_right_after_another() -> None:
    assert keys(tone("1", 0.1), tone("2", 0.1), tone("3", 0.1)) == "123"


def test_where_a_key_began() -> None:
    detector = DtmfDetector(RATE)
    samples = np.concatenate([gap(1.0), tone("9", 0.2)]).astype("<i2")
    (key,) = detector.process(samples.tobytes())
    assert key.at_sample == pytest.approx(RATE, abs=210)


def test_noise_of_11_db_less_is_borne() -> None:
    rng = np.random.default_rng(3)
    parts = [part for digit in ALL for part in (tone(digit, 0.15), gap(0.1))]
    signal = np.concatenate(parts)
    power = np.mean(tone("1", 0.15) ** 2)
    noise = rng.normal(0, np.sqrt(power / 10**1.6), len(signal))
    assert keys(signal + noise) == ALL


def test_speech_is_no_key() -> None:
    clips = sorted((Path(__file__).parent.parent / "speech").glob("*.flac"))
    assert len(clips) >= 8
    for clip in clips:
        samples, _ = soundfile.read(clip, dtype="int16")
        for gain in (0.25, 1.0):
            scaled = (samples * gain).astype("<i2")
            for profile in (PHONE, Q24):
                detector = DtmfDetector(RATE, profile)
                assert detector.process(scaled.tobytes()) == [], clip.name


@given(st.lists(st.integers(1, 700), min_size=1, max_size=40))
def test_how_the_audio_is_cut_makes_no_difference(sizes: list[int]) -> None:
    samples = np.concatenate([gap(0.05), tone("4", 0.1), gap(0.1), tone("#", 0.1)])
    data = samples.astype("<i2").tobytes()
    detector = DtmfDetector(RATE)
    found = []
    start = 0
    while start < len(data):
        size = 2 * sizes[start % len(sizes)]
        found += detector.process(data[start : start + size])
        start += size
    whole = DtmfDetector(RATE).process(data)
    assert found == whole


@given(st.binary(max_size=4_000))
def test_any_bytes_are_taken(data: bytes) -> None:
    DtmfDetector(RATE).process(data)
