"""Reads the weights that ship with the package; see ``voicebridge/data/README.md``.

The rule: data only. Pickles are refused, and each array must have the shape the network
expects, so that a damaged installation says so at start and not by hearing nothing.
"""

from __future__ import annotations

import zipfile
from dataclasses import fields
from functools import lru_cache
from importlib.resources import files
from typing import Final

import numpy as np

from voicebridge.core.silero import SileroVad, SileroWeights
from voicebridge.errors import ConfigError

__all__ = ["neural_vad", "silero_weights"]

_FILE: Final = "silero_vad_16k.npz"
_SHAPES: Final[dict[str, tuple[int, ...]]] = {
    "window": (256,),
    "conv0": (3, 129, 128),
    "bias0": (128,),
    "conv1": (3, 128, 64),
    "bias1": (64,),
    "conv2": (2, 64, 64),
    "bias2": (64,),
    "conv3": (64, 128),
    "bias3": (128,),
    "lstm": (256, 512),
    "lstm_bias": (512,),
    "output": (128,),
    "output_bias": (1,),
}


@lru_cache(maxsize=1)
def silero_weights() -> SileroWeights:
    """The weights of Silero VAD v6, 16 kHz: 222,849 numbers, read-only, loaded once.

    Raises:
        ConfigError: the file is missing or is not what the network needs.
    """
    try:
        with (files("voicebridge") / "data" / _FILE).open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            arrays = {field.name: archive[field.name] for field in fields(SileroWeights)}
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"voicebridge/data/{_FILE} cannot be read ({type(error).__name__}); "
            "install voicebridge again"
        ) from error
    for name, array in arrays.items():
        if array.shape != _SHAPES[name] or array.dtype != np.float32:
            raise ConfigError(
                f"voicebridge/data/{_FILE}: {name} is damaged; install voicebridge again"
            )
        array.setflags(write=False)
    return SileroWeights(**arrays)


def neural_vad() -> SileroVad:
    """A new engine on the shared weights; one per process is enough."""
    return SileroVad(silero_weights())
