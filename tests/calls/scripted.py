"""A bot that runs one function for each call, and what to ask of it afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from tests.calls.talker import metric, noise
from voicebridge import Bot, Call

if TYPE_CHECKING:
    from voicebridge.emulator.calls import EmulatedCall
    from voicebridge.testing.world import World

Script = Callable[[Call], Awaitable[None]]


class Scripted(Bot):
    """Runs a function for each call; counts what is asked of it."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.starts = self.runs = self.ends = self.closes = 0
        self.log: list[str] = []

    async def start(self) -> None:
        self.starts += 1

    async def run(self, call: Call) -> None:
        self.runs += 1
        try:
            await self.script(call)
        finally:
            self.ends += 1

    async def close(self) -> None:
        self.closes += 1


def errors(world: World, bot: str = "Scripted") -> float:
    """Failures of a bot that were counted."""
    return metric(world, "bot_errors_total", bot=bot)


def ended_at(call: EmulatedCall) -> float:
    at = call.when("ended")
    assert at is not None
    return at


async def listen(call: Call) -> None:
    async for _ in call.audio():
        pass


async def hang_up(call: Call) -> None:
    await call.hangup("done")


async def writes_on(call: Call) -> None:
    while True:
        await call.write(noise(0.1).tobytes())
