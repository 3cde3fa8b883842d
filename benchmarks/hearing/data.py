"""Builds what is listened to: streams of speech in noise, of noise alone, and of coughs.

Speech at a level of its own (-34 to -20 dBFS while speaking), then noise at the stated ratio
to it, then a round trip through Opus. Everything follows from a seed; the result is kept in
the cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.hearing import sounds
from benchmarks.hearing.packages import cache, unpacked
from benchmarks.hearing.recordings import LABEL, Clip, Split, coughs, noises, voices
from benchmarks.hearing.telephone import RATE, Telephone

if TYPE_CHECKING:
    import numpy.typing as npt

    Samples = npt.NDArray[np.float64]
    Pcm = npt.NDArray[np.int16]

__all__ = ["RATIOS", "Corpus", "load"]

RATIOS = (None, 20, 10, 5, 0)
"""Speech over noise in decibels; None is no noise."""
STREAM = 60 * RATE
_VERSION = 2
_SEEDS: dict[Split, int] = {"dev": 20_261, "eval": 20_262}
_SPEECH_STREAMS: dict[Split, int] = {"dev": 8, "eval": 16}
_NOISE_STREAMS: dict[Split, int] = {"dev": 21, "eval": 35}
_EVENTS: dict[Split, dict[str, int]] = {
    "dev": {"cough": 60, "recorded cough": 20, "breath": 30, "click": 30, "key tone": 30},
    "eval": {"cough": 120, "recorded cough": 40, "breath": 80, "click": 80, "key tone": 80},
}
_NOISES = ("white", "pink", "brown", "hum", "hold music", "loops", "objects", "babble")
_EVENT_SPACING = int(1.8 * RATE)


@dataclass(frozen=True)
class Corpus:
    """One half. All audio is (streams, samples) int16 at 16 kHz, labels are per 10 ms."""

    speech: dict[int | None, Pcm]
    """By ratio; the same words at the same places each time."""
    speech_kinds: list[str]
    """The noise behind each stream."""
    labels: npt.NDArray[np.int8]
    noise: Pcm
    """No voice at all."""
    noise_kinds: list[str]
    events: Pcm
    event_at: npt.NDArray[np.int64]
    """(events, 3): stream, first sample, last sample."""
    event_kinds: list[str]


def load(split: Split) -> Corpus:
    """From the cache, or built (two minutes, once)."""
    path = cache() / f"hearing-{split}-{_VERSION}.npz"
    if not path.exists():
        print(f"building {path}")
        np.savez(path, allow_pickle=False, **_Builder(split).build())
    arrays = np.load(path, allow_pickle=False)
    return Corpus(
        {ratio: arrays[f"speech_{ratio}"] for ratio in RATIOS},
        [_NOISES[index % len(_NOISES)] for index in range(_SPEECH_STREAMS[split])],
        arrays["labels"],
        arrays["noise"],
        arrays["noise_kinds"].tolist(),
        arrays["events"],
        arrays["event_at"],
        arrays["event_kinds"].tolist(),
    )


class _Builder:
    def __init__(self, split: Split) -> None:
        self.split: Split = split
        self.rng = np.random.default_rng(_SEEDS[split])
        root = unpacked()
        self.phone = Telephone(root)
        self.clips = voices(root, self.phone, split, self.rng)
        other: Split = "dev" if split == "eval" else "eval"
        self.strangers = voices(root, self.phone, other, np.random.default_rng(1))[:200]
        self.recorded = noises(root, self.phone, split)
        self.real_coughs = coughs(root)

    def build(self) -> dict[str, npt.NDArray[np.generic]]:
        """All arrays, by name."""
        arrays: dict[str, npt.NDArray[np.generic]] = {}
        streams = [self._speech() for _ in range(_SPEECH_STREAMS[self.split])]
        arrays["labels"] = np.stack([labels for _, labels in streams])
        behind = [
            self._noise(_NOISES[index % len(_NOISES)], STREAM) for index in range(len(streams))
        ]
        for ratio in RATIOS:
            mixed = [
                self._mix(audio, labels, None if ratio is None else noise, ratio)
                for (audio, labels), noise in zip(streams, behind, strict=True)
            ]
            arrays[f"speech_{ratio}"] = np.stack(mixed)
        kinds = [_NOISES[k % (len(_NOISES) - 1)] for k in range(_NOISE_STREAMS[self.split])]
        arrays["noise_kinds"] = np.array(kinds)
        arrays["noise"] = np.stack([self._noise_alone(kind) for kind in kinds])
        arrays |= self._events()
        return arrays

    def _speech(self) -> tuple[Samples, npt.NDArray[np.int8]]:
        """A minute of clips with pauses of 0.6 to 2 s, each brought to about one level."""
        audio, labels = np.zeros(STREAM), np.zeros(STREAM // LABEL, np.int8)
        level = self.rng.uniform(-34, -20)
        at = int(self.rng.uniform(1.0, 2.0) * RATE) // LABEL * LABEL
        while True:
            clip = self._next_clip()
            end = at + clip.audio.size
            if end > STREAM - RATE:
                return audio, labels
            gain = 10 ** ((level + self.rng.uniform(-2, 2)) / 20)
            audio[at:end] = clip.audio * (gain / _active_rms(clip.audio, clip.labels))
            labels[at // LABEL : end // LABEL] = clip.labels
            at = (end + int(self.rng.uniform(0.6, 2.0) * RATE)) // LABEL * LABEL

    def _next_clip(self) -> Clip:
        clip = self.clips.pop()
        self.clips.insert(0, clip)
        return clip

    def _mix(
        self,
        audio: Samples,
        labels: npt.NDArray[np.int8],
        noise: Samples | None,
        ratio: int | None,
    ) -> Pcm:
        if noise is not None and ratio is not None:
            audio = audio + noise * (_active_rms(audio, labels) * 10 ** (-ratio / 20))
        return self.phone.call(_pcm(audio))

    def _noise_alone(self, kind: str) -> Pcm:
        level = 10 ** (self.rng.uniform(-50, -24) / 20)
        return self.phone.call(_pcm(level * self._noise(kind, STREAM)))

    def _noise(self, kind: str, samples: int) -> Samples:
        """Noise of one kind, at an RMS of one."""
        rng = self.rng
        if kind == "hum":
            return sounds.hum(samples, rng)
        if kind == "babble":
            voices_at_once = [self._row_of(self.strangers, samples) for _ in range(8)]
            return sounds.unit_rms(np.sum(voices_at_once, axis=0))
        if kind not in self.recorded:
            return sounds.coloured(samples, {"white": 0, "pink": 3, "brown": 6}[kind], rng)
        pieces: list[Samples] = []
        while sum(piece.size for piece in pieces) < samples:
            recording = self.recorded[kind][int(rng.integers(len(self.recorded[kind])))]
            start = int(rng.integers(max(1, recording.size - 20 * RATE)))
            pieces.append(sounds.unit_rms(recording[start : start + 20 * RATE]))
            if kind == "objects":
                pieces.append(np.zeros(int(rng.uniform(0.1, 1.0) * RATE)))
        return sounds.unit_rms(np.concatenate(pieces)[:samples])

    def _row_of(self, clips: list[Clip], samples: int) -> Samples:
        pieces: list[Samples] = []
        while sum(piece.size for piece in pieces) < samples:
            clip = clips[int(self.rng.integers(len(clips)))]
            pieces += [clip.audio / _active_rms(clip.audio, clip.labels), np.zeros(RATE // 4)]
        return np.concatenate(pieces)[:samples]

    def _events(self) -> dict[str, npt.NDArray[np.generic]]:
        kinds = [kind for kind, count in _EVENTS[self.split].items() for _ in range(count)]
        kinds = [kinds[k] for k in self.rng.permutation(len(kinds))]
        per_stream = STREAM // _EVENT_SPACING - 1
        streams: list[Pcm] = []
        places: list[tuple[int, int, int]] = []
        for first in range(0, len(kinds), per_stream):
            audio = 10 ** (-62 / 20) * sounds.coloured(STREAM, 3, self.rng)
            for slot, kind in enumerate(kinds[first : first + per_stream], 1):
                event = self._event(kind)[:_EVENT_SPACING]
                at = slot * _EVENT_SPACING - int(self.rng.integers(320))
                peak = 10 ** (self.rng.uniform(-26, -6) / 20)
                audio[at : at + event.size] += peak * event
                places.append((len(streams), at, at + event.size))
            streams.append(self.phone.call(_pcm(audio)))
        return {
            "events": np.stack(streams),
            "event_at": np.array(places),
            "event_kinds": np.array(kinds),
        }

    def _event(self, kind: str) -> Samples:
        rng = self.rng
        if kind == "recorded cough":
            real = self.real_coughs[int(rng.integers(len(self.real_coughs)))]
            # Another size of chest: played a little faster or slower.
            speed = rng.uniform(0.85, 1.2)
            places = np.arange(0, real.size - 1, speed)
            real = np.interp(places, np.arange(real.size), real)
            return np.asarray(real / np.abs(real).max())
        made = {
            "cough": sounds.cough,
            "breath": sounds.breath,
            "click": sounds.click,
            "key tone": sounds.key_tone,
        }
        return made[kind](rng)


def _active_rms(audio: Samples, labels: npt.NDArray[np.int8]) -> float:
    active = np.repeat(labels == 1, LABEL)
    return float(np.sqrt(np.mean(audio[: active.size][active] ** 2)))


def _pcm(audio: Samples) -> Pcm:
    # A bit of dither: a telephone line is never digitally silent.
    dithered = audio * 32767 + np.random.default_rng(0).uniform(-1, 1, audio.size)
    return np.clip(np.rint(dithered), -32768, 32767).astype(np.int16)
