"""Silero VAD v6 (16 kHz) in numpy: one pass for a window of each call.

The rule: what is computed is the published network, to float32 rounding; only the order of
the work is ours. The network: a spectrogram of four overlapping frames, four convolutions
over time that end in a single step, one LSTM cell, one output.

All arrays are time-major, (steps, calls, channels). A tap of a convolution is then one
matrix product over all calls and steps that it touches, the padding at the edges is left out
instead of multiplied, and nothing is copied in between. Batches are cut into groups whose
intermediate results stay in the cache next to the weights (1.2 MB); the memory they need is
allocated once.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from voicebridge.core.vad import WINDOW, Floats, StateRows

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["SileroVad", "SileroWeights"]

_FRAME: Final = 256
_HOP: Final = 128
_STEPS: Final = 4
_BINS: Final = _FRAME // 2 + 1
_UNITS: Final = 128
_REFLECTED: Final = 64
"""Samples mirrored at the end of the window, to fill the last frame."""
_GROUP: Final = 48
"""Calls per pass. More gain nothing in the products and fall out of the cache."""
_FULL_SCALE: Final = np.float32(32768)


@dataclass(frozen=True, slots=True)
class SileroWeights:
    """The network's numbers, float32; convolutions as (taps, inputs, outputs).

    Where a tap only ever meets padding it is left out: the third convolution makes one
    step of two (taps 1 and 2), the fourth one of one (tap 1).
    """

    window: Floats  # (256,)
    conv0: Floats  # (3, 129, 128)
    bias0: Floats  # (128,)
    conv1: Floats  # (3, 128, 64), every second step
    bias1: Floats  # (64,)
    conv2: Floats  # (2, 64, 64)
    bias2: Floats  # (64,)
    conv3: Floats  # (64, 128)
    bias3: Floats  # (128,)
    lstm: Floats  # (256, 512): input then hidden; gates input, forget, cell, output
    lstm_bias: Floats  # (512,)
    output: Floats  # (128,)
    output_bias: Floats  # (1,)


class SileroVad:
    """An engine behind `Vad`. One per process; not thread-safe."""

    def __init__(self, weights: SileroWeights) -> None:
        self._weights = weights
        # Samples stay on the int16 scale up to here; a power of two loses nothing.
        self._window = weights.window / _FULL_SCALE
        # sigmoid(x) = (1 + tanh(x / 2)) / 2: with three gates halved, one tanh does all four.
        halves = np.full(4 * _UNITS, 0.5, np.float32)
        halves[2 * _UNITS : 3 * _UNITS] = 1.0
        self._lstm = np.ascontiguousarray(weights.lstm * halves)
        self._lstm_bias = weights.lstm_bias * halves
        self._output = np.ascontiguousarray(weights.output * np.float32(0.5))
        self._states = StateRows(np.zeros(2 * _UNITS, np.float32))
        self._scratch: dict[int, _Scratch] = {}
        self._memory = np.empty(_Scratch.size(_GROUP), np.float32)

    def open(self) -> int:
        """See `Vad`."""
        return self._states.open()

    def close(self, row: int) -> None:
        """See `Vad`."""
        self._states.close(row)

    def probabilities(
        self,
        windows: npt.NDArray[np.int16],
        rows: npt.NDArray[np.intp],
        keep: npt.NDArray[np.bool_] | None = None,
    ) -> Floats:
        """See `Vad`. The state of a call is the cell's output and memory."""
        count = len(windows)
        result = np.empty(count, np.float32)
        # Groups of one size: a small one at the end would cost as much as a large one.
        groups = max(1, -(-count // _GROUP))
        ends = [count * number // groups for number in range(groups + 1)]
        for first, last in pairwise(ends) if count else ():
            group = slice(first, last)
            result[group] = self._pass(
                windows[group], rows[group], None if keep is None else keep[group]
            )
        return result

    def _pass(
        self,
        windows: npt.NDArray[np.int16],
        rows: npt.NDArray[np.intp],
        keep: npt.NDArray[np.bool_] | None,
    ) -> Floats:
        count = len(windows)
        scratch = self._scratch.get(count)
        if scratch is None:
            scratch = self._scratch[count] = _Scratch(self._memory, count)
        self._encode(windows, scratch)
        states = self._states.values[rows]
        self._step(scratch, states)
        self._states.store(rows, states, keep)
        # The cell's output is ours by now; only what is above zero counts.
        odds = np.maximum(states[:, :_UNITS], 0) @ self._output
        odds += self._weights.output_bias * np.float32(0.5)
        np.tanh(odds, out=odds)
        odds += 1
        odds *= 0.5
        return odds

    def _encode(self, windows: npt.NDArray[np.int16], scratch: _Scratch) -> None:
        """Spectrogram and convolutions: windows to the first half of ``scratch.cell_in``."""
        weights = self._weights
        audio = scratch.audio
        audio[:, :WINDOW] = windows
        audio[:, WINDOW:] = audio[:, WINDOW - 2 : WINDOW - 2 - _REFLECTED : -1]
        np.multiply(scratch.frames, self._window, out=scratch.windowed)
        magnitudes = scratch.magnitudes
        for half in (slice(0, 2), slice(2, 4)):
            # In halves: a transform of more than a hundred rows takes twice as long per row.
            np.abs(np.fft.rfft(scratch.windowed[half]), out=magnitudes[half])

        before, centre, after = weights.conv0
        first, part = scratch.first, scratch.first_part
        np.matmul(magnitudes, centre, out=first)
        first[1:] += np.matmul(magnitudes[:-1], before, out=part)
        first[:-1] += np.matmul(magnitudes[1:], after, out=part)
        _rectify(first, weights.bias0)

        before, centre, after = weights.conv1
        second, part = scratch.second, scratch.second_part
        np.matmul(first[::2], centre, out=second)
        second += np.matmul(first[1::2], after, out=part)
        second[1] += np.matmul(first[1], before, out=part[0])
        _rectify(second, weights.bias1)

        third = np.matmul(second[0], weights.conv2[0], out=scratch.third)
        third += np.matmul(second[1], weights.conv2[1], out=part[0])
        _rectify(third, weights.bias2)

        fourth = np.matmul(third, weights.conv3, out=scratch.fourth)
        fourth += weights.bias3
        np.maximum(fourth, 0, out=scratch.cell_in[:, :_UNITS])

    def _step(self, scratch: _Scratch, states: Floats) -> None:
        """One step of the LSTM cell; ``states``, (calls, 256), is changed in place."""
        hidden, memory = states[:, :_UNITS], states[:, _UNITS:]
        scratch.cell_in[:, _UNITS:] = hidden
        gates = np.matmul(scratch.cell_in, self._lstm, out=scratch.gates)
        gates += self._lstm_bias
        np.tanh(gates, out=gates)
        let_in, forget, news, let_out = scratch.gate
        forget += 1
        memory *= forget
        let_in += 1
        let_in *= news
        memory += let_in
        memory *= 0.5
        np.tanh(memory, out=hidden)
        let_out += 1
        hidden *= let_out
        hidden *= 0.5


def _rectify(steps: Floats, bias: Floats) -> None:
    steps += bias
    np.maximum(steps, 0, out=steps)


class _Scratch:
    """The intermediate results of a batch of ``count`` calls: views of shared memory."""

    _PER_CALL: Final = (
        WINDOW + _REFLECTED,
        _STEPS * _FRAME,
        _STEPS * _BINS,
        _STEPS * _UNITS,
        (_STEPS - 1) * _UNITS,
        2 * 64,
        2 * 64,
        64,
        _UNITS,
        2 * _UNITS,
        4 * _UNITS,
    )

    @classmethod
    def size(cls, count: int) -> int:
        """Numbers that ``count`` calls need."""
        return count * sum(cls._PER_CALL)

    def __init__(self, memory: Floats, count: int) -> None:
        ends = np.cumsum(self._PER_CALL) * count
        parts = iter(np.split(memory[: ends[-1]], ends[:-1]))
        self.audio = next(parts).reshape(count, -1)
        item = memory.itemsize
        self.frames = np.lib.stride_tricks.as_strided(
            self.audio, (_STEPS, count, _FRAME), (_HOP * item, self.audio.strides[0], item)
        )
        self.windowed = next(parts).reshape(_STEPS, count, _FRAME)
        self.magnitudes = next(parts).reshape(_STEPS, count, _BINS)
        self.first = next(parts).reshape(_STEPS, count, _UNITS)
        self.first_part = next(parts).reshape(_STEPS - 1, count, _UNITS)
        self.second = next(parts).reshape(2, count, 64)
        self.second_part = next(parts).reshape(2, count, 64)
        self.third = next(parts).reshape(count, 64)
        self.fourth = next(parts).reshape(count, _UNITS)
        self.cell_in = next(parts).reshape(count, 2 * _UNITS)
        self.gates = next(parts).reshape(count, 4 * _UNITS)
        self.gate = tuple(self.gates[:, k * _UNITS : (k + 1) * _UNITS] for k in range(4))
