"""Five minutes of real time: two echo calls, one hears 20 ms messages and one 60 ms.

    python -m benchmarks five_minutes [--seconds 300]

What only shows in the long run: drift of the send grid against true time, a queue that
creeps, a message that was lost. Both calls are live at the same time on one bridge.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.callers import Caller, all_echoed, hang_up, ring, window_of
from benchmarks.rig import Bridge, Loop, open_rig, usage
from voicebridge.emulator import Behaviour, MediaBehaviour

if TYPE_CHECKING:
    from collections.abc import Callable

    from voicebridge.emulator import Emulator

__all__ = ["Options", "measure"]

_WIRE_MS = 60
_TELL_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class Options:
    seconds: float = 300.0
    frames_ms: tuple[int, ...] = (20, 60)


async def measure(options: Options, loop: Loop, say: Callable[[str], None]) -> dict[str, Any]:
    """One call for each length of message."""
    now = asyncio.get_running_loop().time
    async with open_rig(
        bot="echo", loop=loop, max_calls=len(options.frames_ms), behaviour=Behaviour()
    ) as (emulator, bridge):
        callers = [await _begin(emulator, frame_ms, options) for frame_ms in options.frames_ms]
        await all_echoed(callers, 15.0)
        before, begin = usage(bridge.pid), now()
        end = begin + options.seconds
        while (left := end - now()) > 0:
            say(f"{loop}, {len(callers)} calls, {left:.0f} s to go")
            await asyncio.sleep(min(left, _TELL_EVERY_S))
        used = usage(bridge.pid) - before
        await asyncio.sleep(1.0)
        calls = [
            await _figures(bridge, caller, frame_ms, begin, end)
            for caller, frame_ms in zip(callers, options.frames_ms, strict=True)
        ]
        await hang_up(emulator, callers)
    return {
        "options": asdict(options),
        "loop": loop,
        "cpu_ms_per_second": round(used.cpu_s * 1_000 / options.seconds, 2),
        "waited_ms": round(used.waited_s * 1_000 / options.seconds, 1),
        "rss_growth_kb": round(used.rss_bytes / 1_000),
        "calls": calls,
    }


async def _begin(emulator: Emulator, frame_ms: int, options: Options) -> Caller:
    # A call keeps the behaviour that it began with.
    emulator.behaviour = Behaviour(media=MediaBehaviour(frame_ms=frame_ms))
    (caller,) = await ring(emulator, 1, options.seconds + 30.0, every_s=0.0)
    return caller


async def _figures(
    bridge: Bridge, caller: Caller, frame_ms: int, begin: float, end: float
) -> dict[str, Any]:
    summary = (await bridge.calls())[caller.call.id]
    seen = caller.call.far_end.measurement()
    window = window_of([caller], begin, end, _WIRE_MS)
    return {
        "frame_ms": frame_ms,
        "marks": window.marks,
        "marks_lost": window.lost,
        "marks_repeated": window.repeated,
        "round_trip_ms": window.round_trip,
        "over_framing_ms": window.over_framing,
        "pacing_jitter_ms": window.jitter,
        "drift_ppm": None if seen.drift_ppm is None else round(seen.drift_ppm, 2),
        "holes": seen.holes,
        "far_queue_max_ms": seen.max_queue_ms,
        "overflow_drops": seen.overflow_drops,
        "text_frames": seen.text_frames,
        "sizes": seen.sizes,
        "frames": summary["frames"],
        "lead_ms": summary["lead_ms"],
    }
