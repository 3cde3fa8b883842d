"""The floor: the ``websockets`` client echoing, with nothing of a voice bridge around it.

Reads a JSON line of addresses from standard input, opens a socket to each, says "open",
and sends back what comes in messages of ``BYTES`` until the sockets close. Then the next
line. No pacing, no jitter buffer, no ledger: what is left is the wire's own work.
"""

from __future__ import annotations

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def echo(url: str, size: int, opened: asyncio.Semaphore) -> None:
    """One socket, until the other side closes it."""
    kept = bytearray()
    async with connect(url, compression=None, proxy=None, ping_interval=None) as socket:
        opened.release()
        try:
            async for message in socket:
                assert isinstance(message, bytes)
                if not kept and len(message) == size:
                    await socket.send(message)
                    continue
                kept += message
                while len(kept) >= size:
                    await socket.send(bytes(kept[:size]))
                    del kept[:size]
        except ConnectionClosed:
            pass


async def serve(size: int) -> None:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        urls = json.loads(line)
        opened = asyncio.Semaphore(0)
        async with asyncio.TaskGroup() as sockets:
            for url in urls:
                sockets.create_task(echo(url, size, opened))
            for _ in urls:
                await opened.acquire()
            print("open", flush=True)


def main() -> None:
    size, loop = int(sys.argv[1]), sys.argv[2]
    if loop == "uvloop":
        import uvloop

        uvloop.run(serve(size))
    else:
        asyncio.run(serve(size))


if __name__ == "__main__":
    main()
