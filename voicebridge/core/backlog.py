"""Audio that came and was not played: a queue of samples that knows its quiet stretches.

The rule: it holds, and decides nothing. Blocks stand on the stream's own grid; whether a
block is quiet is found once, when it is complete.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import numpy as np

from voicebridge.core.config import SAMPLE_BYTES

if TYPE_CHECKING:
    from voicebridge.core.loudness import Loudness
    from voicebridge.core.timescale import Wave

__all__ = ["Backlog"]

_COMPACT_BYTES: Final = 65_536


class Backlog:
    """PCM16 samples in order. ``head`` is the place in the stream of the next to be played."""

    def __init__(self, block: int, loudness: Loudness) -> None:
        self._block = block
        self._loudness = loudness
        self._pcm = bytearray()
        self._start = 0
        """Bytes at the front that were taken."""
        self._quiet: deque[bool] = deque()
        self._first_block = 0
        self.head = 0
        self.tail = 0

    @property
    def samples(self) -> int:
        """How much is held."""
        return self.tail - self.head

    def append(self, pcm: bytes) -> int:
        """Adds whole samples; returns how many blocks they completed."""
        self._pcm += pcm
        done = self.tail // self._block
        self.tail += len(pcm) // SAMPLE_BYTES
        blocks = self.tail // self._block - done
        size = self._block * SAMPLE_BYTES
        rest = self.tail % self._block * SAMPLE_BYTES
        for number in range(blocks, 0, -1):
            end = len(self._pcm) - rest - (number - 1) * size
            # A block whose front was played already counts by what is left of it.
            self._quiet.append(self._loudness.is_quiet(bytes(self._pcm[max(0, end - size) : end])))
        return blocks

    def take(self, samples: int) -> bytes:
        """Removes the oldest ``samples``, all of which are held."""
        start = self._start
        end = start + samples * SAMPLE_BYTES
        pcm = bytes(memoryview(self._pcm)[start:end])
        self._start = end
        self.head += samples
        if end >= _COMPACT_BYTES:
            del self._pcm[:end]
            self._start = 0
        done = self.head // self._block
        while self._first_block < done:
            self._quiet.popleft()
            self._first_block += 1
        return pcm

    def peek(self, samples: int) -> Wave:
        """The oldest samples, at most so many, which stay."""
        start = self._start
        pcm = bytes(memoryview(self._pcm)[start : start + samples * SAMPLE_BYTES])
        return np.frombuffer(pcm, "<i2").astype(np.float32)

    def quiet_ahead(self, most: int) -> int:
        """How many of the oldest samples are quiet, up to ``most`` (and the block after)."""
        block = self._block
        ahead = block - self.head % block
        reached = 0
        for quiet in self._quiet:
            if not quiet:
                break
            reached = ahead
            ahead += block
            if reached >= most:
                break
        return reached
