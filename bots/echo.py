"""Says back what it hears: the shortest bot, and the one that proves a line works."""

from voicebridge import Bot, Call


class EchoBot(Bot):
    async def run(self, call: Call) -> None:
        async for frame in call.audio():
            await call.write(frame)
