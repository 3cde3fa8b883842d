"""Voices and noises out of the packages, split so that no speaker is in both halves.

dev (to tune on): it, ru, uk, de, ... ; eval (to report): en, es, fr, ca, el, pt, ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import soundfile
import soxr

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from benchmarks.hearing.telephone import Telephone

    Samples = npt.NDArray[np.float64]

__all__ = ["Clip", "Split", "label", "noises", "voices"]

Split = Literal["dev", "eval"]
RATE = 16_000
LABEL = 160
"""Samples per label, 10 ms."""

_PROMPTS: dict[Split, tuple[str, ...]] = {
    "dev": ("it_IT_m_Carlo", "ru_RU_f_IvrvoiceRU"),
    "eval": ("en_US_f_Allison", "es_MX_f_Allison", "fr_CA_f_June"),
}
_WORDS: dict[Split, tuple[str, ...]] = {
    "dev": ("be", "bg", "da", "de", "fi", "it", "lt", "nds", "nl", "nn", "ro", "ru", "sr", "sv", "uk"),  # noqa: E501
    "eval": ("ca", "el", "en", "es", "fr", "ga", "gl", "pt", "sl", "wa"),
}  # fmt: skip
_NOT_SPEECH = ("beep", "tone", "tt-", "confbridge-join", "confbridge-leave")
_VOICES_AMONG_NOISES = (
    "audio-channel", "beatbox", "choir", "compus", "party", "phone", "robot", "safari", "voxy",
)  # fmt: skip
_PER_SOURCE = 60


@dataclass(frozen=True)
class Clip:
    """One utterance: samples, and a label per 10 ms (1 speech, 0 none, -1 not scored)."""

    audio: Samples
    labels: npt.NDArray[np.int8]


def label(audio: Samples) -> npt.NDArray[np.int8] | None:
    """Labels by the energy of a clean clip; None where its noise leaves them in doubt."""
    frames = audio[: audio.size // LABEL * LABEL].reshape(-1, LABEL)
    levels = 10 * np.log10(np.mean(frames**2, axis=1) + 1e-10)
    loud, floor = np.percentile(levels, 95), np.percentile(levels, 3)
    if loud < -50 or len(levels) < 30:
        return None
    if floor > loud - 25:
        # No quiet at all: cut tight around the speech, or recorded in noise.
        return None
    labels = (levels > max(floor + 9, loud - 30)).astype(np.int8)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], labels, [0]])))
    for end, begin in zip(edges[1::2], edges[2::2], strict=False):
        if begin - end <= 10:
            labels[end:begin] = 1
        elif begin - end <= 25:
            labels[end:begin] = -1
    return labels if np.count_nonzero(labels == 1) >= 20 else None


def read(path: Path) -> Samples:
    """Any sound file as mono at 16 kHz."""
    audio, rate = soundfile.read(path, dtype="float64", always_2d=True)
    mono = audio.mean(axis=1)
    return mono if rate == RATE else np.asarray(soxr.resample(mono, rate, RATE, quality="HQ"))


def voices(root: Path, phone: Telephone, split: Split, rng: np.random.Generator) -> list[Clip]:
    """Labelled clips of this half, shuffled; at most 60 of one voice and language."""
    clips = []
    for files in _voice_files(root, split):
        chosen = [files[k] for k in rng.permutation(len(files))[:_PER_SOURCE]]
        for path in chosen:
            g722 = path.suffix == ".g722"
            audio = phone.g722(path).astype(np.float64) if g722 else read(path)
            labels = label(audio)
            if labels is not None:
                clips.append(Clip(audio[: labels.size * LABEL], labels))
    return [clips[k] for k in rng.permutation(len(clips))]


def _voice_files(root: Path, split: Split) -> Iterator[list[Path]]:
    for name in _PROMPTS[split]:
        files = sorted((root / "usr/share/asterisk/sounds" / name).glob("*.g722"))
        yield [path for path in files if not any(word in path.stem for word in _NOT_SPEECH)]
    for language in _WORDS[split]:
        yield sorted((root / "usr/share/ktuberling/sounds" / language).rglob("*.og[ga]"))
        yield sorted((root / "usr/share/tuxpaint/stamps").rglob(f"*_desc_{language}.ogg"))


def coughs(root: Path) -> list[Samples]:
    """The four real ones there are."""
    human = root / "usr/share/scratch/Media/Sounds/Human"
    return [read(path) for path in sorted([*human.glob("Cough*"), *human.glob("Sneeze*")])]


def noises(root: Path, phone: Telephone, split: Split) -> dict[str, list[Samples]]:
    """Recordings without a voice, by kind; this half's share of the files."""
    share = root / "usr/share"
    kinds = {
        "hold music": sorted((share / "asterisk/moh").glob("*.g722")),
        "loops": [
            *sorted((share / "scratch/Media/Sounds/Music Loops").glob("*")),
            *sorted((share / "sonic-pi/samples").glob("loop_*.flac")),
        ],
        "objects": [
            *sorted((share / "scratch/Media/Sounds/Effects").glob("*")),
            *sorted((share / "scratch/Media/Sounds/Percussion").glob("*")),
            *sorted((share / "scratch/Media/Sounds/Animal").glob("*")),
            *sorted((share / "sounds/freedesktop/stereo").glob("*.oga")),
            *sorted((share / "sonic-pi/samples").glob("[dpe][re][rul][mc]_*.flac")),
        ],
    }
    return {
        kind: [
            phone.g722(path).astype(np.float64) if path.suffix == ".g722" else read(path)
            for path in files[0 if split == "dev" else 1 :: 2]
            if not any(word in path.name.lower() for word in _VOICES_AMONG_NOISES)
        ]
        for kind, files in kinds.items()
    }
