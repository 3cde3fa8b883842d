"""A bot that says something the instant it may: what remains is the bridge's own delay."""

from __future__ import annotations

from voicebridge import Bot, Call

_SECOND = (2_000).to_bytes(2, "little", signed=True) * 16_000


class Greeter(Bot):
    async def run(self, call: Call) -> None:
        await call.write(_SECOND)
        async for _ in call.audio():
            pass
