from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicebridge.core.config import MediaConfig
from voicebridge.core.ear import Ear
from voicebridge.core.stats import SessionStats

if TYPE_CHECKING:
    from collections.abc import Callable

FRAME = 640
MESSAGE = bytes(range(1, 193)) * 10
SILENCE = bytes(FRAME)
TICK = 0.020


class Call:
    """An ear in virtual time: ticked each 20 ms, pinged over a network that may stall."""

    def __init__(self, round_trip: float | None = 0.040) -> None:
        self.stats = SessionStats()
        self.ear = Ear(MediaConfig(), self.stats)
        self.round_trip = round_trip
        self.step = 0
        self.heard: list[bytes] = []
        self.heard_at: list[float] = []
        self.pings: list[float] = []
        self.pongs: list[float] = []
        self.ear.opened(0.0)

    @property
    def now(self) -> float:
        return self.step * TICK

    def run(self, seconds: float, speaking: Callable[[float], bool] = lambda now: False) -> None:
        """Ticks on; a message of 60 ms comes on each third tick while the caller speaks."""
        for _ in range(round(seconds / TICK)):
            self.step += 1
            if self.step % 3 == 0 and speaking(self.now):
                self.ear.receive(MESSAGE, self.now)
            while self.pongs and self.pongs[0] <= self.now + 1e-9:
                self.ear.pong(self.pongs.pop(0))
            self.ear.tick(self.now)
            if self.ear.ping_due(self.now):
                self.pings.append(self.now)
                if self.round_trip is not None:
                    self.pongs.append(self.now + self.round_trip)
            self.drain()

    def drain(self) -> None:
        frames = self.ear.frames()
        self.heard += frames
        self.heard_at += [self.now] * len(frames)

    @property
    def call_ms(self) -> int:
        return len(self.heard) * 20


def always(now: float) -> bool:
    return True


@given(st.lists(st.binary(max_size=3_000), max_size=40))
def test_any_bytes_in_any_chunks_come_out_as_whole_frames_in_order(chunks: list[bytes]) -> None:
    ear = Ear(MediaConfig(), SessionStats())
    ear.opened(0.0)
    frames: list[bytes] = []
    for index, chunk in enumerate(chunks):
        ear.receive(chunk, index * 0.01)
        frames += ear.frames()
        received = b"".join(chunks[: index + 1])
        assert b"".join(frames) == received[: len(received) // FRAME * FRAME]
        assert all(len(frame) == FRAME for frame in frames)
        assert ear.buffered_samples == len(received) % FRAME // 2
        assert ear.call_time_samples == len(received) // 2


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("audio"), st.integers(0, 4_000)),
            st.tuples(st.sampled_from(["tick", "pong", "lost", "opened"]), st.just(0)),
        ),
        max_size=80,
    ),
    st.integers(1, 400),
)
def test_frames_are_the_audio_and_whole_fills_whatever_happens(
    steps: list[tuple[str, int]], pace_ms: int
) -> None:
    stats = SessionStats()
    ear = Ear(MediaConfig(), stats)
    ear.opened(0.0)
    now = 0.0
    samples = 0
    frames: list[bytes] = []
    half = 0
    for kind, size in steps:
        now += pace_ms / 1000
        before = ear.call_time_samples
        if kind == "audio":
            ear.receive(b"\x01" * size, now)
            samples += (size + half) // 2
            half = (size + half) % 2
        elif kind == "tick":
            ear.tick(now)
            ear.ping_due(now)
        elif kind == "pong":
            ear.pong(now)
        elif kind == "lost":
            ear.lost(now)
        else:
            ear.opened(now)
            half = 0
        frames += ear.frames()
        assert ear.call_time_samples >= before
        filled = stats.filled_frames * 320
        assert samples + filled == len(frames) * 320 + ear.buffered_samples
        assert ear.call_time_samples == samples + filled
        # Call time leads the clock by no more than what came at once.
        assert filled <= now * 16_000 + samples
    assert b"".join(frames).count(b"\x01") <= samples * 2
    assert stats.frames_heard == len(frames)


