"""Calls that an echo bot answers, all at once: what one core carries, and at what price.

    python -m benchmarks echo [--calls 50] [--seconds 20] [--frame-ms 60] [--rounds 3]

`voicebridge serve --bot echo` runs on one core, as it would in production; the emulator
with every caller runs on another. In alternating rounds the same callers talk to a bare
``websockets`` client (`floor.py`) on the same core, so that the ratio of the two holds on
any machine. CPU is the kernel's account of the process in the steady part of each round,
less what the same process uses when there is no call.
"""

from __future__ import annotations

import asyncio
import json
import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from benchmarks.callers import Caller, Lag, Window, all_echoed, hang_up, ring, window_of
from benchmarks.rig import Bridge, Loop, Usage, measured_core, open_rig, process, usage
from voicebridge.emulator import Behaviour, MediaBehaviour, WebhookBehaviour

if TYPE_CHECKING:
    from collections.abc import Callable

    from voicebridge.emulator import Emulator

__all__ = ["Options", "measure"]

_IDLE_S = 3.0
_SETTLE_S = 2.0
_DRAIN_S = 1.0
_RING_EVERY_S = 0.0237
"""No multiple of any frame: callers spread over the 60 ms of a message."""
_SILENT = WebhookBehaviour(drop=("call.ringing", "call.connected", "call.ended"))


@dataclass(frozen=True, slots=True)
class Options:
    """``frame_ms`` is the length of a message from the caller, ``wire_ms`` of one to it."""

    calls: int = 50
    seconds: float = 20.0
    frame_ms: int = 60
    wire_ms: int = 60
    rounds: int = 3
    floor: bool = True


@dataclass(frozen=True, slots=True)
class Round:
    """One round of one side."""

    cpu_ms: float
    """Of one core, per second of one call."""
    waited_ms: float
    """For the core, per second: above a few, other work was in the way."""
    window: Window
    observer: dict[str, float]
    late: int = 0
    lost_frames: int = 0
    lead_max_ms: float = 0.0
    not_carried: int = 0
    """Calls that were not live to the end."""


@dataclass
class Side:
    """The bridge or the floor, over all rounds."""

    rounds: list[Round] = field(default_factory=list)
    idle_cpu_ms: float = 0.0
    """Per second, of the process without a call; taken off."""
    rss_idle_mb: float = 0.0
    rss_call_kb: float = 0.0

    def summary(self) -> dict[str, object]:
        """Medians over the rounds with their spread, sums of what must be zero."""
        windows = [each.window for each in self.rounds]
        return {
            "cpu_ms_per_call_second": _spread([each.cpu_ms for each in self.rounds]),
            "idle_cpu_ms_per_second": round(self.idle_cpu_ms, 2),
            "waited_ms_per_second": _spread([each.waited_ms for each in self.rounds]),
            "round_trip_ms": _middle([each.round_trip for each in windows]),
            "over_framing_ms": _middle([each.over_framing for each in windows]),
            "pacing_jitter_ms": _middle([each.jitter for each in windows]),
            "observer_lag_ms": _middle([each.observer for each in self.rounds]),
            "late": sum(each.late for each in self.rounds),
            "lost_frames": sum(each.lost_frames for each in self.rounds),
            "marks": sum(each.marks for each in windows),
            "marks_lost": sum(each.lost for each in windows),
            "marks_pending": sum(each.pending for each in windows),
            "marks_repeated": sum(each.repeated for each in windows),
            "holes": sum(each.holes for each in windows),
            "longest_hole_ms": max(each.longest_hole_ms for each in windows),
            "not_carried": sum(each.not_carried for each in self.rounds),
            "lead_max_ms": max(each.lead_max_ms for each in self.rounds),
            "rss_idle_mb": round(self.rss_idle_mb, 1),
            "rss_call_kb": round(self.rss_call_kb, 1),
            "rounds": [asdict(each) for each in self.rounds],
        }


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def _middle(each: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(one[name] for one in each), 3) for name in each[0]}


async def measure(options: Options, loop: Loop, say: Callable[[str], None]) -> dict[str, Any]:
    """Both sides, in turns. ``say`` is told what goes on."""
    behaviour = Behaviour(media=MediaBehaviour(frame_ms=options.frame_ms, prefill_ms=0))
    bridge_side, floor_side, lag = Side(), Side(), Lag()
    watching = asyncio.create_task(lag.watch())
    try:
        async with (
            open_rig(
                bot="echo",
                loop=loop,
                max_calls=options.calls + 1,
                behaviour=behaviour,
                settings=[("MEDIA__WIRE_FRAME_MS", str(options.wire_ms))],
            ) as (emulator, bridge),
            process(
                "benchmarks.floor", str(options.wire_ms * 32), loop, core=measured_core()
            ) as bare,
        ):
            await _carry(emulator, 1, 2.0)
            bridge_side.idle_cpu_ms = await _idle(bridge.pid)
            for turn in range(1, options.rounds + 1):
                say(f"{loop}, round {turn} of {options.rounds}: bridge")
                bridge_side.rounds.append(
                    await _bridge_round(emulator, bridge, options, bridge_side, lag)
                )
                if options.floor:
                    say(f"{loop}, round {turn} of {options.rounds}: floor")
                    floor_side.rounds.append(
                        await _floor_round(emulator, bare, options, floor_side, lag)
                    )
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    result: dict[str, Any] = {"options": asdict(options), "loop": loop}
    result["bridge"] = bridge_side.summary()
    if options.floor:
        result["floor"] = floor_side.summary()
        result["cpu_ratio"] = round(
            result["bridge"]["cpu_ms_per_call_second"]["median"]
            / result["floor"]["cpu_ms_per_call_second"]["median"],
            2,
        )
    return result


