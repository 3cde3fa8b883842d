"""What the person at the other end of an emulated call does, and with which voice.

Audio given here is mono, 16 kHz, int16; the far end converts it to the wire's rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr

from voicebridge.errors import AudioError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

__all__ = ["CALLER_RATE", "CallerScript", "built_in_audio", "load_audio"]

CALLER_RATE = 16_000
_MAX_AUDIO_SECONDS = 3_600
_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class CallerScript:
    """One person on the phone.

    ``audio`` is said once, ``starts_after`` seconds after the call connected.
    ``hangup_after`` seconds after its last sample the person hangs up; None: never.
    ``answer_after`` overrides ``caller.answers_after_s`` for an outbound call.
    ``record`` False keeps neither side's audio, for load runs; figures stay the same.
    """

    audio: npt.NDArray[np.int16] | None = None
    number: str = "+5511999990000"
    hangup_after: float | None = None
    starts_after: float = 0.5
    answer_after: float | None = None
    record: bool = True

    def __repr__(self) -> str:  # the number is personal
        seconds = 0.0 if self.audio is None else len(self.audio) / CALLER_RATE
        return f"CallerScript({seconds:.2f} s of audio, hangup_after={self.hangup_after})"


def load_audio(path: Path | str) -> npt.NDArray[np.int16]:
    """Read any file that libsndfile reads: mixed to mono, resampled to 16 kHz.

    Raises ``AudioError`` for a file that is missing, is no audio, or exceeds an hour.
    """
    try:
        with soundfile.SoundFile(path) as file:
            if file.frames > _MAX_AUDIO_SECONDS * file.samplerate:
                raise AudioError("the caller's audio is longer than an hour: use a shorter file")
            rate = file.samplerate
            samples = file.read(dtype="float32", always_2d=True).mean(axis=1)
    except (OSError, RuntimeError, TypeError) as error:
        raise AudioError(
            "the caller's audio cannot be read: give a WAV, FLAC or OGG file"
        ) from error
    if rate != CALLER_RATE:
        samples = soxr.resample(samples, rate, CALLER_RATE, quality="HQ")
    pcm: npt.NDArray[np.int16] = np.clip(np.rint(samples * 32_768.0), -32_768, 32_767).astype(
        np.int16
    )
    return pcm


def built_in_audio() -> npt.NDArray[np.int16]:
    """The recordings that come with the package, with pauses between; else a spoken-like tone."""
    folder = files("voicebridge") / "lab" / "speech"
    clips: list[npt.NDArray[np.int16]] = []
    if folder.is_dir():
        names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".flac"))
        for name in names:
            with (folder / name).open("rb") as file:
                samples, rate = soundfile.read(file, dtype="int16")
            if rate == CALLER_RATE and samples.ndim == 1:
                clips += [samples, np.zeros(int(_PAUSE_SECONDS * rate), np.int16)]
    return np.concatenate(clips[:-1]) if clips else synthetic_speech()


def synthetic_speech(seconds: float = 4.0) -> npt.NDArray[np.int16]:
    """Vowel-like syllables: a gliding pitch with two formants, 300 ms on, 150 ms off."""
    t = np.arange(int(seconds * CALLER_RATE)) / CALLER_RATE
    pitch = 130 + 30 * np.sin(2 * np.pi * 0.7 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / CALLER_RATE
    voice = np.zeros_like(t)
    for harmonic in range(1, 24):
        hz = 130.0 * harmonic
        gain = np.exp(-(((hz - 700) / 300) ** 2)) + 0.5 * np.exp(-(((hz - 1_200) / 400) ** 2))
        voice += (gain + 0.02) * np.sin(harmonic * phase)
    beat = t % 0.45
    envelope = np.clip(np.minimum(beat, 0.3 - beat) / 0.03, 0.0, 1.0)
    voice *= envelope
    pcm: npt.NDArray[np.int16] = np.rint(voice / np.max(np.abs(voice)) * 11_000).astype(np.int16)
    return pcm
