from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicebridge.core.audio import from_float, to_samples
from voicebridge.core.resample import RATES, Resampler, resample_whole
from voicebridge.errors import AudioError

PAIRS = list(itertools.permutations(RATES, 2))
Floats = npt.NDArray[np.float64]


def tone(frequency: float, rate: int, seconds: float = 0.3, level: float = 0.7) -> bytes:
    return from_float(level * np.sin(2 * np.pi * frequency * np.arange(seconds * rate) / rate))


def stream(pcm: bytes, from_rate: int, to_rate: int, chunk_ms: int = 20) -> Floats:
    resampler = Resampler(from_rate, to_rate)
    step = from_rate * chunk_ms // 1000 * 2
    chunks = [resampler.process(pcm[at : at + step]) for at in range(0, len(pcm), step)]
    return to_samples(b"".join(chunks)).astype(np.float64)


@cache
def tone_basis(frequency: float, rate: int, length: int) -> Floats:
    angles = 2 * np.pi * frequency * np.arange(length) / rate
    return np.stack([np.sin(angles), np.cos(angles)], axis=1)


def fit(signal: Floats, frequency: float, rate: int) -> tuple[float, float]:
    """Amplitude of the tone in a signal, and its ratio to all else in dB."""
    basis = tone_basis(frequency, rate, signal.size)
    weights = np.linalg.lstsq(basis, signal, rcond=None)[0]
    noise = signal - basis @ weights
    ratio = 10 * math.log10(float(np.mean(signal**2)) / float(np.mean(noise**2)))
    return float(np.hypot(*weights)), ratio