def test_half_a_sample_waits_for_its_other_half_and_is_not_mixed_with_a_new_socket() -> None:
    ear = Ear(MediaConfig(), SessionStats())
    ear.opened(0.0)
    ear.receive(b"\1" * 641, 0.0)
    assert ear.frames() == [b"\1" * 640]
    ear.receive(b"\2" * 639, 0.0)
    assert ear.frames() == [b"\1" + b"\2" * 639]
    ear.receive(b"\3", 0.0)
    ear.lost(0.01)
    ear.opened(0.02)
    ear.receive(b"\4" * 640, 0.03)
    assert ear.frames() == [b"\4" * 640]


def test_fill_goes_before_half_a_sample() -> None:
    call = Call()
    call.ear.receive(b"\1" * 641, 0.0)
    call.run(0.5)
    call.ear.receive(b"\2" * 639, call.now)
    call.drain()
    assert call.heard[0] == b"\1" * 640
    assert call.heard[-1] == b"\1" + b"\2" * 639
    assert set(call.heard[1:-1]) == {SILENCE}


def test_steady_audio_is_passed_at_once_and_nothing_is_asked() -> None:
    call = Call()
    call.run(10.0, always)
    assert call.pings == []
    assert b"".join(call.heard) == MESSAGE * 166
    assert call.stats.filled_frames == call.stats.gaps == 0


def test_a_caller_silent_from_the_start_is_heard_as_silence() -> None:
    call = Call()
    call.run(3.0)
    # Call time begins 1.2 s after the socket opened: until then a burst may still come.
    assert 1_650 <= call.call_ms <= 1_800
    assert set(call.heard) == {SILENCE}


def test_a_silent_caller_is_known_by_the_pong_and_filled_at_the_clocks_pace() -> None:
    call = Call()
    call.run(1.2, always)
    call.run(0.2)
    assert call.pings[0] == pytest.approx(1.32 - 0.02, abs=0.011)
    silent_since = 1.2
    call.run(1.0)
    fills = [at for at, frame in zip(call.heard_at, call.heard, strict=True) if frame == SILENCE]
    # 500 ms of silence, which is what an end of turn waits for, at most 146 ms late.
    assert fills[24] - silent_since <= 0.500 + 0.146
    assert call.call_ms >= (call.now - 0.08) * 1000
    assert call.call_ms <= call.now * 1000
    assert call.stats.stalls == 0
    assert max(b - a for a, b in zip(call.pings, call.pings[1:], strict=False)) <= 0.161


def test_pings_are_at_least_150_ms_apart_and_not_overtaken_on_a_slow_link() -> None:
    call = Call(round_trip=0.300)
    call.run(0.6, always)
    call.run(3.0)
    gaps = [b - a for a, b in zip(call.pings, call.pings[1:], strict=False)]
    assert min(gaps) >= 0.300 - 1e-9
    assert call.call_ms >= 3_000


@pytest.mark.parametrize("at_once", [2, 3])
@pytest.mark.parametrize("one_message", [True, False])
def test_a_server_that_sends_more_at_once_is_not_taken_for_silent(
    at_once: int, one_message: bool
) -> None:
    call = Call(round_trip=0.010)
    call.ear.receive(MESSAGE * at_once, 0.0)
    for _ in range(20):
        call.run(at_once * 0.06 - TICK)
        call.step += 1
        for _ in range(1 if one_message else at_once):
            call.ear.receive(MESSAGE * (at_once if one_message else 1), call.now)
        call.drain()
    assert call.stats.filled_frames == 0
    assert b"".join(call.heard) == MESSAGE * (21 * at_once)
    call.run(1.0)
    assert call.stats.filled_frames >= 35


