"""Runs the benchmarks: ``python -m benchmarks [NAME ...] [--json FILE] [--quick]``.

Each one runs with the bridge in a process of its own on one core, on the stock event loop
and, where it is installed, on uvloop. Tables go to the terminal, everything to the JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from benchmarks import core_tick, echo, five_minutes, latency, tables, webhooks
from benchmarks.rig import aside, loops, machine

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.rig import Loop

ABOUT = {
    "echo": "concurrent echo calls on one core: CPU, round trip, late frames, and the floor",
    "latency": "webhook to accept, and webhook to the bot's first voiced audio",
    "webhooks": "acknowledging webhooks at 300 a second",
    "core": "CPU of the pure media core, without loop and sockets",
    "five_minutes": "one long call: drift, losses, message sizes (takes five minutes)",
}

out = Console()
progress = Console(stderr=True)


def main() -> None:
    options = _options()
    names = options.names or list(ABOUT)
    out.print("[bold]benchmarks[/]: " + ", ".join(names), highlight=False)
    results: dict[str, Any] = {"machine": machine(), "results": {}}
    tables.machine(out, results["machine"])
    for name in names:
        started = time.perf_counter()
        with progress.status(f"{name} ...") as status:
            results["results"][name] = _run(name, options, _teller(name, status.update))
        tables.SHOW[name](out, results["results"][name])
        took, load = time.perf_counter() - started, os.getloadavg()[0]
        out.print(f"[dim]{name} took {took:.0f} s; load average at its end {load:.2f}[/]\n")
        if options.json:
            options.json.write_text(json.dumps(results, indent=2) + "\n")
    if options.json:
        out.print(f"written: {options.json}", highlight=False)


def _options() -> argparse.Namespace:
    names = "\n".join(f"  {name:14}{what}" for name, what in ABOUT.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"Measures this machine. What there is:\n\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which; by default all")
    parser.add_argument("--list", action="store_true", help="say what there is, and end")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything here")
    parser.add_argument("--loop", choices=("stock", "uvloop"), help="only this event loop")
    load = parser.add_argument_group("echo and five_minutes")
    load.add_argument("--calls", type=int, default=50, help="at once (50)")
    load.add_argument("--seconds", type=float, help="measured in each round (20), or in all (300)")
    load.add_argument("--rounds", type=int, default=3, help="of bridge and floor in turns (3)")
    load.add_argument("--frame-ms", type=int, choices=(20, 60), default=60, help="from the caller")
    load.add_argument(
        "--wire-ms", type=int, choices=(20, 60), default=60, help="to the caller; production: 60"
    )
    options = parser.parse_args()
    if options.list:
        print(names)
        sys.exit()
    for name in set(options.names) - ABOUT.keys():
        parser.error(f"there is no benchmark {name!r}; --list says what there is")
    if options.loop == "uvloop" and "uvloop" not in loops():
        parser.error("uvloop is not installed here; pip install uvloop")
    return options


def _teller(name: str, update: Callable[[str], None]) -> Callable[[str], None]:
    def say(what: str) -> None:
        update(f"{name}: {what}")
        if not progress.is_terminal:
            progress.print(f"{name}: {what}", highlight=False)

    return say


def _run(name: str, options: argparse.Namespace, say: Callable[[str], None]) -> Any:
    match name:
        case "core":
            return _core(say)
        case "webhooks":
            say("300 a second")
            return asyncio.run(webhooks.measure(300.0, 3.0 if options.quick else 10.0))
        case _:
            # Drift, losses and sizes do not hang on the loop: the fastest one is enough.
            wanted = [options.loop] if options.loop else list(loops())
            if name == "five_minutes":
                wanted = wanted[-1:]
            with aside():
                return [_live(name, options, loop, say) for loop in wanted]


def _core(say: Callable[[str], None]) -> dict[str, float]:
    figures = {}
    for heard_ms, wire_ms in ((60, 60), (20, 60), (20, 20)):
        say(f"{heard_ms} ms in, {wire_ms} ms out")
        best = min(
            core_tick.cpu(1, 20.0, inbound_ms=heard_ms, wire_ms=wire_ms, sample=core_tick.QUIET)
            for _ in range(5)
        )
        figures[f"echo, {heard_ms} ms in, {wire_ms} ms out, a call-second"] = round(best, 1)
    figures["idle tick"] = round(min(core_tick.idle_tick(3_000) for _ in range(5)), 2)
    return figures


def _live(
    name: str, options: argparse.Namespace, loop: Loop, say: Callable[[str], None]
) -> dict[str, Any]:
    match name:
        case "echo":
            load = echo.Options(
                calls=options.calls,
                seconds=options.seconds or 20.0,
                frame_ms=options.frame_ms,
                wire_ms=options.wire_ms,
                rounds=options.rounds,
            )
            if options.quick:
                load = replace(load, seconds=options.seconds or 5.0, rounds=1)
            return asyncio.run(echo.measure(load, loop, say))
        case "latency":
            calls = latency.Options(calls=60) if options.quick else latency.Options()
            return asyncio.run(latency.measure(calls, loop, say))
        case _:
            seconds = options.seconds or (20.0 if options.quick else 300.0)
            long = five_minutes.Options(seconds=seconds)
            return asyncio.run(five_minutes.measure(long, loop, say))


if __name__ == "__main__":
    main()
