from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.wire_source import (
    DTX,
    WAYS,
    Dtx,
    Floats,
    Messages,
    Source,
    Way,
    lay_out,
    rechunked,
    speech,
    speech_at,
)
from voicebridge.core.adapter import WireAdapter
from voicebridge.core.audio import from_float, to_samples
from voicebridge.core.config import MediaConfig
from voicebridge.core.content import Content, read_window
from voicebridge.core.format import WIRE_RATES, Decoder, Encoder, FormatDetector, WireFormat

PLAIN = WireFormat()
LAYOUTS = [
    Content(encoding, channels, big_endian)
    for encoding in ("pcm16", "float32")
    for channels in (1, 2)
    for big_endian in (False, True)
]
FORMATS = [WireFormat(rate, layout) for rate in WIRE_RATES for layout in LAYOUTS]
SECONDS = 14.0


def watch(messages: Messages, detector: FormatDetector | None = None) -> tuple[float, int, str]:
    """When it settled (infinity: never), how often it changed, what it said last."""
    detector = detector or FormatDetector(MediaConfig())
    changes = 0
    for at, data in messages:
        changes += detector.message(data, at) is not None
        if detector.settled:
            return at, changes, str(detector.format)
    return math.inf, changes, str(detector.format)


# Every format is told, behind every way.


@pytest.mark.parametrize("wire", FORMATS, ids=str)
def test_every_format_is_told_on_a_clean_way(wire: WireFormat) -> None:
    at, changes, told = watch(Source(wire).messages(speech_at(0, 8.0, wire.sample_rate)))
    assert told == str(wire)
    assert changes == (wire != PLAIN)
    assert at < 6.0


@pytest.mark.parametrize(("way", "dtx"), list(itertools.product(WAYS, DTX)))
def test_every_way_lets_the_format_through(way: Way, dtx: Dtx) -> None:
    """One in eight of the formats at each; ``benchmarks/format.py`` has all of them."""
    offset = WAYS.index(way) + DTX.index(dtx)
    for wire in FORMATS[offset % 8 :: 8]:
        source = Source(wire, frame_ms=60, way=way, dtx=dtx, seed=1)
        _, changes, told = watch(source.messages(speech_at(1, SECONDS, wire.sample_rate)))
        assert told == str(wire)
        assert changes == (wire != PLAIN)


@pytest.mark.parametrize("frame_ms", [10, 20, 30, 60, 120])
@pytest.mark.parametrize("rate", WIRE_RATES)
def test_any_message_size_will_do(frame_ms: int, rate: int) -> None:
    wire = WireFormat(rate)
    source = Source(wire, frame_ms=frame_ms, way="jitter", seed=frame_ms)
    assert watch(source.messages(speech_at(2, 12.0, rate)))[2] == str(wire)


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(FORMATS), st.integers(0, 2**32 - 1))
def test_messages_may_be_cut_anywhere(wire: WireFormat, seed: int) -> None:
    messages = Source(wire, seed=3).messages(speech_at(3, 10.0, wire.sample_rate))
    cut = rechunked(messages, np.random.default_rng(seed))
    assert watch(cut)[2] == str(wire)


