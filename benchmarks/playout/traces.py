"""Arrivals of a caller's audio over eight kinds of network, as TCP delivers it.

One rule: a trace is a function of its family and seed. Audio is sent in 20 ms frames, never
lost or reordered, and held by the network now and then; a held backlog comes at once. What
each kind does follows published measurements of such links only in kind: the families are
models, their parameters stand below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import soundfile

__all__ = ["FAMILIES", "FRAME", "RATE", "SECONDS", "Mask", "Trace", "make", "room"]

Pcm: TypeAlias = npt.NDArray[np.int16]
Times: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Rng: TypeAlias = np.random.Generator

RATE: Final = 16_000
FRAME: Final = 320
STEP: Final = 0.020
SECONDS: Final = 120.0
_TRANSIT: Final = 0.040
"""The fastest way from the caller's phone to us."""
_SPEECH: Final = Path(__file__).parents[2] / "tests" / "speech"
_ROOM_DB: Final = -62.0
_PING_AFTER: Final = 0.090
_ROUND_TRIP: Final = 0.060


@dataclass(frozen=True)
class Trace:
    """One caller, two minutes. Arrays are per frame sent, times in seconds."""

    family: str
    seed: int
    frames: Pcm
    """What was sent: (frames, 320)."""
    captured: Times
    """When each frame was complete at the phone."""
    arrived: Times
    speech: Mask
    """Per 10 ms of what was sent: is that inside an utterance?"""
    proofs: tuple[float, ...]
    """When a pong proved that the caller is silent."""
    pull_phase: float
    transit: float = _TRANSIT


@dataclass
class _Link:
    """Delay of each frame beyond the fastest, and intervals in which nothing comes."""

    jitter: Times
    holds: list[tuple[float, float]] = field(default_factory=list)
    clump: int = 1
    sent: Mask | None = None


_Family: TypeAlias = Callable[[Rng, Mask], _Link]


