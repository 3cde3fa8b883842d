"""A bot that says noise and remembers all, and questions to ask of its world."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np

from voicebridge import Bot, Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.calls.speech import Pcm
    from voicebridge.core.events import Event
    from voicebridge.emulator.calls import EmulatedCall
    from voicebridge.leg import Leg
    from voicebridge.testing.world import World

PROMPT = "https://cdn.example.com/sorry.mp3"
BLOCK = 160
#: A stream that stops in the middle of a message fades out: its last block is not the same.
FADE_MS = 10


def noise(seconds: float, seed: int = 0) -> Pcm:
    """Audio in which every 10 ms are unlike all others."""
    samples = np.random.default_rng(seed).integers(-8_000, 8_000, round(seconds * 16_000))
    return samples.astype(np.int16)


def coverage(said: Pcm, heard: Pcm) -> tuple[int, int]:
    """Milliseconds of ``said`` that are missing in ``heard``, and that stand there twice."""
    missing = repeated = 0
    recording = heard.tobytes()
    for start in range(0, len(said) - BLOCK + 1, BLOCK):
        times = recording.count(said[start : start + BLOCK].tobytes())
        missing += times == 0
        repeated += max(0, times - 1)
    return missing * 10, repeated * 10


class Talker(Bot):
    """Says noise, hears all, keeps every event; one ``run`` per call."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.said = noise(seconds, seed=7)
        self.runs = 0
        self.frames: list[tuple[float, bytes]] = []
        self.events: list[Event] = []

    async def run(self, call: Call) -> None:
        self.runs += 1
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch(call))
            tasks.create_task(self._listen(call))
            tasks.create_task(self._talk(call))

    async def _watch(self, call: Call) -> None:
        async for event in call.events():
            self.events.append(event)

    async def _listen(self, call: Call) -> None:
        async for frame in call.audio():
            self.frames.append((now(), frame))

    async def _talk(self, call: Call) -> None:
        for start in range(0, len(self.said), 1_600):
            await call.write(self.said[start : start + 1_600].tobytes())

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def sounds(self, after: float) -> list[float]:
        """When frames that are not silent were heard."""
        return [at for at, frame in self.frames if at > after and any(frame)]


def now() -> float:
    return asyncio.get_running_loop().time()


def count(world: World, operation: str) -> int:
    """How often the provider was asked for something."""
    return sum(name == operation for name, _ in world.emulator.requests)


def metric(world: World, name: str, **labels: str) -> float:
    return world.running.metrics.registry.get_sample_value(f"voicebridge_{name}", labels) or 0.0


def instants(call: EmulatedCall, what: str) -> list[float]:
    """When something happened on the other side."""
    return [at for at, name, _ in call.timeline if name == what]


async def until(fact: Callable[[], object], seconds: float = 30.0) -> None:
    """Waits for a fact, in virtual time."""
    async with asyncio.timeout(seconds):
        while not fact():  # noqa: ASYNC110 - any fact, not one that tells
            await asyncio.sleep(0.02)


async def the_leg(world: World) -> Leg:
    """Our side of the only call."""
    await until(lambda: world.bridge._live)
    (leg,) = world.bridge._live
    return leg
