"""Scores a playout buffer on a trace: delay, what had to be made up, and how it sounds.

One rule: the score knows what every sample played was, from the buffer's own account of it,
and trusts no buffer's figures about itself.

* Delay: of every speech sample played, beyond what the fastest frame took from the phone,
  at the instant of the pull that gave it.
* Concealed: made-up samples between two stretches of speech, beyond the time for which the
  caller truly sent nothing there.
* Quality: PESQ-WB of stretches of about 8 s, on the caller's own time line. What was cut by
  periods is said again, what was stretched is taken out, a pause cut is given back as noise
  of the caller's room, which also stands where the caller sent nothing; what was trimmed is
  missing, and audio made up inside speech stays where it was heard.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from benchmarks.playout.traces import FRAME, RATE, STEP, Mask, Trace
from benchmarks.playout.traces import room as quiet
from voicebridge.core.pieces import Kind
from voicebridge.core.timescale import crossfade

if TYPE_CHECKING:
    from benchmarks.playout.policies import Policy

__all__ = ["Run", "Score", "oracle", "play", "score"]

Pcm: TypeAlias = npt.NDArray[np.int16]
_SEGMENT: float = 8.0


@dataclass
class Span:
    """One piece on both time lines, in samples."""

    kind: Kind
    source: int
    taken: int
    out: int
    given: int
    at: float
    """The instant of its pull."""


@dataclass
class Run:
    """What a buffer did with a trace."""

    trace: Trace
    audio: Pcm
    spans: list[Span] = field(default_factory=list)
    targets: list[tuple[float, float]] = field(default_factory=list)
    """Instant and target in ms."""


@dataclass(frozen=True)
class Score:
    """Figures of one run; per minute means per minute of the trace."""

    mean_ms: float
    p95_ms: float
    concealed_ms: float
    lost_ms: float
    """Speech trimmed, per minute."""
    compressed_ms: float
    stretched_ms: float
    pesq: float


def play(policy: Policy, trace: Trace) -> Run:
    """Runs a buffer through a trace, one pull each 20 ms."""
    end = max(trace.arrived[-1], trace.captured[-1]) + 2.0
    puts = [(float(at), 0, index) for index, at in enumerate(trace.arrived)]
    hints = [(at, 1, 0) for at in trace.proofs]
    pulls = [(trace.pull_phase + n * STEP, 2, 0) for n in range(int(end / STEP))]
    out: list[bytes] = []
    run = Run(trace, np.zeros(0, np.int16))
    source = given = 0
    for at, kind, index in sorted(puts + hints + pulls):
        if kind == 0:
            policy.put(trace.frames[index].tobytes(), at)
        elif kind == 1:
            policy.silent(at)
        else:
            out.append(policy.pull(at))
            assert len(out[-1]) == FRAME * 2
            for piece in policy.pieces:
                run.spans.append(Span(piece.kind, source, piece.taken, given, piece.given, at))
                source += piece.taken
                given += piece.given
            assert given == len(out) * FRAME
            run.targets.append((at, policy.target_ms))
    run.audio = np.frombuffer(b"".join(out), np.int16)
    return run


def score(run: Run, *, pesq: bool = True) -> Score:
    """All figures of a run."""
    trace = run.trace
    speech = np.repeat(trace.speech, RATE // 100)
    minutes = (trace.captured[-1] - trace.captured[0]) / 60
    delays = _delays(run, speech)
    total = dict.fromkeys(Kind, 0)
    for span in run.spans:
        if span.kind in (Kind.TRIMMED, Kind.COMPRESSED):
            total[span.kind] += int(speech[span.source : span.source + span.taken].sum())
        elif span.kind is Kind.STRETCHED and span.source < speech.size:
            total[span.kind] += span.given * int(speech[span.source])
    per_minute = 1000 / RATE / minutes
    return Score(
        mean_ms=float(delays.mean()),
        p95_ms=float(np.percentile(delays, 95)),
        concealed_ms=sum(hole for _, hole in _holes(run, speech)) * per_minute,
        lost_ms=total[Kind.TRIMMED] * per_minute,
        compressed_ms=total[Kind.COMPRESSED] * per_minute,
        stretched_ms=total[Kind.STRETCHED] * per_minute,
        pesq=_quality(run, speech) if pesq else float("nan"),
    )


def oracle(trace: Trace) -> tuple[float, float]:
    """Mean and p95 of the least delay without any hole, one delay for each utterance."""
    late = (trace.arrived - trace.captured - trace.transit) * 1000
    speech: Mask = np.any(trace.speech.reshape(-1, 2), axis=1)
    delays = []
    edges = np.flatnonzero(np.diff(speech.astype(np.int8))) + 1
    for part in np.split(np.arange(speech.size), edges):
        if part.size and speech[part[0]]:
            least = late[part].max()
            # Pulls come on a grid: the first one by which the utterance is safe.
            first = trace.captured[part[0]] + trace.transit + least / 1000
            wait = (trace.pull_phase - first) % STEP
            delays += [least + wait * 1000] * part.size
    return float(np.mean(delays)), float(np.percentile(delays, 95))


def _delays(run: Run, speech: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Of each speech sample played: instant of its pull, less when it could first be had."""
    trace = run.trace
    source, at = [], []
    for span in run.spans:
        if span.kind is Kind.PLAYED:
            # A frame is had whole: its samples share the frame's instant.
            places = np.arange(span.source, span.source + span.taken)
            source.append(places)
            offset = (np.arange(span.given) + span.out % FRAME) / RATE
            at.append(span.at + offset)
    places = np.concatenate(source)
    instants = np.concatenate(at)
    kept = speech[places]
    places, instants = places[kept], instants[kept]
    frame = places // FRAME
    spoken = trace.captured[frame] - STEP + (places % FRAME) / RATE
    # + STEP: no sample of a frame can be had before its last one was spoken.
    return np.asarray((instants - spoken - STEP - trace.transit) * 1000)


