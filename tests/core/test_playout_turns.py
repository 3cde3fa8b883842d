"""Ducking, pausing and going on: what a conversation does to what is being said."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tests.core.rig import FarEnd, Rig, ramp
from voicebridge.core.events import Playback
from voicebridge.core.pause import rewound_samples
from voicebridge.core.session import MediaConfig

RATE = 16_000
FADE = 128
"""8 ms."""

Ints = npt.NDArray[np.int64]


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.open()
    return rig


def samples(pcm: bytes) -> Ints:
    return np.frombuffer(pcm, "<i2").astype(np.int64)


def level(seconds: float, value: int = 10_000) -> bytes:
    return np.full(round(seconds * RATE), value, "<i2").tobytes()


def words(count: int, value: int = 10_000) -> bytes:
    """Words of 280 ms, each followed by 120 ms of silence; word n is louder than word n - 1."""
    return b"".join(level(0.28, value + 100 * index) + bytes(3_840) for index in range(count))


def last_voiced(far: FarEnd) -> float:
    """The instant the last sample that is not zero was played."""
    for start, message in reversed(far.messages):
        voiced = np.flatnonzero(samples(message))
        if voiced.size:
            return start + (int(voiced[-1]) + 1) / RATE
    return float("-inf")


# Ducking.


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("db", [12.0, -12.0])
def test_ducking_turns_down_what_is_cut_from_then_on_and_back_up(
    rig: Rig, live: bool, db: float
) -> None:
    rig.say(level(3.0), live=live)
    rig.run(1.0)
    ducked_at = rig.now
    rig.session.duck(db, rig.now)
    rig.run(1.0)
    rig.session.unduck(rig.now)
    rig.run(2.0)
    said = samples(rig.speech())
    low = round(10_000 * 10 ** (-12 / 20))
    assert said[0] == said[-1] == 10_000
    assert np.abs(np.diff(said)).max() < 100  # no click anywhere
    assert np.count_nonzero(said == low) == pytest.approx(RATE, abs=960 + 240)
    # The caller hears it when the lead is played, not later.
    start = next(start for start, message in rig.far.messages if any(message))
    first_low = start + int(np.flatnonzero(said < 9_900)[0]) / RATE
    assert 0 <= first_low - ducked_at <= 0.140
    assert [event.playback.heard_ms for _, event in rig.finished] == [3_000]


def test_ducking_in_silence_needs_no_ramp_and_lasts(rig: Rig) -> None:
    rig.session.duck(6.0, rig.now)
    rig.run(0.3)
    rig.say(level(0.3))
    rig.say(level(0.3))
    rig.run(1.5)
    assert set(samples(rig.speech())) == {round(10_000 * 10 ** (-6 / 20))}


def test_a_clogged_link_does_not_swallow_the_ramp(rig: Rig) -> None:
    rig.say(level(3.0))
    rig.run(1.0)
    rig.session.duck(12.0, rig.now)
    rig.clogged = True
    rig.run(0.3)
    rig.clogged = False
    rig.run(3.0)
    assert np.abs(np.diff(samples(rig.speech()))).max() < 100
    assert samples(rig.speech()).size == 3 * RATE


def test_what_is_too_loud_is_limited_and_what_is_not_passes_bit_for_bit() -> None:
    quiet, loud = ramp(2.0), level(1.0, 32_000)
    rig = Rig()
    rig.open()
    rig.say(quiet)
    rig.run(3.0)
    assert rig.speech() == quiet
    rig.say(loud)
    rig.run(2.0)
    assert np.abs(samples(rig.far.audio)).max() == 23_197
    off = Rig(MediaConfig(limit_dbfs=None))
    off.open()
    off.say(loud)
    off.run(2.0)
    assert off.speech() == loud


# Pausing.


def test_a_pause_is_heard_when_the_lead_is_played_and_keeps_the_rest(rig: Rig) -> None:
    number = rig.say(ramp(4.0), text="one two three four five six seven eight")
    rig.run(1.0)
    paused_at = rig.now
    ahead = rig.session.ahead_ms(number)
    rig.session.pause(rig.now)
    rig.session.pause(rig.now)
    assert rig.session.paused
    rig.run(2.0)
    assert last_voiced(rig.far) - paused_at <= 0.120 + 0.008 + 1e-6
    assert rig.session.ahead_ms(number) == ahead - 8
    assert rig.session.speaking() == (number, True)
    assert rig.finished == []
    said = samples(rig.speech())
    exact = samples(ramp(4.0))
    body = said.size - FADE + 1
    assert (said[:body] == exact[:body]).all()
    assert abs(said[-1]) < 60
    # What was said is heard, and no more.
    assert rig.session.playback(number, rig.now).heard_ms == pytest.approx(4_000 - ahead + 8, abs=1)
    assert rig.session.playback(number, rig.now).heard_text == "one two"


@pytest.mark.parametrize("rewind_ms", [0, 150, 400])
def test_it_goes_on_from_the_paused_sample_less_the_rewind(rig: Rig, rewind_ms: int) -> None:
    audio = ramp(4.0)  # no pause in it: the rewind is exact
    number = rig.say(audio)
    rig.run(1.0)
    stopped = (4_000 - rig.session.ahead_ms(number)) * 16
    rig.session.pause(rig.now)
    rig.run(1.0)
    heard = rig.session.playback(number, rig.now).heard_ms
    before = len(rig.far.messages)
    rig.session.resume(rig.now, rewind_ms=rewind_ms)
    assert not rig.session.paused
    seen: list[int] = []
    rig.run(5.0, lambda now: seen.append(rig.session.playback(number, now).heard_ms))
    again = samples(b"".join(message for _, message in rig.far.messages[before:]))
    again = again[np.flatnonzero(again)[0] :]
    expected = samples(audio)[stopped - rewind_ms * 16 :]
    # Under a fade-in of 5 ms, whose first sample is 0.
    assert (again[80 : expected.size - 1] == expected[81:]).all()
    assert abs(again[0]) < 40
    assert seen == sorted(seen)  # nothing is unheard again
    assert seen[0] == heard
    assert rig.session.stats.rewound_samples == FADE + rewind_ms * 16
    assert [event.playback for _, event in rig.finished] == [
        Playback(4_000, 4_000, interrupted=False)
    ]
    assert rig.session.stats.lost == rig.session.stats.underruns == 0


def test_it_goes_on_between_two_words_where_there_is_a_gap(rig: Rig) -> None:
    audio = words(10)
    rig.say(audio)
    rig.run(1.46)  # in the midst of a word: 1.44 s are sent
    rig.session.pause(rig.now)
    rig.run(1.0)
    before = len(rig.far.messages)
    rig.session.resume(rig.now)
    rig.run(5.0)
    again = samples(b"".join(message for _, message in rig.far.messages[before:]))
    again = again[np.flatnonzero(again)[0] :]
    # A whole word, at its own loudness from the first sample on: no fade bites into it.
    assert again[0] in {10_000 + 100 * index for index in range(10)}
    assert np.count_nonzero(again[:4_480] == again[0]) == 4_480
    assert again[-3_000] == 10_900 or again[np.flatnonzero(again)[-1]] == 10_900


def test_a_pause_that_was_never_sent_interrupts_nothing(rig: Rig) -> None:
    audio = ramp(2.0)
    rig.say(audio)
    rig.run(1.0)
    rig.session.pause(rig.now)
    rig.session.resume(rig.now)
    rig.run(3.0)
    assert rig.speech() == audio
    assert rig.session.stats.rewound_samples == 0
    rig.session.resume(rig.now)  # nothing is paused


def test_pausing_again_and_again_loses_no_sample_and_repeats_no_more_than_asked(rig: Rig) -> None:
    number = rig.say(ramp(3.0))
    for _ in range(12):
        rig.run(0.3)
        rig.session.pause(rig.now)
        rig.run(0.2)
        rig.session.resume(rig.now, rewind_ms=100)
    rig.run(6.0)
    assert [event.playback.heard_ms for _, event in rig.finished] == [3_000]
    assert rig.session.stats.rewound_samples <= 12 * (FADE + 1_600)
    # Undimmed, every sample of it was said.
    assert set(samples(ramp(3.0))) <= set(samples(rig.far.audio))
    assert rig.session.playback(number, rig.now).heard_ms == 3_000


def test_what_was_beyond_recall_when_paused_is_not_said_again() -> None:
    rig = Rig()
    rig.open()
    audio = ramp(1.0)
    number = rig.say(audio)
    rig.run(1.02)  # all of it is sent, and not yet heard
    assert rig.session.ahead_ms(number) == 0
    rig.session.pause(rig.now)
    rig.run(1.0)
    assert len(rig.finished) == 1
    rig.session.resume(rig.now)
    rig.run(1.0)
    assert rig.speech() == audio


def test_nobody_speaks_while_paused_and_the_order_is_kept(rig: Rig) -> None:
    first = rig.say(level(1.0, 5_000))
    rig.run(0.5)
    rig.session.pause(rig.now)
    second = rig.say(level(0.5, 9_000))
    rig.run(1.0)
    assert 9_000 not in samples(rig.far.audio)
    rig.session.resume(rig.now)
    rig.run(3.0)
    assert [event.utterance for _, event in rig.finished] == [first, second]


def test_a_live_stream_pauses_and_goes_on_with_what_came_meanwhile(rig: Rig) -> None:
    stream = rig.session.begin(live=True)
    audio = ramp(3.0)
    position = 0

    def feed(now: float) -> None:
        nonlocal position
        rig.session.write(stream, audio[position : position + 640], now)
        position += 640

    rig.run(1.0, feed)
    rig.session.pause(rig.now)
    rig.run(0.4, feed)
    rig.session.resume(rig.now)
    rig.run(1.6, feed)
    rig.run(3.0)
    assert rig.session.playback(stream, rig.now).heard_ms == 3_000
    said = samples(rig.far.audio)
    assert set(samples(audio)) <= set(said)
    assert rig.session.stats.underruns == 0


@pytest.mark.parametrize("after", [0.0, 0.3])
def test_a_stop_ends_the_pause_and_counts_what_the_caller_has_heard(rig: Rig, after: float) -> None:
    number = rig.say(ramp(4.0))
    rig.run(1.0)
    rig.session.pause(rig.now)
    rig.run(after)
    rig.session.stop(number, rig.now)
    assert not rig.session.paused
    rig.flush()
    [(_, event)] = rig.finished
    answer = rig.say(level(0.5, 700))
    rig.run(2.0)
    said = samples(rig.far.audio)
    heard = np.flatnonzero((said != 0) & (said != 700))
    assert abs(event.playback.heard_ms - heard.size / 16) <= 1
    assert event.playback.interrupted
    assert np.count_nonzero(said == 700) >= 7_990
    assert [event.utterance for _, event in rig.finished] == [number, answer]


def test_a_stop_right_after_a_rewind_does_not_unhear(rig: Rig) -> None:
    number = rig.say(ramp(4.0))
    rig.run(1.0)
    rig.session.pause(rig.now)
    rig.run(1.0)
    heard = rig.session.playback(number, rig.now).heard_ms
    rig.session.resume(rig.now, rewind_ms=300)
    rig.tick()
    rig.session.stop(number, rig.now)
    rig.flush()
    assert rig.finished[0][1].playback.heard_ms == heard
    assert rig.session.stats.lost == 0


def test_stop_all_ends_a_pause_in_silence(rig: Rig) -> None:
    rig.session.pause(rig.now)
    rig.run(0.5)
    rig.session.stop_all(rig.now)
    rig.say(ramp(0.5))
    rig.run(1.0)
    assert rig.speech() == ramp(0.5)


def test_a_clogged_link_gets_the_fade_when_it_takes_something_again(rig: Rig) -> None:
    rig.say(level(4.0))
    rig.run(1.0)
    rig.session.pause(rig.now)
    rig.clogged = True
    rig.run(0.06)
    rig.clogged = False
    rig.run(1.0)
    said = samples(rig.far.audio)
    assert np.abs(np.diff(said[np.flatnonzero(said)[0] :])).max() < 200
    rig.session.resume(rig.now)
    rig.run(5.0)
    assert [event.playback.heard_ms for _, event in rig.finished] == [4_000]


def test_a_far_end_that_is_silent_already_gets_no_fade(rig: Rig) -> None:
    rig.say(level(4.0))
    rig.run(1.0)
    sent = len(rig.far.messages)
    rig.clogged = True
    rig.run(0.4)
    rig.session.pause(rig.now)
    rig.run(0.1)
    rig.clogged = False
    rig.run(1.0)
    assert not any(b"".join(message for _, message in rig.far.messages[sent:]))


@pytest.mark.parametrize("lose_after", [0.0, 0.04, 0.5])
def test_a_lost_socket_does_not_end_a_pause_and_loses_nothing(rig: Rig, lose_after: float) -> None:
    audio = ramp(4.0)
    number = rig.say(audio)
    rig.run(1.0)
    rig.session.pause(rig.now)
    rig.run(lose_after)
    rig.lose()
    first = samples(rig.far.played_by(rig.now))
    rig.run(1.0)
    rig.far = FarEnd()
    rig.open()
    rig.run(1.0)
    assert rig.speech() == b""
    assert rig.session.paused
    rig.session.resume(rig.now, rewind_ms=100)
    rig.run(6.0)
    undimmed = set(first) | set(samples(rig.far.audio))
    assert set(samples(audio)[81:]) <= undimmed | set(samples(audio)[:81])
    assert [event.playback.heard_ms for _, event in rig.finished] == [4_000]
    assert rig.session.playback(number, rig.now).heard_ms == 4_000


@pytest.mark.parametrize("ticks", range(8))
def test_a_socket_lost_right_after_a_rewind_says_nothing_twice(rig: Rig, ticks: int) -> None:
    """What was rewound while it was still to be played is under way twice when it is lost."""
    audio = ramp(4.0)
    number = rig.say(audio)
    rig.run(1.0)
    rig.session.pause(rig.now)
    rig.run(0.06)
    rig.session.resume(rig.now, rewind_ms=300)
    rig.run(ticks * 0.02)
    rig.lose()
    heard = samples(rig.far.played_by(rig.now))
    rig.far = FarEnd()
    rig.open()
    before = rig.session.ahead_ms(number)
    rig.run(6.0)
    again = samples(rig.speech())
    first = int(np.flatnonzero(samples(audio) == again[200])[0]) - 200
    assert (again[80:] == samples(audio)[first + 80 :]).all()
    assert first <= np.count_nonzero(heard)
    assert before <= 4_000 - first / 16
    assert [event.playback.heard_ms for _, event in rig.finished] == [4_000]


# Where to go on.


def test_the_quietest_place_is_taken_only_if_it_is_quiet() -> None:
    noise = np.random.default_rng(3).normal(0, 4_000, RATE // 2).astype("<i2")
    assert rewound_samples(noise.tobytes(), 2_400, RATE) == 2_400
    quiet = noise.copy()
    quiet[4_200:4_400] = 0  # 3,800 to 3,600 before the end: within 100 ms of 2,400 + 1,400
    assert rewound_samples(quiet.tobytes(), 2_400, RATE) == pytest.approx(3_780, abs=40)
    assert rewound_samples(b"", 2_400, RATE) == 0
    assert rewound_samples(bytes(320), 2_400, RATE) == 160
    assert rewound_samples(quiet.tobytes(), 0, RATE) == 0


def test_of_much_silence_the_nearest_is_taken() -> None:
    audio = np.full(8_000, 5_000, "<i2")
    audio[5_000:6_500] = 0
    assert rewound_samples(audio.tobytes(), 2_400, RATE) == 2_400
    audio[5_500:6_500] = 5_000
    # 5,000 to 5,500 is silent; the last whole 10 ms of it begin at 5,340.
    assert rewound_samples(audio.tobytes(), 2_400, RATE) == pytest.approx(8_000 - 5_340, abs=16)
