"""One call as one page: waveforms, events and figures in a single HTML file.

One rule: a page holds all it needs. It asks for nothing outside itself (its own
Content-Security-Policy forbids it), so it opens from a disk, a mail or a build artefact.
Whoever has a call to show fills a :class:`CallPicture`; what the page looks like stands in
``viewer/``.
"""

from __future__ import annotations

import base64
import html
import json
import math
from dataclasses import asdict, dataclass
from importlib import resources
from typing import TYPE_CHECKING, Literal

import numpy as np
import soxr

if TYPE_CHECKING:
    import numpy.typing as npt

    from voicebridge.lab.measure import Samples

__all__ = [
    "CallPicture",
    "Distribution",
    "Link",
    "Moment",
    "Side",
    "Span",
    "Tile",
    "Tone",
    "Track",
    "Verdict",
    "render",
]

Tone = Literal["plain", "good", "warn", "bad"]
Side = Literal["call", "media", "caller", "bot", "problem"]

# One scope, in this order.
_SCRIPTS = ("sound.js", "stage.js", "controls.js", "page.js")
_ENVELOPE_PER_SECOND = 100
_RATES = (16_000, 8_000)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to "did it work?", and what speaks against it."""

    ok: bool
    text: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tile:
    """One headline figure; ``caption`` says in plain words what it means."""

    label: str
    value: str
    unit: str = ""
    caption: str = ""
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a track in seconds, such as a turn."""

    start: float
    stop: float
    label: str = ""


@dataclass(frozen=True, slots=True)
class Track:
    """One side of the call: int16 mono, its first sample at 0 s of the picture's clock."""

    name: str
    samples: Samples
    caption: str = ""
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened, in seconds of the picture's clock."""

    at: float
    label: str
    detail: str = ""
    side: Side = "call"


@dataclass(frozen=True, slots=True)
class Link:
    """What left the first track at ``start`` came back on the second at ``stop`` (seconds)."""

    start: float
    stop: float
    label: str = ""


@dataclass(frozen=True, slots=True)
class Distribution:
    """All values of one figure; drawn as dots when few, as a histogram when many.

    ``each`` names one value in the plural: "half seconds of speech".
    """

    title: str
    unit: str
    values: tuple[float, ...]
    caption: str = ""
    each: str = "values"


@dataclass(frozen=True, slots=True)
class CallPicture:
    """All that the page shows. One or two tracks; two play as left and right."""

    title: str
    verdict: Verdict
    tracks: tuple[Track, ...]
    sample_rate: int = 16_000
    subtitle: str = ""
    tiles: tuple[Tile, ...] = ()
    events: tuple[Moment, ...] = ()
    links: tuple[Link, ...] = ()
    distributions: tuple[Distribution, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= len(self.tracks) <= 2:
            raise ValueError("a call has one or two tracks")


def render(picture: CallPicture, *, audio_limit: int = 8_000_000) -> str:
    """The page.

    At most ``audio_limit`` bytes of audio go in (before base64): a long call is brought down
    to 8 kHz, and one that is longer still is drawn from its envelope and cannot be played.
    """
    viewer = resources.files(__package__) / "viewer"
    page = (viewer / "page.html").read_text("utf-8")
    parts = {
        "title": html.escape(picture.title),
        "style": (viewer / "page.css").read_text("utf-8"),
        "data": _script_safe(_data(picture, audio_limit)),
        "script": "\n".join((viewer / name).read_text("utf-8") for name in _SCRIPTS),
    }
    head, *rest = page.split("<!--put ")
    # Split, never replaced one after another: what is put in may hold another's mark.
    return head + "".join(
        parts[name] + tail for name, tail in (piece.split("-->", 1) for piece in rest)
    )


def _script_safe(data: dict[str, object]) -> str:
    """JSON that cannot end its script element nor open a comment in it."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data(picture: CallPicture, audio_limit: int) -> dict[str, object]:
    length = max(track.samples.size for track in picture.tracks)
    sides = np.zeros((length, len(picture.tracks)), np.int16)
    for index, track in enumerate(picture.tracks):
        sides[: track.samples.size, index] = track.samples
    last = max((moment.at for moment in picture.events), default=0.0)
    data: dict[str, object] = {
        "title": picture.title,
        "subtitle": picture.subtitle,
        "verdict": asdict(picture.verdict),
        "duration": max(length / picture.sample_rate, last, 0.1),
        "tiles": [asdict(tile) for tile in picture.tiles],
        "tracks": [
            {
                "name": track.name,
                "caption": track.caption,
                "spans": [asdict(span) for span in track.spans],
            }
            for track in picture.tracks
        ],
        "events": [asdict(moment) for moment in sorted(picture.events, key=lambda m: m.at)],
        "links": [asdict(link) for link in picture.links],
        "distributions": [
            asdict(figure) | {"values": [v for v in figure.values if math.isfinite(v)]}
            for figure in picture.distributions
        ],
        "notes": list(picture.notes),
    }
    return data | _sound(sides, picture.sample_rate, audio_limit)


def _sound(sides: npt.NDArray[np.int16], rate: int, limit: int) -> dict[str, object]:
    """``audio`` (interleaved PCM16 LE) where it fits, else ``envelope``."""
    seconds, channels = sides.shape[0] / rate, sides.shape[1]
    for target in _RATES:
        if seconds * target * channels * 2 <= limit:
            kept = min(rate, target)
            if kept != rate and sides.size:
                sides = soxr.resample(sides, rate, kept).astype(np.int16)
            return {"audio": {"rate": kept, "channels": channels, "pcm": _base64(sides, "<i2")}}
    envelope = [_envelope(np.ascontiguousarray(side), rate) for side in sides.T]
    return {"envelope": {"rate": _ENVELOPE_PER_SECOND, "tracks": envelope}}


def _envelope(samples: Samples, rate: int) -> str:
    """Lowest, highest and RMS of each 10 ms, as three int8, base64."""
    block = rate // _ENVELOPE_PER_SECOND
    padded = np.concatenate((samples, np.zeros(-samples.size % block, np.int16)))
    blocks = padded.reshape(-1, block)
    rms = np.sqrt(np.mean(np.square(blocks, dtype=np.float64), axis=1))
    rows = np.stack((blocks.min(axis=1) / 256, blocks.max(axis=1) / 256, rms / 256), axis=1)
    return _base64(np.clip(np.round(rows), -128, 127), "i1")


def _base64(array: npt.NDArray[np.int16] | npt.NDArray[np.float64], dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array).astype(dtype).tobytes()).decode("ascii")
