"""An event loop in a thread of its own.

Why: the two ends of a demo must not share a loop, or each would wait for the other's work
and the figures of one would hold the other's. And what a thread costs can be told by the
thread, so the bridge's processor time is its own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType
    from typing import Any, Self

__all__ = ["LoopThread"]

T = TypeVar("T")


class LoopThread:
    """``async with LoopThread("bridge") as thread: await thread.run(coroutine())``.

    On leaving, tasks that still run are cancelled and waited for.
    """

    def __init__(self, name: str) -> None:
        self._ready: concurrent.futures.Future[asyncio.AbstractEventLoop] = (
            concurrent.futures.Future()
        )
        self._stop: asyncio.Event | None = None
        # A daemon: a bot that never yields must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    async def __aenter__(self) -> Self:
        self._thread.start()
        self._loop = await asyncio.wrap_future(self._ready)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join, 10.0)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs ``work`` over there; cancelling here cancels it there."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def cpu_seconds(self) -> float | None:
        """Processor time of the thread so far, user and system; None where nobody counts it."""
        return await self.run(_own_cpu_seconds())

    def _work(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._stay())

    async def _stay(self) -> None:
        self._stop = asyncio.Event()
        self._ready.set_result(asyncio.get_running_loop())
        await self._stop.wait()


async def _own_cpu_seconds() -> float | None:
    try:
        from resource import RUSAGE_THREAD, getrusage  # Linux only
    except ImportError:
        return None
    usage = getrusage(RUSAGE_THREAD)
    return usage.ru_utime + usage.ru_stime
