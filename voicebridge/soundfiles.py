"""Stereo PCM16 files that can be read while they grow: WAV, and FLAC at half the size.

The rule: after each flush the header says how much is there. Both are written through plain
file descriptors, so that a full disk is an `OSError` of ours and not a surprise inside an
encoder, and a file is created, never followed or overwritten, for its owner alone.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import soundfile

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FrameWriter", "open_flac", "open_wav"]

_MODE: Final = 0o600
_CHANNELS: Final = 2
_FRAME: Final = 2 * _CHANNELS
_SAME_NAME_LIMIT: Final = 1_000
_WAV_HEADER: Final = 44
_WAV_LIMIT: Final = 0xFFFF_FFFF - _WAV_HEADER
_SILENCE: Final = bytes(_FRAME * 16_000)

_FLAC_LARGEST_BLOCK: Final = 10
_FLAC_TOTAL: Final = 18
"""Offsets in the file (RFC 9639, STREAMINFO): two bytes with the most samples of a block, and
eight bytes whose last 36 bits are the total of samples."""
_FLAC_TOTAL_BITS: Final = 36


class FrameWriter(Protocol):
    """A file of interleaved stereo PCM16. Any method may raise OSError; then only close it."""

    def write(self, stereo: bytes) -> None: ...
    def write_silence(self, frames: int) -> None: ...
    def flush(self) -> None:
        """What was written can be read from now on."""

    def close(self) -> None:
        """Releases the file even where it raises."""


def create(stem: Path, suffix: str) -> int:
    """A new file's descriptor; a number is added where the name is taken.

    Raises:
        OSError: it cannot be created.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    for number in range(1, _SAME_NAME_LIMIT):
        name = stem.name + (f"-{number}" if number > 1 else "") + suffix
        try:
            return os.open(stem.with_name(name), flags, _MODE)
        except FileExistsError:
            continue
    raise FileExistsError(f"{_SAME_NAME_LIMIT} recordings of one call are there already")


def open_wav(stem: Path, rate: int) -> FrameWriter:
    """``stem.wav``. Raises OSError."""
    return WavWriter(create(stem, ".wav"), rate)


def open_flac(stem: Path, rate: int) -> FrameWriter:
    """``stem.flac``. Raises OSError."""
    return FlacWriter(create(stem, ".flac"), rate)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    """A short write is what a disk does that is nearly full; the next one says why."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


class WavWriter:
    """RIFF WAVE; beyond 4 GiB (18 hours) the header no longer tells the length."""

    def __init__(self, descriptor: int, rate: int) -> None:
        self._descriptor = descriptor
        self._rate = rate
        self._size = 0
        try:
            self.flush()
        except OSError:
            os.close(descriptor)
            raise

    def write(self, stereo: bytes) -> None:
        _write_all(self._descriptor, stereo, _WAV_HEADER + self._size)
        self._size += len(stereo)

    def write_silence(self, frames: int) -> None:
        left = frames * _FRAME
        while left > 0:
            self.write(_SILENCE[:left])
            left -= len(_SILENCE)

    def flush(self) -> None:
        size = min(self._size, _WAV_LIMIT)
        header = struct.pack(
            "<4sI4s4sIHHIIHH4sI",
            b"RIFF", _WAV_HEADER - 8 + size, b"WAVE", b"fmt ", 16, 1, _CHANNELS,
            self._rate, self._rate * _FRAME, _FRAME, 16, b"data", size,
        )  # fmt: skip
        _write_all(self._descriptor, header, 0)

    def close(self) -> None:
        try:
            self.flush()
        finally:
            os.close(self._descriptor)


class FlacWriter:
    """FLAC by libsndfile, which gives whole blocks of it at a time."""

    def __init__(self, descriptor: int, rate: int) -> None:
        self._sink = _Sink(descriptor)
        self._encoded = 0
        try:
            self._file = soundfile.SoundFile(
                self._sink, "w", rate, _CHANNELS, subtype="PCM_16", format="FLAC"
            )
            self._sink.check()
        except Exception:
            os.close(descriptor)
            raise

    def write(self, stereo: bytes) -> None:
        self._encode(np.frombuffer(stereo, "<i2").reshape(-1, _CHANNELS))

    def write_silence(self, frames: int) -> None:
        second = len(_SILENCE) // _FRAME
        while frames > 0:
            self._encode(np.zeros((min(frames, second), _CHANNELS), dtype=np.int16))
            frames -= second

    def _encode(self, samples: np.ndarray) -> None:
        self._file.write(samples)
        self._encoded += len(samples)
        self._sink.check()

    def flush(self) -> None:
        """The encoder holds back less than one block (a quarter of a second)."""
        self._file.flush()
        self._sink.tell_total(self._encoded)
        self._sink.check()

    def close(self) -> None:
        try:
            self._file.close()
            self._sink.check()
        finally:
            os.close(self._sink.descriptor)


class _Sink:
    """The file as libsndfile wants one. Errors are kept: raised in a callback they are lost."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._offset = 0
        self._end = 0
        self._error: OSError | None = None

    def check(self) -> None:
        """Raises the first OSError there was."""
        if self._error is not None:
            raise self._error

    def tell_total(self, frames: int) -> None:
        """Puts the samples of all whole blocks into STREAMINFO.

        The encoder does so at its very end only, and many readers refuse a file without it.
        """
        try:
            (block,) = struct.unpack(">H", os.pread(self.descriptor, 2, _FLAC_LARGEST_BLOCK))
            (packed,) = struct.unpack(">Q", os.pread(self.descriptor, 8, _FLAC_TOTAL))
            # A block is written when the first sample of the next one is there.
            total = max(0, frames - 1) // block * block
            packed = packed >> _FLAC_TOTAL_BITS << _FLAC_TOTAL_BITS | total
            _write_all(self.descriptor, struct.pack(">Q", packed), _FLAC_TOTAL)
        except OSError as error:
            self._error = self._error or error

    def write(self, data: bytes) -> int:
        if self._error is None:
            try:
                _write_all(self.descriptor, data, self._offset)
            except OSError as error:
                self._error = error
        self._offset += len(data)
        self._end = max(self._end, self._offset)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._offset, os.SEEK_END: self._end}[whence]
        self._offset = base + offset
        return self._offset

    def tell(self) -> int:
        return self._offset

    def read(self, size: int) -> bytes:
        data = os.pread(self.descriptor, size, self._offset)
        self._offset += len(data)
        return data
