"""What a telephone does to audio: G.722 decoding, and a round trip through Opus as calls use it.

Both through the C libraries of Debian's packages, by ctypes: no build, no wheel.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

RATE = 16_000
_FRAME = 960
"""60 ms."""
_APPLICATION_VOIP = 2048
_SET_BITRATE = 4002
_SET_COMPLEXITY = 4010
_GET_LOOKAHEAD = 4027
_PACKET_LIMIT = 1500


class Telephone:
    """The codecs under a root of unpacked packages."""

    def __init__(self, root: Path) -> None:
        (spandsp,) = root.glob("usr/lib/*/libspandsp.so.2")
        (opus,) = root.glob("usr/lib/*/libopus.so.0")
        self._g722 = ctypes.CDLL(str(spandsp))
        self._g722.g722_decode_init.restype = ctypes.c_void_p
        self._opus = ctypes.CDLL(str(opus))
        self._opus.opus_encoder_create.restype = ctypes.c_void_p
        self._opus.opus_decoder_create.restype = ctypes.c_void_p

    def g722(self, path: Path) -> npt.NDArray[np.float32]:
        """A G.722 file (64 kbit/s, no header) as samples in [-1, 1) at 16 kHz."""
        data = path.read_bytes()
        samples = np.zeros(2 * len(data), np.int16)
        state = ctypes.c_void_p(self._g722.g722_decode_init(None, 64_000, 0))
        count = self._g722.g722_decode(
            state, samples.ctypes.data_as(ctypes.c_void_p), data, len(data)
        )
        self._g722.g722_decode_free(state)
        return samples[:count].astype(np.float32) / np.float32(32768)

    def call(self, audio: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Through Opus (voice, 24 kbit/s, packets of 60 ms) and back, without its delay."""
        opus, error = self._opus, ctypes.c_int()
        encoder = ctypes.c_void_p(
            opus.opus_encoder_create(RATE, 1, _APPLICATION_VOIP, ctypes.byref(error))
        )
        decoder = ctypes.c_void_p(opus.opus_decoder_create(RATE, 1, ctypes.byref(error)))
        opus.opus_encoder_ctl(encoder, _SET_BITRATE, ctypes.c_int(24_000))
        opus.opus_encoder_ctl(encoder, _SET_COMPLEXITY, ctypes.c_int(5))
        delay = ctypes.c_int()
        opus.opus_encoder_ctl(encoder, _GET_LOOKAHEAD, ctypes.byref(delay))
        frames = -(-(audio.size + delay.value) // _FRAME)
        padded = np.zeros(frames * _FRAME, np.int16)
        padded[: audio.size] = audio
        heard = np.zeros_like(padded)
        packet = ctypes.create_string_buffer(_PACKET_LIMIT)
        for first in range(0, padded.size, _FRAME):
            piece = padded[first:].ctypes.data_as(ctypes.c_void_p)
            out = heard[first:].ctypes.data_as(ctypes.c_void_p)
            size = opus.opus_encode(encoder, piece, _FRAME, packet, _PACKET_LIMIT)
            opus.opus_decode(decoder, packet, size, out, _FRAME, 0)
        opus.opus_encoder_destroy(encoder)
        opus.opus_decoder_destroy(decoder)
        return heard[delay.value : delay.value + audio.size]
