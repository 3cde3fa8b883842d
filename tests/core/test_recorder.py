from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicebridge.core.recorder import TRAIL, Recorder
from voicebridge.core.session import MediaConfig, MediaSession

RATE = 16_000
FRAME = 320
START = 12_345.678
Samples = npt.NDArray[np.int16]


def ramp(first: int, count: int) -> bytes:
    """Samples that tell their own place; never quiet, never zero."""
    return ((np.arange(first, first + count) % 20_000) + 5_000).astype("<i2").tobytes()


def sides(stereo: bytes) -> tuple[Samples, Samples]:
    both = np.frombuffer(stereo, "<i2").reshape(-1, 2)
    return both[:, 0], both[:, 1]


def caller_frames(count: int) -> list[tuple[float, bytes]]:
    """(complete at, audio) of a caller who talks from the start without a pause."""
    return [(START + (n + 1) * 0.020, ramp(n * FRAME, FRAME)) for n in range(count)]


def record(
    caller: list[tuple[float, bytes]], bot: list[tuple[float, bytes]], seconds: float
) -> bytes:
    """Plays both into a recorder, ticking it every 20 ms."""
    recorder = Recorder(RATE, START)
    out = b""
    caller, bot = list(caller), list(bot)
    for tick in range(int(seconds * 50) + 1):
        now = START + tick * 0.020
        while caller and caller[0][0] <= now + 1e-9:
            recorder.heard(*caller.pop(0))
        while bot and bot[0][0] - 0.09 <= now:
            recorder.sent(*bot.pop(0))
        if tick % 25 == 0:
            out += recorder.take(now)
    return out + recorder.finish(START + seconds)


def test_both_sides_stand_where_they_were_to_the_sample() -> None:
    bot = [(START + 1.2345 + n * 0.060, ramp(n * 960, 960)) for n in range(50)]
    left, right = sides(record(caller_frames(300), bot, 6.0))
    assert left.size == 6 * RATE
    assert left.tobytes() == ramp(0, 6 * RATE)
    first = round(1.2345 * RATE)
    assert not right[:first].any()
    assert right[first : first + 48_000].tobytes() == ramp(0, 48_000)
    assert not right[first + 48_000 :].any()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_jitter_moves_no_sample_of_the_caller(seed: int) -> None:
    """Late by up to 200 ms, and in order: call time is gapless, so is the recording."""
    generator = np.random.default_rng(seed)
    at = 0.0
    late = []
    for complete, pcm in caller_frames(200):
        at = max(at, complete + float(generator.uniform(0, 0.2)))
        late.append((at, pcm))
    left, _ = sides(record(late, [], 8.0))
    first = int(np.flatnonzero(left)[0])
    assert first <= 0.2 * RATE
    assert left[first : first + 64_000].tobytes() == ramp(0, 64_000)


def test_a_stall_s_backlog_goes_to_where_it_was_said() -> None:
    """One second in which nothing comes, and then all of it at once."""
    stalled = [
        (START + 3.0 if 2.0 <= at - START < 3.0 else at, pcm) for at, pcm in caller_frames(300)
    ]
    left, _ = sides(record(stalled, [], 6.0))
    assert left.tobytes() == ramp(0, 6 * RATE)


def test_a_hole_is_silence_of_its_length() -> None:
    """Two seconds that were never sent: what follows comes when it came."""
    frames = caller_frames(100) + [(at + 4.0, pcm) for at, pcm in caller_frames(100)]
    left, _ = sides(record(frames, [], 7.0))
    assert left[: 2 * RATE].tobytes() == ramp(0, 2 * RATE)
    assert not left[2 * RATE : 4 * RATE].any()
    assert left[4 * RATE : 6 * RATE].tobytes() == ramp(0, 2 * RATE)


def test_the_first_burst_ends_when_it_came() -> None:
    """A server that holds 180 ms back: its last frame is the one that is on time."""
    burst = [(max(at, START + 0.5), pcm) for at, pcm in caller_frames(9)]
    rest = [(at + 0.32, pcm) for at, pcm in caller_frames(100)[9:]]
    left, _ = sides(record(burst + rest, [], 4.0))
    first = round(0.32 * RATE)
    assert not left[:first].any()
    assert left[first : first + 32_000].tobytes() == ramp(0, 32_000)


