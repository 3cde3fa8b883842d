"""The energy gate: shut for noise that stays as it is, never for speech."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from tests.core.listening import SPEECH
from voicebridge.core.energy_gate import EnergyGate, EnergyGateSettings, levels_dbfs

FRAME = 320


def frames_of(audio: np.ndarray) -> np.ndarray:
    return audio[: audio.size // FRAME * FRAME].reshape(-1, FRAME)


def run(levels: list[float], settings: EnergyGateSettings | None = None) -> list[bool]:
    gate = EnergyGate(settings)
    return [gate.hear(level) for level in levels]


def white(seconds: int, dbfs: float) -> np.ndarray:
    noise = np.random.default_rng(7).standard_normal(seconds * 16_000)
    return np.rint(noise * 32768 * 10 ** (dbfs / 20)).astype(np.int16)


def test_it_listens_from_the_first_frame_on_and_shuts_after_the_hang() -> None:
    opened = run([-50.0] * 100)
    assert opened[:25] == [True] * 25
    assert opened[25:] == [False] * 75


@pytest.mark.parametrize("dbfs", [-70.0, -50.0, -30.0])
def test_stationary_noise_costs_nothing(dbfs: float) -> None:
    opened = run(levels_dbfs(frames_of(white(60, dbfs))))
    assert np.mean(opened) < 0.01


def test_it_opens_at_once_4_db_above_the_floor_and_not_below() -> None:
    assert run([-50.0] * 100 + [-46.5])[-1] is False
    assert run([-50.0] * 100 + [-45.5])[-1] is True


def test_it_stays_open_through_a_pause_of_half_a_second() -> None:
    opened = run([-50.0] * 100 + [-30.0] + [-50.0] * 40)
    assert opened[100:125] == [True] * 25
    assert not any(opened[126:])


def test_a_frame_is_loud_only_while_it_is() -> None:
    gate = EnergyGate()
    for _ in range(100):
        gate.hear(-50.0)
    assert (gate.hear(-30.0), gate.is_loud) == (True, True)
    assert (gate.hear(-50.0), gate.is_loud) == (True, False)


def test_talking_does_not_lift_the_floor_much() -> None:
    gate = EnergyGate()
    for _ in range(100):
        gate.hear(-50.0)
    for _ in range(150):  # three seconds without a breath
        gate.hear(-25.0)
    assert gate.floor_dbfs == pytest.approx(-44, abs=0.1)
    assert gate.is_open


def test_digital_silence_is_no_floor() -> None:
    gate = EnergyGate()
    for _ in range(100):
        gate.hear(-117.0)
    assert gate.floor_dbfs == -62.0
    assert gate.hear(-60.0) is False


@pytest.mark.parametrize("path", SPEECH, ids=lambda path: path.stem)
def test_no_loud_part_of_speech_is_kept_out(path: str) -> None:
    audio, _ = soundfile.read(path, dtype="int16")
    levels = levels_dbfs(frames_of(np.concatenate([white(2, -60.0), audio])))
    opened = run(levels)
    for level, is_open in zip(levels, opened, strict=True):
        assert is_open or level < -48


def tone(hertz: float) -> np.ndarray:
    wave = 30_000 * np.sin(2 * np.pi * hertz * np.arange(FRAME) / 16_000)
    return np.array([np.rint(wave)], np.int16)


def test_levels_are_decibels_below_full_scale() -> None:
    square = np.full((1, FRAME), 32767, np.int16)
    square[0, ::2] = -32767
    assert levels_dbfs(square) == pytest.approx([0.0], abs=0.01)
    assert levels_dbfs(np.zeros((2, FRAME), np.int16)) == pytest.approx([-117, -117], abs=1)


def test_rumble_is_no_level_and_a_voice_is_all_there() -> None:
    full = 20 * np.log10(30_000 / 32768) - 3.01
    assert levels_dbfs(np.full((1, FRAME), 30_000, np.int16))[0] < -55
    assert levels_dbfs(tone(80))[0] < full - 12
    for hertz in (500, 1000, 3000):
        assert levels_dbfs(tone(hertz))[0] == pytest.approx(full, abs=1)


def test_wind_is_steady_enough() -> None:
    spectrum = np.fft.rfft(np.random.default_rng(2).standard_normal(60 * 16_000))
    frequency = np.fft.rfftfreq(60 * 16_000, 1 / 16_000)
    spectrum *= (frequency > 60) / np.maximum(frequency, 60)
    wind = np.fft.irfft(spectrum)
    audio = np.rint(wind * 1000 / wind.std()).astype(np.int16)
    assert np.mean(run(levels_dbfs(frames_of(audio)))) < 0.3


@given(st.lists(st.floats(-117, 0), min_size=1, max_size=300))
def test_the_floor_stays_among_the_levels(levels: list[float]) -> None:
    gate = EnergyGate()
    for count, level in enumerate(levels, 1):
        gate.hear(level)
        seen = [max(level, -62.0) for level in levels[:count]]
        # A rise of 0.04 dB may go a step beyond.
        assert min(seen) - 1e-9 <= gate.floor_dbfs <= max(seen) + 0.04
