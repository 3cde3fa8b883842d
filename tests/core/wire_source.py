"""A far end of any format behind any network, for the tests of format detection.

Real telephone speech is resampled, laid out as asked, cut into messages and given arrival
times by a model of the way. All from a seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

if TYPE_CHECKING:
    from voicebridge.core.format import WireFormat

SPEECH = Path(__file__).parent.parent / "speech"
Floats = npt.NDArray[np.float64]
Way = Literal["clean", "jitter", "lte", "wifi", "clumps", "stalls", "loss"]
Dtx = Literal["none", "silent", "thinned"]
Messages = list[tuple[float, bytes]]
WAYS: tuple[Way, ...] = ("clean", "jitter", "lte", "wifi", "clumps", "stalls")
DTX: tuple[Dtx, ...] = ("none", "silent", "thinned")


@cache
def prompts() -> tuple[Floats, ...]:
    return tuple(soundfile.read(path)[0] for path in sorted(SPEECH.glob("*.flac")))


def speech(seed: int, seconds: float, level: float = 1.0, hiss: float = 0.0006) -> Floats:
    """Prompts in random order with pauses of a talker between them, over hiss; 16 kHz."""
    generator = np.random.default_rng(seed)
    wanted = int(seconds * 16_000)
    parts: list[Floats] = []
    while sum(part.size for part in parts) < wanted:
        prompt = prompts()[generator.integers(len(prompts()))]
        parts += [np.zeros(int(generator.uniform(0.1, 1.2) * 16_000)), prompt]
    audio = np.concatenate(parts)[:wanted] * level
    return audio + generator.normal(0, hiss, audio.size)


@cache
def speech_at(seed: int, seconds: float, rate: int, level: float = 1.0) -> Floats:
    audio: Floats = soxr.resample(speech(seed, seconds, level), 16_000, rate)
    return audio


def lay_out(audio: Floats, wire: WireFormat) -> bytes:
    """In [-1, 1], at the wire's rate, to its bytes; written apart from the code under test."""
    content = wire.content
    kind = {"pcm16": "i2", "float32": "f4"}[content.encoding]
    values = audio if kind == "f4" else np.clip(np.rint(audio * 32767), -32768, 32767)
    return (
        np.repeat(values, content.channels)
        .astype((">" if content.big_endian else "<") + kind)
        .tobytes()
    )


@dataclass(frozen=True)
class Source:
    """What is sent and how it travels."""

    wire: WireFormat
    frame_ms: int = 60
    way: Way = "clean"
    dtx: Dtx = "none"
    seed: int = 0

    def messages(self, audio: Floats) -> Messages:
        """``audio`` at the wire's rate as (arrival, bytes), in order."""
        generator = np.random.default_rng(self.seed + 1)
        length = self.wire.sample_rate * self.frame_ms // 1000
        frames = [audio[at : at + length] for at in range(0, audio.size - length + 1, length)]
        sent = [
            ((index + 1) * self.frame_ms / 1000, lay_out(frame, self.wire))
            for index, frame in enumerate(frames)
            if self._is_sent(frames, index, generator)
        ]
        return self._travel(sent, generator)

    def _is_sent(self, frames: list[Floats], index: int, generator: np.random.Generator) -> bool:
        if self.way == "loss" and generator.random() < 0.3:
            return False
        if self.dtx == "none":
            return True
        # A phone goes on for 200 ms after speech.
        held = max(1, 200 // self.frame_ms)
        recent = frames[max(0, index - held) : index + 1]
        if max(float(np.abs(frame).max()) for frame in recent) > 0.01:
            return True
        every = max(2, 400 // self.frame_ms) if self.dtx == "silent" else 2
        return index % every == 0

    def _travel(self, sent: Messages, generator: np.random.Generator) -> Messages:
        """TCP: what is late makes all that follows wait, and then it comes at once."""
        out: Messages = []
        clock = 0.0
        stall_from, stall_to = generator.uniform(2, 6), 0.0
        wander = 0.0
        for index, (at, data) in enumerate(sent):
            delay = 0.0
            if self.way == "jitter":
                delay = abs(generator.normal(0, 0.020))
            elif self.way == "lte":
                wander = 0.9 * wander + generator.normal(0, 0.012)
                delay = abs(wander) + (
                    generator.uniform(0.05, 0.25) if generator.random() < 0.02 else 0
                )
            elif self.way == "wifi":
                delay = (
                    generator.uniform(0.06, 0.2)
                    if generator.random() < 0.06
                    else generator.exponential(0.006)
                )
            elif self.way == "clumps":
                delay = ((2 - index) % 3) * self.frame_ms / 1000
            elif self.way == "stalls" and at >= stall_from:
                stall_to = max(stall_to, stall_from + generator.uniform(0.2, 0.8))
                if at < stall_to:
                    delay = stall_to - at
                else:
                    stall_from = at + generator.uniform(3, 12)
            # The first messages are held back and come together.
            clock = max(clock, at + delay, 0.18 + self.frame_ms / 1000)
            out.append((clock + len(out) * 1e-6, data))
        return out


def rechunked(messages: Messages, generator: np.random.Generator) -> Messages:
    """The same bytes at the same instants, cut anywhere."""
    out: Messages = []
    carry = b""
    for at, data in messages:
        data = carry + data
        keep = int(generator.integers(0, min(7, len(data)) + 1))
        cut = len(data) - keep
        carry = data[cut:]
        middle = int(generator.integers(0, cut + 1))
        out += [(at, part) for part in (data[:middle], data[middle:cut])]
    return out
