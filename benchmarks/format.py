"""How well and how soon the far end's format is told: formats by networks by silence.

Run ``python -m benchmarks.format [SEEDS]`` in the repository. Real telephone speech with
pauses, 24 s a call, in messages of 20 and 60 ms; time to decision is in seconds since the
first message and holds the pauses. ``wrong`` must be 0 everywhere.
"""

from __future__ import annotations

import itertools
import sys
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from tests.core.wire_source import DTX, WAYS, Source, speech_at
from voicebridge.core.config import MediaConfig
from voicebridge.core.content import Content
from voicebridge.core.format import WIRE_RATES, FormatDetector, WireFormat

SECONDS = 24.0
FRAMES_MS = (20, 60)
PLAIN = WireFormat()


@dataclass
class Row:
    """One line of the table."""

    right: int = 0
    wrong: int = 0
    undecided: int = 0
    times: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        times = np.array(self.times or [np.nan])
        return (
            f"{self.right:6d} {self.wrong:6d} {self.undecided:10d} "
            f"{np.median(times):7.1f} {np.percentile(times, 95):6.1f} {times.max():6.1f}"
        )


def place(source: Source, rows: list[Row]) -> None:
    """One call, counted in each of its rows."""
    detector = FormatDetector(MediaConfig())
    for at, data in source.messages(speech_at(source.seed, SECONDS, source.wire.sample_rate)):
        detector.message(data, at)
        if detector.settled:
            break
    for row in rows:
        if detector.settled:
            row.times.append(at)
        row.right += detector.settled and detector.format == source.wire
        row.wrong += detector.format not in (source.wire, PLAIN)
        row.undecided += not detector.settled


def measure(seeds: int) -> dict[str, Row]:
    """Rows by format, by network, by what is sent in silence, and all of them together."""
    rows: dict[str, Row] = defaultdict(Row)
    layouts = [
        Content(encoding, channels, big_endian)
        for encoding in ("pcm16", "float32")
        for channels in (1, 2)
        for big_endian in (False, True)
    ]
    for layout, rate in itertools.product(layouts, WIRE_RATES):
        wire = WireFormat(rate, layout)
        for seed, way, dtx, frame_ms in itertools.product(range(seeds), WAYS, DTX, FRAMES_MS):
            names = (str(wire), f"network: {way}", f"DTX: {dtx}", f"{frame_ms} ms messages", "all")
            place(Source(wire, frame_ms, way, dtx, seed), [rows[name] for name in names])
    for seed, dtx in itertools.product(range(seeds * 4), DTX):
        place(Source(PLAIN, 60, "loss", dtx, seed), [rows["16000 plain, 30 % lost"]])
    return rows


def main() -> None:
    """Prints the table."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    print(f"{'':34} right  wrong  undecided  median    p95    max s")
    for name, row in measure(seeds).items():
        print(f"{name:34}{row}")


if __name__ == "__main__":
    main()
