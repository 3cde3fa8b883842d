"""Voice activity: how likely is it that somebody speaks, for many calls at once.

The rule: an engine hears windows and remembers one row of state per call; everything else
(cutting audio into windows, levels, thresholds) is done elsewhere. So engines can be changed,
and all calls of a process go through one matrix product.
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["CHUNK", "CONTEXT", "WINDOW", "EnergyVad", "Floats", "StateRows", "Vad"]

CHUNK: Final = 512
"""New samples per window, 32 ms at 16 kHz."""
CONTEXT: Final = 64
"""Samples before the chunk that an engine looks back at."""
WINDOW: Final = CONTEXT + CHUNK

Floats = npt.NDArray[np.float32]


class Vad(Protocol):
    """What every engine does. 16 kHz mono."""

    def open(self) -> int:
        """A row of fresh state for a call that begins."""

    def close(self, row: int) -> None:
        """The call is over; its row may be given to another."""

    def probabilities(
        self,
        windows: npt.NDArray[np.int16],
        rows: npt.NDArray[np.intp],
        keep: npt.NDArray[np.bool_] | None = None,
    ) -> Floats:
        """Speech probability of each window: (n, WINDOW) samples in, (n,) in [0, 1] out.

        ``rows`` says whose windows they are, each row once. Where ``keep`` is False the
        window is only looked at: the call's state stays as it was. None keeps all.
        """


class StateRows:
    """State of calls that come and go, one row of float32 each, in one array that grows."""

    def __init__(self, initial: Floats, capacity: int = 32) -> None:
        """``initial``: (width,), the state of a call that begins."""
        self._initial = initial
        self.values: Floats = np.tile(initial, (capacity, 1))
        self._free = list(range(capacity - 1, -1, -1))
        self._open: set[int] = set()

    def open(self) -> int:
        """A row in its initial state."""
        if not self._free:
            capacity = len(self.values)
            self.values = np.concatenate([self.values, np.tile(self._initial, (capacity, 1))])
            self._free = list(range(2 * capacity - 1, capacity - 1, -1))
        row = self._free.pop()
        self._open.add(row)
        self.values[row] = self._initial
        return row

    def close(self, row: int) -> None:
        """Gives a row back. Raises KeyError for one that is not open."""
        self._open.remove(row)
        self._free.append(row)

    def __len__(self) -> int:
        return len(self._open)

    def store(
        self,
        rows: npt.NDArray[np.intp],
        states: Floats,
        keep: npt.NDArray[np.bool_] | None,
    ) -> None:
        """Writes the new state of each row, except where ``keep`` is False."""
        if keep is None:
            self.values[rows] = states
        else:
            self.values[rows[keep]] = states[keep]


_QUIETEST_DB: Final = -62.0
"""The floor is taken to be no lower: digital silence is not a measure of noise."""
_RISE_DB: Final = 0.06
"""Per window; the floor falls at once, and rises by 2 dB a second."""
_HALF_DB: Final = 9.0
"""So far above the floor a sound counts as speech, one time in two."""
_SLOPE: Final = 0.6
_FULL_SCALE_DB: Final = 20 * np.log10(32768.0)


class EnergyVad:
    """The engine of last resort: loud is speech. Music, coughs and keys are loud too."""

    def __init__(self) -> None:
        self._floors = StateRows(np.array([0.0], np.float32))

    def open(self) -> int:
        """See `Vad`."""
        return self._floors.open()

    def close(self, row: int) -> None:
        """See `Vad`."""
        self._floors.close(row)

    def probabilities(
        self,
        windows: npt.NDArray[np.int16],
        rows: npt.NDArray[np.intp],
        keep: npt.NDArray[np.bool_] | None = None,
    ) -> Floats:
        """See `Vad`. The state is one number, the floor in dB below full scale."""
        samples = windows[:, CONTEXT:].astype(np.float32)
        power = np.einsum("ij,ij->i", samples, samples) / CHUNK
        levels = 10 * np.log10(power + np.float32(1e-9)) - np.float32(_FULL_SCALE_DB)
        floors = np.minimum(self._floors.values[rows, 0] + np.float32(_RISE_DB), levels)
        np.maximum(floors, np.float32(_QUIETEST_DB), out=floors)
        self._floors.store(rows, floors[:, None], keep)
        odds = np.float32(_SLOPE) * (levels - floors - np.float32(_HALF_DB))
        probabilities: Floats = (0.5 + 0.5 * np.tanh(0.5 * odds)).astype(np.float32)
        return probabilities
