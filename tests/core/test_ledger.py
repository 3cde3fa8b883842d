from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.rig import Rig, ramp
from voicebridge.core.config import MediaConfig
from voicebridge.core.utterance import Utterance


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.open()
    return rig


# What was heard.


def test_heard_follows_the_far_end_to_the_millisecond(rig: Rig) -> None:
    number = rig.say(ramp(2.0))
    for _ in range(120):
        rig.tick()
        played = np.count_nonzero(np.frombuffer(rig.far.played_by(rig.now - 0.150), "<i2"))
        assert abs(rig.session.playback(number, rig.now).heard_ms - played // 16) <= 1
    assert rig.session.playback(number, rig.now).heard_ms == 2_000


def test_text_given_with_audio_is_placed_exactly(rig: Rig) -> None:
    number = rig.session.begin()
    for text, seconds in (("Good morning.", 1.0), ("How are you", 0.4), (" today?", 0.4)):
        rig.session.write(number, ramp(seconds / 2), rig.now, text=text)
        rig.session.write(number, ramp(seconds / 2), rig.now)
    rig.session.end(number)
    said: dict[int, str | None] = {}
    for _ in range(120):
        rig.tick()
        playback = rig.session.playback(number, rig.now)
        said[playback.heard_ms // 100] = playback.heard_text
    assert said[0] == ""
    assert said[5] == "Good"
    assert said[10] == "Good morning."
    assert said[13] == "Good morning. How are"
    assert said[14] == "Good morning. How are you"
    assert said[18] == "Good morning. How are you today?"


def test_text_without_audio_belongs_to_the_next_audio_or_the_last() -> None:
    utterance = Utterance(1, text=None, interruptible=True, live=False)
    utterance.feed(b"", "one ", 0.0)
    utterance.feed(bytes(320), None, 0.0)
    utterance.feed(b"", "two ", 0.0)
    utterance.feed(bytes(320), "three", 0.0)
    utterance.feed(b"", " four", 0.0)
    assert utterance.playback(160, 16_000).heard_text == "one"
    assert utterance.playback(320, 16_000).heard_text == "one two three"
    utterance.ended = True
    assert utterance.playback(320, 16_000).heard_text == "one two three four"


def test_an_announced_text_is_not_claimed_before_its_audio_is_there() -> None:
    text = "a sentence of a certain length"  # about two seconds of speech
    utterance = Utterance(1, text=text, interruptible=True, live=False)
    utterance.feed(bytes(2 * 8_000), None, 0.0)
    assert utterance.playback(8_000, 16_000).heard_text == "a"
    utterance.ended = True
    assert utterance.playback(8_000, 16_000).heard_text == text


def test_a_script_without_spaces_is_cut_between_characters() -> None:
    utterance = Utterance(1, text="今日はとても良い天気です", interruptible=True, live=False)
    utterance.feed(bytes(2 * 12_000), None, 0.0)
    utterance.ended = True
    assert utterance.playback(6_000, 16_000).heard_text == "今日はとても"


# The ledger, under anything.


@given(st.lists(st.integers(1, 900), max_size=30), st.lists(st.integers(1, 700), max_size=60))
def test_an_utterance_gives_out_what_it_took_in(writes: list[int], takes: list[int]) -> None:
    utterance = Utterance(1, text=None, interruptible=True, live=False)
    audio = ramp(sum(writes) / 16_000)
    at = 0
    for samples in writes:
        utterance.feed(audio[at : at + samples * 2], None, 0.0)
        at += samples * 2
    out = b""
    for index, samples in enumerate(takes):
        taken = utterance.take(min(samples, utterance.queued))
        if index % 3 == 2:
            utterance.give_back(taken, utterance.sent - len(taken) // 2)
        else:
            out += taken
        assert utterance.sent + utterance.queued + utterance.flushed == utterance.written
        assert utterance.sent == len(out) // 2
    assert out + utterance.take(utterance.queued) == audio


OPS = st.one_of(
    st.tuples(st.just("begin"), st.booleans()),
    st.tuples(st.just("write"), st.integers(0, 4_000)),
    st.tuples(st.just("tick"), st.sampled_from([0.02, 0.02, 0.02, 0.02, 0.005, 0.035, 0.3])),
    st.tuples(st.sampled_from(["end", "stop"]), st.integers(0, 5)),
    st.tuples(st.sampled_from(["lose", "open", "clog", "unclog", "stop_all"]), st.none()),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(OPS, max_size=120), st.sampled_from([0, 60, 150]))
def test_every_sample_is_accounted_for_whatever_happens(
    ops: list[tuple[str, object]], path_delay_ms: int
) -> None:
    rig = Rig(MediaConfig(path_delay_ms=path_delay_ms))
    rig.open()
    known: list[Utterance] = []
    heard: dict[int, int] = {}
    for name, value in ops:
        numbers = [utterance.number for utterance in known]
        match name, value:
            case "begin", bool(live):
                number = rig.session.begin(live=live)
                known.append(rig.session._playout._open_utterances[number])
            case "write", int(samples) if known and not known[-1].ended:
                rig.session.write(numbers[-1], b"\x11\x22" * samples, rig.now)
            case "tick", float(seconds):
                rig.tick(seconds)
            case "end", int(index) if index < len(numbers):
                rig.session.end(numbers[index])
            case "stop", int(index) if index < len(numbers):
                rig.session.stop(numbers[index], rig.now)
            case "stop_all", None:
                rig.session.stop_all(rig.now)
            case "lose", None:
                rig.lose()
            case "open", None:
                rig.lose()
                rig.open()
            case "clog" | "unclog", None:
                rig.clogged = name == "clog"
        for utterance in known:
            assert utterance.sent + utterance.queued + utterance.flushed == utterance.written
            assert 0 <= utterance.heard <= utterance.sent
            playback = rig.session.playback(utterance.number, rig.now)
            assert heard.get(utterance.number, 0) <= playback.heard_ms <= playback.total_ms
            heard[utterance.number] = playback.heard_ms
        assert rig.session.stats.lead_ms_max <= 180
        assert rig.session.stats.frames_sent == len(rig.far.messages)
    # In the end every utterance finishes, exactly once.
    rig.clogged = False
    rig.lose()
    rig.open()
    for utterance in known:
        rig.session.end(utterance.number)
    total = sum(utterance.queued for utterance in known) / 16_000
    rig.run(total + 2.0)
    assert sorted(event.utterance for _, event in rig.finished) == [u.number for u in known]
    for utterance in known:
        assert utterance.queued == 0
        assert utterance.heard == utterance.sent
        if not utterance.flushed:
            final = rig.session.playback(utterance.number, rig.now)
            assert final.heard_ms == final.total_ms
    assert rig.session.stats.lost == 0
    assert rig.session.stats.lead.count == rig.session.stats.frames_sent
