"""The speech gate: frames in, beginnings and ends out, in call time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicebridge.core.speech_gate import (
    SpeechBegan,
    SpeechEnded,
    SpeechGate,
    SpeechGateSettings,
)

Event = SpeechBegan | SpeechEnded


def run(probabilities: list[float], settings: SpeechGateSettings | None = None) -> list[Event]:
    gate = SpeechGate(settings)
    return [event for p in probabilities if (event := gate.hear(p)) is not None]


def test_one_frame_of_evidence_begins_and_200_ms_of_quiet_end() -> None:
    assert run([0.0] * 50 + [0.9] * 20 + [0.1] * 30) == [
        SpeechBegan(at_ms=1000, decided_ms=1020, pre_roll_ms=300),
        SpeechEnded(at_ms=1400, decided_ms=1600),
    ]


def test_what_begins_needs_more_than_what_goes_on() -> None:
    assert run([0.59] * 100) == []
    assert run([0.6] + [0.35] * 100) == [SpeechBegan(0, 20, 0)]


def test_a_short_dip_is_part_of_the_speech() -> None:
    began = SpeechBegan(0, 20, 0)
    assert run([0.9] * 10 + [0.1] * 9 + [0.9] * 10) == [began]
    assert run([0.9] * 10 + [0.1] * 10 + [0.9]) == [
        began,
        SpeechEnded(200, 400),
        SpeechBegan(400, 420, 200),
    ]


def test_minimum_speech_counts_evidence_and_forgets_after_a_dip() -> None:
    settings = SpeechGateSettings(start_ms=100, dip_ms=40)
    quiet = [0.0] * 20
    assert run(quiet + [0.9] * 4 + quiet, settings) == []
    # Two frames of dip are forgiven, and are no evidence.
    assert run([*quiet, 0.9, 0.9, 0, 0, 0.9, 0.9, 0.9, 0], settings) == [
        SpeechBegan(400, 540, 300),
    ]
    assert run([*quiet, 0.9, 0.9, 0, 0, 0, 0.9, 0.9, 0.9, 0], settings) == []


def test_the_pre_roll_stops_where_the_last_speech_ended() -> None:
    events = run([0.0] * 5 + [0.9] * 5 + [0.0] * 12 + [0.9])
    assert [event.pre_roll_ms for event in events if isinstance(event, SpeechBegan)] == [100, 240]
    assert isinstance(events[2], SpeechBegan)
    assert events[2].from_ms == 200


def test_settings_may_change_in_the_middle_of_a_call() -> None:
    gate = SpeechGate()
    assert all(gate.hear(0.45) is None for _ in range(10))
    gate.settings = SpeechGateSettings(start=0.4)
    assert gate.hear(0.45) == SpeechBegan(200, 220, 200)
    gate.settings = SpeechGateSettings(end_ms=40)
    assert [gate.hear(0.0) for _ in range(2)] == [None, SpeechEnded(220, 260)]


def test_it_tells_how_much_evidence_and_how_much_quiet_there_is() -> None:
    gate = SpeechGate()
    gate.hear(0.0)
    assert (gate.evidence_ms, gate.quiet_ms, gate.speaking) == (0, 20, False)
    gate.hear(0.9)
    gate.hear(0.9)
    assert (gate.evidence_ms, gate.quiet_ms, gate.speaking) == (40, 0, True)
    gate.hear(0.0)
    assert (gate.evidence_ms, gate.quiet_ms, gate.speaking) == (40, 20, True)


@pytest.mark.parametrize(("start", "end"), [(0.3, 0.5), (0.5, 0.0), (1.5, 0.5)])
def test_thresholds_that_make_no_sense_are_refused(start: float, end: float) -> None:
    with pytest.raises(ValueError, match="start"):
        SpeechGateSettings(start=start, end=end)


@given(
    st.lists(st.floats(0, 1), max_size=400),
    st.builds(
        SpeechGateSettings,
        start_ms=st.integers(0, 200),
        dip_ms=st.integers(0, 200),
        end_ms=st.integers(20, 400),
        pre_roll_ms=st.integers(0, 500),
    ),
)
def test_beginnings_and_ends_alternate_and_never_overlap(
    probabilities: list[float], settings: SpeechGateSettings
) -> None:
    free_from = 0
    events = run(probabilities, settings)
    for index, event in enumerate(events):
        assert isinstance(event, SpeechBegan if index % 2 == 0 else SpeechEnded)
        assert event.at_ms <= event.decided_ms <= 20 * len(probabilities)
        if isinstance(event, SpeechBegan):
            assert free_from <= event.from_ms <= event.at_ms
        else:
            assert event.at_ms > free_from
            assert event.decided_ms - event.at_ms >= settings.end_ms
            free_from = event.at_ms


@given(st.lists(st.floats(0, 0.59), max_size=200))
def test_nothing_begins_below_the_threshold(probabilities: list[float]) -> None:
    assert run(probabilities) == []