def make(family: str, seed: int, seconds: float = SECONDS) -> Trace:
    """The trace of a family with a seed."""
    # A name's hash differs from run to run: its letters do not.
    rng = np.random.default_rng([seed, *family.encode()])
    pauses = (0.4, 2.5) if "DTX" in family else (0.25, 1.2)
    pcm, speech = _talk(rng, seconds, pauses)
    frames = pcm.reshape(-1, FRAME)
    link = FAMILIES[family](rng, speech)
    count = frames.shape[0]
    sent = np.ones(count, np.bool_) if link.sent is None else link.sent
    captured: Times = (np.arange(count, dtype=np.float64) + 1) * STEP
    left = captured.copy()
    if link.clump > 1:
        left = captured[np.minimum((np.arange(count) // link.clump + 1) * link.clump, count) - 1]
    came: Times = left + _TRANSIT + link.jitter
    for start, length in link.holds:
        held = (came >= start) & (came < start + length)
        came[held] = start + length + 0.004 * np.arange(held.sum()) / max(1, held.sum())
    arrived: Times = np.maximum.accumulate(came[sent])
    per_frame = speech.reshape(count, 2)
    return Trace(
        family, seed, frames[sent], captured[sent], arrived, per_frame[sent].reshape(-1),
        _proofs(arrived, link.holds), float(rng.uniform(0, STEP)),
    )  # fmt: skip


def _proofs(arrived: Times, holds: list[tuple[float, float]]) -> tuple[float, ...]:
    """A ping is sent when audio is overdue; its pong is held up like everything else."""
    proofs = []
    for last, following in pairwise(arrived):
        pong = last + _PING_AFTER + _ROUND_TRIP
        for start, length in holds:
            if start <= pong < start + length:
                pong = start + length
        if pong < following:
            proofs.append(float(pong))
    return tuple(proofs)


@lru_cache
def _clips() -> tuple[Pcm, ...]:
    clips = []
    for path in sorted(_SPEECH.glob("*.flac")):
        samples, rate = soundfile.read(path, dtype="int16")
        assert rate == RATE
        if samples.size > RATE * 0.6:
            clips.append(np.asarray(samples, np.int16))
    return tuple(clips)


def _talk(rng: Rng, seconds: float, pauses: tuple[float, float]) -> tuple[Pcm, Mask]:
    """Clips in random order with pauses between, in a quiet room; and where speech is."""
    total = int(seconds * RATE) // FRAME * FRAME
    wave = np.zeros(total, np.float64)
    clips = _clips()
    at = int(0.5 * RATE)
    while True:
        for index in rng.permutation(len(clips)):
            clip = clips[int(index)]
            if at + clip.size > total:
                return _with_room(rng, wave)
            wave[at : at + clip.size] = clip
            at += clip.size + int(rng.uniform(*pauses) * RATE)


def _with_room(rng: Rng, wave: npt.NDArray[np.float64]) -> tuple[Pcm, Mask]:
    blocks = wave.reshape(-1, RATE // 100)
    level = 10 * np.log10(np.mean(blocks**2, axis=1) / 32768**2 + 1e-12)
    loud = level > -50
    room = rng.standard_normal(wave.size) * 32768 * 10 ** (_ROOM_DB / 20)
    return np.clip(wave + room, -32768, 32767).astype(np.int16), _filled(loud, 15)


def room(samples: int) -> Pcm:
    """The noise of the caller's room, always the same."""
    noise = np.random.default_rng(1).standard_normal(samples) * 32768 * 10 ** (_ROOM_DB / 20)
    return np.asarray(noise, np.int16)


def _filled(loud: Mask, longest: int) -> Mask:
    """Pauses of at most ``longest`` blocks belong to the utterance."""
    out = loud.copy()
    at = np.flatnonzero(loud)
    for left, right in pairwise(at):
        if right - left <= longest:
            out[left:right] = True
    return out


def _holds(rng: Rng, total: float, every: tuple[float, float], length: tuple[float, float],
           ) -> list[tuple[float, float]]:  # fmt: skip
    holds = []
    at = rng.uniform(*every)
    while at < total:
        long = rng.uniform(*length)
        holds.append((at, long))
        at += long + rng.uniform(*every)
    return holds


def _lan(rng: Rng, speech: Mask) -> _Link:
    return _Link(np.minimum(rng.exponential(0.0008, speech.size // 2), 0.010))


def _clumps(rng: Rng, speech: Mask) -> _Link:
    return _Link(np.minimum(rng.exponential(0.0008, speech.size // 2), 0.010), clump=3)


def _lte(rng: Rng, speech: Mask) -> _Link:
    count = speech.size // 2
    total = count * STEP
    scheduling = rng.gamma(2.0, 0.007, count)
    # The cell's load, over seconds, and a hold of 50 to 220 ms every few seconds.
    knots = np.arange(0, count + 80, 80)
    load = np.interp(np.arange(count), knots, rng.gamma(1.0, 0.022, knots.size))
    return _Link(scheduling + load, _holds(rng, total, (2.0, 8.0), (0.05, 0.22)))


def _wifi(rng: Rng, speech: Mask) -> _Link:
    count = speech.size // 2
    holds = _holds(rng, count * STEP, (0.8, 4.0), (0.03, 0.15))
    holds += _holds(rng, count * STEP, (8.0, 25.0), (0.15, 0.33))
    return _Link(rng.exponential(0.003, count), sorted(holds))


def _stalls(rng: Rng, speech: Mask) -> _Link:
    count = speech.size // 2
    return _Link(rng.exponential(0.004, count), _holds(rng, count * STEP, (5.0, 20.0), (0.2, 0.8)))


def _one_stall(rng: Rng, speech: Mask) -> _Link:
    count = speech.size // 2
    return _Link(rng.exponential(0.003, count), [(rng.uniform(0.3, 0.6) * count * STEP, 3.0)])


def _dtx(rng: Rng, speech: Mask) -> _Link:
    link = _lte(rng, speech)
    # Sent from 20 ms before an utterance until 120 ms after.
    near = speech.copy()
    for shift in range(1, 13):
        near[shift:] |= speech[:-shift]
    near[:-2] |= speech[2:]
    link.sent = np.asarray(np.any(near.reshape(-1, 2), axis=1), np.bool_)
    return link


def _mute(rng: Rng, speech: Mask) -> _Link:
    count = speech.size // 2
    sent = np.ones(count, np.bool_)
    for start, length in _holds(rng, count * STEP, (4.0, 12.0), (0.8, 5.0)):
        sent[int(start / STEP) : int((start + length) / STEP)] = False
    return _Link(np.minimum(rng.exponential(0.003, count), 0.030), sent=sent)


FAMILIES: Final[dict[str, _Family]] = {
    "clean LAN": _lan,
    "clumps of 3 frames": _clumps,
    "LTE jitter": _lte,
    "Wi-Fi bursts": _wifi,
    "stalls of 200 to 800 ms": _stalls,
    "one 3 s stall": _one_stall,
    "DTX over LTE": _dtx,
    "mute gaps": _mute,
}
