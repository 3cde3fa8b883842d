"""CPU and delay of resampling streams in chunks of 20 ms: our own filter, and soxr's.

Run ``python benchmarks/resample.py``. CPU microseconds per call and chunk, best of five runs;
a call alone, and many calls in one product. Delay in ms is what a chunk's end waits for,
filter and withheld samples together: mean, and worst; soxr hands out what it has in lumps.
SNR is the worst of tones at 300, 1,000 and 3,400 Hz. It does not show that soxr QQ has no
filter: whatever lies above the lower rate's half folds into the band at full level.
"""

from __future__ import annotations

import os

# One thread, as in a process whose other thread is busy with calls.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import soxr

from voicebridge.core.resample import Resampler, ResamplerBank

PAIRS = (
    (16_000, 24_000), (24_000, 16_000), (16_000, 8_000), (8_000, 16_000),
    (24_000, 8_000), (16_000, 48_000), (48_000, 16_000), (22_050, 16_000), (44_100, 16_000),
)  # fmt: skip
BATCHES = (8, 32, 100)
QUALITIES = ("QQ", "MQ", "HQ")
RUNS = 5

Samples = npt.NDArray[np.int16]
Process = Callable[[Samples], Samples]


def own(from_rate: int, to_rate: int) -> Process:
    resampler = Resampler(from_rate, to_rate)
    return lambda chunk: np.frombuffer(resampler.process(chunk.tobytes()), "<i2")


def foreign(from_rate: int, to_rate: int, quality: str) -> Process:
    stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="int16", quality=quality)
    return lambda chunk: np.asarray(stream.resample_chunk(chunk))


def best_us(work: Callable[[], object], count: int) -> float:
    """Microseconds of one ``work()``: what the code costs, not what the machine was busy with."""
    best = float("inf")
    for _ in range(RUNS):
        start = time.thread_time()
        for _ in range(count):
            work()
        best = min(best, time.thread_time() - start)
    return best / count * 1e6


def delays_ms(make: Callable[[], Process], from_rate: int, to_rate: int) -> tuple[float, float]:
    """By how much what came out falls short of what went in: mean and worst."""
    process = make()
    chunk = from_rate // 50
    given = 0
    lags = []
    for step in range(1, 200):
        given += len(process(np.zeros(chunk, dtype=np.int16)))
        if step > 50:
            lags.append(step * 0.020 - given / to_rate)
    return float(np.mean(lags)) * 1000, float(np.max(lags)) * 1000


def group_delay_ms(process: Process, from_rate: int, to_rate: int) -> float:
    """Where an impulse comes out in the stream of samples, against where it went in."""
    at = from_rate // 2
    samples = np.zeros(from_rate, dtype=np.int16)
    samples[at] = 20_000
    chunk = from_rate // 50
    out = np.concatenate([process(samples[i : i + chunk]) for i in range(0, samples.size, chunk)])
    energy = out.astype(float) ** 2
    return (float(np.sum(energy * np.arange(out.size)) / energy.sum()) / to_rate - 0.5) * 1000


def snr_db(process: Process, tone: float, from_rate: int, to_rate: int) -> float:
    """Of a tone against all else that comes out."""
    samples = 0.7 * 32767 * np.sin(2 * np.pi * tone * np.arange(from_rate) / from_rate)
    chunk = from_rate // 50
    whole = np.rint(samples).astype(np.int16)
    out = np.concatenate([process(whole[i : i + chunk]) for i in range(0, whole.size, chunk)])
    signal = out[to_rate // 4 : to_rate * 3 // 4].astype(float)
    angles = 2 * np.pi * tone * np.arange(signal.size) / to_rate
    basis = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    noise = signal - basis @ np.linalg.lstsq(basis, signal, rcond=None)[0]
    return float(10 * np.log10(np.mean(signal**2) / np.mean(noise**2)))


def row(
    make: Callable[[], Process], from_rate: int, to_rate: int
) -> tuple[float, float, float, float]:
    """Microseconds, delay (mean, worst), and the worst SNR in the telephone's band."""
    chunk = np.random.default_rng(0).integers(-9_000, 9_000, from_rate // 50).astype(np.int16)
    process = make()
    cost = best_us(lambda: process(chunk), 500)
    mean, worst = delays_ms(make, from_rate, to_rate)
    group = group_delay_ms(make(), from_rate, to_rate)
    snr = min(snr_db(make(), tone, from_rate, to_rate) for tone in (300, 1_000, 3_400))
    return cost, mean + group, worst + group, snr


def batched_us(from_rate: int, to_rate: int, calls: int) -> float:
    bank = ResamplerBank(from_rate, to_rate, calls)
    chunks = np.random.default_rng(0).integers(-9_000, 9_000, (calls, from_rate // 50))
    frames = chunks.astype(np.int16)
    return best_us(lambda: bank.process(frames), 100) / calls


def main() -> None:
    """Prints the table."""
    print("us per 20 ms; delay mean (worst) ms; SNR dB")
    for from_rate, to_rate in PAIRS:
        cost, mean, worst, snr = row(partial(own, from_rate, to_rate), from_rate, to_rate)
        many = "  ".join(f"x{n} {batched_us(from_rate, to_rate, n):4.1f}" for n in BATCHES)
        print(f"{from_rate} to {to_rate}")
        print(f"  own      {cost:5.1f}  {mean:5.1f} ({worst:5.1f})  {snr:5.1f}   batched: {many}")
        for quality in QUALITIES:
            make = partial(foreign, from_rate, to_rate, quality)
            cost, mean, worst, snr = row(make, from_rate, to_rate)
            print(f"  soxr {quality}  {cost:5.1f}  {mean:5.1f} ({worst:5.1f})  {snr:5.1f}")


if __name__ == "__main__":
    main()
