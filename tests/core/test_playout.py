from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.rig import TICK, Rig, ramp
from voicebridge.core.config import MediaConfig
from voicebridge.core.events import Playback
from voicebridge.errors import AudioError, CallStateError, ConfigError

FADE = 128
"""8 ms."""


FIXED = MediaConfig(adaptive_lead=False)


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.open()
    return rig


@pytest.fixture
def steady() -> Rig:
    """One whose lead stays as it is configured, whatever happens."""
    rig = Rig(FIXED)
    rig.open()
    return rig


# The grid.


def test_opening_primes_one_message_and_the_lead(rig: Rig) -> None:
    assert len(rig.far.messages) == 2
    assert rig.far.until - rig.now == pytest.approx(0.120)


def test_idle_is_silence_on_the_grid_and_never_ahead_of_it(rig: Rig) -> None:
    rig.run(60.0)
    assert set(rig.far.audio) == {0}
    assert len(rig.far.messages) == 2 + 1_000
    assert rig.far.holes == 0
    assert rig.far.deepest == pytest.approx(0.120, abs=1e-6)
    assert rig.session.stats.lateness.max_ms < 1e-3


@pytest.mark.parametrize("phase", [0.001, 0.007, 0.013, 0.0199])
def test_ticks_of_any_phase_send_when_due(phase: float) -> None:
    rig = Rig()
    rig.open()
    rig.tick(0.0)  # the shell ticks once when the socket is up; that tells no phase
    rig.tick(phase)
    rig.run(6.0)
    assert rig.session.stats.lateness.quantile_ms(0.99) == 0
    assert rig.far.holes == 0
    assert rig.far.deepest <= 0.120 + 1e-6


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-0.009, 0.009), min_size=50, max_size=400), st.floats(0.0, 0.02))
def test_jittery_ticks_shift_nothing(jitter: list[float], phase: float) -> None:
    rig = Rig()
    rig.open()
    origin = rig.now + phase
    for index, late in enumerate(jitter):
        rig.tick(max(0.0, origin + (index + 1) * TICK + late - rig.now))
    assert rig.session.stats.resyncs == 0
    assert rig.far.holes == 0
    assert rig.session.stats.lead_ms_max <= 140
    # Drift: what was sent is what the clock asks for, to one message.
    sent = len(rig.far.messages) * 0.060
    assert abs(sent - (rig.now - 1_000.0) - 0.090) <= 0.060


@pytest.mark.parametrize("late", [0.030, 0.055])
def test_a_late_tick_within_the_lead_shifts_nothing_after_it(steady: Rig, late: float) -> None:
    steady.run(0.58)
    steady.tick(0.020 + late)
    steady.tick(0.060 - late)
    steady.run(5.4)
    assert steady.far.holes == 0
    assert steady.session.stats.resyncs == 0
    assert steady.session.stats.late == 1
    assert steady.far.deepest <= 0.130


@pytest.mark.parametrize("late", [0.130, 0.190, 0.5, 7.0])
def test_a_tick_later_than_the_lead_loses_nothing_and_bursts_nothing(
    steady: Rig, late: float
) -> None:
    audio = ramp(10.0)
    steady.say(audio)
    steady.run(1.2)
    steady.tick(late)
    steady.run(12.0)
    assert steady.speech() == audio
    assert steady.session.stats.resyncs == steady.far.holes == 1
    assert steady.far.deepest <= 0.131
    assert steady.session.stats.lost == 0


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from([0.02, 0.02, 0.02, 0.05, 0.09, 0.16, 0.4]), max_size=60))
def test_hiccups_of_any_kind_never_build_up_a_lead(steps: list[float]) -> None:
    rig = Rig(FIXED)
    rig.open()
    audio = ramp(4.0)
    rig.say(audio)
    for step in steps:
        rig.tick(step)
    rig.run(5.0)
    assert rig.speech() == audio
    assert rig.far.deepest <= 0.180
    assert rig.session.stats.lead_ms_max <= 130.001


def test_the_largest_lead_is_kept_by_any_configuration() -> None:
    rig = Rig(MediaConfig(lead_ms=120))
    rig.open()
    for step in (0.013, 0.021, 0.019, 0.02, 0.03, 0.01) * 40:
        rig.tick(step)
    assert rig.session.stats.lead_ms_max <= 180.01
    with pytest.raises(ConfigError):
        MediaConfig(lead_ms=121)


# Utterances.


def test_an_utterance_is_spoken_whole_and_finishes_when_its_last_sample_is_heard(rig: Rig) -> None:
    audio = ramp(0.5)
    number = rig.say(audio, text="hello there")
    rig.run(2.0)
    assert rig.speech() == audio
    [(at, event)] = rig.finished
    assert event.utterance == number
    assert event.playback == Playback(500, 500, interrupted=False, heard_text="hello there")
    start = next(start for start, message in rig.far.messages if any(message))
    assert 0 <= at - (start + 0.5 + 0.150) <= TICK + 1e-6


