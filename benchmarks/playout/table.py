"""Runs buffers over families of traces and lays the figures out.

One rule: every figure is a mean over seeds, and the rivals' stand beside ours.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.playout.policies import POLICIES
from benchmarks.playout.score import Score, oracle, play, score
from benchmarks.playout.traces import make

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["OURS", "QUOTED", "RIVAL", "Row", "measure", "text"]

OURS: Final = "voicebridge"
RIVAL: Final = "best adaptive, as described"

QUOTED: Final = {
    "clean LAN": "30/30 c0 q4.64",
    "clumps of 3 frames": "60/60 c0",
    "LTE jitter": "117/186 c390 q4.23",
    "Wi-Fi bursts": "118/176 c335 q4.21",
    "stalls of 200 to 800 ms": "91/271 c1599 q3.84",
    "one 3 s stall": "53/98",
    "DTX over LTE": "131/218 c397 q4.01",
    "mute gaps": "32/41 c0 q4.26",
}
"""The best adaptive buffer as it was first measured, on other traces of the same families:
to be read beside the table, not compared with it."""


@dataclass(frozen=True)
class Row:
    """One buffer on one family, mean over seeds."""

    family: str
    policy: str
    score: Score

    def as_dict(self) -> dict[str, object]:
        return {"family": self.family, "policy": self.policy} | {
            name: round(value, 3) if np.isfinite(value) else None
            for name, value in asdict(self.score).items()
        }


def _one(job: tuple[str, str, int, bool]) -> tuple[str, str, tuple[float, ...]]:
    family, policy, seed, pesq = job
    trace = make(family, seed)
    if policy == "oracle":
        mean, p95 = oracle(trace)
        return family, policy, (mean, p95, 0.0, 0.0, 0.0, 0.0, float("nan"))
    figures = score(play(POLICIES[policy](), trace), pesq=pesq)
    return family, policy, tuple(asdict(figures).values())


def measure(
    families: Sequence[str], policies: Iterable[str], seeds: Sequence[int], *, pesq: bool
) -> list[Row]:
    """All rows, families and policies in the order given."""
    policies = list(policies)
    jobs = [(f, p, s, pesq) for f in families for p in policies for s in seeds]
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    with ProcessPoolExecutor() as pool:
        for family, policy, values in pool.map(_one, jobs):
            found.setdefault((family, policy), []).append(values)
    return [
        Row(f, p, Score(*(float(v) for v in np.mean(found[f, p], axis=0))))
        for f in families
        for p in policies
    ]


def text(rows: list[Row]) -> str:
    """A Markdown table: mean/p95 delay in ms, c and lost in ms per minute, q PESQ-WB."""
    policies = list(dict.fromkeys(row.policy for row in rows))
    lines = ["| trace | " + " | ".join(policies) + " | quoted: best adaptive, other traces |"]
    lines.append("|---" * (len(policies) + 2) + "|")
    for family in dict.fromkeys(row.family for row in rows):
        cells = [_cell(row.score) for row in rows if row.family == family]
        lines.append(f"| {family} | " + " | ".join(cells) + f" | {QUOTED[family]} |")
    return "\n".join(lines)


def _cell(figures: Score) -> str:
    cell = f"{figures.mean_ms:.0f}/{figures.p95_ms:.0f} c{figures.concealed_ms:.0f}"
    if figures.lost_ms >= 1:
        cell += f" lost{figures.lost_ms:.0f}"
    return cell + (f" q{figures.pesq:.2f}" if np.isfinite(figures.pesq) else "")
