"""Who speaks, for all calls of a process: frames in as they come, one pass for all of them.

The rule: pushing costs nothing, running costs once. A call pushes its 20 ms frames on
arrival; regularly the batch runs what is pending of all calls through the engine, and each
call takes out one probability per frame, in call time.

Per call: frames pass an energy gate (in quiet the engine is not asked at all). While it is
open, audio is cut into the engine's windows of 32 ms. Frames and windows do not line up, so
where ``peek`` is set and the newest frame is loud, the newest 32 ms are looked at besides,
without being remembered; that finds onsets 10 to 20 ms sooner. Windows of one call follow
one another; so a run is a few passes: the first window of every call, then the second of
those that have one, and so on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from voicebridge.core.config import SAMPLE_BYTES
from voicebridge.core.energy_gate import EnergyGate, EnergyGateSettings, levels_dbfs
from voicebridge.core.vad import CHUNK, CONTEXT, WINDOW

if TYPE_CHECKING:
    from voicebridge.core.vad import Vad

__all__ = ["BatchStats", "Heard", "HearingBatch", "Listener"]

_RATE: Final = 16_000
_FRAME: Final = 320
_FRAME_BYTES: Final = _FRAME * SAMPLE_BYTES
_WINDOW_BYTES: Final = WINDOW * SAMPLE_BYTES
_WORTH_A_PEEK: Final = 128
"""With fewer new samples (8 ms) since the last window a peek finds nothing earlier."""


class Heard(NamedTuple):
    """One frame's answer."""

    end: int
    """Call time in samples at the end of the frame."""
    probability: float
    """Of speech, by the newest evidence at that instant; 0 where the energy gate is shut."""
    level_dbfs: float
    """Without rumble; see `voicebridge.core.energy_gate.levels_dbfs`."""


@dataclass(slots=True)
class BatchStats:
    """What was done, since the beginning."""

    frames: int = 0
    skipped: int = 0
    """Frames that the energy gate kept from the engine."""
    chunks: int = 0
    peeks: int = 0
    passes: int = 0


class _Job(NamedTuple):
    """One window for the engine."""

    window: bytes
    frame: int
    """The frame, of those pending, whose answer it gives."""
    keep: bool


