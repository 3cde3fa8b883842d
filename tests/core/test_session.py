from __future__ import annotations

import ast
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import voicebridge.core
from tests.core.rig import TICK, FarEnd, Rig, ramp
from voicebridge.core.events import Playback
from voicebridge.core.session import MediaConfig, MediaSession
from voicebridge.core.stats import Histogram
from voicebridge.errors import ConfigError


@pytest.mark.parametrize("inbound_ms", [20, 60, 120])
@pytest.mark.parametrize("jitter", [0.0, 0.040])
@pytest.mark.parametrize("wire_frame_ms", [20, 60])
def test_a_five_minute_echo_is_bit_exact_without_drift(
    inbound_ms: int, jitter: float, wire_frame_ms: int
) -> None:
    """The pure loop: 15,000 ticks, audio in jittery messages, each frame said as it is heard."""
    config = MediaConfig(wire_frame_ms=wire_frame_ms)
    session = MediaSession(config, 0.0)
    session.opened(0.0)
    stream = session.begin(live=True)
    chance = random.Random(7)
    size = inbound_ms * 32
    total = 300_000 // inbound_ms
    audio = np.random.default_rng(7).integers(1, 23_000, total * size // 2).astype("<i2").tobytes()
    period = inbound_ms / 1000
    arrivals = [0.1 + index * period + chance.random() * jitter for index in range(total)]
    sent = [*session.to_send()]
    at = 0
    for step in range(1, 15_000 + 60):
        now = step * TICK
        while at < total and arrivals[at] <= now:
            session.receive(audio[at * size : (at + 1) * size], arrivals[at])
            at += 1
            for frame in session.heard():
                session.write(stream, frame, now)
        session.tick(now)
        sent += session.to_send()
        if session.ping_due(now) and not jitter and at < total:
            session.pong(now)
    out = np.frombuffer(b"".join(sent), "<i2")
    voiced = np.flatnonzero(out)
    assert out[voiced[0] : voiced[-1] + 1].tobytes() == audio  # contiguous, bit-exact
    assert {len(message) for message in sent} == {wire_frame_ms * 32}
    stats = session.stats
    assert stats.lost == stats.underruns == stats.resyncs == stats.late == 0
    assert stats.filled_frames <= 2  # before the first message
    assert stats.frames_received == total
    assert stats.bytes_received == len(audio)
    assert stats.frames_heard == 15_000 + stats.filled_frames
    # Drift 0: as many messages as the clock asks for, plus what is ahead of it.
    clock_ms = (15_000 + 59) * 20
    assert 0 <= len(sent) * wire_frame_ms - clock_ms <= wire_frame_ms + 60
    assert stats.lead_ms_max <= wire_frame_ms + 60 + 1e-6
    assert stats.lateness.max_ms < 1e-3
    assert session.playback(stream, now + 1.0).heard_ms == 300_000 + stats.filled_frames * 20


def test_a_stall_of_the_caller_reaches_the_echo_whole() -> None:
    rig = Rig()
    rig.open()
    stream = rig.session.begin(live=True)
    audio = ramp(6.0)
    for index in range(100):
        # Nothing for 650 ms, then the backlog at once.
        if not 30 <= index < 41:
            batch = range(30, 42) if index == 41 else (index,)
            for each in batch:
                rig.session.receive(audio[each * 1920 : (each + 1) * 1920], rig.now)
            for frame in rig.session.heard():
                rig.session.write(stream, frame, rig.now)
        for _ in range(3):
            rig.tick()
    rig.run(2.0)
    said = np.frombuffer(rig.far.audio, "<i2").astype(int)
    spoken = said[said != 0]
    original = np.frombuffer(audio, "<i2").astype(int)
    assert spoken.size == pytest.approx(original.size, abs=2)
    # All but the fades of 5 ms around the one hole is untouched.
    if spoken.size == original.size:
        assert np.count_nonzero(spoken != original) <= 160
    assert rig.session.stats.underruns == 1
    assert rig.session.stats.stalls == 1


# Reconnecting.


def test_what_was_sent_and_not_played_is_said_again_and_no_more_than_that() -> None:
    rig = Rig()
    rig.open()
    audio = ramp(4.0)
    number = rig.say(audio)
    rig.run(1.5)
    lost_at = rig.now
    rig.lose()
    heard = np.count_nonzero(np.frombuffer(rig.far.played_by(lost_at), "<i2"))
    before = rig.far
    rig.run(2.0)
    assert rig.far.messages == before.messages
    assert rig.session.playback(number, rig.now).heard_ms == heard // 16
    rig.far = FarEnd()
    rig.open()
    assert len(rig.far.messages) == 2
    rig.run(5.0)
    again = rig.speech()
    rest = audio[heard * 2 :]
    # It joins to the sample, under a fade-in of 5 ms.
    assert again[160:] == rest[len(rest) - len(again) + 160 :]
    assert abs(len(again) - len(rest)) <= 4
    assert 0 < rig.session.stats.replayed_samples <= 1_920
    assert [event.playback for _, event in rig.finished] == [
        Playback(4_000, 4_000, interrupted=False)
    ]
    assert rig.session.stats.lost == 0


def test_an_utterance_that_was_wholly_sent_is_not_finished_by_a_lost_socket() -> None:
    rig = Rig()
    rig.open()
    rig.say(ramp(0.30))
    rig.say(ramp(0.30, 7_000))
    rig.run(0.5)
    rig.lose()
    assert rig.finished == []
    rig.run(1.0)
    assert [event.playback.heard_ms for _, event in rig.finished] == [300]
    rig.open()
    rig.run(1.0)
    assert [event.playback.heard_ms for _, event in rig.finished] == [300, 300]


def test_speech_waits_while_there_is_no_socket_and_may_be_stopped() -> None:
    rig = Rig()
    first = rig.say(ramp(0.5))
    second = rig.say(ramp(0.5, 4_000))
    rig.run(3.0)
    rig.session.stop(first, rig.now)
    rig.open()
    rig.run(2.0)
    assert rig.speech() == ramp(0.5, 4_000)
    assert [(event.utterance, event.playback.heard_ms) for _, event in rig.finished] == [
        (first, 0),
        (second, 500),
    ]


def test_a_stopped_utterance_is_not_said_again_after_a_lost_socket() -> None:
    rig = Rig()
    rig.open()
    number = rig.say(ramp(4.0))
    rig.run(1.0)
    rig.session.stop(number, rig.now)
    rig.lose()
    rig.far = FarEnd()
    rig.open()
    rig.run(1.0)
    assert rig.speech() == b""
    assert len(rig.finished) == 1


def test_losing_twice_or_before_opening_is_harmless() -> None:
    rig = Rig()
    rig.lose()
    rig.open()
    rig.say(ramp(1.0))
    rig.run(0.5)
    rig.lose()
    rig.lose()
    rig.session.unsend([bytes(1920)])
    rig.open()
    rig.run(2.0)
    assert [event.playback.heard_ms for _, event in rig.finished] == [1_000]


def test_messages_that_were_never_drained_are_not_lost_with_the_socket() -> None:
    rig = Rig()
    audio = ramp(1.0)
    rig.say(audio)
    rig.session.opened(rig.now)
    rig.session.lost(rig.now)
    assert rig.session.to_send() == []
    assert rig.session.stats.frames_sent == 0
    rig.open()
    rig.run(2.0)
    assert rig.speech().endswith(audio[160:])


# A clogged link.


def test_a_clogged_link_keeps_the_audio_ours_and_in_order() -> None:
    rig = Rig()
    rig.open()
    audio = ramp(3.0)
    number = rig.say(audio)
    rig.run(1.0)
    rig.clogged = True
    rig.run(0.8)
    held = rig.session.ahead_ms(number)
    assert held >= 3_000 - 1_120
    rig.clogged = False
    rig.run(4.0)
    assert rig.speech() == audio
    stats = rig.session.stats
    assert stats.clogged > 0
    assert stats.resyncs == 1  # one hole, however often it was tried
    assert stats.late == 0  # the link's fault, not ours
    assert stats.lead_ms_max <= 120.001  # a stall buys no lead
    assert stats.frames_sent == stats.lead.count == len(rig.far.messages)
    assert stats.lost == 0
    assert [event.playback.heard_ms for _, event in rig.finished] == [3_000]


def test_a_stop_while_clogged_leaves_nothing_to_come_out_later() -> None:
    rig = Rig()
    rig.open()
    number = rig.say(ramp(3.0))
    rig.run(1.0)
    rig.clogged = True
    rig.run(0.5)
    sent = len(rig.far.messages)
    rig.session.stop(number, rig.now)
    rig.clogged = False
    rig.run(1.0)
    tail = b"".join(message for _, message in rig.far.messages[sent:])
    assert np.count_nonzero(np.frombuffer(tail, "<i2")) <= 128
    [(_, event)] = rig.finished
    assert abs(event.playback.heard_ms - len(rig.speech()) / 32) <= 1


def test_half_of_the_messages_may_go_back() -> None:
    session = MediaSession(MediaConfig(), 0.0)
    number = session.begin()
    session.write(number, ramp(1.0), 0.0)
    session.end(number)
    session.opened(0.0)
    first, second = session.to_send()
    session.unsend([second])
    assert session.stats.frames_sent == 1
    assert session.ahead_ms(number) == 940
    session.tick(0.02)
    assert session.to_send() == [second]
    assert first + second == ramp(1.0)[:3840]


# The end of a call, time, configuration.


def test_drained_at_is_when_the_last_word_is_heard() -> None:
    rig = Rig()
    assert rig.session.drained_at() == float("-inf")
    rig.open()
    rig.say(ramp(1.0))
    guess = rig.session.drained_at()
    rig.run(0.3)
    early = rig.session.drained_at()
    rig.run(1.0)
    final = rig.session.drained_at()
    start = next(start for start, message in rig.far.messages if any(message))
    assert final == pytest.approx(start + 1.0 + 0.150)
    assert guess == pytest.approx(final, abs=0.061)
    assert early == pytest.approx(final, abs=0.001)
    rig.run(1.0)
    assert rig.session.drained_at() == pytest.approx(final)


def test_time_never_goes_backwards() -> None:
    rig = Rig()
    rig.open()
    number = rig.say(ramp(2.0))
    rig.run(1.0)
    heard = rig.session.playback(number, rig.now).heard_ms
    rig.session.tick(rig.now - 0.9)
    assert rig.session.to_send() == []
    assert rig.session.playback(number, rig.now - 0.9).heard_ms == heard
    rig.session.receive(bytes(1920), rig.now - 5.0)
    rig.run(0.2)
    assert rig.session.call_time_ms <= 1_260


def test_the_ear_and_the_mouth_share_one_clock_and_one_wire() -> None:
    rig = Rig()
    rig.open()
    stream = rig.session.begin(live=True)
    for _ in range(50):
        rig.session.receive(bytes([7]) * 1920, rig.now)
        for frame in rig.session.heard():
            rig.session.write(stream, frame, rig.now)
        rig.run(0.06)
    assert rig.session.call_time_ms == 3_000
    assert not rig.session.ping_due(rig.now)
    rig.run(0.2)
    assert rig.session.ping_due(rig.now)
    assert not rig.session.ping_due(rig.now)
    rig.session.pong(rig.now)
    assert len(rig.session.heard()) >= 5
    assert rig.session.call_time_ms == 3_000 + 20 * rig.session.stats.filled_frames


@pytest.mark.parametrize(
    "wrong",
    [
        {"sample_rate": 11_025},
        {"frame_ms": 0},
        {"sample_rate": 22_050, "frame_ms": 15},
        {"lead_ms": -1},
        {"lead_ms": 200},
        {"idle_fill_ms": 2_000},
        {"max_utterance_seconds": 0},
        {"limit_dbfs": 1.0},
        {"limit_dbfs": -40.0},
    ],
)
def test_a_configuration_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        MediaConfig(**wrong)


@pytest.mark.parametrize("rate", [8_000, 24_000, 48_000])
def test_other_wire_rates(rate: int) -> None:
    session = MediaSession(MediaConfig(sample_rate=rate), 0.0)
    session.opened(0.0)
    assert [len(message) for message in session.to_send()] == [rate * 60 // 1000 * 2] * 2
    session.receive(bytes(rate // 50 * 2 * 3), 0.0)
    assert [len(frame) for frame in session.heard()] == [rate // 50 * 2] * 3


def test_quantiles_of_the_histogram() -> None:
    histogram = Histogram()
    assert histogram.quantile_ms(0.99) == 0
    for value in range(100):
        histogram.add(value / 10)
    assert histogram.quantile_ms(0.5) == 5.0
    assert histogram.quantile_ms(0.9) == 9.0
    assert histogram.quantile_ms(1.0) == histogram.max_ms == 9.9
    other = Histogram()
    other.add(500.0)
    other.add(-3.0)
    histogram.merge(other)
    assert histogram.count == 102
    assert histogram.quantile_ms(1.0) == 500.0
    histogram.remove(500.0)
    assert histogram.count == 101
    assert histogram.quantile_ms(0.99) == 10.0


# Purity.

MODULES = (
    "audio config ear events lead ledger limiter pacer pause playout resample session stats "
    "utterance"
)


@pytest.mark.parametrize("module", MODULES.split())
def test_the_media_core_imports_nothing_that_knows_time_or_a_socket(module: str) -> None:
    allowed = {"__future__", "collections", "dataclasses", "functools", "math", "numpy", "typing"}
    source = Path(str(voicebridge.core.__file__)).parent / f"{module}.py"
    for node in ast.parse(source.read_text()).body:
        names = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        for name in names:
            ours = name.startswith("voicebridge.core") or name == "voicebridge.errors"
            assert ours or name.split(".")[0] in allowed, name


def test_a_call_does_not_load_what_only_files_need() -> None:
    script = "import sys, voicebridge.core.session, voicebridge.core.resample as r;"
    script += "r.Resampler(8000, 16000); sys.exit('soxr' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