def _holes(run: Run, speech: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Places in the stream with made-up audio inside speech, and how much too much."""
    trace = run.trace
    made: dict[int, int] = {}
    for span in run.spans:
        if span.kind in (Kind.CONCEALED, Kind.CALM):
            made[span.source] = made.get(span.source, 0) + span.given
    holes = []
    for place, count in made.items():
        if 0 < place < speech.size and speech[place - 1] and speech[place]:
            excess = count - _gap(trace, place)
            if excess > 0:
                holes.append((place, excess))
    return holes


def _gap(trace: Trace, place: int) -> int:
    """Samples for which the caller sent nothing right before a place in the stream."""
    frame = place // FRAME
    if place % FRAME or not 0 < frame < trace.captured.size:
        return 0
    return round(float(trace.captured[frame] - trace.captured[frame - 1] - STEP) * RATE)


def _quality(run: Run, speech: npt.NDArray[np.bool_]) -> float:
    from pesq import NoUtterancesError, pesq

    undone, starts = _undo(run, speech)
    clean = run.trace.frames.reshape(-1)
    marks = [0]
    for at in _pauses(speech):
        if at - marks[-1] >= _SEGMENT * RATE:
            marks.append(at)
    values = []
    for left, right in pairwise(marks):
        heard = undone[starts[left] : starts[right]]
        said = _on_time_line(run.trace, clean, left, right)
        if heard.size < RATE or not speech[left:right].any():
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                values.append(pesq(RATE, said, heard, "wb"))
            except NoUtterancesError:
                values.append(1.0)
    return float(np.mean(values)) if values else float("nan")


def _joined(audio: Pcm, span: Span, period: int) -> Pcm:
    """A span before which a period was said again, faded into it as in any stretch."""
    part = audio[span.out : span.out + span.given].copy()
    size = min(80, part.size, max(0, audio.size - span.out - period))
    going_on = audio[span.out + period : span.out + period + size].astype(np.float32)
    part[:size] = np.rint(crossfade(going_on, part[:size].astype(np.float32))).astype(np.int16)
    return part


def _pauses(speech: Mask) -> list[int]:
    """Middles of the pauses in the stream."""
    edges = np.flatnonzero(np.diff(speech.astype(np.int8)))
    starts = [int(e) for e in edges if speech[e]]
    stops = [int(e) for e in edges if not speech[e]]
    return [(a + next((b for b in stops if b > a), a)) // 2 for a in starts]


def _on_time_line(trace: Trace, clean: Pcm, left: int, right: int) -> Pcm:
    """What the caller said between two places, with the times of no audio as zeros."""
    parts = []
    at = left
    for frame in range(left // FRAME + 1, -(-right // FRAME)):
        gap = _gap(trace, frame * FRAME)
        if gap:
            parts += [clean[at : frame * FRAME], quiet(gap)]
            at = frame * FRAME
    parts.append(clean[at:right])
    return np.concatenate(parts)


def _undo(run: Run, speech: npt.NDArray[np.bool_]) -> tuple[Pcm, npt.NDArray[np.int64]]:
    """What was heard, its changes of speed undone, and where each place of the stream is."""
    trace, audio = run.trace, run.audio
    size = speech.size
    starts = np.full(size + 1, -1, np.int64)
    parts: list[Pcm] = []
    at = 0
    made: dict[int, list[Span]] = {}
    for span in run.spans:
        if span.kind in (Kind.CONCEALED, Kind.CALM):
            made.setdefault(span.source, []).append(span)
    excess = dict(_holes(run, speech))
    done: set[int] = set()
    for number, span in enumerate(run.spans):
        if span.kind is Kind.STRETCHED:
            continue
        if span.kind in (Kind.CONCEALED, Kind.CALM):
            if span.source in done:
                continue
            done.add(span.source)
            heard = np.concatenate([audio[s.out : s.out + s.given] for s in made[span.source]])
            room = _gap(trace, span.source) + excess.get(span.source, 0)
            part = heard[:room]
            if part.size < room:
                part = np.concatenate((part, quiet(room - part.size)))
        else:
            if span.kind is Kind.PLAYED:
                part = audio[span.out : span.out + span.given]
                before = run.spans[number - 1] if number else span
                if before.kind is Kind.COMPRESSED and before.out == span.out:
                    part = _joined(audio, span, before.taken)
            elif span.kind is Kind.COMPRESSED:
                out = run.spans[number].out
                part = audio[out : out + span.taken]
                if part.size < span.taken:
                    part = np.concatenate((part, quiet(span.taken - part.size)))
            elif span.kind is Kind.PAUSE_CUT:
                part = quiet(span.taken)
            else:
                part = np.zeros(span.taken, np.int16)
            if span.source not in done:
                room = _gap(trace, span.source)
                if room:
                    done.add(span.source)
                    parts.append(quiet(room))
                    at += room
            starts[span.source : span.source + span.taken] = at + np.arange(span.taken)
        parts.append(part)
        at += part.size
    undone = np.concatenate(parts)
    missing = np.flatnonzero(starts < 0)
    starts[missing] = at
    return undone, starts
