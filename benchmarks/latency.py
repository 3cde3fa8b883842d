"""From the ringing webhook to the accept, and on to the bot's first voiced audio.

    python -m benchmarks latency [--calls 500] [--at-once 20]

Against an emulator that answers at once and connects a call the instant it is accepted, so
that what is left is the bridge: intake, ``accept``, ``realtime-session``, the media socket,
the greeting. Everything is timed in the provider's process, from just before it sends the
webhook; its own HTTP client and server are in every figure, which makes them upper bounds.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.callers import Lag, quantiles
from benchmarks.rig import Loop, measured_core, open_rig, usage
from voicebridge.emulator import Behaviour, CallerBehaviour, CallerScript, MediaBehaviour

if TYPE_CHECKING:
    from collections.abc import Callable

    from voicebridge.emulator import EmulatedCall, Emulator

__all__ = ["Options", "measure"]

_STEPS = ("webhook_answered", "accept", "realtime_session", "media_open", "first_sound")
_WARM_UP = 10
_ANSWER_S = 10.0
_LOOK_S = 0.002
_REST_S = 0.03
"""After each call of a batch: the end of one must not weigh on the beginning of the next."""


@dataclass(frozen=True, slots=True)
class Options:
    """``calls`` one after the other; then as many again, ``at_once`` of them at a time."""

    calls: int = 500
    at_once: int = 20


@dataclass
class Steps:
    """Milliseconds from the webhook to each step, per call."""

    since_webhook: dict[str, list[float]] = field(
        default_factory=lambda: {step: [] for step in _STEPS}
    )
    by_bridge_ms: list[float] = field(default_factory=list)
    """From taking the webhook to the answered accept, as the bridge itself tells it."""
    silent: int = 0

    def add(self, call: EmulatedCall) -> None:
        begin = call.when("webhook")
        assert begin is not None
        for step, values in self.since_webhook.items():
            at = call.when(step)
            if at is not None:
                values.append((at - begin) * 1_000)
        self.silent += call.when("first_sound") is None

    def summary(self) -> dict[str, object]:
        return {
            "calls": len(self.since_webhook["accept"]),
            "silent": self.silent,
            "ms_since_webhook": {
                step: quantiles(values) for step, values in self.since_webhook.items()
            },
            "bridge_answer_ms": quantiles(self.by_bridge_ms),
        }


async def measure(options: Options, loop: Loop, say: Callable[[str], None]) -> dict[str, Any]:
    """Both parts on a fresh bridge."""
    behaviour = Behaviour(
        caller=CallerBehaviour(connect_after_s=0.0), media=MediaBehaviour(prefill_ms=0)
    )
    lag = Lag()
    result: dict[str, Any] = {"options": asdict(options), "loop": loop, "core": measured_core()}
    watching = asyncio.create_task(lag.watch())
    try:
        async with open_rig(
            bot="benchmarks.greeter:Greeter",
            loop=loop,
            max_calls=2 * options.at_once,
            behaviour=behaviour,
        ) as (emulator, bridge):
            await _batch(emulator, _WARM_UP, Steps())
            for name, at_once in (("sequential", 1), ("at_once", options.at_once)):
                steps = Steps()
                before = usage(bridge.pid)
                lag.take()
                for done in range(0, options.calls, at_once):
                    if done % 100 < at_once:
                        say(f"{loop}, {name}: {done} of {options.calls}")
                    calls = await _batch(emulator, at_once, steps)
                    known = await bridge.calls()
                    steps.by_bridge_ms += [
                        float(known[call.id]["answer_ms"]) for call in calls if call.id in known
                    ]
                used = usage(bridge.pid) - before
                result[name] = steps.summary() | {
                    "observer_lag_ms": lag.take(),
                    "waited_ms": round(used.waited_s * 1_000, 1),
                    "cpu_ms_per_call": round(used.cpu_s * 1_000 / options.calls, 2),
                }
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return result


async def _batch(emulator: Emulator, count: int, steps: Steps) -> list[EmulatedCall]:
    """So many calls in the same instant, each until its bot was heard."""
    calls = [await emulator.ring(CallerScript(record=False)) for _ in range(count)]
    try:
        async with asyncio.timeout(_ANSWER_S):
            # The emulator notes; it tells nobody.
            while any(call.when("first_sound") is None for call in calls):  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        pass  # the calls that stayed silent are counted
    for call in calls:
        await emulator.hang_up(call)
    await asyncio.gather(*(call.ended() for call in calls))
    await asyncio.sleep(_REST_S * count)
    for call in calls:
        steps.add(call)
    return calls
