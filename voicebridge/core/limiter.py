"""How loud what is sent may be: a gain that ducks, then a limiter.

The rule: audio below the ceiling at a gain of one passes bit for bit, and nothing waits. A
message is known whole when it is cut, so within it the limiter looks ahead for free: the gain
comes down over the millisecond before a peak. It comes back slowly, and only after the peaks
have been absent for longer than half a period of the lowest voice, so that one note keeps one
gain and no distortion is heard.

A phone scales full-scale audio differently from one application to the next, and its own gain
control exaggerates what is too loud, so peaks are kept 3 dB below full scale. Speech that is
mastered to that very level overshoots it by a hair here and there; it is left alone.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

from voicebridge.core.audio import from_samples, peak, to_samples

__all__ = ["Duck", "Limiter", "Volume", "linear"]

_RAMP_MS: Final = 15
_BLOCK_MS: Final = 1
_HOLD_BLOCKS: Final = 12
"""Half a period of 42 Hz: lower than any voice."""
_RELEASE_PER_BLOCK: Final = 0.002
"""From -3 dB back to none in 150 ms."""
_TOLERATED_DB: Final = 0.5
"""What exceeds the ceiling by no more does not start the limiter."""
_TAKEN_BACK: Final = 16
"""More messages than ever leave at once, or come back."""
_FULL_SCALE: Final = 32768.0

_Limit = tuple[float, int]
_AT_REST: Final[_Limit] = (1.0, 0)


def linear(db: float) -> float:
    """The factor that so many decibels are."""
    return float(10.0 ** (db / 20.0))


class Duck:
    """A gain from 0 to 1 that goes to its target along a ramp of 15 ms, when audio is cut."""

    __slots__ = ("_ramp_samples", "level", "target")

    def __init__(self, rate: int) -> None:
        self._ramp_samples = rate * _RAMP_MS // 1000
        self.level = 1.0
        """The gain at the end of the last message."""
        self.target = 1.0

    def apply(self, pcm: bytes) -> bytes:
        """One message at this gain; what a gain of one leaves is the same object."""
        level, target = self.level, self.target
        if level == target == 1.0:
            return pcm
        audio = to_samples(pcm).astype(np.float32)
        if level == target:
            audio *= np.float32(target)
            return from_samples(audio)
        length = min(self._ramp_samples, audio.size)
        rising = 0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 1) / length)
        audio[:length] *= (level + (target - level) * rising).astype(np.float32)
        audio[length:] *= np.float32(target)
        self.level = target
        return from_samples(audio)


class Limiter:
    """Keeps what is too loud within ``ceiling_dbfs``; one per call, fed message by message."""

    __slots__ = ("_block", "_ceiling", "_quiet", "_slope", "_tolerated", "state")

    def __init__(self, rate: int, ceiling_dbfs: float) -> None:
        self._ceiling = int(_FULL_SCALE * linear(ceiling_dbfs))
        self._block = max(1, rate * _BLOCK_MS // 1000)
        self._slope = np.arange(self._block, dtype=np.float32) / np.float32(self._block)
        self._tolerated = int(_FULL_SCALE * linear(min(0.0, ceiling_dbfs + _TOLERATED_DB)))
        top = self._tolerated >> 8
        self._quiet = bytes([*range(top), *range(256 - top, 256)])
        """The high bytes of samples that do not start it, beyond doubt."""
        self.state = _AT_REST
        """The gain that the last message ended with, and for how many blocks it holds yet."""

    def apply(self, pcm: bytes) -> bytes:
        """One message; one that is not too loud is the same object."""
        if self.state is _AT_REST:
            # Three times as fast as a peak, and most audio is nowhere near the ceiling.
            if not pcm[1::2].translate(None, self._quiet):
                return pcm
            if peak(pcm) <= self._tolerated:
                return pcm
        return self._limit(pcm)

    def _limit(self, pcm: bytes) -> bytes:
        block, ceiling = self._block, self._ceiling
        audio = to_samples(pcm).astype(np.float32)
        samples = audio.size
        if samples % block:
            audio = np.append(audio, np.zeros(-samples % block, np.float32))
        peaks = np.maximum.reduceat(np.abs(audio), np.arange(0, audio.size, block))
        edges = np.array(self._edges((ceiling / np.maximum(peaks, ceiling)).tolist()), np.float32)
        # A straight line between two gains that both are low enough is low enough, too.
        gains = edges[:-1, None] + (edges[1:] - edges[:-1])[:, None] * self._slope
        audio *= gains.reshape(-1)
        # Only a message that begins too loud has anything left to clip: within its first block.
        whole = np.clip(np.rint(audio, out=audio), -ceiling, ceiling, out=audio).astype("<i2")
        return whole[:samples].tobytes()

    def _edges(self, asked: list[float]) -> list[float]:
        """The gain at each edge of the blocks, given what each block's peak asks for."""
        gain, hold = self.state
        edges = [gain]
        # The edge between two blocks obeys both.
        for edge in map(min, asked, [*asked[1:], 1.0]):
            if edge <= gain and edge < 1.0:
                gain = edge
                hold = _HOLD_BLOCKS
            elif hold:
                hold -= 1
            else:
                gain = min(edge, gain + _RELEASE_PER_BLOCK)
            edges.append(gain)
        self.state = (gain, hold) if gain < 1.0 else _AT_REST
        return edges


class Volume:
    """Both, in the order they apply, and able to take messages back that did not go out."""

    __slots__ = ("_before", "_limiter", "duck")

    def __init__(self, rate: int, ceiling_dbfs: float | None) -> None:
        self.duck = Duck(rate)
        self._limiter = None if ceiling_dbfs is None else Limiter(rate, ceiling_dbfs)
        self._before: deque[tuple[float, _Limit]] = deque(maxlen=_TAKEN_BACK)

    def apply(self, pcm: bytes) -> bytes:
        """One message as it is to be sent."""
        duck, limiter = self.duck, self._limiter
        state = _AT_REST if limiter is None else limiter.state
        self._before.append((duck.level, state))
        if duck.level != 1.0 or duck.target != 1.0:
            pcm = duck.apply(pcm)
        return pcm if limiter is None else limiter.apply(pcm)

    def rest(self) -> None:
        """A silent message was cut: in silence a gain may jump."""
        duck, limiter = self.duck, self._limiter
        self._before.append((duck.level, _AT_REST if limiter is None else limiter.state))
        duck.level = duck.target
        if limiter is not None:
            limiter.state = _AT_REST

    def take_back(self, count: int) -> None:
        """The last ``count`` messages did not go out: what follows continues before them."""
        before = self._before
        for _ in range(min(count, len(before))):
            self.duck.level, state = before.pop()
            if self._limiter is not None:
                self._limiter.state = state
