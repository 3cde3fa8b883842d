"""The playout buffer: its accounting, its bounds, and what it does about each trouble."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicebridge.core.jitter import PlayoutBuffer, PlayoutConfig
from voicebridge.core.pieces import Kind
from voicebridge.errors import ConfigError

RATE = 16_000
FRAME = 320
STEP = 0.020
CONSUMING = {Kind.COMPRESSED, Kind.PAUSE_CUT, Kind.TRIMMED}

Pcm = npt.NDArray[np.int16]


def vowel(seconds: float, pitch: float = 120.0) -> Pcm:
    """Harmonics of a steady pitch: what may be cut and stretched by periods, without a trace."""
    at = np.arange(round(seconds * RATE)) / RATE
    wave = sum(np.sin(2 * np.pi * pitch * n * at + n) / n for n in range(1, 12))
    return np.asarray(wave * 3_000, np.int16)


def ticks(seconds: float) -> range:
    return range(round(seconds / STEP))


class Listener:
    """Pulls on its own clock and checks at each pull what must always hold."""

    def __init__(self, config: PlayoutConfig | None = None) -> None:
        self.buffer = PlayoutBuffer(config)
        self.out: list[Pcm] = []
        self.kinds: list[set[Kind]] = []
        self.delays: list[float] = []

    def pull(self, now: float) -> None:
        frame = self.buffer.pull(now)
        assert len(frame) == FRAME * 2
        assert self.buffer.stats.unaccounted == 0
        assert sum(piece.given for piece in self.buffer.pieces) == FRAME
        self.out.append(np.frombuffer(frame, "<i2"))
        self.kinds.append({piece.kind for piece in self.buffer.pieces})
        self.delays.append(self.buffer.delay_ms)

    @property
    def audio(self) -> Pcm:
        return np.concatenate(self.out)

    def play(
        self, pcm: Pcm, arrivals: list[float], *, until: float, phase: float = 0.005, ppm: float = 0
    ) -> None:
        """Each 20 ms of ``pcm`` comes at its instant; pulls follow each other ``ppm`` faster."""
        step = STEP * (1 - ppm / 1e6)
        number = 0
        for pull in range(int((until - phase) / step)):
            now = phase + pull * step
            while number < len(arrivals) and arrivals[number] <= now:
                block = pcm[number * FRAME : (number + 1) * FRAME]
                self.buffer.put(block.tobytes(), arrivals[number])
                number += 1
            self.pull(now)


actions = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 9_000), st.integers(0, 2**32 - 1)),
        st.tuples(st.just("pull"), st.integers(1, 40), st.just(0)),
        st.tuples(st.just("silent"), st.just(0), st.just(0)),
        st.tuples(st.just("wait"), st.integers(-500, 4_000), st.just(0)),
    ),
    max_size=60,
)


@given(actions)
@settings(max_examples=150, deadline=None)
def test_every_sample_is_accounted_for_whatever_happens(
    steps: list[tuple[str, int, int]],
) -> None:
    buffer = PlayoutBuffer()
    now = 5.0
    put = pulled = 0
    for what, amount, seed in steps:
        if what == "put":
            data = np.random.default_rng(seed).bytes(amount)
            put += amount
            buffer.put(data, now)
        elif what == "pull":
            for _ in range(amount):
                assert len(buffer.pull(now)) == FRAME * 2
                pulled += FRAME
                assert sum(piece.given for piece in buffer.pieces) == FRAME
                now += STEP
        elif what == "silent":
            buffer.silent(now)
        else:
            now += amount / 1000  # backwards, too
        stats = buffer.stats
        assert stats.unaccounted == 0
        assert stats.received == put // 2
        assert stats.pulled == pulled
        assert stats.trimmed == 0 or put // 2 > 1.5 * RATE


@given(st.lists(st.integers(1, 4_001), min_size=1, max_size=40), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_audio_is_the_same_however_it_is_cut(sizes: list[int], seed: int) -> None:
    """Cut into messages of any size, odd ones too, at one instant: the same frames come out."""
    data = np.random.default_rng(seed).bytes(min(sum(sizes), 40_000))
    whole, pieces = PlayoutBuffer(), PlayoutBuffer()
    whole.put(data, 0.0)
    at = 0
    for size in sizes:
        pieces.put(data[at : at + size], 0.0)
        at += size
    for tick in range(30):
        assert whole.pull(tick * STEP) == pieces.pull(tick * STEP)


def test_a_clean_link_is_passed_on_unchanged() -> None:
    listener = Listener()
    pcm = vowel(10.0)
    listener.play(pcm, [(n + 1) * STEP for n in ticks(10.0)], until=9.9)
    last = listener.audio[-3 * RATE :].tobytes()
    assert last in pcm.tobytes()
    assert listener.buffer.stats.stretched == 0
    assert max(listener.delays[-150:]) <= 30


def test_messages_of_the_provider_need_their_own_length_and_no_more() -> None:
    listener = Listener()
    pcm = vowel(10.0)
    listener.play(pcm, [(n // 3 + 1) * 0.060 for n in ticks(10.0)], until=9.9)
    assert listener.audio[-3 * RATE :].tobytes() in pcm.tobytes()
    assert max(listener.delays[-150:]) <= 65


def test_the_burst_at_the_start_of_a_call_is_not_kept_as_delay() -> None:
    listener = Listener()
    pcm = vowel(6.0)
    arrivals = [max(0.240, (n + 1) * STEP) for n in ticks(6.0)]
    listener.play(pcm, arrivals, until=5.9)
    assert max(listener.delays[-50:]) <= 60


@pytest.mark.parametrize("stall", [0.3, 0.8])
def test_the_delay_of_a_stall_is_won_back_within_three_seconds(stall: float) -> None:
    listener = Listener()
    pcm = vowel(16.0)
    due = [(n + 1) * STEP for n in ticks(16.0)]
    arrivals = [8.0 + stall if 8.0 <= at < 8.0 + stall else at for at in due]
    listener.play(pcm, arrivals, until=15.0)
    before = max(listener.delays[300:390])
    after = listener.delays[round((8.0 + stall + 3.0) / STEP) :]
    assert max(after) <= before + 20
    assert listener.buffer.stats.trimmed == 0
    assert listener.buffer.stats.compressed > 0


def test_a_hole_fades_to_calm_within_the_time_promised() -> None:
    listener = Listener()
    pcm = vowel(4.0)
    listener.play(pcm, [(n + 1) * STEP for n in ticks(4.0)], until=6.0)
    stats = listener.buffer.stats
    assert 0 < stats.concealed <= 0.080 * RATE
    assert np.abs(listener.audio[-RATE:]).max() < 200


def test_speech_is_said_at_its_pitch_while_it_is_hurried() -> None:
    listener = Listener()
    pcm = vowel(8.0, pitch=125.0)
    arrivals = [max(2.6, (n + 1) * STEP) if n >= 100 else (n + 1) * STEP for n in ticks(8.0)]
    listener.play(pcm, arrivals, until=4.4)
    hurried = [n for n, kinds in enumerate(listener.kinds) if Kind.COMPRESSED in kinds]
    assert hurried
    part = listener.audio[hurried[0] * FRAME : hurried[0] * FRAME + 6_400].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(part * np.hanning(part.size)))
    assert abs(spectrum.argmax() * RATE / part.size - 125.0) < 5


def test_more_than_the_hard_bound_is_trimmed_and_counted() -> None:
    listener = Listener()
    pcm = vowel(3.0)
    listener.buffer.put(pcm.tobytes(), 0.0)
    listener.pull(0.0)
    stats = listener.buffer.stats
    assert stats.trimmed == pcm.size - round(0.4 * RATE)
    assert stats.held <= 0.4 * RATE


@pytest.mark.parametrize("ppm", [-500, 500])
def test_clocks_that_drift_apart_are_followed_without_a_hole(ppm: float) -> None:
    """Four minutes at 500 ppm are 120 ms, which must be neither missing nor kept as delay."""
    listener = Listener()
    pcm = np.tile(vowel(4.0), 60)
    listener.play(pcm, [(n + 1) * STEP for n in ticks(240.0)], until=239.0, ppm=ppm)
    stats = listener.buffer.stats
    after_start = listener.kinds[100:]
    holes = sum(Kind.CONCEALED in kinds or Kind.CALM in kinds for kinds in after_start)
    assert holes == 0
    assert max(listener.delays[500:]) <= 60
    moved = stats.stretched - stats.compressed - stats.pause_cut
    assert math.isclose(moved / RATE, 0.12 * ppm / 500, abs_tol=0.04)
    steps = np.abs(np.diff(listener.audio[RATE:].astype(np.int32)))
    assert steps.max() <= np.abs(np.diff(pcm.astype(np.int32))).max() * 1.8


def test_a_caller_known_to_be_silent_is_no_late_network() -> None:
    told = Listener()
    pcm = vowel(12.0)
    arrivals = [(n + 1) * STEP + 2.0 * (n // 200) for n in ticks(12.0)]
    number = 0
    for pull in range(1_000):
        now = 0.005 + pull * STEP
        while number < len(arrivals) and arrivals[number] <= now:
            told.buffer.put(pcm[number * FRAME : (number + 1) * FRAME].tobytes(), arrivals[number])
            number += 1
        if number and now - arrivals[number - 1] > 0.15:
            told.buffer.silent(now)
        told.pull(now)
    stats = told.buffer.stats
    assert told.buffer.target_ms <= 25
    assert stats.trimmed == 0
    assert stats.compressed <= 0.02 * RATE


def test_untold_it_learns_from_the_pace_that_a_gap_was_no_stall() -> None:
    listener = Listener()
    arrivals = [(n + 1) * STEP + 2.0 * (n // 200) for n in ticks(12.0)]
    listener.play(vowel(12.0), arrivals, until=17.9)
    assert listener.buffer.target_ms <= 25
    assert listener.buffer.stats.trimmed == 0
    assert listener.buffer.stats.compressed <= 0.1 * RATE


def test_a_late_pull_moves_nothing() -> None:
    listener = Listener()
    pcm = vowel(8.0)
    for pull in range(380):
        listener.buffer.put(pcm[pull * FRAME : (pull + 1) * FRAME].tobytes(), pull * STEP)
        late = 0.015 if pull % 7 == 0 else 0.0
        listener.pull(pull * STEP + 0.003 + late)
    assert listener.audio[-3 * RATE :].tobytes() in pcm.tobytes()


def test_nothing_before_the_first_audio_but_silence() -> None:
    listener = Listener()
    for pull in range(10):
        listener.pull(pull * STEP)
    assert not listener.audio.any()
    assert listener.kinds[-1] == {Kind.CALM}


def test_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError):
        PlayoutConfig(min_ms=100.0)
    with pytest.raises(ConfigError):
        PlayoutConfig(sample_rate=22_050, frame_ms=3)
