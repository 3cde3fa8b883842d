"""A call that is carried by one function, and what the caller heard of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tests.calls.talker import noise
from voicebridge import Bot, Call
from voicebridge.emulator.behaviour import Behaviour, MediaBehaviour
from voicebridge.emulator.calls import EmulatedCall
from voicebridge.testing import run_virtual
from voicebridge.testing.world import World, open_world

if TYPE_CHECKING:
    from tests.calls.speech import Pcm

T = TypeVar("T")
Script = Callable[[Call, EmulatedCall], Awaitable[T]]

#: One message, the lead, and half a tick: what cannot be recalled any more.
BEYOND_RECALL_MS = 60 + 60 + 20
PATH_DELAY_MS = 150


class Scripted(Bot):
    """Runs one function with both sides of the call."""

    def __init__(self, script: Script[Any]) -> None:
        self.script = script
        self.world: World | None = None
        self.result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def run(self, call: Call) -> None:
        assert self.world is not None
        try:
            self.result.set_result(await self.script(call, self.world.emulator.calls[call.id]))
        except BaseException as error:
            self.result.set_exception(error)
            raise


def carry(
    script: Script[T],
    *,
    audio: Pcm | None = None,
    hangup_after: float | None = None,
    media: MediaBehaviour | None = None,
    debug: bool = True,
) -> tuple[T, EmulatedCall]:
    """One call, carried by ``script``; what it returned, and the other side's record."""

    async def scenario() -> tuple[T, EmulatedCall]:
        bot = Scripted(script)
        async with open_world(bot, Behaviour(media=media or MediaBehaviour())) as world:
            bot.world = world
            emulated = await world.ring(audio, hangup_after=hangup_after)
            await world.over(emulated)
        return await bot.result, emulated

    return run_virtual(scenario(), debug=debug)


def tone(seconds: float, rate: int, hz: float = 440.0) -> Pcm:
    t = np.arange(round(seconds * rate)) / rate
    samples: Pcm = np.rint(8_000 * np.sin(2 * np.pi * hz * t)).astype(np.int16)
    return samples


def pitch(samples: Pcm, rate: int) -> float:
    """The loudest frequency."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum)) * rate / len(samples)


def audible_ms(samples: Pcm) -> float:
    """From the first to the last sample that is not silent."""
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > 8)
    return 0.0 if not len(loud) else float(loud[-1] - loud[0] + 1) / 16


class Source:
    """An async generator of noise that knows whether it was closed."""

    def __init__(self, chunks: int, *, every: float = 0.0) -> None:
        self.closed = False
        self.given = 0
        self._chunks, self._every = chunks, every
        self.audio = noise(chunks * 0.1)

    async def stream(self) -> AsyncIterator[bytes]:
        try:
            for index in range(self._chunks):
                if self._every:
                    await asyncio.sleep(self._every)
                self.given += 1
                yield self.audio[index * 1_600 :][:1_600].tobytes()
        finally:
            self.closed = True