@pytest.mark.parametrize("level", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("wire", [FORMATS[0], FORMATS[17], FORMATS[20], FORMATS[10]], ids=str)
def test_a_soft_voice_will_do(wire: WireFormat, level: float) -> None:
    audio = speech_at(4, SECONDS, wire.sample_rate, level)
    assert watch(Source(wire, way="jitter").messages(audio))[2] == str(wire)


# A call that is as expected is left alone.


def not_speech(seed: int) -> dict[str, Floats]:
    generator = np.random.default_rng(seed)
    t = np.arange(12 * 16_000) / 16_000
    frequency = generator.choice([50, 425, 3_999.7, 4_000, 5_333.3, 8_000])
    frequency = generator.choice([frequency, generator.uniform(20, 8_000)])
    phase = generator.choice([0.0, math.pi / 4, generator.uniform(0, 6.28)])
    tone = np.sin(2 * np.pi * frequency * t + phase)
    return {
        "silence": np.zeros(t.size),
        "comfort noise": generator.normal(0, generator.uniform(0.0001, 0.02), t.size),
        "tone": generator.choice([0.01, 0.1, 0.9, 1.2]) * tone,
        "swelling tone": 0.8 * np.abs(np.sin(t)) * tone,
        "cadence": 0.5 * np.sin(2 * np.pi * 425 * t) * (t % 1 < 0.4),
        "constant": np.full(t.size, 0.43),
        "steps": np.repeat(generator.normal(0, 0.2, t.size // 7 + 1), 7)[: t.size],
        "clicks": (generator.random(t.size) < 0.001) * 0.9,
        "rumble": np.cumsum(generator.normal(0, 1, t.size)) / 4_000,
    }


@pytest.mark.parametrize("seed", range(12))
def test_what_is_not_speech_changes_nothing(seed: int) -> None:
    source = Source(PLAIN, (20, 60)[seed % 2], WAYS[seed % 6], DTX[seed % 3], seed)
    for kind, audio in not_speech(seed).items():
        assert watch(source.messages(audio))[1:] == (0, str(PLAIN)), kind


@pytest.mark.parametrize("way", [*WAYS, "loss"])
@pytest.mark.parametrize("dtx", DTX)
def test_plain_speech_changes_nothing(way: Way, dtx: Dtx) -> None:
    for seed, level in enumerate((0.02, 0.3, 1.4)):
        source = Source(PLAIN, (20, 60)[seed % 2], way, dtx, seed)
        assert watch(source.messages(speech(seed, SECONDS, level)))[1:] == (0, str(PLAIN))


def test_half_of_the_messages_missing_is_not_half_the_rate() -> None:
    messages = Source(PLAIN).messages(speech(7, SECONDS))
    for kept in ({0}, {0, 3, 4}, {0, 2, 3}, {0, 1, 2}):
        thinned = [message for index, message in enumerate(messages) if index % 6 in kept]
        assert watch(thinned)[1:] == (0, str(PLAIN))
    generator = np.random.default_rng(1)
    at_random = [message for message in messages if generator.random() < 0.5]
    assert watch(at_random)[1:] == (0, str(PLAIN))


@settings(deadline=None, max_examples=80)
@given(
    st.lists(
        st.tuples(
            st.floats(-1, 3, allow_nan=False),
            st.one_of(
                st.binary(max_size=4_000),
                st.integers(0, 40_000).map(lambda size: b"\xff\x7f\x80\xff" * (size // 4)),
            ),
        ),
        max_size=40,
    )
)
def test_nothing_raises_and_one_change_is_the_most(steps: list[tuple[float, bytes]]) -> None:
    """Any bytes, at any times, clocks that step back included."""
    adapter = WireAdapter(MediaConfig())
    now = 0.0
    changes = 0
    for step, data in steps:
        now += step
        pcm, found = adapter.hear(data, now)
        assert len(pcm) % 2 == 0
        changes += found is not None
    assert changes <= 1


# The rules of protocol and call.


def test_a_change_comes_once_and_stays() -> None:
    detector = FormatDetector(MediaConfig())
    audio = speech_at(0, 10.0, 24_000)
    messages = Source(WireFormat(24_000)).messages(audio)
    later = [(at + 20.0, data) for at, data in Source(PLAIN).messages(speech(0, 10.0))]
    found = [detector.message(data, at) for at, data in messages + later]
    assert [each for each in found if each is not None] == [WireFormat(24_000)]


def test_a_quiet_caller_at_24_khz_is_told_before_a_word() -> None:
    hiss = np.random.default_rng(0).normal(0, 0.001, 24_000 * 8)
    at, changes, told = watch(Source(WireFormat(24_000)).messages(hiss))
    assert (changes, told) == (1, "24000 Hz mono pcm16")
    assert at < 5.0


def test_what_the_server_says_of_itself_wins() -> None:
    detector = FormatDetector(MediaConfig())
    assert detector.announced(16_000) is None
    assert detector.announced(24_000) == WireFormat(24_000)
    assert detector.announced(11_025) is None
    messages = Source(PLAIN).messages(speech(0, 10.0))
    assert watch(messages, detector)[1:] == (0, "24000 Hz mono pcm16")
    # It may come late, too.
    assert detector.announced(16_000) == PLAIN


def test_an_announced_rate_leaves_the_layout_open() -> None:
    detector = FormatDetector(MediaConfig())
    detector.announced(16_000)
    wire = WireFormat(16_000, Content("float32"))
    assert watch(Source(wire).messages(speech(0, 10.0)), detector)[2] == str(wire)


def test_a_new_socket_may_begin_anywhere() -> None:
    """The bytes of a reconnected socket are aligned afresh."""
    wire = WireFormat(24_000, Content(big_endian=True))
    messages = Source(wire).messages(speech_at(0, 10.0, 24_000))
    detector = FormatDetector(MediaConfig())
    for at, data in messages[:20]:
        detector.message(data + b"\1", at)
    detector.opened()
    assert watch([(at + 5, data) for at, data in messages], detector)[2] == str(wire)


@pytest.mark.parametrize("rate", WIRE_RATES)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_one_window_of_speech_is_read_as_what_it_is(layout: Content, rate: int) -> None:
    data = lay_out(speech_at(8, 6.0, rate), WireFormat(rate, layout))
    windows = [read_window(data[at : at + 3_840]) for at in range(0, len(data) - 3_839, 3_840)]
    votes = [each for each in windows if each is not None]
    assert len(votes) > len(windows) / 3
    assert sum(each == layout for each in votes) >= 0.95 * len(votes)


@pytest.mark.parametrize("kind", ["one silent", "unlike", "half as loud"])
def test_channels_need_not_be_equal(kind: str) -> None:
    left, other = speech(1, 6.0), speech(2, 6.0)
    right = {"one silent": np.zeros(left.size), "unlike": other, "half as loud": left / 2}[kind]
    both = np.stack([left, right], axis=1).reshape(-1)
    data = lay_out(both, PLAIN)
    votes = [read_window(data[at : at + 3_840]) for at in range(0, len(data) - 3_839, 3_840)]
    told = [each.channels for each in votes if each is not None]
    assert told.count(2) > 10 * told.count(1)


# Decoding and encoding.


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(FORMATS),
    st.lists(st.integers(0, 300), min_size=1, max_size=30),
    st.integers(0, 7),
)
def test_decoding_is_the_same_however_it_is_cut(
    wire: WireFormat, cuts: list[int], skip: int
) -> None:
    samples = np.random.default_rng(1).integers(-32768, 32768, 900).astype("<i2")
    data = Encoder(wire).encode(samples.tobytes())
    decoder = Decoder(wire, skip=skip)
    lost = bytes(skip)
    out, taken = b"", 0
    data = lost + data
    for size in cuts:
        out += decoder.decode(data[taken : taken + size])
        taken += size
    out += decoder.decode(data[taken:])
    assert out == samples.tobytes()


def test_two_channels_are_mixed_and_too_loud_is_saturated() -> None:
    stereo = WireFormat(16_000, Content(channels=2))
    assert Decoder(stereo).decode(np.array([100, 300, -32768, -32768], "<i2").tobytes()) == (
        np.array([200, -32768], "<i2").tobytes()
    )
    floats = WireFormat(16_000, Content("float32"))
    odd = np.array([1.5, -7.0, np.nan, np.inf, 1e38], "<f4").tobytes()
    assert to_samples(Decoder(floats).decode(odd)).tolist() == [32767, -32768, 0, 32767, 32767]


# Between socket and session.


def test_a_plain_call_passes_untouched() -> None:
    adapter = WireAdapter(MediaConfig())
    message = from_float(speech(0, 0.06))
    assert adapter.hear(message, 0.0)[0] == message
    assert adapter.say(message) is message
    assert adapter.hear(b"\1\2\3", 0.1)[0] == b"\1\2"
    assert adapter.hear(b"\4", 0.2)[0] == b"\3\4"


@pytest.mark.parametrize("wire", [each for each in FORMATS if each != PLAIN], ids=str)
def test_what_is_heard_comes_at_the_rate_of_the_session(wire: WireFormat) -> None:
    adapter = WireAdapter(MediaConfig())
    messages = Source(wire).messages(speech_at(0, 9.0, wire.sample_rate))
    heard = b""
    changed = False
    for at, data in rechunked(messages, np.random.default_rng(9)):
        pcm, found = adapter.hear(data, at)
        changed = changed or found is not None
        heard += pcm if changed else b""
    samples = to_samples(heard)
    assert samples.size > 2.5 * 16_000
    # Its last second is the last that was said, later by no more than the filters.
    said = soxr.resample(speech_at(0, 9.0, wire.sample_rate), wire.sample_rate, 16_000)
    last = samples[-16_000:] / 32768
    likeness = [
        float(np.corrcoef(last, said[said.size - lag - last.size : said.size - lag])[0, 1])
        for lag in range(100)
    ]
    assert max(likeness) > 0.99


def test_what_is_said_follows_in_a_pause() -> None:
    adapter = WireAdapter(MediaConfig())
    word, pause = from_float(speech(1, 0.36)[-960:] + 0.01), bytes(1_920)
    assert adapter.say(word) == word
    adapter.announced(24_000)
    assert adapter.say(word) == word
    assert len(adapter.say(pause)) == len(adapter.say(word)) == 2_880
    assert adapter.outbound == WireFormat(24_000)
    adapter.opened()
    adapter.announced(8_000)
    assert len(adapter.say(word)) == 960  # nothing was said into this socket yet


def test_what_the_link_did_not_take_is_said_again() -> None:
    clogged, clean = WireAdapter(MediaConfig()), WireAdapter(MediaConfig())
    words = from_float(speech(1, 0.6)[:9_600])
    for adapter in (clogged, clean):
        adapter.announced(24_000)
    for at in range(0, len(words), 1_920):
        clogged.say(words[at : at + 1_920])
        clogged.unsay()
        assert clogged.say(words[at : at + 1_920]) == clean.say(words[at : at + 1_920])


def test_detection_can_be_off() -> None:
    adapter = WireAdapter(MediaConfig(), detect=False)
    for at, data in Source(WireFormat(24_000)).messages(speech_at(0, 8.0, 24_000)):
        assert adapter.hear(data, at) == (data, None)