def test_utterances_follow_one_another_without_a_hole_in_the_order_of_their_audio(rig: Rig) -> None:
    silent = rig.session.begin()
    audio = ramp(1.0)
    numbers = [rig.say(audio[at : at + 7_000]) for at in range(0, len(audio), 7_000)]
    rig.session.write(silent, b"", rig.now)
    rig.run(2.0)
    assert rig.speech() == audio
    assert [event.utterance for _, event in rig.finished] == numbers
    assert rig.session.stats.underruns == 0


def test_an_empty_utterance_finishes_too(rig: Rig) -> None:
    number = rig.session.begin(text="nothing")
    rig.session.end(number)
    rig.session.end(number)
    rig.run(0.1)
    assert [event.playback for _, event in rig.finished] == [Playback(0, 0, False, "")]


def test_a_late_end_still_finishes(rig: Rig) -> None:
    number = rig.session.begin()
    rig.session.write(number, ramp(0.3), rig.now)
    rig.run(2.0)
    assert rig.finished == []
    rig.session.end(number)
    rig.run(0.1)
    assert [event.playback.heard_ms for _, event in rig.finished] == [300]
    assert rig.session.stats.underruns == 0


def test_a_stream_waits_for_its_preroll_or_its_time(rig: Rig) -> None:
    number = rig.session.begin()
    rig.session.write(number, ramp(0.04), rig.now)
    rig.run(0.10)
    assert rig.session.ahead_ms(number) == 40
    rig.run(0.20)
    assert rig.session.ahead_ms(number) == 0
    other = rig.session.begin()
    rig.session.write(other, ramp(0.1), rig.now)
    rig.session.stop(number, rig.now)
    rig.run(0.06)
    assert rig.session.ahead_ms(other) <= 40


def test_a_writer_that_is_just_in_time_is_waited_for(rig: Rig) -> None:
    """Always 20 to 40 ms later than due: the lead pays for it, the caller hears no hole."""
    audio = ramp(3.0)
    number = rig.session.begin()
    fed = 0

    def feed(now: float) -> None:
        nonlocal fed
        # 100 ms first, then in lumps of 60 ms, just before the lead would be used up.
        allowed = 0.1 + max(0.0, now - begun - 0.08 + 1e-6) // 0.06 * 0.06
        while fed < len(audio) and fed / 32_000 + 0.02 <= allowed + 1e-6:
            rig.session.write(number, audio[fed : fed + 640], now)
            fed += 640

    begun = rig.now
    rig.run(4.0, feed)
    rig.session.end(number)
    rig.run(1.0)
    assert rig.speech() == audio
    assert rig.session.stats.underruns == rig.session.stats.late == 0
    assert rig.session.stats.lead_ms_mean < 100
    assert rig.far.holes == 0


def test_a_writer_that_is_too_slow_leaves_counted_holes_without_clicks(rig: Rig) -> None:
    number = rig.session.begin()
    loud = np.full(1_600 * 2, 20_000, dtype="<i2").tobytes()
    rig.session.write(number, loud, rig.now)
    rig.run(1.0)
    rig.session.write(number, loud, rig.now)
    rig.session.end(number)
    rig.run(1.0)
    stats = rig.session.stats
    assert stats.underruns == 1
    samples = np.frombuffer(rig.far.audio, "<i2").astype(int)
    # Out of and into the hole by fades; the utterance's own start and end are its own.
    jumps = np.flatnonzero(np.abs(np.diff(samples)) > 2_000)
    assert len(jumps) == 2
    assert samples[jumps[0] + 1] == samples[jumps[1]] == 20_000
    assert np.count_nonzero(samples) == pytest.approx(6_400, abs=4)
    assert [event.playback.heard_ms for _, event in rig.finished] == [400]
    assert stats.late == 0


def test_a_live_stream_pauses_without_end_and_lets_others_speak(rig: Rig) -> None:
    stream = rig.session.begin(live=True)
    first, prompt, second = ramp(0.3), ramp(0.3, 5_000), ramp(0.3, 9_000)
    rig.session.write(stream, first, rig.now)
    rig.say(prompt)
    rig.run(1.5)
    rig.session.write(stream, second, rig.now)
    rig.run(2.0)
    assert len(rig.finished) == 1
    assert rig.session.stats.underruns == 0
    assert rig.session.playback(stream, rig.now) == Playback(600, 600, interrupted=False)
    rig.session.end(stream)
    rig.run(0.1)
    assert [event.utterance for _, event in rig.finished][1:] == [stream]
    voiced = np.frombuffer(rig.far.audio, "<i2")
    assert np.count_nonzero(voiced) == pytest.approx(0.9 * 16_000, abs=6)


