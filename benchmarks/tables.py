"""What people read: one table for each benchmark. The JSON has everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

__all__ = ["SHOW", "machine"]


def machine(out: Console, about: dict[str, Any]) -> None:
    """What the figures hold for."""
    out.print(
        f"{about['cpu']}, {about['cores']} cores, Python {about['python']}, "
        f"load {about['load_1m']}" + ("" if about["uvloop"] else "; uvloop is not installed"),
        highlight=False,
    )
    if about["cores"] < 2:
        out.print("[bold red]one core only: what measures is in the way of what is measured[/]")


def _table(out: Console, title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    table = Table(title=title, title_justify="left", title_style="bold", box=None)
    for index, name in enumerate(head):
        table.add_column(name, justify="right" if index else "left")
    for row in rows:
        table.add_row(*(str(value) for value in row))
    out.print(table, highlight=False)


def _shares(values: dict[str, float], *names: str) -> str:
    return " / ".join(f"{values[name]:.1f}" for name in names) if values else "-"


def _echo(out: Console, results: list[dict[str, Any]]) -> None:
    head = ("", *(f"{side}, {each['loop']}" for each in results for side in ("bridge", "floor")))
    sides = [each[side] for each in results for side in ("bridge", "floor")]

    def row(name: str, value: Callable[[dict[str, Any]], object]) -> tuple[object, ...]:
        return name, *(value(side) for side in sides)

    def cpu(side: dict[str, Any]) -> str:
        spread = side["cpu_ms_per_call_second"]
        return f"{spread['median']:.2f} ({spread['min']:.2f} to {spread['max']:.2f})"

    rows = [
        row("CPU ms per call-second", cpu),
        row("idle CPU ms/s, taken off", lambda s: s["idle_cpu_ms_per_second"]),
        row("waited for the core ms/s", lambda s: s["waited_ms_per_second"]["median"]),
        row("round trip ms p50/p95/p99", lambda s: _shares(s["round_trip_ms"], *_MAIN)),
        row("over framing ms p50/p95/p99", lambda s: _shares(s["over_framing_ms"], *_MAIN)),
        row("pacing jitter ms p50/p99", lambda s: _shares(s["pacing_jitter_ms"], "p50", "p99")),
        row("observer's own lag ms p99", lambda s: s["observer_lag_ms"]["p99"]),
        row("late frames", lambda s: s["late"]),
        row("lost, of marks", lambda s: f"{s['marks_lost'] + s['lost_frames']} / {s['marks']}"),
        row("holes in the phone", lambda s: s["holes"]),
        row("lead max ms", lambda s: s["lead_max_ms"] or "-"),
        row("calls not carried", lambda s: s["not_carried"]),
        row("memory MB idle", lambda s: s["rss_idle_mb"]),
        row("memory kB per call", lambda s: s["rss_call_kb"]),
    ]
    options = results[0]["options"]
    title = (
        f"echo: {options['calls']} calls, {options['frame_ms']} ms in, {options['wire_ms']} ms "
        f"out, {options['rounds']} rounds of {options['seconds']:g} s"
    )
    _table(out, title, head, rows)
    for each in results:
        out.print(f"CPU against the floor, {each['loop']}: {each['cpu_ratio']} times")


_MAIN = ("p50", "p95", "p99")


def _latency(out: Console, results: list[dict[str, Any]]) -> None:
    rows = []
    for each in results:
        for part in ("sequential", "at_once"):
            figures = each[part]
            width = 1 if part == "sequential" else each["options"]["at_once"]
            named = {f"webhook to {k}": v for k, v in figures["ms_since_webhook"].items()}
            named["bridge's own: to answered"] = figures["bridge_answer_ms"]
            named["observer's lag"] = figures["observer_lag_ms"]
            rows += [
                (
                    each["loop"],
                    f"{figures['calls']} calls, {width} at once",
                    name,
                    *(f"{values[share]:.1f}" for share in (*_MAIN, "max")),
                )
                for name, values in named.items()
            ]
            rows.append((each["loop"], "", "never heard", figures["silent"], "", "", ""))
    _table(out, "latency, ms", ("loop", "calls", "", *_MAIN, "max"), rows)


def _five_minutes(out: Console, results: list[dict[str, Any]]) -> None:
    for each in results:
        calls = each["calls"]

        def row(name: str, value: Callable[[Any], object], of: Any = calls) -> tuple[object, ...]:
            return name, *(value(call) for call in of)

        rows = [
            row(
                "lost, of marks",
                lambda c: f"{c['marks_lost'] + c['frames']['lost']} / {c['marks']}",
            ),
            row("late frames", lambda c: c["frames"]["late"]),
            row("drift ppm", lambda c: c["drift_ppm"]),
            row("lead max ms", lambda c: c["lead_ms"]["max"]),
            row("far end's queue max ms", lambda c: c["far_queue_max_ms"]),
            row("holes in the phone", lambda c: c["holes"]),
            row("pacing jitter ms p50/p99", lambda c: _shares(c["pacing_jitter_ms"], "p50", "p99")),
            row("round trip ms p50/p99", lambda c: _shares(c["round_trip_ms"], "p50", "p99")),
            row("messages by bytes", lambda c: c["sizes"]),
        ]
        head = ["", *(f"{call['frame_ms']} ms in" for call in calls)]
        seconds = each["options"]["seconds"]
        _table(out, f"{seconds:g} s of echo, {each['loop']}", head, rows)
        out.print(
            f"CPU {each['cpu_ms_per_second']} ms/s, waited for the core {each['waited_ms']} ms/s, "
            f"memory +{each['rss_growth_kb']} kB"
        )


def _webhooks(out: Console, result: dict[str, Any]) -> None:
    rows = [
        (kind, *(result[kind][f"{share}_ms"] for share in (*_MAIN, "max")), result[kind]["failed"])
        for kind in ("real", "bare")
    ]
    ratio = ("ratio", *(result[f"{share}_ratio"] for share in _MAIN), "", "")
    title = f"acknowledging {result['rate']:g} webhooks a second, ms"
    _table(out, title, ("", *_MAIN, "max", "failed"), [*rows, ratio])


def _core(out: Console, result: dict[str, float]) -> None:
    rows = [(name, f"{value:.2f}") for name, value in result.items()]
    _table(out, "the media core alone, microseconds", ("", "best of five"), rows)


SHOW: dict[str, Callable[[Console, Any], None]] = {
    "echo": _echo,
    "latency": _latency,
    "five_minutes": _five_minutes,
    "webhooks": _webhooks,
    "core": _core,
}