@pytest.mark.parametrize("ppm", [-20_000, -300, 300, 20_000])
def test_a_far_end_whose_clock_drifts_stays_near_ours(ppm: int) -> None:
    """A minute, with a quiet frame now and then; the end is where it was said."""
    frames = []
    for n in range(2_900):
        pcm = ramp(n * FRAME, FRAME) if n % 5 else bytes(FRAME * 2)
        frames.append((START + (n + 1) * 0.020 * (1 - ppm / 1e6), pcm))
    marker = np.full(FRAME, 30_000, dtype="<i2").tobytes()
    end = frames[-1][0]
    left, _ = sides(record([*frames, (end + 0.02, marker)], [], 62.0))
    place = START + int(np.flatnonzero(left == 30_000)[0]) / RATE
    assert abs(place - end) < 0.3


def test_what_would_play_after_the_loss_is_not_heard() -> None:
    recorder = Recorder(RATE, START)
    recorder.sent(START + 0.010, ramp(0, 960))
    recorder.sent(START + 0.070, ramp(960, 960))
    recorder.lost(START + 0.100)
    recorder.sent(START + 0.500, ramp(1_600 - 160, 960))
    _, right = sides(recorder.finish(START + 1.0))
    heard = 1_440
    assert right[160 : 160 + heard].tobytes() == ramp(0, heard)
    assert not right[1_600:8_000].any()
    assert right[8_000 : 8_000 + 960].tobytes() == ramp(1_440, 960)


def test_what_was_cut_anew_replaces_what_was_not_sent() -> None:
    """Messages the link refused are cut again, for the same instants: perhaps as silence."""
    recorder = Recorder(RATE, START)
    for n in range(3):
        recorder.sent(START + n * 0.060, ramp(n * 960, 960))
    recorder.sent(START + 0.060, bytes(1_920))
    recorder.sent(START + 0.120, ramp(960, 960))
    _, right = sides(recorder.finish(START + 0.2))
    assert right[:960].tobytes() == ramp(0, 960)
    assert not right[960:1_920].any()
    assert right[1_920:2_880].tobytes() == ramp(960, 960)


def test_what_was_not_played_at_the_end_is_not_in_it() -> None:
    recorder = Recorder(RATE, START)
    recorder.sent(START, ramp(0, 960))
    _, right = sides(recorder.finish(START + 0.030))
    assert right.tobytes() == ramp(0, 480)


def test_a_grid_at_an_odd_instant_leaves_no_seam() -> None:
    """Float seconds of a clock that has run for weeks: neither a gap nor an overlap."""
    start = 5_000_000.000_017
    recorder = Recorder(RATE, start)
    out = b""
    for n in range(1_000):
        until = start + 0.01234567 + n * 0.060
        recorder.sent(until, ramp(n * 960, 960))
        out += recorder.take(until)
    _, right = sides(out + recorder.finish(start + 61.0))
    first = int(np.flatnonzero(right)[0])
    assert right[first : first + 960_000].tobytes() == ramp(0, 960_000)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["heard", "sent", "lost", "take"]),
            st.floats(0, 4),
            st.integers(0, 2_000),
        ),
        max_size=60,
    )
)
def test_it_is_as_long_as_the_clock_says_and_bounded(steps: list[tuple[str, float, int]]) -> None:
    recorder = Recorder(RATE, START)
    now = START
    out = b""
    for what, seconds, size in steps:
        now += seconds
        if what == "heard":
            recorder.heard(now, ramp(0, size))
        elif what == "sent":
            recorder.sent(now + 0.1, ramp(0, size))
        elif what == "lost":
            recorder.lost(now)
        out += recorder.take(now)
        given = len(out) // 4
        assert abs(given - max(0.0, (now - TRAIL - START) * RATE)) <= 1
    total = len(out + recorder.finish(now)) // 4
    assert 0 <= total - round((now - START) * RATE) <= 3 * RATE


