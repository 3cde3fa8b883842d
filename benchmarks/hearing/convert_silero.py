"""Makes ``voicebridge/data/silero_vad_16k.npz`` from the published ONNX file.

    pip download --no-deps silero-vad==6.2.3 && unzip silero_vad-6.2.3-py3-none-any.whl
    pip install onnx
    python -m benchmarks.hearing.convert_silero silero_vad/data/silero_vad_16k_op15.onnx

The ONNX file is Silero VAD v6.2, (c) 2020-present Silero Team, MIT. Nothing is trained,
rounded or pruned: weights are transposed, the two LSTM matrices are stacked, its two biases
added, and taps that meet nothing but padding are left out. The spectrogram is stored in the
ONNX file as a matrix of windowed sines and cosines; its first row is the window itself, and
the conversion fails unless the other 257 rows follow from it.
"""

from __future__ import annotations

import hashlib
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

SHA256 = "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49"
"""Of ``silero_vad_16k_op15.onnx`` in the wheel of silero-vad 6.2.3."""
TARGET = Path(__file__).parents[2] / "voicebridge" / "data" / "silero_vad_16k.npz"


def convert(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The arrays of `voicebridge.core.silero.SileroWeights`, by name."""
    onnx: Any = import_module("onnx")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise SystemExit(f"{path} is not silero_vad_16k_op15.onnx of silero-vad 6.2.3")
    graph = onnx.load_from_string(data).graph
    raw = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}

    arrays = {"window": _window(raw["model.stft.forward_basis_buffer"][:, 0, :])}
    for index, taps in enumerate((slice(None), slice(None), slice(1, None), 1)):
        prefix = f"model.encoder.{index}.reparam_conv"
        arrays[f"conv{index}"] = raw[f"{prefix}.weight"].transpose(2, 1, 0)[taps]
        arrays[f"bias{index}"] = raw[f"{prefix}.bias"]
    cell = "model.decoder.rnn"
    arrays["lstm"] = np.concatenate([raw[f"{cell}.weight_ih"], raw[f"{cell}.weight_hh"]], axis=1).T
    arrays["lstm_bias"] = raw[f"{cell}.bias_ih"] + raw[f"{cell}.bias_hh"]
    arrays["output"] = raw["model.decoder.decoder.2.weight"].reshape(-1)
    arrays["output_bias"] = raw["model.decoder.decoder.2.bias"]
    return {name: np.ascontiguousarray(value, np.float32) for name, value in arrays.items()}


def _window(basis: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    window: npt.NDArray[np.float32] = basis[0]
    angles = 2 * np.pi * np.outer(np.arange(129), np.arange(256)) / 256
    transform = np.concatenate([np.cos(angles), -np.sin(angles)]) * window
    if np.abs(transform - basis).max() > 1e-6:
        raise SystemExit("the spectrogram of this file is not a windowed Fourier transform")
    return window


def main() -> None:
    arrays = convert(Path(sys.argv[1]))
    np.savez_compressed(TARGET, allow_pickle=False, **arrays)
    numbers = sum(value.size for value in arrays.values())
    print(f"{TARGET.name}: {numbers} numbers, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
