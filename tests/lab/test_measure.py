"""Figures of a call, on calls whose figures are known."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from voicebridge.lab import measure
from voicebridge.lab.measure import Samples, Segment, Spread

RATE = 16_000
SPEECH = Path(__file__).parent.parent / "speech"


def clip(name: str) -> Samples:
    samples, rate = soundfile.read(SPEECH / f"{name}.flac", dtype="int16")
    assert rate == RATE
    return np.asarray(samples, np.int16)


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE), np.int16)


@pytest.fixture(scope="module")
def spoken() -> Samples:
    parts = [silence(0.5), clip("en_hello"), silence(0.7), clip("en_agent-user"), silence(0.7)]
    return np.concatenate([*parts, clip("ru_conf-roll-callcomplete"), silence(0.5)])


def delayed(samples: Samples, lag: int) -> Samples:
    return np.concatenate((np.zeros(lag, np.int16), samples))


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("en_agent-user", [(0.06, 1.30), (1.67, 4.82)]),
        ("en_hello", [(0.10, 0.69)]),
        ("en_one-moment-please", [(0.11, 1.42)]),
        ("es_auth-thankyou", [(0.05, 0.92)]),
    ],
)
def test_speech_is_found_where_it_is_labelled(name: str, labels: list[tuple[float, float]]) -> None:
    segments = measure.speech_segments(clip(name))
    assert len(segments) == len(labels)
    for segment, (start, stop) in zip(segments, labels, strict=True):
        assert segment.start / RATE == pytest.approx(start, abs=0.08)
        assert segment.stop / RATE == pytest.approx(stop, abs=0.12)


def test_a_long_pause_does_not_hide_speech_nor_noise_become_it() -> None:
    rng = np.random.default_rng(1)
    hiss = rng.integers(-12, 13, 10 * RATE).astype(np.int16)
    assert measure.speech_segments(hiss) == ()
    hiss[4 * RATE : 4 * RATE + clip("en_hello").size] += clip("en_hello")
    assert len(measure.speech_segments(hiss)) == 1
    padded = np.concatenate((silence(20), clip("en_hello"), silence(20)))
    assert len(measure.speech_segments(padded)) == 1


@pytest.mark.parametrize("samples", [np.zeros(0, np.int16), silence(1), silence(0.003)])
def test_silence_has_no_speech(samples: Samples) -> None:
    assert measure.speech_segments(samples) == ()
    assert measure.first_voiced(samples) is None
    assert measure.echo_report(samples, samples).pieces == ()
    assert measure.echo_report(samples, samples).identical_fraction is None


@given(onset=st.integers(0, 3 * RATE))
@settings(max_examples=25, deadline=None)
def test_the_first_voiced_sample_is_exact_for_a_sound_that_starts_at_once(onset: int) -> None:
    tone = (8000 * np.cos(2 * np.pi * 440 * np.arange(RATE // 2) / RATE)).astype(np.int16)
    signal = np.concatenate((np.zeros(onset, np.int16), tone, silence(1)))
    assert measure.first_voiced(signal) == onset


@given(place=st.integers(0, 2 * RATE), gain=st.sampled_from([0.05, 0.5, 1.0]))
@settings(max_examples=15, deadline=None)
def test_a_sound_is_found_to_the_sample_at_any_level(place: int, gain: float) -> None:
    sound = clip("en_hello")[2000:9000]
    rng = np.random.default_rng(place)
    signal = rng.integers(-20, 21, 3 * RATE).astype(np.int16)
    signal[place : place + sound.size] += (gain * sound).astype(np.int16)
    match = measure.find(sound, signal)
    assert match is not None
    assert match.offset == place
    assert match.correlation > 0.9


def test_nothing_is_found_in_too_little_or_in_silence() -> None:
    sound = clip("en_hello")
    assert measure.find(sound, sound[:-1]) is None
    assert measure.find(sound, silence(2)) is None
    assert measure.find(silence(0.1), sound) is None
    assert measure.find(sound[:0], sound) is None


@given(lag=st.integers(0, 2 * RATE))
@settings(max_examples=10, deadline=None)
def test_an_echo_is_measured_to_the_sample(spoken: Samples, lag: int) -> None:
    report = measure.echo_report(spoken, delayed(spoken, lag))
    assert len(report.pieces) >= 12
    assert {piece.lag for piece in report.pieces} == {lag}
    assert report.round_trips_ms == (lag * 1000 / RATE,) * len(report.pieces)
    assert report.identical_fraction == 1.0
    assert report.lost == 0


def test_pieces_cover_all_speech_once_and_are_near_half_a_second(spoken: Samples) -> None:
    pieces = measure.echo_report(spoken, spoken).pieces
    segments = measure.speech_segments(spoken)
    assert sum(p.length for p in pieces) == sum(s.length for s in segments)
    assert all(p.start + p.length <= q.start for p, q in itertools.pairwise(pieces))
    assert all(0.3 * RATE <= p.length <= 0.75 * RATE for p in pieces)


def test_a_hole_costs_what_it_covers_and_delays_what_follows(spoken: Samples) -> None:
    lag, hole, at = 3000, 1600, 4 * RATE
    heard = np.concatenate((delayed(spoken, lag)[: at + lag], silence(0.1), spoken[at:]))
    report = measure.echo_report(spoken, heard)
    assert report.lost == 0
    assert {p.lag for p in report.pieces if p.start + p.length <= at} == {lag}
    assert {p.lag for p in report.pieces if p.start >= at} == {lag + hole}
    # Nothing was lost: the piece around the hole came back in two parts.
    assert report.identical_fraction == pytest.approx(1.0, abs=0.002)


def test_a_lost_piece_is_lost_and_lowers_the_identity(spoken: Samples) -> None:
    whole = measure.echo_report(spoken, delayed(spoken, 3000))
    gone = whole.pieces[5]
    heard = delayed(spoken, 3000)
    heard[gone.start + 3000 : gone.start + gone.length + 3000] = 0
    report = measure.echo_report(spoken, heard)
    assert report.lost == 1
    assert report.pieces[5].lag is None
    voiced = sum(piece.length for piece in whole.pieces)
    assert report.identical_fraction == pytest.approx(1 - gone.length / voiced, abs=0.001)


def test_one_changed_sample_costs_one_block(spoken: Samples) -> None:
    heard = delayed(spoken, 160)
    piece = measure.echo_report(spoken, heard).pieces[2]
    heard[piece.start + 160 + 200] ^= 1
    after = measure.echo_report(spoken, heard).pieces[2]
    assert piece.identical - after.identical == 80
    assert after.lag == 160


def test_a_quieter_copy_is_an_echo_but_not_identical(spoken: Samples) -> None:
    report = measure.echo_report(spoken, delayed(spoken // 2, 800))
    assert report.lost == 0
    assert report.identical_fraction is not None
    assert report.identical_fraction < 0.05


def test_another_voice_is_no_echo(spoken: Samples) -> None:
    other = np.concatenate([clip("it_conf-kicked"), clip("fr_auth-thankyou")] * 4)
    report = measure.echo_report(spoken, other)
    assert report.lost == len(report.pieces)
    assert report.round_trips_ms == ()
    assert report.identical_fraction == 0.0


def test_an_echo_later_than_the_search_is_lost(spoken: Samples) -> None:
    heard = delayed(spoken, RATE)
    assert measure.echo_report(spoken, heard, longest_ms=1000).lost == 0
    later = measure.echo_report(spoken, delayed(spoken, RATE + 8000), longest_ms=1000)
    assert later.lost == len(later.pieces) > 0


def test_spread() -> None:
    assert measure.spread([]) == Spread(None, None, None, None)
    assert measure.spread([7.0]) == Spread(7.0, 7.0, 7.0, 7.0)
    hundred = measure.spread(np.arange(101.0))
    assert (hundred.p50, hundred.p95, hundred.p99, hundred.max) == (50.0, 95.0, 99.0, 100.0)


def test_pacing_jitter_is_the_distance_from_the_grid() -> None:
    jitter = measure.pacing_jitter_ms([10.0, 10.060, 10.125, 10.180])
    assert jitter == pytest.approx([0.0, 5.0, 5.0], abs=1e-6)
    assert measure.pacing_jitter_ms([1.0]).size == 0
    assert measure.pacing_jitter_ms([]).size == 0


def test_level() -> None:
    assert measure.level_dbfs(np.full(100, 32767, np.int16)) == pytest.approx(0, abs=0.01)
    assert measure.level_dbfs(np.full(100, 3277, np.int16)) == pytest.approx(-20, abs=0.01)
    assert measure.level_dbfs(silence(0.1)) == -np.inf
    assert measure.level_dbfs(silence(0)) == -np.inf


def test_pesq_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(measure, "import_module", missing)
    assert measure.pesq_score(clip("en_hello"), clip("en_hello")) is None


def test_pesq_of_a_copy_is_the_best_there_is(spoken: Samples) -> None:
    pytest.importorskip("pesq")
    best = measure.pesq_score(spoken[: 5 * RATE], spoken)
    assert best == pytest.approx(4.64, abs=0.01)
    rough = (spoken[: 5 * RATE] // 2048 * 2048).astype(np.int16)
    worse = measure.pesq_score(spoken[: 5 * RATE], rough)
    assert worse is not None
    assert worse < 3
    assert measure.pesq_score(silence(1), silence(1)) is None


def test_segment_length() -> None:
    assert Segment(3, 10).length == 7