def test_speaking_tells_who_speaks_and_whether_it_may_be_cut(rig: Rig) -> None:
    assert rig.session.speaking() is None
    number = rig.session.begin(interruptible=False)
    rig.session.write(number, ramp(1.0), rig.now)
    rig.run(0.1)
    assert rig.session.speaking() == (number, False)
    rig.session.stop(number, rig.now)
    assert rig.session.speaking() is None


# Stopping.


def test_stop_silences_within_the_lead_with_a_fade_and_tells_what_is_beyond_recall(
    rig: Rig,
) -> None:
    number = rig.say(ramp(5.0), text="one two three four five six seven eight nine ten")
    rig.run(1.01)
    stopped_at = rig.now
    rig.session.stop(number, rig.now)
    rig.session.stop(number, rig.now)
    rig.flush()
    [(at, event)] = rig.finished
    assert at == stopped_at
    rig.run(1.0)
    assert len(rig.finished) == 1
    spoken = np.frombuffer(rig.speech(), "<i2").astype(int)
    last_played = rig.far.until
    for start, message in rig.far.messages:
        if any(message):
            last_played = start + (np.flatnonzero(np.frombuffer(message, "<i2"))[-1] + 1) / 16_000
    assert last_played - stopped_at <= 0.120 + 0.008 + 1e-6
    # heard_ms is what the caller has heard when all of that has been played.
    assert abs(event.playback.heard_ms - len(spoken) / 16) <= 1
    assert event.playback.total_ms == 5_000
    assert event.playback.interrupted
    assert event.playback.heard_text == "one two"
    # The fade: bit-exact before it, down to zero in it.
    exact = np.frombuffer(ramp(5.0), "<i2").astype(int)
    body = len(spoken) - FADE
    assert (spoken[: body - 8] == exact[: body - 8]).all()
    assert abs(spoken[-1]) < 40


def test_stop_before_the_first_message_says_nothing(rig: Rig) -> None:
    number = rig.session.begin()
    rig.session.write(number, ramp(0.05), rig.now)
    rig.session.stop(number, rig.now)
    rig.run(0.5)
    assert rig.speech() == b""
    assert [event.playback for _, event in rig.finished] == [Playback(0, 50, interrupted=True)]


def test_stop_of_what_was_wholly_sent_interrupts_nothing(rig: Rig) -> None:
    number = rig.say(ramp(0.3))
    rig.run(0.4)
    rig.session.stop(number, rig.now)
    rig.run(0.5)
    assert [event.playback for _, event in rig.finished] == [Playback(300, 300, interrupted=False)]


def test_the_next_utterance_follows_a_stopped_one_at_once(rig: Rig) -> None:
    first = rig.say(np.full(80_000, 5_000, dtype="<i2").tobytes())
    rig.run(1.0)
    rig.session.stop(first, rig.now)
    answer = np.full(8_000, -9_000, dtype="<i2").tobytes()
    rig.say(answer)
    rig.run(2.0)
    samples = np.frombuffer(rig.speech(), "<i2").astype(int)
    assert (samples[-8_000:] == -9_000).all()
    assert samples[-8_001] == 0  # the fade's end
    assert samples[-8_001 - FADE] == 5_000


def test_stop_all_stops_what_waits_too(rig: Rig) -> None:
    numbers = [rig.say(ramp(1.0)), rig.say(ramp(1.0)), rig.session.begin(live=True)]
    rig.run(0.5)
    rig.session.stop_all(rig.now)
    rig.run(1.0)
    assert [event.utterance for _, event in rig.finished] == numbers
    assert [event.playback.interrupted for _, event in rig.finished] == [True] * 3
    assert not any(b"".join(message for _, message in rig.far.messages[-10:]))


def test_what_is_written_after_a_stop_is_dropped_and_after_an_end_refused(rig: Rig) -> None:
    number = rig.session.begin()
    rig.session.stop(number, rig.now)
    rig.session.write(number, ramp(1.0), rig.now)
    rig.session.end(number)
    rig.run(0.5)
    assert rig.speech() == b""
    ended = rig.say(ramp(0.1))
    with pytest.raises(CallStateError):
        rig.session.write(ended, ramp(0.1), rig.now)


def test_wrong_use_is_refused_and_changes_nothing(rig: Rig) -> None:
    number = rig.session.begin()
    with pytest.raises(AudioError):
        rig.session.write(number, b"\0", rig.now)
    with pytest.raises(ValueError, match="even"):
        rig.session.write(number, b"\0\0\0", rig.now)
    with pytest.raises(CallStateError):
        rig.session.write(number + 1, b"", rig.now)
    with pytest.raises(CallStateError):
        rig.session.playback(0, rig.now)
    with pytest.raises(CallStateError, match="300 s"):
        rig.session.write(number, bytes(2 * 16_000 * 301), rig.now)
    assert rig.session.ahead_ms(number) == 0
    for _ in range(255):
        rig.session.begin()
    with pytest.raises(CallStateError):
        rig.session.begin()