class HearingBatch:
    """All calls that are listened to. Not thread-safe: the thread that ticks calls it.

    ::

        listener = batch.listen()          # a call begins
        listener.push(frame)               # each 20 ms frame, as it comes
        batch.run()                        # regularly, for all calls
        for heard in listener.take():      # one answer per frame
            event = speech_gate.hear(heard.probability)
        listener.peek = not speech_gate.speaking
        listener.close()                   # the call is over

    A window costs a fifth as much among thirty-two as it does alone, and a run of a hundred
    calls takes a millisecond or two: so one run per 20 ms for all calls, and a few, evenly
    spread, where there are hundreds. Run it regularly: what is pushed between two runs is
    kept. ``gate=None`` leaves the energy gates out.
    """

    def __init__(
        self,
        vad: Vad,
        gate: EnergyGateSettings | None = EnergyGateSettings(),  # noqa: B008 - frozen
    ) -> None:
        self._vad = vad
        self._gate = gate
        self._due: list[Listener] = []
        """Who has pushed since the last run, in order of arrival."""
        self.stats = BatchStats()

    def listen(self) -> Listener:
        """A call begins. Close the listener when it ends."""
        gate = None if self._gate is None else EnergyGate(self._gate)
        replay_ms = 0 if self._gate is None else self._gate.replay_ms
        return Listener(self, self._vad.open(), gate, replay_ms * _RATE // 1000)

    def run(self) -> None:
        """Answers every frame that was pushed. Costs nothing where none was."""
        if not self._due:
            return
        due, self._due = self._due, []
        levels = self._levels(due)
        first = 0
        for listener in due:
            last = first + len(listener.frames)
            listener.cut(levels[first:last], self.stats)
            first = last
        round_ = 0
        while asking := [listener for listener in due if len(listener.jobs) > round_]:
            self._ask(asking, [listener.jobs[round_] for listener in asking])
            round_ += 1
        for listener in due:
            listener.settle()

    def _levels(self, due: list[Listener]) -> list[float]:
        audio = b"".join([frame for listener in due for frame in listener.frames])
        return levels_dbfs(np.frombuffer(audio, "<i2").reshape(-1, _FRAME))

    def _ask(self, asking: list[Listener], jobs: list[_Job]) -> None:
        """One pass: at most one window of each call."""
        windows = np.frombuffer(b"".join([job.window for job in jobs]), "<i2")
        rows = np.array([listener.row for listener in asking], np.intp)
        keep = np.array([job.keep for job in jobs])
        kept = int(keep.sum())
        self.stats.passes += 1
        self.stats.chunks += kept
        self.stats.peeks += len(jobs) - kept
        answers = self._vad.probabilities(
            windows.reshape(-1, WINDOW), rows, None if kept == len(jobs) else keep
        )
        for listener, job, answer in zip(asking, jobs, answers.tolist(), strict=True):
            listener.answer(job, answer)

    def _push(self, listener: Listener, frame: bytes) -> None:
        if len(frame) != _FRAME_BYTES:
            raise ValueError(f"push frames of {_FRAME_BYTES} bytes")
        if not listener.frames:
            self._due.append(listener)
        listener.frames.append(frame)

    def _close(self, listener: Listener) -> None:
        if listener in self._due:
            self._due.remove(listener)
        self._vad.close(listener.row)


class Listener:
    """One call's end of the batch: `push`, `take`, `close`, and the switch `peek`.

    The rest is between it and the batch.
    """

    def __init__(self, batch: HearingBatch, row: int, gate: EnergyGate | None, replay: int) -> None:
        self.peek = True
        """Look at the newest audio besides; wanted until speech is found, wasted after."""
        self.row = row
        self.frames: list[bytes] = []
        self.jobs: list[_Job] = []
        self._batch = batch
        self._gate = gate
        self._replay = replay
        self._audio = bytes(_WINDOW_BYTES)
        """The newest audio: what is pending, and before it at least a context."""
        self._pending = 0
        """Samples at its end that the engine has not heard."""
        self._position = 0
        self._last = 0.0
        self._answers: list[float | None] = []
        self._levels: list[float] = []
        self._heard: list[Heard] = []
        self._closed = False

    def push(self, frame: bytes) -> None:
        """The next 20 ms of the call, PCM16 at 16 kHz. Raises ValueError for another length."""
        if not self._closed:
            self._batch._push(self, frame)

    def take(self) -> list[Heard]:
        """Drains the answers: one per frame pushed before the last run, in order."""
        heard, self._heard = self._heard, []
        return heard

    def close(self) -> None:
        """The call is over. Repeating it is harmless; pushing afterwards does nothing."""
        if not self._closed:
            self._closed = True
            self._batch._close(self)

    def cut(self, levels: list[float], stats: BatchStats) -> None:
        """Makes jobs of the frames that were pushed."""
        self._levels = levels
        self._answers = [None] * len(levels)
        stats.frames += len(levels)
        for index, frame in enumerate(self.frames):
            self._audio += frame
            self._pending += _FRAME
            if self._gate is None or self._gate.hear(levels[index]):
                self._cut_windows(index)
            else:
                # Only as much is kept as will be heard again when the gate opens.
                self._pending = min(self._pending, self._replay)
                self._answers[index] = 0.0
                stats.skipped += 1
        if self.peek and self._pending >= _WORTH_A_PEEK and self._may_begin():
            newest = self._audio[-_WINDOW_BYTES:]
            self.jobs.append(_Job(newest, len(self._answers) - 1, keep=False))
        self._audio = self._audio[-(max(self._pending, CHUNK) + CONTEXT) * SAMPLE_BYTES :]

    def _may_begin(self) -> bool:
        return self._gate is None or self._gate.is_loud

    def _cut_windows(self, frame: int) -> None:
        while self._pending >= CHUNK:
            start = len(self._audio) - (self._pending + CONTEXT) * SAMPLE_BYTES
            self.jobs.append(_Job(self._audio[start : start + _WINDOW_BYTES], frame, keep=True))
            self._pending -= CHUNK

    def answer(self, job: _Job, probability: float) -> None:
        """The engine's answer to a job."""
        self._answers[job.frame] = probability

    def settle(self) -> None:
        """All jobs are answered: frames without an answer of their own repeat the last one."""
        for level, answer in zip(self._levels, self._answers, strict=True):
            if answer is not None:
                self._last = answer
            self._position += _FRAME
            self._heard.append(Heard(self._position, self._last, level))
        self.frames.clear()
        self.jobs.clear()
