"""Sounds without a voice: noise, and what a caller does besides speaking.

All return float64 arrays at 16 kHz. Noise has an RMS of one, events a peak of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Samples = npt.NDArray[np.float64]

RATE = 16_000
_DTMF_LOW = (697, 770, 852, 941)
_DTMF_HIGH = (1209, 1336, 1477, 1633)


def unit_rms(audio: Samples) -> Samples:
    """Scaled to an RMS of one."""
    return audio / max(1e-9, float(np.sqrt(np.mean(audio**2))))


def _unit_peak(audio: Samples) -> Samples:
    return audio / max(1e-9, float(np.abs(audio).max()))


def coloured(samples: int, slope: float, rng: np.random.Generator) -> Samples:
    """Noise whose power falls with ``slope`` decibels per octave: 0 white, 3 pink, 6 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.fft.rfftfreq(samples, 1 / RATE)
    # Below 60 Hz a telephone passes nothing.
    spectrum *= np.maximum(frequency, 60) ** (-slope / 6.02) * (frequency > 60)
    return unit_rms(np.fft.irfft(spectrum, samples))


def hum(samples: int, rng: np.random.Generator) -> Samples:
    """Mains and a fan: harmonics of 50 or 60 Hz over pink noise."""
    time = np.arange(samples) / RATE
    mains = float(rng.choice([50.0, 60.0]))
    tones = sum(
        rng.uniform(0.1, 1.0) / k * np.sin(2 * np.pi * mains * k * time + rng.uniform(0, 6.28))
        for k in range(1, 12)
    )
    return unit_rms(unit_rms(np.asarray(tones)) + 0.7 * coloured(samples, 3, rng))


def _resonances(audio: Samples, centres: list[float], width: float) -> Samples:
    spectrum = np.fft.rfft(audio)
    frequency = np.fft.rfftfreq(audio.size, 1 / RATE)
    gain = sum(1 / (1 + ((frequency - centre) / width) ** 2) for centre in centres)
    return np.fft.irfft(spectrum * (0.05 + gain), audio.size)


def cough(rng: np.random.Generator) -> Samples:
    """One to three coughs: a burst, a noisy decay through a throat, sometimes a voiced end."""
    pieces = []
    for _ in range(int(rng.integers(1, 4))):
        length = int(rng.uniform(0.18, 0.40) * RATE)
        time = np.arange(length) / RATE
        burst = np.exp(-time / rng.uniform(0.012, 0.025))
        decay = 0.5 * np.exp(-time / rng.uniform(0.06, 0.12))
        noise = rng.standard_normal(length) * (burst + decay) * np.minimum(1, time / 0.004)
        centres = [rng.uniform(400, 800), rng.uniform(1100, 1800), rng.uniform(2300, 3400)]
        sound = _unit_peak(_resonances(noise, centres, rng.uniform(150, 350)))
        if rng.random() < 0.4:
            pitch = rng.uniform(110, 240) * (1 - 0.5 * time)
            voice = np.sign(np.sin(2 * np.pi * np.cumsum(pitch) / RATE))
            late = np.exp(-(((time - 0.16) / 0.05) ** 2))
            sound = sound + 0.25 * _unit_peak(_resonances(voice * late, centres, 200))
        pieces += [sound, np.zeros(int(rng.uniform(0.05, 0.2) * RATE))]
    return _unit_peak(np.concatenate(pieces))


def breath(rng: np.random.Generator) -> Samples:
    """Air over a microphone."""
    length = int(rng.uniform(0.4, 1.0) * RATE)
    shape = np.sin(np.pi * np.arange(length) / length) ** 2
    noise = rng.standard_normal(length) * shape
    return _unit_peak(_resonances(noise, [rng.uniform(500, 2500)], rng.uniform(600, 1800)))


def click(rng: np.random.Generator) -> Samples:
    """A key, a cable, a cup: one to four short ringing impulses."""
    audio = np.zeros(int(0.5 * RATE))
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.uniform(0, 0.4) * RATE)
        time = np.arange(int(0.05 * RATE)) / RATE
        ring = np.exp(-time / rng.uniform(0.001, 0.008))
        tone = np.sin(2 * np.pi * rng.uniform(300, 5000) * time)
        impulse = ring * (tone + 0.5 * rng.standard_normal(time.size))
        audio[at : at + time.size] += rng.uniform(0.3, 1) * impulse
    return _unit_peak(audio)


def key_tone(rng: np.random.Generator) -> Samples:
    """A telephone key held for 80 to 400 ms."""
    time = np.arange(int(rng.uniform(0.08, 0.4) * RATE)) / RATE
    low, high = rng.choice(_DTMF_LOW), rng.choice(_DTMF_HIGH)
    tone = np.sin(2 * np.pi * low * time) + np.sin(2 * np.pi * high * time)
    edge = np.minimum(1, np.minimum(time, time[::-1]) / 0.005)
    return _unit_peak(np.asarray(tone * edge))
