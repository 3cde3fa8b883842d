"""How well speech is told from everything else: all streams of a corpus as calls of one batch.

What is measured is the shipped path, frame by frame: energy gate, engine, peek while no
speech was found, speech gate. A decision counts from the end of the frame that brought it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.hearing.data import RATIOS
from voicebridge.core.energy_gate import EnergyGateSettings
from voicebridge.core.hearing_batch import BatchStats, HearingBatch
from voicebridge.core.speech_gate import SpeechBegan, SpeechGate, SpeechGateSettings

if TYPE_CHECKING:
    import numpy.typing as npt

    from benchmarks.hearing.data import Corpus
    from voicebridge.core.vad import Vad

__all__ = ["Heard", "Setup", "Verdict", "judge", "listen"]

FRAME = 320
FRAME_MS = 20
_EARLY, _LATE = 2, 3
"""Not scored around an onset: 40 ms before it, 60 ms after it."""
_EARLY_END, _LATE_END = 1, 6
"""Not scored around an end: 20 ms before it, 120 ms after it."""
_PAUSE = 15
"""An onset counts where 300 ms before it were free of speech."""


@dataclass(frozen=True)
class Setup:
    """What is measured. ``energy=None`` leaves the energy gate out."""

    speech: SpeechGateSettings = field(default_factory=SpeechGateSettings)
    energy: EnergyGateSettings | None = field(default_factory=EnergyGateSettings)
    peek: bool = True
    frames_per_message: int = 1


@dataclass(frozen=True)
class Heard:
    """What came out: probabilities (streams, frames), and the frame of each decision."""

    probabilities: npt.NDArray[np.float32]
    began: list[list[int]]
    """Frames after whose end speech was said to have begun, per stream."""
    speaking: npt.NDArray[np.bool_]
    stats: BatchStats


def listen(streams: npt.NDArray[np.int16], vad: Vad, setup: Setup) -> Heard:
    """Runs all streams side by side, as one process carries its calls."""
    batch = HearingBatch(vad, setup.energy)
    listeners = [batch.listen() for _ in streams]
    gates = [SpeechGate(setup.speech) for _ in streams]
    frames = streams.shape[1] // FRAME
    probabilities = np.zeros((len(streams), frames), np.float32)
    speaking = np.zeros((len(streams), frames), np.bool_)
    began: list[list[int]] = [[] for _ in streams]
    step = setup.frames_per_message
    for first in range(0, frames - frames % step, step):
        for index, listener in enumerate(listeners):
            listener.peek = setup.peek and not gates[index].speaking
            for frame in range(first, first + step):
                listener.push(streams[index, frame * FRAME : (frame + 1) * FRAME].tobytes())
        batch.run()
        for index, listener in enumerate(listeners):
            for frame, answer in enumerate(listener.take(), first):
                probabilities[index, frame] = answer.probability
                if isinstance(gates[index].hear(answer.probability), SpeechBegan):
                    began[index].append(first + step - 1)
                speaking[index, frame] = gates[index].speaking
    for listener in listeners:
        listener.close()
    return Heard(probabilities, began, speaking, batch.stats)


@dataclass(frozen=True)
class Onsets:
    """Milliseconds from the true onset to the decision; and how many were never found."""

    latencies: npt.NDArray[np.float64]
    missed: int

    @property
    def median(self) -> float:
        return float(np.median(self.latencies)) if self.latencies.size else float("nan")

    @property
    def p95(self) -> float:
        return float(np.percentile(self.latencies, 95)) if self.latencies.size else float("nan")


@dataclass(frozen=True)
class Verdict:
    """One setup on one corpus."""

    precision: dict[int | None, float]
    recall: dict[int | None, float]
    babble_f1: dict[int | None, float]
    """The same where the noise is eight other people talking; not part of the above."""
    onsets: dict[int | None, Onsets]
    false_per_minute: float
    false_not_music: float
    """The same, where the noise is not music."""
    false_by_kind: dict[str, int]
    noise_minutes: float
    triggered: dict[str, float]
    """Share of coughs, breaths, clicks and key tones that were taken for speech."""
    skipped: dict[str, float]
    """Share of frames that the energy gate kept from the engine: in speech, by kind of noise."""

    def f1(self, ratio: int | None) -> float:
        """Harmonic mean of precision and recall."""
        return _f1(self.precision[ratio], self.recall[ratio])


def judge(corpus: Corpus, vad: Vad, setup: Setup, threshold: float = 0.5) -> Verdict:
    """Listens to everything. ``threshold`` is that of precision and recall alone."""
    precision, recall, onsets, babble_f1 = {}, {}, {}, {}
    skipped = {}
    # Babble is speech, if nobody's in particular: it is scored by itself.
    babble = np.array([kind == "babble" for kind in corpus.speech_kinds])
    for ratio in RATIOS:
        heard = listen(corpus.speech[ratio], vad, setup)
        probabilities, labels = heard.probabilities, corpus.labels
        precision[ratio], recall[ratio] = _score(probabilities[~babble], labels[~babble], threshold)
        babble_f1[ratio] = _f1(*_score(probabilities[babble], labels[babble], threshold))
        onsets[ratio] = _onsets(heard, corpus.labels)
        skipped[f"speech {ratio}"] = heard.stats.skipped / heard.stats.frames
    noise = listen(corpus.noise, vad, setup)
    minutes = corpus.noise.size / 960_000
    music = [kind in ("hold music", "loops") for kind in corpus.noise_kinds]
    no_music = [
        len(began) for began, is_music in zip(noise.began, music, strict=True) if not is_music
    ]
    by_kind = dict.fromkeys(corpus.noise_kinds, 0)
    for kind, began in zip(corpus.noise_kinds, noise.began, strict=True):
        by_kind[kind] += len(began)
    for kind in by_kind:
        chosen = [index for index, name in enumerate(corpus.noise_kinds) if name == kind]
        stats = listen(corpus.noise[chosen], vad, setup).stats
        skipped[kind] = stats.skipped / stats.frames
    return Verdict(
        precision,
        recall,
        babble_f1,
        onsets,
        sum(by_kind.values()) / minutes,
        sum(no_music) / (minutes * len(no_music) / len(music)),
        by_kind,
        minutes,
        _triggered(corpus, listen(corpus.events, vad, setup)),
        skipped,
    )


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / max(1e-9, precision + recall)


def _score(
    probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int8], threshold: float
) -> tuple[float, float]:
    """Precision and recall over frames, away from the edges of speech."""
    truth = labels[:, 1::2] == 1
    scored = (labels[:, ::2] == labels[:, 1::2]) & (labels[:, ::2] >= 0)
    change = np.diff(truth.astype(np.int8), axis=1, prepend=0)
    for stream, frame in np.argwhere(change == 1):
        scored[stream, max(0, frame - _EARLY) : frame + _LATE] = False
    for stream, frame in np.argwhere(change == -1):
        scored[stream, max(0, frame - _EARLY_END) : frame + _LATE_END] = False
    said = probabilities[:, : truth.shape[1]] >= threshold
    hits = int(np.count_nonzero(said & truth & scored))
    return (
        hits / max(1, int(np.count_nonzero(said & scored))),
        hits / max(1, int(np.count_nonzero(truth & scored))),
    )


def _onsets(heard: Heard, labels: npt.NDArray[np.int8]) -> Onsets:
    """Of speech after a pause, where the gate was shut when it began."""
    latencies: list[float] = []
    missed = 0
    for stream, marks in enumerate(labels):
        starts = np.flatnonzero(np.diff((marks == 1).astype(np.int8), prepend=0) == 1)
        for start in starts:
            if (marks[max(0, start - 2 * _PAUSE) : start] != 0).any():
                continue
            frame = int(start) // 2
            if frame and heard.speaking[stream, frame - 1]:
                continue  # noise had opened it already; that is counted elsewhere
            stop = int(start) + int(np.argmax(np.append(marks[start:], 0) != 1))
            found = [at for at in heard.began[stream] if frame <= at <= max(stop // 2, frame) + 5]
            if found:
                latencies.append((found[0] + 1) * FRAME_MS - int(start) * 10)
            else:
                missed += 1
    return Onsets(np.array(latencies), missed)


def _triggered(corpus: Corpus, heard: Heard) -> dict[str, float]:
    counts = {kind: [0, 0] for kind in sorted(set(corpus.event_kinds))}
    for kind, (stream, first, last) in zip(corpus.event_kinds, corpus.event_at, strict=True):
        frames = range(int(first) // FRAME, int(last) // FRAME + 15)
        counts[kind][0] += any(at in frames for at in heard.began[int(stream)])
        counts[kind][1] += 1
    return {kind: fired / total for kind, (fired, total) in counts.items()}
