"""`report.json`: its keys, what they mean, and when a call is not good."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import voicebridge
from tests.lab.calls import LAG, RATE, clip, echoed_call, with_far
from voicebridge.lab.record import CallRecord, FarFigures
from voicebridge.lab.report import DemoReport, examine

KEYS = {
    "version": None,
    "bot": None,
    "calls": None,
    "answer_ms": None,
    "first_audio_ms": None,
    "round_trip_ms": ["p50", "p95", "p99", "max"],
    "frames": ["sent", "received", "late", "lost"],
    "pacing_jitter_ms": ["p50", "p99"],
    "lead_ms": ["mean", "max"],
    "bargein_stop_ms": ["p50", "p95"],
    "pesq": None,
    "cpu_ms_per_call_second": None,
    "rss_mib_per_call": None,
    "ok": None,
    "problems": None,
}


@pytest.fixture(scope="module")
def record() -> CallRecord:
    return echoed_call()


@pytest.mark.parametrize("measured", [True, False])
def test_the_keys_are_the_contract(record: CallRecord, measured: bool) -> None:
    report = examine(record).report if measured else DemoReport(bot="echo")
    values = json.loads(report.to_json())
    assert list(values) == list(KEYS)
    for key, inner in KEYS.items():
        if inner is not None:
            assert list(values[key]) == inner
    assert values["version"] == voicebridge.__version__
    assert values["calls"] == 1


def test_a_good_call(record: CallRecord) -> None:
    report = examine(record).report
    assert report.ok
    assert report.problems == ()
    values = report.as_dict()
    assert values["answer_ms"] == pytest.approx(20, abs=0.01)
    assert values["round_trip_ms"] == {"p50": 200, "p95": 200, "p99": 200, "max": 200}
    assert values["frames"] == {"sent": 106, "received": 104, "late": 0, "lost": 0}
    assert values["lead_ms"] == {"mean": 118.0, "max": 120.0}
    assert values["bargein_stop_ms"] == {"p50": None, "p95": None}
    assert values["cpu_ms_per_call_second"] == 2.346
    assert report.pacing_jitter_ms.p99 == pytest.approx(0, abs=1e-6)
    # webhook + 320 ms connected + 500 ms silence + 60 ms into the clip + 200 ms echo
    assert report.first_audio_ms == pytest.approx(1080, abs=30)


def test_the_first_word_counts_from_the_first_voiced_sample(record: CallRecord) -> None:
    found = examine(record)
    assert found.first_spoken is not None
    assert found.first_heard is not None
    assert found.first_heard - found.first_spoken == LAG


def test_pesq_of_an_unchanged_echo_is_perfect(record: CallRecord) -> None:
    pytest.importorskip("pesq")
    assert examine(record).report.pesq == pytest.approx(4.64, abs=0.01)


def problems_of(record: CallRecord) -> str:
    report = examine(record).report
    assert report.ok == (not report.problems)
    return "; ".join(report.problems)


def test_a_call_that_was_never_connected(record: CallRecord) -> None:
    nothing = np.zeros(0, np.int16)
    dead = replace(record, connected_at=None, answered_at=None, status="MISSED", spoken=nothing,
                   heard=nothing, far=FarFigures())  # fmt: skip
    assert problems_of(dead) == "the call was never connected; its last status is MISSED"
    report = examine(dead).report
    assert report.answer_ms is None
    assert report.first_audio_ms is None


def test_silence_and_half_an_echo_are_told_apart(record: CallRecord) -> None:
    silent = replace(record, heard=np.zeros_like(record.heard))
    assert problems_of(silent) == "the caller never heard the bot"
    half = record.heard.copy()
    half[half.size // 2 :] = 0
    text = problems_of(replace(record, heard=half))
    assert "pieces of speech never came back" in text
    assert "of the caller's voice came back unchanged" in text


def test_an_echo_that_comes_late_or_changed(record: CallRecord) -> None:
    late = np.concatenate((np.zeros(RATE, np.int16), record.spoken))
    assert "came back after 1000 ms" in problems_of(replace(record, heard=late))
    assert "only 0.0%" in problems_of(replace(record, heard=record.heard // 2))


def test_a_bot_that_is_no_echo_need_not_repeat(record: CallRecord) -> None:
    other = np.concatenate((record.spoken[:RATE] * 0, clip("ru_conf-roll-callcomplete")))
    report = examine(replace(record, bot="my_bot.py:Concierge", heard=other)).report
    assert report.ok
    assert report.round_trip_ms.p50 is None
    assert report.pesq is None
    assert "never came back" in problems_of(replace(record, bot="x.py:EchoBot", heard=other))


@pytest.mark.parametrize(
    ("far", "words"),
    [
        (FarFigures(rule_breaks=(("text messages", 2), ("odd messages", 0))), "2 text messages"),
        (FarFigures(holes=3, hole_ms=180.0), "ran dry 3 times, 180 ms in all"),
        (FarFigures(holes=1, hole_ms=60.0), ""),
        (FarFigures(overflow_ms=40.0), "40 ms of audio came too fast"),
    ],
)
def test_what_the_far_end_complains_of(record: CallRecord, far: FarFigures, words: str) -> None:
    problems = problems_of(with_far(record, far))
    assert (words in problems) if words else not problems


def test_what_the_bridge_admits(record: CallRecord) -> None:
    assert "7 samples" in problems_of(replace(record, bridge=replace(record.bridge, lost=7)))
    assert problems_of(replace(record, bridge=replace(record.bridge, late=5))) == ""
    assert "6 of 106" in problems_of(replace(record, bridge=replace(record.bridge, late=6)))
    assert "ended as FAILED" in problems_of(replace(record, status="FAILED"))


def test_jitter_leaves_out_the_lead_that_is_sent_at_once(record: CallRecord) -> None:
    burst = (1000.0, 1000.001, 1000.002, *record.far.arrivals)
    bridge = replace(record, far=replace(record.far, arrivals=burst))
    assert examine(bridge).report.pacing_jitter_ms.p99 == pytest.approx(0, abs=1e-6)
    assert examine(replace(record, far=FarFigures())).report.pacing_jitter_ms.p50 is None


def test_both_tracks_start_at_the_webhook_and_end_together(record: CallRecord) -> None:
    caller, bot = replace(record, heard=record.heard[:-500]).tracks()
    assert caller.size == bot.size == round(0.32 * RATE) + record.spoken.size
    assert not caller[: round(0.32 * RATE)].any()
    assert np.array_equal(caller[round(0.32 * RATE) :], record.spoken)
    caller, bot = replace(record, spoken=record.spoken[:-500]).tracks()
    assert caller.size == bot.size
    assert np.array_equal(bot[round(0.32 * RATE) :], record.heard)
