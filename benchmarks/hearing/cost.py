"""What hearing costs: CPU microseconds per call and 20 ms of audio, on one thread."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.hearing import sounds
from benchmarks.hearing.vad import FRAME
from voicebridge.core.hearing_batch import HearingBatch
from voicebridge.core.speech_gate import SpeechGate
from voicebridge.core.vad import CHUNK, WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from voicebridge.core.vad import Vad

__all__ = ["Load", "engine_alone", "whole_path"]

_ROUNDS = 5
_TURN_FRAMES = 500
"""A caller talks for 10 s, then listens for 10 s."""


def engine_alone(vad: Vad, calls: int) -> float:
    """Microseconds of the engine, where each call has a chunk: the best of five rounds."""
    rows = np.array([vad.open() for _ in range(calls)], np.intp)
    drawn = np.random.default_rng(1).standard_normal((calls, WINDOW)) * 2000
    windows = drawn.astype(np.int16)
    passes = max(10, 3000 // calls)

    def work() -> None:
        for _ in range(passes):
            vad.probabilities(windows, rows)

    work()
    best = min(_cpu(work) for _ in range(_ROUNDS))
    for row in rows:
        vad.close(int(row))
    return best / passes / calls * 1e6 * FRAME / CHUNK


@dataclass(frozen=True)
class Load:
    """A run of the whole path."""

    microseconds: float
    """Per call and 20 ms."""
    p99_ms: float
    """Of one run of the batch for all calls."""
    skipped: float
    peeks_per_chunk: float


def whole_path(
    vad: Vad, speech: npt.NDArray[np.int16], calls: int, frames: int = 1000, message: int = 1
) -> Load:
    """All of it: push, energy gate, engine, peek, take, speech gate; callers talk half the time.

    ``speech`` is (streams, samples); ``message`` is the number of frames that come at once.
    """
    rng = np.random.default_rng(2)
    batch = HearingBatch(vad)
    listeners = [batch.listen() for _ in range(calls)]
    gates = [SpeechGate() for _ in range(calls)]
    hiss = sounds.coloured(speech.shape[1], 3, rng) * 20
    scripts = [_script(speech[index % len(speech)], hiss, rng) for index in range(calls)]
    spent, durations = 0.0, []
    for first in range(0, frames, message):
        start = time.process_time()
        for listener, gate, script in zip(listeners, gates, scripts, strict=True):
            listener.peek = not gate.speaking
            for frame in range(first, first + message):
                listener.push(script[frame % len(script)])
        batch.run()
        for listener, gate in zip(listeners, gates, strict=True):
            for heard in listener.take():
                gate.hear(heard.probability)
        took = time.process_time() - start
        spent += took
        durations.append(took)
    for listener in listeners:
        listener.close()
    stats = batch.stats
    return Load(
        spent / stats.frames * 1e6,
        float(np.percentile(durations, 99)) * 1e3,
        stats.skipped / stats.frames,
        stats.peeks / max(1, stats.chunks),
    )


def _script(
    speech: npt.NDArray[np.int16], hiss: npt.NDArray[np.float64], rng: np.random.Generator
) -> list[bytes]:
    audio = speech.copy()
    turn = _TURN_FRAMES * FRAME
    for start in range(turn, audio.size, 2 * turn):
        audio[start : start + turn] = hiss[start : start + turn].astype(np.int16)
    audio = np.roll(audio, -int(rng.integers(audio.size // FRAME)) * FRAME)
    return [audio[k : k + FRAME].tobytes() for k in range(0, audio.size - FRAME + 1, FRAME)]


def _cpu(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start
