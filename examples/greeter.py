"""Plays an audio file, then says back what it hears.

    voicebridge demo --bot examples/greeter.py:Greeter
    GREETING=welcome.wav voicebridge serve --bot examples/greeter.py:Greeter

It listens while it speaks, and what is said over the greeting is not said back.
"""

from __future__ import annotations

import asyncio
import os
from importlib.resources import files
from pathlib import Path

from voicebridge import Bot, Call, CallEnded, ConfigError

HELLO = files("voicebridge") / "lab" / "speech" / "1_en_hello.flac"


class Greeter(Bot):
    """``GREETING`` names the file (WAV, FLAC, OGG, MP3); without it, a recorded "Hello"."""

    def __init__(self) -> None:
        self._greeting = Path(os.environ.get("GREETING") or str(HELLO))

    async def start(self) -> None:
        # Better at the start of the process than in the first caller's ear.
        if not self._greeting.is_file():
            raise ConfigError(f"GREETING: there is no file {self._greeting}")

    async def run(self, call: Call) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                greeting = tasks.create_task(call.play(self._greeting))
                async for frame in call.audio():
                    if greeting.done():
                        await call.write(frame)
        except* CallEnded:
            pass  # the caller hung up during the greeting