@pytest.mark.parametrize(("from_rate", "to_rate"), PAIRS)
def test_the_telephone_band_passes_at_80_db_and_flat(from_rate: int, to_rate: int) -> None:
    for frequency in (300, 440, 1_000, 2_300, 3_400):
        out = stream(tone(frequency, from_rate), from_rate, to_rate)
        amplitude, ratio = fit(out[to_rate // 50 :], frequency, to_rate)
        assert ratio >= 80, frequency
        assert abs(20 * math.log10(amplitude / (0.7 * 32768))) < 0.3, frequency


@pytest.mark.parametrize(("from_rate", "to_rate"), [p for p in PAIRS if p[0] > p[1]])
def test_what_would_fold_into_the_band_is_rejected(from_rate: int, to_rate: int) -> None:
    """Tones above the new Nyquist frequency that would come out as 300 to 3,400 Hz."""
    for alias in (300, 1_000, 3_400):
        frequency = to_rate - alias
        if frequency >= from_rate / 2:
            continue
        out = stream(tone(frequency, from_rate), from_rate, to_rate)[to_rate // 50 :]
        assert 20 * math.log10(max(1e-9, np.sqrt(np.mean(out**2))) / (0.7 * 23170)) <= -80


@pytest.mark.parametrize(("from_rate", "to_rate"), PAIRS)
def test_the_delay_is_at_most_2_ms_and_as_told(from_rate: int, to_rate: int) -> None:
    """By impulse: the centre of energy of the answer against the instant of the impulse."""
    impulse = np.zeros(from_rate // 10)
    impulse[from_rate // 50] = 0.9
    out = stream(from_float(impulse), from_rate, to_rate) ** 2
    centre = float(np.sum(out * np.arange(out.size)) / np.sum(out)) / to_rate
    delay_ms = (centre - 0.020) * 1000
    assert delay_ms == pytest.approx(Resampler(from_rate, to_rate).delay_ms, abs=0.02)
    assert 0 < delay_ms <= 2.0


@pytest.mark.parametrize(("from_rate", "to_rate"), PAIRS)
def test_flush_gives_the_tail_and_starts_afresh(from_rate: int, to_rate: int) -> None:
    impulse = np.zeros(from_rate // 50)
    impulse[-1] = 0.9
    pcm = from_float(impulse)
    resampler = Resampler(from_rate, to_rate)
    assert resampler.flush() == b""
    first = resampler.process(pcm) + resampler.flush()
    loudest = int(np.argmax(np.abs(to_samples(first))))
    came_in_at = (impulse.size - 1) / from_rate
    expected = came_in_at + resampler.delay_ms / 1000
    assert loudest / to_rate == pytest.approx(expected, abs=1 / to_rate)
    assert resampler.process(pcm) + resampler.flush() == first


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(PAIRS),
    st.lists(st.integers(0, 700), max_size=12),
    st.integers(0, 2**32 - 1),
)
def test_output_tracks_input_to_the_sample_in_any_chunking(
    pair: tuple[int, int], sizes: list[int], seed: int
) -> None:
    from_rate, to_rate = pair
    samples = np.random.default_rng(seed).integers(-20_000, 20_000, sum(sizes)).astype("<i2")
    resampler = Resampler(from_rate, to_rate)
    out = b""
    taken = 0
    for size in sizes:
        out += resampler.process(samples[taken : taken + size].tobytes())
        taken += size
        assert len(out) // 2 == -(-taken * to_rate // from_rate)
    whole = Resampler(from_rate, to_rate).process(samples.tobytes())
    assert out == whole


def test_what_was_processed_can_be_taken_back() -> None:
    pcm = tone(440, 16_000, 0.06)
    spoilt, clean = Resampler(16_000, 24_000), Resampler(16_000, 24_000)
    for resampler in (spoilt, clean):
        resampler.process(pcm)
    mark = spoilt.mark()
    spoilt.process(tone(3_000, 16_000, 0.05))
    spoilt.rewind(mark)
    assert spoilt.process(pcm) == clean.process(pcm)


def test_an_hour_in_20_ms_chunks_is_exact() -> None:
    resampler = Resampler(44_100, 16_000)
    chunk = bytes(882 * 2)
    chunks = 30_000
    given_samples = sum(len(resampler.process(chunk)) for _ in range(chunks)) // 2
    assert given_samples == chunks * 320


@pytest.mark.parametrize(("from_rate", "to_rate"), [(8_000, 16_000), (24_000, 16_000)])
def test_full_scale_saturates_and_never_wraps(from_rate: int, to_rate: int) -> None:
    square = np.where(np.arange(from_rate // 5) % 16 < 8, 1.0, -1.0)
    out = stream(from_float(square), from_rate, to_rate)
    quiet = stream(from_float(square / 4), from_rate, to_rate)
    assert np.abs(quiet).max() > 8_300  # it overshoots, so that there is something to saturate
    assert np.abs(out - np.clip(quiet * 4, -32768, 32767)).max() <= 8


def test_a_constant_stays_a_constant() -> None:
    for from_rate, to_rate in PAIRS:
        out = stream(from_float(np.full(from_rate // 10, 0.5)), from_rate, to_rate)
        settled = out[to_rate // 100 :]
        assert np.abs(settled - 16_384).max() <= 1, (from_rate, to_rate)


def test_equal_rates_pass_untouched() -> None:
    resampler = Resampler(16_000, 16_000)
    data = b"\1\2\3\4"
    assert resampler.process(data) is data
    assert resampler.flush() == b""
    assert resampler.delay_ms == 0


def test_half_a_sample_is_refused_and_changes_nothing() -> None:
    pcm = tone(440, 16_000, 0.04)
    spoilt, clean = Resampler(16_000, 24_000), Resampler(16_000, 24_000)
    with pytest.raises(AudioError):
        spoilt.process(b"\0\0\0")
    assert spoilt.process(pcm) == clean.process(pcm)
    with pytest.raises(AudioError):
        Resampler(16_000, 16_000).process(b"\0")


@pytest.mark.parametrize(("from_rate", "to_rate"), [(11_025, 16_000), (16_000, 0)])
def test_other_rates_are_refused_for_streams(from_rate: int, to_rate: int) -> None:
    with pytest.raises(AudioError):
        Resampler(from_rate, to_rate)


@pytest.mark.parametrize("from_rate", [11_025, 22_050, 32_000, 48_000])
def test_a_whole_file_is_aligned_and_clean_whatever_its_rate(from_rate: int) -> None:
    out = to_samples(resample_whole(tone(1_000, from_rate), from_rate, 16_000)).astype(np.float64)
    assert abs(out.size - 4_800) <= 1
    expected = to_samples(tone(1_000, 16_000)).astype(np.float64)[200:4_600]
    assert np.abs(out[200:4_600] - expected).max() < 8


def test_a_whole_file_may_be_an_array() -> None:
    samples = np.zeros(480, dtype=np.float32)
    assert resample_whole(samples, 48_000, 16_000) == bytes(320)
    assert resample_whole(samples, 16_000, 16_000) == bytes(960)
    assert resample_whole(b"", 48_000, 16_000) == b""
    with pytest.raises(AudioError):
        resample_whole(np.zeros((10, 2), dtype=np.float32), 48_000, 16_000)
    with pytest.raises(AudioError):
        resample_whole(b"", 0, 16_000)
