"""What a stream of bytes holds: sample encoding, byte order, channels. By its sound alone.

The rule: only sound that a wrong reading could not have is evidence. Speech is smooth, that
is, neighbouring samples are alike; read with the wrong bytes it is noise. Silence, hiss and
steady tones say nothing or mislead (a tone at a quarter of the rate looks like two equal
channels, its byte-swapped samples repeat like a smooth wave), so windows count only where
they are loud and smooth, and only once their levels have varied as those of speech do.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Content", "ContentWatch", "read_window"]

_WINDOW: Final = 3_840
"""Bytes looked at at a time: 120 ms at 16 kHz, a multiple of the widest sample frame."""
_UNIT: Final = 8
"""Bytes after which every layout begins anew: two float32."""
_WINDOWS_PER_MESSAGE: Final = 8
_ENOUGH: Final = 10
_PATIENCE: Final = 30
"""Windows looked at before only every second is, every third, and so on: 4 s at 16 kHz."""
_AGREEMENT: Final = 0.9
_VARIED: Final = 2.0
"""The loudest window that counted against the quietest: 6 dB."""
_LOUD: Final = 512 / 32768
"""Peak; below 128 bits of amplitude a byte-swapped sample is just 256 times as large."""
_FLOAT_EXPONENTS: Final = (97, 127)
"""Of float32 values from 1e-9 up to 2: all that a sample may be but zero."""
_SMOOTH: Final = 0.5
_ROUGHER: Final = 0.3

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Content:
    """How samples are laid out, whatever their rate."""

    encoding: Literal["pcm16", "float32"] = "pcm16"
    channels: int = 1
    big_endian: bool = False

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return self.channels * (2 if self.encoding == "pcm16" else 4)

    def read(self, data: bytes) -> Floats:
        """The samples as they come, channels interleaved, in [-1, 1]; for whole samples."""
        order = ">" if self.big_endian else "<"
        if self.encoding == "pcm16":
            return np.frombuffer(data, order + "i2") / 32768.0
        with np.errstate(invalid="ignore"):  # a signalling NaN is no worse than a quiet one
            values = np.frombuffer(data, order + "f4").astype(np.float64)
        return np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=-1.0)


class ContentWatch:
    """Gathers evidence until ``verdict`` is there. Feed it every byte since the socket opened."""

    def __init__(self) -> None:
        self.verdict: Content | None = None
        """The layout that nearly all windows agree upon, once there are enough."""
        self._votes: Counter[Content] = Counter()
        self._quietest = float("inf")
        self._loudest = 0.0
        self._pending = bytearray()
        self._looked = 0
        self._passed = 0

    def opened(self) -> None:
        """A new socket: samples begin with its first byte."""
        self._pending.clear()

    def feed(self, data: bytes) -> None:
        """Looks at what is complete, at a bounded cost per message."""
        pending = self._pending
        pending += data
        whole = len(pending) // _WINDOW
        for index in range(min(whole, _WINDOWS_PER_MESSAGE)):
            self._passed += 1
            # What has said nothing for long will not say more if looked at more often.
            if self._passed > self._looked // _PATIENCE:
                self._passed = 0
                self._looked += 1
                self._look(bytes(pending[index * _WINDOW : (index + 1) * _WINDOW]))
        del pending[: whole * _WINDOW]

    @property
    def undecided(self) -> bool:
        """Whether nothing that was looked at was evidence of any layout."""
        return not self._votes

    def _judge(self) -> Content | None:
        total = self._votes.total()
        if total < _ENOUGH or self._loudest < _VARIED * self._quietest:
            return None
        content, count = self._votes.most_common(1)[0]
        return content if count >= _AGREEMENT * total else None

    def _look(self, window: bytes) -> None:
        content = read_window(window)
        if content is not None:
            level = float(np.sqrt(np.mean(np.square(content.read(window)))))
            self._votes[content] += 1
            self._loudest = max(self._loudest, level)
            self._quietest = min(self._quietest, level)
            self.verdict = self._judge()


def read_window(window: bytes) -> Content | None:
    """The layout of one window, None where its sound is no evidence.

    ``window`` begins with a sample of the first channel and is a multiple of eight bytes.
    """
    layout = _float_layout(window) or _pcm_layout(window)
    if layout is None:
        return None
    channels = _channels(layout.read(window))
    if channels is None:
        return None
    return Content(layout.encoding, channels, layout.big_endian)


def _float_layout(window: bytes) -> Content | None:
    for big_endian in (False, True):
        words = np.frombuffer(window, ">u4" if big_endian else "<u4")
        exponents = (words >> 23) & 0xFF
        sounding = (words & 0x7FFF_FFFF) != 0
        low, high = _FLOAT_EXPONENTS
        possible = (exponents >= low) & (exponents <= high)
        count = np.count_nonzero(sounding)
        if count < words.size // 2 or np.count_nonzero(possible & sounding) < 0.99 * count:
            continue
        layout = Content("float32", big_endian=big_endian)
        samples = layout.read(window)
        # PCM16 with a large constant in it can pass for a float, but not for a sound.
        if _is_sound(samples) and abs(np.mean(samples)) < 0.5 * np.std(samples):
            return layout
    return None


def _pcm_layout(window: bytes) -> Content | None:
    little, big = Content(), Content(big_endian=True)
    either = [layout.read(window) for layout in (little, big)]
    if min(np.abs(samples).max() for samples in either) < _LOUD:
        return None
    smooth, swapped = (_smoothness(samples) for samples in either)
    if max(smooth, swapped) < _SMOOTH or abs(smooth - swapped) < _ROUGHER:
        return None
    return little if smooth > swapped else big


def _is_sound(samples: Floats) -> bool:
    return bool(np.abs(samples).max() >= _LOUD) and _smoothness(samples) >= _SMOOTH


def _smoothness(samples: Floats) -> float:
    """How alike neighbours are, -1 to 1; of one channel or of two."""
    return max(_likeness(samples[:-1], samples[1:]), _likeness(samples[:-2], samples[2:]))


def _likeness(left: Floats, right: Floats) -> float:
    """Correlation; 0 where either is constant."""
    left = left - left.mean()
    right = right - right.mean()
    energy = float(np.dot(left, left)) * float(np.dot(right, right))
    return float(np.dot(left, right)) / energy**0.5 if energy > 1e-12 else 0.0


def _channels(samples: Floats) -> int | None:
    """1 or 2 interleaved; None where that cannot be told.

    Two channels show in that sample pairs differ from the pairs in between: equal channels
    (whatever their gains), one of them silent, or two with nothing in common.
    """
    first, second = samples[0::2], samples[1::2]
    levels = float(np.var(first)), float(np.var(second))
    alike = _likeness(first[:-1], first[1:]), _likeness(second[:-1], second[1:])
    louder = alike[0] if levels[0] > levels[1] else alike[1]
    if min(levels) < 1e-3 * max(levels):
        return 2 if louder >= _SMOOTH else None
    within = _likeness(first, second)
    across = _likeness(second[:-1], first[1:])
    if min(alike) >= _SMOOTH and 1 - within**2 < 0.1 * (1 - across**2):
        return 2
    if louder >= 0.8 and max(abs(within), abs(across)) < 0.3:
        return 2
    # In one channel all pairs of neighbours are the same kind of pair.
    return 1 if max(abs(within - across), abs(alike[0] - alike[1])) < 0.1 else None
