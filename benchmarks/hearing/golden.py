"""Makes ``tests/core/silero_golden.npz``: what onnxruntime says to the clips in tests/speech.

    pip install onnxruntime
    python -m benchmarks.hearing.golden silero_vad/data/silero_vad_16k_op15.onnx

The tests compare the numpy network with these, so that they need neither onnxruntime nor the
ONNX file.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["reference"]

TESTS = Path(__file__).parents[2] / "tests"
_CHUNK, _CONTEXT = 512, 64


def reference(
    model: Path, recordings: dict[str, npt.NDArray[np.int16]]
) -> dict[str, npt.NDArray[np.float32]]:
    """Probabilities of the whole chunks of each recording, by onnxruntime."""
    onnxruntime: Any = import_module("onnxruntime")
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    answers = {}
    for name, audio in recordings.items():
        padded = np.concatenate([np.zeros(_CONTEXT, np.int16), audio]).astype(np.float32) / 32768
        state, found = np.zeros((2, 1, 128), np.float32), []
        for start in range(0, audio.size // _CHUNK * _CHUNK, _CHUNK):
            window = padded[None, start : start + _CONTEXT + _CHUNK]
            said, state = session.run(
                None, {"input": window, "state": state, "sr": np.array(16_000)}
            )
            found.append(said[0, 0])
        answers[name] = np.array(found, np.float32)
    return answers


def main() -> None:
    clips = sorted((TESTS / "speech").glob("*.flac"))
    recordings = {path.stem: soundfile.read(path, dtype="int16")[0] for path in clips}
    answers = reference(Path(sys.argv[1]), recordings)
    np.savez_compressed(TESTS / "core" / "silero_golden.npz", allow_pickle=False, **answers)
    print(f"{len(answers)} clips, {sum(map(len, answers.values()))} probabilities")


if __name__ == "__main__":
    main()
