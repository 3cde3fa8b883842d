"""A far end that a stall has left with too much to play, and how it gets rid of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.rig import TICK, FarEnd, Rig, ramp
from voicebridge.core.surplus import Surplus

ROUND_TRIP = 0.040


@dataclass
class Stalling(FarEnd):
    """Gets its messages late while the network stalls, and answers pings."""

    stalls: list[tuple[float, float, bool]] = field(default_factory=list)
    """From, to, and whether the way there is held up as well as the way back."""
    pongs: deque[tuple[float, float]] = field(default_factory=deque)

    def take(self, message: bytes, now: float) -> None:
        super().take(message, self._arrival(now, way_back=False))

    def ping(self, now: float) -> None:
        arrived = self._arrival(now, way_back=False)
        self.pongs.append((self._arrival(arrived + ROUND_TRIP, way_back=True), now))

    def _arrival(self, now: float, *, way_back: bool) -> float:
        for start, end, both in self.stalls:
            if (both or way_back) and start <= now < end:
                return end
        return now


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.far = Stalling()
    rig.open()
    return rig


def run(rig: Rig, seconds: float) -> None:
    """Ticks as the shell does, with pings and their answers; the caller is silent."""
    far = rig.far
    assert isinstance(far, Stalling)
    for _ in range(round(seconds / TICK)):
        rig.tick()
        while far.pongs and far.pongs[0][0] <= rig.now:
            at, sent = far.pongs.popleft()
            rig.session.pong(rig.now, rtt=at - sent)
        if rig.session.ping_due(rig.now):
            rig.session.pinged(rig.now)
            far.ping(rig.now)


def stall(rig: Rig, seconds: float, *, both: bool = True) -> None:
    far = rig.far
    assert isinstance(far, Stalling)
    far.stalls.append((rig.now, rig.now + seconds, both))


def holes_in_speech(far: FarEnd) -> int:
    voiced = [start for start, message in far.messages if any(message)]
    return sum(b - a > 0.0601 for a, b in pairwise(voiced))


def test_after_a_stall_silence_waits_until_the_far_end_is_where_it_was(rig: Rig) -> None:
    number = rig.say(ramp(8.0))
    run(rig, 3.0)
    stall(rig, 0.6)
    run(rig, 1.5)
    assert rig.far.until - rig.now > 0.5  # a queue never makes up for a stall by itself
    rig.session.stop(number, rig.now)
    run(rig, 1.5)
    assert rig.session.stats.drained >= 1
    # What was held up before the first ping that was is not proven.
    depth = rig.far.until - rig.now
    assert depth <= 0.130 + 0.150
    holes = rig.far.holes
    audio = ramp(2.0, 7)
    rig.say(audio)
    asked = rig.now
    run(rig, 3.0)
    start = next(at for at, message in rig.far.messages if at > asked and any(message))
    assert start - asked <= depth + 1e-6
    assert rig.far.holes == holes
    assert rig.session.stats.lost == 0


def test_without_proof_nothing_is_held_back(rig: Rig) -> None:
    number = rig.say(ramp(8.0))
    run(rig, 3.0)
    stall(rig, 0.1)  # hidden by the lead
    run(rig, 1.0)
    rig.session.stop(number, rig.now)
    run(rig, 3.0)
    assert rig.session.stats.drained == rig.far.holes == 0


def test_a_false_alarm_costs_silence_only_and_no_lead(rig: Rig) -> None:
    """Only the way back was held up: the far end runs dry, in silence, and is primed anew."""
    rig.say(ramp(3.0))
    run(rig, 2.0)
    stall(rig, 0.5, both=False)
    run(rig, 4.0)
    assert rig.session.stats.drained == 1
    assert holes_in_speech(rig.far) == 0
    rig.say(ramp(3.0))
    depths: list[float] = []
    for _ in range(100):
        run(rig, TICK)
        depths.append(rig.far.until - rig.now)
    assert min(depths) >= 0.060 - 1e-6
    assert max(depths) <= 0.180
    assert holes_in_speech(rig.far) <= 1  # between the two utterances


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("after", [0.02, 0.1, 0.2, 0.3])
def test_who_speaks_meanwhile_does_not_wait(rig: Rig, both: bool, after: float) -> None:
    number = rig.say(ramp(8.0))
    run(rig, 3.0)
    stall(rig, 0.6, both=both)
    run(rig, 1.0)
    rig.session.stop(number, rig.now)
    for _ in range(50):
        if not rig.session.stats.drained:
            run(rig, TICK)
    assert rig.session.stats.drained == 1
    run(rig, after)
    sent = len(rig.far.messages)
    depth = max(0.0, rig.far.until - rig.now)
    audio = ramp(2.0, 7)
    rig.say(audio)
    run(rig, 0.08)
    assert len(rig.far.messages) > sent  # within a message of being written
    run(rig, 4.0)
    start = next(at for at, message in rig.far.messages[sent:] if any(message))
    assert start - rig.now + 4.08 <= max(depth, 0.080) + 1e-6
    voiced = b"".join(message for _, message in rig.far.messages[sent:])
    samples = np.frombuffer(voiced, "<i2")
    said = np.flatnonzero(samples)
    assert samples[said[0] : said[-1] + 1].tobytes() == audio
    assert rig.session.stats.lost == 0


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["stall", "held back", "say", "stop", "nothing"]),
            st.floats(0.05, 1.5),
        ),
        max_size=20,
    )
)
def test_whatever_is_believed_nothing_is_lost_and_no_speech_is_torn(
    history: list[tuple[str, float]],
) -> None:
    rig = Rig()
    rig.far = Stalling()
    rig.open()
    run(rig, 2.0)
    stalled = False
    for what, seconds in history:
        match what:
            case "stall":
                stall(rig, seconds)
                stalled = True
            case "held back":
                stall(rig, seconds, both=False)
            case "say":
                rig.say(ramp(seconds))
            case "stop":
                rig.session.stop_all(rig.now)
        before = [start for start, message in rig.far.messages if any(message)]
        run(rig, seconds)
        after = [start for start, message in rig.far.messages if any(message)]
        if not stalled and what == "say":
            new = after[len(before) :]
            assert all(b - a < 0.0601 for a, b in pairwise(new))
    run(rig, 40.0)
    assert rig.session.stats.lost == rig.session.stats.underruns == 0
    assert rig.session.stats.lead_ms_max <= 180.001
    # Of a stall that began between two pings, as much as may lie between them goes unseen.
    assert rig.far.until - rig.now <= 0.140 + 0.450
    assert len(rig.finished) == sum(what == "say" for what, _ in history)


# What a ping proves.


def test_what_a_ping_proves_is_a_least() -> None:
    surplus = Surplus(0.060)
    surplus.pinged(10.0, 100)
    surplus.answered(10.0, 0.5, 105, 10.42)
    # All five messages after it were played after 10.5; they were meant to end at 10.42.
    assert surplus.seconds == pytest.approx(10.5 + 0.3 - 10.42)
    surplus.answered(10.0, 0.1, 105, 10.42)
    assert surplus.seconds == pytest.approx(0.38)
    surplus.answered(10.0, 9.0, 105, 10.42)
    assert surplus.seconds == 1.0
    surplus.clear()
    surplus.answered(10.0, 0.5, 105, 10.42)
    assert surplus.seconds == 0.0


def test_an_answer_to_no_ping_of_ours_proves_nothing() -> None:
    surplus = Surplus(0.060)
    for number in range(20):
        surplus.pinged(float(number), number)
    surplus.answered(3.0, 5.0, 20, 3.1)  # forgotten
    surplus.answered(17.5, 5.0, 20, 17.6)
    assert surplus.seconds == 0.0
