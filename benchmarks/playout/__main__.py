"""Playout buffers over eight kinds of network: ``python -m benchmarks.playout``.

Two minutes of real speech per trace, three seeds per family; see ``traces`` for the links,
``policies`` for the rivals and ``score`` for what is measured. ``--quick`` leaves PESQ out
(seconds instead of minutes); ``--json FILE`` keeps the figures.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from benchmarks.playout.policies import POLICIES
from benchmarks.playout.table import measure, text
from benchmarks.playout.traces import FAMILIES, FRAME
from voicebridge.core.jitter import PlayoutBuffer


def steady_us(count: int = 20_000) -> float:
    """CPU microseconds of one put and one pull of 20 ms, while nothing is wrong."""
    buffer = PlayoutBuffer()
    pcm = bytes(range(1, 161)) * (FRAME * 2 // 160)
    start = time.process_time()
    for step in range(count):
        buffer.put(pcm, step * 0.020)
        buffer.pull(step * 0.020 + 0.005)
    return (time.process_time() - start) / count * 1e6


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="without PESQ")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = measure(list(FAMILIES), [*POLICIES, "oracle"], options.seeds, pesq=not options.quick)
    print(text(rows))
    cost = min(steady_us() for _ in range(3))
    print(f"\nsteady put + pull of 20 ms: {cost:.1f} us of CPU")
    if options.json:
        report = {"rows": [row.as_dict() for row in rows], "steady_us": round(cost, 1)}
        options.json.write_text(json.dumps(report, indent=1), "utf-8")


if __name__ == "__main__":
    main()