async def _carry(emulator: Emulator, count: int, seconds: float) -> None:
    """Calls that nobody measures: imports, first connections, the allocator's first pages."""
    callers = await ring(emulator, count, seconds + 5.0, every_s=_RING_EVERY_S)
    await all_echoed(callers, 15.0)
    await asyncio.sleep(seconds)
    await hang_up(emulator, callers)
    await asyncio.sleep(_DRAIN_S)


async def _idle(pid: int) -> float:
    before = usage(pid)
    await asyncio.sleep(_IDLE_S)
    return (usage(pid) - before).cpu_s * 1_000 / _IDLE_S


async def _bridge_round(
    emulator: Emulator, bridge: Bridge, options: Options, side: Side, lag: Lag
) -> Round:
    if not side.rss_idle_mb:
        side.rss_idle_mb = usage(bridge.pid).rss_bytes / 1e6
    callers = await ring(emulator, options.calls, _talk(options), every_s=_RING_EVERY_S)
    await all_echoed(callers, 30.0)
    await asyncio.sleep(_SETTLE_S)
    first = await bridge.calls()
    used, window, seen = await _steady(callers, bridge.pid, options, lag)
    last = await bridge.calls()
    ids = [caller.call.id for caller in callers]
    if not side.rounds:
        rss = usage(bridge.pid).rss_bytes
        side.rss_call_kb = (rss / 1e6 - side.rss_idle_mb) * 1_000 / options.calls
    await hang_up(emulator, callers)
    await asyncio.sleep(_DRAIN_S)
    return Round(
        cpu_ms=_per_call(used, side.idle_cpu_ms, options),
        waited_ms=used.waited_s * 1_000 / options.seconds,
        window=window,
        observer=seen,
        late=sum(last[id_]["frames"]["late"] - first[id_]["frames"]["late"] for id_ in ids),
        lost_frames=sum(last[id_]["frames"]["lost"] for id_ in ids),
        lead_max_ms=max(last[id_]["lead_ms"]["max"] for id_ in ids),
        not_carried=sum(last[id_]["reason"] is not None for id_ in ids),
    )


async def _floor_round(
    emulator: Emulator, bare: asyncio.subprocess.Process, options: Options, side: Side, lag: Lag
) -> Round:
    if not side.rss_idle_mb:
        side.idle_cpu_ms = await _idle(bare.pid)
        side.rss_idle_mb = usage(bare.pid).rss_bytes / 1e6
    heeded = emulator.behaviour
    emulator.behaviour = heeded.model_copy(update={"webhooks": _SILENT})
    try:
        callers = await ring(emulator, options.calls, _talk(options), every_s=_RING_EVERY_S)
        await _answer(emulator, bare, callers)
        await all_echoed(callers, 30.0)
        await asyncio.sleep(_SETTLE_S)
        used, window, seen = await _steady(callers, bare.pid, options, lag)
        if not side.rounds:
            rss = usage(bare.pid).rss_bytes
            side.rss_call_kb = (rss / 1e6 - side.rss_idle_mb) * 1_000 / options.calls
        await hang_up(emulator, callers)
        await asyncio.sleep(_DRAIN_S)
    finally:
        emulator.behaviour = heeded
    return Round(
        cpu_ms=_per_call(used, side.idle_cpu_ms, options),
        waited_ms=used.waited_s * 1_000 / options.seconds,
        window=window,
        observer=seen,
    )


async def _answer(
    emulator: Emulator, bare: asyncio.subprocess.Process, callers: list[Caller]
) -> None:
    """Does the signalling for the floor, which knows none."""
    key = emulator.config.api_key.get_secret_value()
    urls = []
    async with httpx.AsyncClient(
        base_url=emulator.api_url, headers={"x-api-key": key}, trust_env=False
    ) as client:
        for caller in callers:
            path = f"/v1/calls/{caller.call.id}"
            (await client.post(f"{path}/accept")).raise_for_status()
            reply = await client.post(f"{path}/realtime-session", json={"mode": "talk"})
            urls.append(reply.raise_for_status().json()["wsUrl"])
    assert bare.stdin is not None
    assert bare.stdout is not None
    bare.stdin.write(json.dumps(urls).encode() + b"\n")
    async with asyncio.timeout(30.0):
        await bare.stdout.readline()


async def _steady(
    callers: list[Caller], pid: int, options: Options, lag: Lag
) -> tuple[Usage, Window, dict[str, float]]:
    """The part of a round that counts."""
    now = asyncio.get_running_loop().time
    lag.take()
    before, begin = usage(pid), now()
    await asyncio.sleep(options.seconds)
    used, end = usage(pid) - before, now()
    seen = lag.take()
    await asyncio.sleep(_DRAIN_S)
    return used, window_of(callers, begin, end, options.wire_ms), seen


def _talk(options: Options) -> float:
    """How long a caller has to talk: ringing, settling, the window, and some more."""
    return options.calls * _RING_EVERY_S + options.seconds + _SETTLE_S + 30.0


def _per_call(used: Usage, idle_cpu_ms: float, options: Options) -> float:
    return (used.cpu_s * 1_000 / options.seconds - idle_cpu_ms) / options.calls