def test_a_stall_is_not_silence_and_its_backlog_passes_on_arrival() -> None:
    call = Call(round_trip=None)
    call.run(1.2, always)
    call.run(0.9)
    assert call.stats.filled_frames == 0
    call.ear.receive(MESSAGE * 15, call.now)
    call.drain()
    call.run(0.6, always)
    assert b"".join(call.heard) == MESSAGE * (20 + 15 + 10)
    assert call.stats.stalls == 1
    assert call.stats.gaps == 1


def test_a_stall_beyond_its_limit_counts_as_silence() -> None:
    call = Call(round_trip=None)
    call.run(0.6, always)
    call.run(1.18)
    assert call.stats.filled_frames == 0
    call.run(0.06)
    assert call.stats.filled_frames >= 57
    call.run(1.0)
    assert call.call_ms >= (call.now - 0.08) * 1000


def test_a_stall_inside_a_silence_stops_the_fill_until_its_limit() -> None:
    call = Call()
    call.run(0.6, always)
    call.run(1.0)
    call.round_trip = None
    call.pongs.clear()
    call.run(0.4)
    filled = call.stats.filled_frames
    call.run(0.6)
    assert call.stats.filled_frames == filled
    call.run(0.6)
    assert call.stats.filled_frames > filled


def test_audio_after_its_place_was_filled_follows_and_the_lead_is_given_back() -> None:
    call = Call()
    call.run(0.6, always)
    call.run(0.9)
    call.ear.receive(MESSAGE * 14, call.now)  # held back before it reached our network
    call.drain()
    lead = call.call_ms - call.now * 1000
    assert 700 < lead <= call.stats.filled_frames * 20
    call.run(0.6, always)
    # A first second of silence is filled at once all the same: a turn must end on time.
    before = call.call_ms
    call.run(1.0)
    assert call.call_ms - before >= 900
    # Beyond it call time waits for the clock.
    call.run(2.0)
    assert abs(call.call_ms - call.now * 1000) <= 80
    call.run(0.12, always)
    assert call.stats.withheld_frames == pytest.approx(lead / 20, abs=5)


def test_call_time_that_lags_is_brought_back_in_a_long_silence_only() -> None:
    call = Call()
    # Each message of the first 3 s holds only half of its 60 ms.
    for _ in range(50):
        call.step += 3
        call.ear.receive(MESSAGE[:960], call.now)
        call.ear.tick(call.now)
        call.drain()
    assert call.call_ms == 1_500
    call.run(0.96)
    assert call.call_ms <= 2_500
    call.run(0.2)
    # Call time began with the first message, which held 30 ms less than the time it took.
    assert call.now * 1000 - call.call_ms <= 80 + 30


def test_before_the_first_audio_nothing_is_filled_but_not_for_ever() -> None:
    """Silence in front of a first burst would be a delay for the whole call."""
    call = Call()
    call.run(0.8)
    assert call.heard == []
    call.ear.receive(MESSAGE * 3, call.now)  # held back, then sent in a burst
    call.drain()
    assert call.call_ms == 180
    call.run(2.0)
    assert call.call_ms <= (call.now - 0.8) * 1000 + 180

    silent = Call()
    silent.run(1.1)
    assert silent.heard == []
    silent.run(1.0)
    assert silent.call_ms == pytest.approx(900, abs=100)


def test_while_the_socket_is_lost_silence_follows_on_the_clock() -> None:
    call = Call(round_trip=None)
    call.run(1.2, always)
    call.ear.lost(call.now)
    call.run(0.7)
    assert not call.pings
    assert (call.now - 0.08) * 1000 <= call.call_ms <= call.now * 1000
    call.ear.opened(call.now)
    call.run(1.2, always)
    assert abs(call.call_ms - call.now * 1000) <= 150


def test_nothing_happens_before_the_first_socket() -> None:
    ear = Ear(MediaConfig(), SessionStats())
    ear.tick(100.0)
    assert not ear.ping_due(100.0)
    assert ear.frames() == []
    ear.opened(100.0)
    ear.tick(100.05)
    assert ear.frames() == []
