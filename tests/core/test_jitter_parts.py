"""What the playout buffer is made of: joints, concealment, lateness, loudness, the backlog."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicebridge.core.arrival import Arrivals, ArrivalsConfig
from voicebridge.core.backlog import Backlog
from voicebridge.core.concealment import Concealer
from voicebridge.core.loudness import Loudness
from voicebridge.core.timescale import crossfade, joint_ahead, joint_behind

RATE = 16_000
BLOCK = 320


def tone(count: int, period: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    at = np.arange(count)
    wave = sum(np.sin(2 * np.pi * n * at / period) for n in (1, 2, 3))
    return np.asarray(wave * 4_000, np.float32)


@pytest.mark.parametrize("period", [91, 133, 200])
def test_a_joint_ahead_is_a_whole_number_of_periods(period: int) -> None:
    joint = joint_ahead(tone(800, period), 80, 80, 320)
    assert joint is not None
    assert joint.lag % period in (0, 1, period - 1)
    assert joint.likeness > 0.99


@pytest.mark.parametrize("period", [91, 133, 200])
def test_a_joint_behind_goes_back_by_whole_periods(period: int) -> None:
    wave = tone(1_000, period)
    joint = joint_behind(wave[:640], wave[640:720], 80, 320)
    assert joint is not None
    assert joint.lag % period in (0, 1, period - 1)


def test_too_little_audio_has_no_joint() -> None:
    assert joint_ahead(tone(150, 100), 80, 80, 320) is None
    assert joint_behind(tone(60, 100), tone(80, 100), 80, 320) is None


def test_digital_silence_may_be_cut_anywhere() -> None:
    joint = joint_ahead(np.zeros(600, np.float32), 80, 80, 320)
    assert joint is not None
    assert (joint.lag, joint.likeness) == (320, 1.0)


def test_a_crossfade_goes_from_one_to_the_other() -> None:
    faded = crossfade(np.full(80, 100, np.float32), np.full(80, -100, np.float32))
    assert faded[0] > 99
    assert faded[-1] < -99
    assert np.all(np.diff(faded) < 0)


def test_concealment_goes_on_where_the_voice_stopped_and_ends_in_calm() -> None:
    wave = tone(2_000, 133)
    concealer = Concealer(RATE, 80.0)
    concealer.begin(wave[:640])
    made = np.concatenate([concealer.take(320, 0.0) for _ in range(6)])
    assert np.abs(made[:100] - wave[640:740]).max() < 1_500
    assert not made[round(0.080 * RATE) :].any()
    assert np.abs(np.diff(made)).max() <= np.abs(np.diff(wave)).max() * 1.5


def test_calm_is_as_loud_as_the_room() -> None:
    concealer = Concealer(RATE, 80.0)
    made = concealer.take(20_000, 30.0)
    assert 28 < float(np.sqrt(np.mean(made**2))) < 32


def arrivals() -> Arrivals:
    return Arrivals(ArrivalsConfig(), RATE, BLOCK, 40.0)


def test_a_steady_stream_wants_next_to_nothing() -> None:
    late = arrivals()
    for number in range(500):
        late.block(number * 0.020)
    assert late.wanted_ms <= 2.5


def test_lateness_that_comes_again_is_wanted() -> None:
    late = arrivals()
    for number in range(1_000):
        late.block(number * 0.020 + (0.060 if number % 10 == 0 else 0.0))
    assert 60 <= late.wanted_ms <= 65


def test_a_stall_is_not_wanted_but_two_are_remembered() -> None:
    late = arrivals()
    now = 0.0
    for number in range(2_000):
        now = number * 0.020
        for stall in (10.0, 20.0):
            if stall <= now < stall + 0.6:
                now = stall + 0.6
        late.block(now)
        assert not (late.stalls_again and now < 20.5)
    assert late.wanted_ms <= 5
    assert late.stalls_again


def test_after_silence_the_measure_begins_anew() -> None:
    late = arrivals()
    for number in range(200):
        late.block(number * 0.020)
    late.sender_silent()
    for number in range(200, 400):
        late.block(number * 0.020 + 7.0)
    assert late.wanted_ms <= 5
    assert late.base == pytest.approx(7.0 - 0.020, abs=1e-6)


def test_a_room_is_quiet_and_a_voice_in_it_is_not() -> None:
    loudness = Loudness()
    room = np.random.default_rng(3).standard_normal((100, BLOCK)) * 25
    for block in room[:50]:
        loudness.is_quiet(block.astype("<i2").tobytes())
    assert loudness.is_quiet(room[50].astype("<i2").tobytes())
    assert not loudness.is_quiet((tone(BLOCK, 133) / 8).astype("<i2").tobytes())
    assert 10 < loudness.noise_level < 40


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 900)), max_size=80))
def test_a_backlog_gives_what_it_got_in_order(steps: list[tuple[bool, int]]) -> None:
    backlog = Backlog(BLOCK, Loudness())
    given_, taken, value = bytearray(), bytearray(), 0
    for put, count in steps:
        if put:
            pcm = (np.arange(value, value + count) % 30_000).astype("<i2").tobytes()
            value += count
            given_ += pcm
            backlog.append(pcm)
        else:
            taken += backlog.take(min(count, backlog.samples))
        assert backlog.samples * 2 == len(given_) - len(taken)
        assert backlog.quiet_ahead(1_000) <= backlog.samples
    assert given_.startswith(taken)