class _Far:
    """Plays what arrives at once and in order: the clock that the ledger models."""

    def __init__(self) -> None:
        self.until = -1.0
        self.played = np.zeros(20 * RATE, dtype=np.int16)

    def take(self, message: bytes, now: float) -> None:
        samples = np.frombuffer(message, "<i2")
        begin = max(now, self.until)
        place = round((begin - START) * RATE)
        self.played[place : place + samples.size] = samples
        self.until = begin + samples.size / RATE

    def cut(self, now: float) -> None:
        self.played[round((now - START) * RATE) :] = 0
        self.until = now


class _Line:
    """Hands on what is due, as the line does; its link refuses a message now and then."""

    def __init__(self, seed: int) -> None:
        self.session = MediaSession(MediaConfig(), START)
        self.recorder = Recorder(RATE, START)
        self.far = _Far()
        self._generator = np.random.default_rng(seed)

    def chance(self, probability: float) -> bool:
        return float(self._generator.random()) < probability

    def tick(self, now: float) -> None:
        self.session.tick(now)
        messages = self.session.to_send()
        # The last of them ends where all that was sent ends.
        play_at = self.session._playout._pacer.until - len(messages) * 0.060
        for index, message in enumerate(messages):
            if self.chance(0.04):
                self.session.unsend(messages[index:])
                return
            self.far.take(message, now)
            self.recorder.sent(play_at + index * 0.060, message)

    def opened(self, now: float) -> None:
        self.session.opened(now)
        self.tick(now)

    def lost(self, now: float) -> None:
        self.session.lost(now)
        self.recorder.lost(now)
        self.far.cut(now)


@pytest.mark.parametrize("seed", range(4))
def test_the_bot_s_side_is_what_the_far_end_played(seed: int) -> None:
    """A real session: refused sends, a lost socket, ticks that never came, speech cut short."""
    line, out, now = _Line(seed), b"", START
    session = line.session
    line.opened(now)
    utterance = session.begin()
    for step in range(1, 500):
        now = START + step * 0.020
        if step % 40 == 0:
            if line.chance(0.5):
                session.stop(utterance, now)
            else:
                session.end(utterance)
            utterance = session.begin()
        session.write(utterance, ramp(step * 300, 300), now)
        if step == 200:
            line.lost(now)
        elif step == 260:
            line.opened(now)
        elif not line.chance(0.05):
            line.tick(now)
        out += line.recorder.take(now)
    _, right = sides(out + line.recorder.finish(now))
    assert np.count_nonzero(right) > 2 * RATE
    differing = np.flatnonzero(right != line.far.played[: right.size])
    assert differing.size == 0, (differing[:5] / RATE, differing.size)


@pytest.mark.parametrize("stall", [0.0, 0.5, 1.0])
def test_a_caller_behind_a_real_ear_is_where_they_spoke(stall: float) -> None:
    """Words of 600 ms every 2 s, nothing sent between them (DTX), one of them held back."""
    session = MediaSession(MediaConfig(), START)
    recorder, out = Recorder(RATE, START), b""
    session.opened(START)
    word = np.full(960, 20_000, dtype="<i2").tobytes()
    begins = [1.0 + 2 * n for n in range(8)]
    messages = [(begin + 0.060 * (n + 1), word) for begin in begins for n in range(10)]
    held_from = 7.2
    arrivals = sorted(
        max(at, held_from + stall) if held_from <= at < held_from + stall else at
        for at, _ in messages
    )
    for step in range(1, 900):
        now = START + step * 0.020
        while arrivals and START + arrivals[0] <= now:
            arrivals.pop(0)
            session.receive(word, now)
        session.tick(now)
        stalled = held_from <= now - START < held_from + stall
        if session.ping_due(now) and not stalled:
            session.pong(now)
        for frame in session.heard():
            recorder.heard(now, frame)
        out += recorder.take(now)
    left, _ = sides(out + recorder.finish(START + 18.0))
    loud = np.concatenate([[False], left > 10_000])
    places = np.flatnonzero(loud[1:] & ~loud[:-1]) / RATE
    assert places.size == len(begins)
    assert np.abs(places - begins).max() < 0.15
    assert np.count_nonzero(loud) == len(begins) * 9_600
