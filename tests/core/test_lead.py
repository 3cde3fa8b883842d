from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.rig import TICK, Rig, ramp
from voicebridge.core.config import MediaConfig
from voicebridge.core.lead import AdaptiveLead

FRAME = 0.060
LEAST, MOST = 0.060, 0.110


def steps(lead: AdaptiveLead, seconds: float, now: float) -> list[float]:
    """The lead after each message for a while."""
    return [lead.step(now + index * FRAME) for index in range(1, round(seconds / FRAME) + 1)]


def test_without_evidence_it_is_the_least() -> None:
    lead = AdaptiveLead(MediaConfig())
    for late in (0.005, 0.02, 0.04):
        lead.late(late, 0.0)  # what the least hides already
    assert set(steps(lead, 60.0, 0.0)) == {LEAST}


def test_a_late_wake_up_raises_it_by_a_tick_per_message_up_to_what_would_have_hidden_it() -> None:
    lead = AdaptiveLead(MediaConfig())
    lead.late(0.075, 0.0)
    assert steps(lead, 0.24, 0.0) == pytest.approx([0.080, 0.095, 0.095, 0.095])


def test_after_ten_calm_seconds_it_shrinks_by_a_tick_per_second() -> None:
    lead = AdaptiveLead(MediaConfig())
    lead.late(0.1, 0.0)
    taken = steps(lead, 15.0, 0.0)
    assert max(taken) == pytest.approx(MOST)
    assert all(each == pytest.approx(MOST) for each in taken[3:166])
    assert taken[-1] == LEAST
    falls = [index for index in range(1, len(taken)) if taken[index] < taken[index - 1] - 1e-9]
    assert len(falls) == 3
    assert min(b - a for a, b in pairwise(falls)) * FRAME >= 1.0
    assert steps(lead, 1.0, 15.0) == [LEAST] * 17


def test_round_trips_count_by_their_spread() -> None:
    lead = AdaptiveLead(MediaConfig())
    for second in range(30):
        lead.round_trip(0.200, float(second))
    assert lead.step(30.0) == LEAST
    lead.round_trip(0.270, 30.0)
    assert steps(lead, 0.3, 30.0)[-1] == pytest.approx(0.090)
    # A new route is longer for good: after a minute that is how it is.
    for second in range(31, 120):
        lead.round_trip(0.270, float(second))
    assert steps(lead, 10.0, 120.0)[-1] == LEAST


def test_a_far_end_that_ran_dry_asks_for_more_than_there_was() -> None:
    lead = AdaptiveLead(MediaConfig())
    lead.ran_dry(0.010, 0.0)
    assert steps(lead, 0.3, 0.0)[-1] == pytest.approx(0.090)


@pytest.mark.parametrize("seconds", [0.2, 0.6, 3.0])
def test_a_stall_that_no_lead_could_hide_buys_none(seconds: float) -> None:
    lead = AdaptiveLead(MediaConfig())
    lead.late(seconds, 0.0)
    lead.round_trip(0.05, 0.0)
    lead.round_trip(0.05 + seconds, 0.0)
    lead.ran_dry(seconds, 0.0)
    assert set(steps(lead, 1.0, 0.0)) == {LEAST}


def test_it_may_be_told_to_stay() -> None:
    lead = AdaptiveLead(MediaConfig(adaptive_lead=False))
    lead.late(0.09, 0.0)
    assert set(steps(lead, 1.0, 0.0)) == {LEAST}


EVIDENCE = st.tuples(
    st.sampled_from(["late", "round_trip", "ran_dry", "restart"]),
    st.floats(0.0, 1.0),
    st.floats(0.0, 3.0),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(EVIDENCE, max_size=60), st.integers(0, 120))
def test_it_stays_in_bounds_and_never_moves_by_more_than_a_tick(
    evidence: list[tuple[str, float, float]], lead_ms: int
) -> None:
    lead = AdaptiveLead(MediaConfig(lead_ms=lead_ms))
    most = max(lead_ms / 1000, MOST)
    now = 0.0
    for name, seconds, wait in evidence:
        if name == "restart":
            lead.restart()
        else:
            getattr(lead, name)(seconds, now)
        for _ in range(1 + round(wait / FRAME)):
            before = lead.seconds
            now += FRAME
            after = lead.step(now)
            assert abs(after - before) <= TICK + 1e-9
            assert lead_ms / 1000 - 1e-9 <= after <= most + 1e-9
    assert steps(lead, 20.0, now)[-1] == pytest.approx(lead_ms / 1000)
    assert len(lead._evidence) == 0
    assert len(lead._shortest) <= 60


# In the pacer.


def test_growing_and_shrinking_neither_bursts_nor_leaves_a_hole() -> None:
    """Each change moves one send by one tick; the far end plays on, to the sample."""
    rig = Rig()
    rig.open()
    audio = ramp(20.0)
    rig.say(audio)
    sends: list[tuple[float, int]] = []
    depths: list[float] = []

    def watch(now: float) -> None:
        sends.append((now, len(rig.far.messages)))
        depths.append(rig.far.until - now)

    rig.run(2.0, watch)
    for _ in range(5):
        rig.session.round_trip(0.050, rig.now)
        rig.session.pong(rig.now, rtt=0.140)
    rig.run(20.0, watch)
    assert rig.speech() == audio
    assert rig.far.holes == rig.session.stats.resyncs == rig.session.stats.late == 0
    counts = [count for _, count in sends]
    assert max(b - a for a, b in pairwise(counts)) == 1
    at = [
        now for (now, count), (_, before) in zip(sends[1:], sends, strict=False) if count > before
    ]
    apart = [round((b - a) * 1000) for a, b in pairwise(at)]
    assert set(apart) <= {40, 60, 80}
    assert apart.count(40) == apart.count(80) == 3
    assert 0.160 <= max(depths[120:]) <= 0.180
    assert max(depths[-300:]) == pytest.approx(0.120)


def test_a_hiccup_teaches_and_the_next_one_is_not_heard() -> None:
    rig = Rig()
    rig.open()
    rig.say(ramp(12.0))
    rig.run(1.0)
    for phase in (0.06, 0.02, 0.04):  # by how much the far end is dry depends on the phase
        rig.run(phase)
        rig.tick(0.115)
        rig.tick(0.005)
        rig.run(1.0)
    first = rig.far.holes
    for phase in (0.06, 0.02, 0.04):
        rig.run(phase)
        rig.tick(0.115)
        rig.tick(0.005)
        rig.run(1.0)
    assert rig.far.holes == first == 1
    assert rig.far.deepest <= 0.180 + 1e-6


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.02, 0.02, 0.03, 0.05, 0.08, 0.11, 0.16, 0.4]),
            st.sampled_from([None, 0.01, 0.05, 0.09, 0.4]),
            st.booleans(),
        ),
        max_size=80,
    )
)
def test_no_history_makes_it_burst_or_lose(
    history: list[tuple[float, float | None, bool]],
) -> None:
    rig = Rig()
    rig.open()
    audio = ramp(6.0)
    rig.say(audio)
    for step, rtt, clogged in history:
        rig.clogged = clogged
        if rtt is not None:
            rig.session.round_trip(rtt, rig.now)
        before = len(rig.far.messages)
        rig.tick(step)
        assert len(rig.far.messages) - before <= 2
        assert rig.far.until - rig.now <= 0.180 + 1e-6
    rig.clogged = False
    rig.run(8.0)
    assert rig.speech() == audio
    # Moving the grid onto the ticks may hide a hole of less than a tick, once.
    assert 0 <= rig.far.holes - rig.session.stats.resyncs <= 1
    assert rig.session.stats.lost == 0
