"""Real speech for the tests of hearing, and engines whose answers are known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from voicebridge.core.vad import CHUNK, WINDOW

if TYPE_CHECKING:
    import numpy.typing as npt

    from voicebridge.core.vad import Floats, Vad

SPEECH = sorted((Path(__file__).parents[1] / "speech").glob("*.flac"))


def windows_of(audio: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """All whole chunks of a recording, each after its context; silence before the first."""
    padded = np.concatenate([np.zeros(WINDOW - CHUNK, np.int16), audio])
    count = audio.size // CHUNK
    return np.stack([padded[k * CHUNK : k * CHUNK + WINDOW] for k in range(count)])


def probabilities(vad: Vad, audio: npt.NDArray[np.int16]) -> Floats:
    """One call alone, chunk by chunk."""
    row = np.array([vad.open()], np.intp)
    answers = [vad.probabilities(window[None], row) for window in windows_of(audio)]
    vad.close(int(row[0]))
    return np.concatenate(answers)


class Recorder:
    """An engine that answers with the loudest sample of the chunk, and keeps what it was told."""

    def __init__(self) -> None:
        self.kept: dict[int, list[npt.NDArray[np.int16]]] = {}
        self.peeked: dict[int, list[npt.NDArray[np.int16]]] = {}
        self.closed: list[int] = []
        self.batches: list[int] = []

    def open(self) -> int:
        row = len(self.kept)
        self.kept[row], self.peeked[row] = [], []
        return row

    def close(self, row: int) -> None:
        self.closed.append(row)

    def probabilities(
        self,
        windows: npt.NDArray[np.int16],
        rows: npt.NDArray[np.intp],
        keep: npt.NDArray[np.bool_] | None = None,
    ) -> Floats:
        assert windows.shape == (len(rows), WINDOW)
        assert len(set(rows.tolist())) == len(rows), "each row once"
        self.batches.append(len(rows))
        for index, (row, window) in enumerate(zip(rows.tolist(), windows, strict=True)):
            kept = keep is None or bool(keep[index])
            (self.kept if kept else self.peeked)[row].append(window.copy())
        return np.asarray(windows[:, WINDOW - CHUNK :].max(axis=1) / 32768, np.float32)
