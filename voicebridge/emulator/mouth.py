"""The caller's voice on its way to the bridge: captured in frames, sent as messages when due.

Pure. The one rule: a message is due when its last sample has been spoken, never before;
``prefill_ms`` holds back the first ones so that they arrive as the burst that a jitter
buffer in front of the socket makes of them.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import numpy as np

from voicebridge.emulator.tape import EPSILON_S

if TYPE_CHECKING:
    from voicebridge.emulator.behaviour import MediaBehaviour
    from voicebridge.emulator.tape import FarClock, Pcm, Tape

__all__ = ["Mouth"]

_SILENT_LSB = 32
_NOISE_LSB = 6
_DTX_HANGOVER_S = 0.12
_PREFILL_AGAIN_S = 2.0
_COMFORT_MESSAGES = 8


class Mouth:
    """One caller's microphone at the wire's ``rate``."""

    def __init__(self, media: MediaBehaviour, rate: int, tape: Tape, seed: int) -> None:
        self._media = media
        self._tape = tape
        self._rate = rate
        self._message = rate * media.frame_ms * media.frames_per_message // 1_000
        self._noise = random.Random(seed)
        self._clock: FarClock | None = None
        self._segments: list[tuple[int, Pcm]] = []
        self._captured = 0  # messages
        self._listened = False
        self._held: list[bytes] = []
        self._hold_until: float | None = None
        self._quiet_since: float | None = -math.inf
        self._last_sent = -math.inf
        self._carry = b""
        self._sent = 0
        self.ends_at = 0  # position after the last sample to be said

    def start(self, clock: FarClock) -> None:
        self._clock = clock

    def say(self, samples: Pcm, position: int) -> None:
        """Queue ``samples`` to be spoken from ``position`` on; overlapping voices add up."""
        if len(samples):
            self._segments.append((position, samples))
            self.ends_at = max(self.ends_at, position + len(samples))

    def opened(self) -> None:
        """A listener is there: the next audio is the first that it gets."""
        self._listened = True
        self._last_sent = -math.inf
        self._held.clear()
        self._hold_until = None
        self._carry = b""

    def closed(self) -> None:
        self._listened = False
        self._held.clear()
        self._hold_until = None

    def next_due(self) -> float | None:
        """When ``take`` has something to do next; None before the call connected."""
        if self._clock is None:
            return None
        capture = self._clock.instant((self._captured + 1) * self._message)
        return capture if self._hold_until is None else min(capture, self._hold_until)

    def take(self, now: float) -> list[bytes]:
        """The messages that have become due."""
        if self._clock is None:
            return []
        due = self._clock.instant((self._captured + 1) * self._message)
        while due <= now + EPSILON_S:
            self._capture(due)
            due = self._clock.instant((self._captured + 1) * self._message)
        if self._hold_until is not None and now + EPSILON_S < self._hold_until:
            return []
        messages, self._held, self._hold_until = self._held, [], None
        return messages

    def _capture(self, at: float) -> None:
        start = self._captured * self._message
        self._captured += 1
        samples = self._spoken(start, start + self._message)
        silent = int(np.abs(samples.astype(np.int32)).max(initial=0)) < _SILENT_LSB
        if silent and self._media.silence == "comfort_noise":
            samples = self._comfort()
        self._tape.put(start, samples.astype("<i2").tobytes())
        if not silent:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = at
        outgoing = self._heard_by_bridge(samples, silent, at)
        if outgoing is None or not self._listened:
            return
        if at - self._last_sent > _PREFILL_AGAIN_S and self._media.prefill_ms:
            self._hold_until = at + self._media.prefill_ms / 1_000
        self._last_sent = at
        self._sent += 1
        self._held.append(self._cut(outgoing.astype("<i2").tobytes()))

    def _heard_by_bridge(self, samples: Pcm, silent: bool, at: float) -> Pcm | None:
        match self._media.uplink:
            case "deaf":
                return None
            case "deaf_after_comfort":
                return self._comfort() if self._sent < _COMFORT_MESSAGES else None
            case "comfort_only":
                return self._comfort()
            case "speech":
                pass
        if silent and self._media.silence == "dtx":
            since = self._quiet_since
            if since is not None and at - since > _DTX_HANGOVER_S:
                return None
        return samples

    def _spoken(self, start: int, end: int) -> Pcm:
        mixed = np.zeros(end - start, np.int32)
        for position, samples in self._segments:
            first, last = max(start, position), min(end, position + len(samples))
            if first < last:
                mixed[first - start : last - start] += samples[first - position : last - position]
        self._segments = [s for s in self._segments if s[0] + len(s[1]) > end]
        return np.clip(mixed, -32_768, 32_767).astype(np.int16)

    def _comfort(self) -> Pcm:
        noise = self._noise.choices(range(-_NOISE_LSB, _NOISE_LSB + 1), k=self._message)
        return np.array(noise, np.int16)

    def _cut(self, pcm: bytes) -> bytes:
        """With ``odd_lengths`` every other message ends in the middle of a sample."""
        if not self._media.odd_lengths:
            return pcm
        pcm = self._carry + pcm
        keep = len(pcm) - (1 if len(pcm) % 2 == 0 else 0)
        self._carry = pcm[keep:]
        return pcm[:keep]
