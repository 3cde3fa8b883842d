"""The playout buffer on eight kinds of network: a table, its figures, and a picture of each.

One rule: a picture shows what a listener would have met, on one clock: how late each piece
of audio came, the delay that was aimed at, the delay it was played with, and the holes. The
traces and the rivals belong to a source checkout (``benchmarks/playout``), not to the package.
"""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.table import Table

from voicebridge.core.pieces import Kind
from voicebridge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from rich.console import Console

__all__ = ["AudioBench", "run_bench_audio"]

_WIDTH: Final = 1_200
_HEIGHT: Final = 320
_LEFT: Final = 48
_BOTTOM: Final = 28
_MOST_MS: Final = 400.0
_COLOURS: Final = {"arrival": "#9aa5b1", "target": "#d97706", "playout": "#2563eb"}
_HOLE: Final = "#dc2626"

_Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class AudioBench:
    """What a run found; ``rows`` as in ``bench-audio.json``."""

    rows: tuple[dict[str, Any], ...]
    steady_us: float
    pictures: tuple[Path, ...]


def run_bench_audio(
    out: Path, console: Console, *, seeds: Sequence[int] = (1,), pesq: bool = False
) -> AudioBench:
    """Writes ``bench-audio.json`` and one SVG per trace into ``out``, and prints the table.

    Raises ConfigError outside a source checkout.
    """
    try:
        table = import_module("benchmarks.playout.table")
        program = import_module("benchmarks.playout.__main__")
        traces = import_module("benchmarks.playout.traces")
    except ImportError as error:
        raise ConfigError(
            "the audio benchmark needs the project's benchmarks; run it in a source checkout"
        ) from error
    out.mkdir(parents=True, exist_ok=True)
    families = list(traces.FAMILIES)
    with console.status("two minutes of speech over eight kinds of network"):
        measured = table.measure(families, (table.RIVAL, table.OURS), seeds, pesq=pesq)
        rows = tuple(row.as_dict() for row in measured)
        steady_us = round(float(min(program.steady_us() for _ in range(3))), 1)
        pictures = tuple(_picture(out, family, seeds[0]) for family in families)
    report = {"rows": rows, "steady_us": steady_us}
    (out / "bench-audio.json").write_text(json.dumps(report, indent=1), "utf-8")
    console.print(_table(rows, table.OURS, table.RIVAL))
    console.print(f"put and pull of 20 ms: {steady_us} us of CPU; pictures in {out}")
    return AudioBench(rows, steady_us, pictures)


def _table(rows: Iterable[dict[str, Any]], ours: str, rival: str) -> Table:
    table = Table(box=box.ROUNDED, border_style="dim", title="Playout buffer")
    table.add_column("network")
    for name in (ours, rival):
        table.add_column(f"{name}\ndelay mean / p95 ms", justify="right")
        table.add_column("concealed\nms per minute", justify="right")
    by_family: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        by_family.setdefault(row["family"], {})[row["policy"]] = row
    for family, found in by_family.items():
        cells = [family]
        for name in (ours, rival):
            row = found[name]
            cells.append(f"{row['mean_ms']:.0f} / {row['p95_ms']:.0f}")
            cells.append(f"{row['concealed_ms']:.0f}")
        table.add_row(*cells)
    return table


def _picture(out: Path, family: str, seed: int) -> Path:
    score = import_module("benchmarks.playout.score")
    policies = import_module("benchmarks.playout.policies")
    traces = import_module("benchmarks.playout.traces")
    trace = traces.make(family, seed)
    run = score.play(policies.POLICIES["voicebridge"](), trace)
    spoken_to_us = trace.captured + trace.transit
    late = zip(trace.arrived, (trace.arrived - spoken_to_us) * 1000, strict=True)
    arrival = [(float(at), float(ms)) for at, ms in late]
    playout = []
    holes = []
    frame = traces.FRAME
    for span in run.spans:
        number = min(span.source // frame, len(spoken_to_us) - 1)
        if span.kind is Kind.PLAYED:
            inside = (span.out % frame - span.source % frame) / traces.RATE
            playout.append((span.at, (span.at + inside - float(spoken_to_us[number])) * 1000))
        elif span.kind is Kind.CONCEALED and span.given:
            holes.append((span.at, span.given / traces.RATE))
    path = out / f"playout-{family.lower().replace(' ', '-')}.svg"
    lines = {"arrival": arrival, "target": run.targets, "playout": playout}
    path.write_text(_svg(f"{family}, seed {seed}", lines, holes), "utf-8")
    return path


def _svg(title: str, lines: dict[str, list[_Point]], holes: list[_Point]) -> str:
    """Delay in ms (upwards) against time in s."""
    end = max(at for points in lines.values() for at, _ in points)
    top = min(_MOST_MS, max(80.0, max(ms for points in lines.values() for _, ms in points) * 1.05))

    def x(at: float) -> float:
        return _LEFT + at / end * (_WIDTH - _LEFT - 8)

    def y(ms: float) -> float:
        return (_HEIGHT - _BOTTOM) - min(max(ms, 0.0), top) / top * (_HEIGHT - _BOTTOM - 30)

    floor = _HEIGHT - _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="18" font-weight="bold">{html.escape(title)}</text>',
    ]
    step = 20 if top <= 120 else 100
    for ms in range(0, int(top) + 1, step):
        parts.append(f'<path d="M{_LEFT} {y(ms):.1f}H{_WIDTH - 8}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y(ms) + 4:.1f}" text-anchor="end">{ms} ms</text>')
    parts += [
        f'<text x="{x(second):.1f}" y="{floor + 16}" text-anchor="middle">{second} s</text>'
        for second in range(0, int(end) + 1, 10)
    ]
    for at, seconds in holes:
        wide = max(0.6, x(seconds) - x(0.0))
        parts.append(
            f'<rect x="{x(at):.1f}" y="30" width="{wide:.1f}" height="{floor - 30}" '
            f'fill="{_HOLE}" fill-opacity="0.35"/>'
        )
    for place, (name, points) in enumerate(lines.items()):
        path = "M" + "L".join(f"{x(at):.1f} {y(ms):.1f}" for at, ms in points)
        colour = _COLOURS[name]
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1"/>')
        parts.append(f'<text x="{_WIDTH - 330 + place * 75}" y="18" fill="{colour}">{name}</text>')
    parts.append(f'<text x="{_WIDTH - 100}" y="18" fill="{_HOLE}">concealed</text></svg>')
    return "\n".join(parts)
