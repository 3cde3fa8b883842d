"""Virtual time: a whole call runs in milliseconds, the same way each time.

``VirtualLoop`` is an ordinary asyncio event loop whose clock is a number. Where a real
loop would sleep until its next timer, this one sets the number to that timer's instant
and goes on. The one rule: nothing under it may wait for the outside world. Sockets,
subprocesses and threads live in real time, which here does not pass; executors are run
inline for that reason.

A wait that no timer and no task could ever end raises ``Deadlock`` at once and names
the tasks that hang, instead of a test that stands still.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Executor
    from types import CodeType

__all__ = ["Deadlock", "UnhandledError", "VirtualClock", "VirtualLoop", "run_virtual"]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_RESOLUTION = 1e-9
# A loop that turns this often without its clock moving waits for something by polling.
_TURNS_PER_INSTANT = 200_000


class Deadlock(RuntimeError):
    """Everything waits and nothing is left that could wake it."""


class UnhandledError(RuntimeError):
    """The loop's exception handler was called: an error that nobody awaited.

    ``contexts`` holds what asyncio reported, as given to ``set_exception_handler``.
    """

    def __init__(self, contexts: list[dict[str, Any]]) -> None:
        super().__init__("; ".join(_describe_context(context) for context in contexts))
        self.contexts = contexts


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which waiting takes no time.

    ``time()`` starts at ``start`` and is always exactly the instant of the timer that
    fired last, free of rounding. Going past ``end`` raises ``TimeoutError``, once.
    ``unhandled`` collects what nobody awaited.
    """

    # Both belong to asyncio.BaseEventLoop (CPython 3.11 to 3.14), which does not declare them.
    _scheduled: list[asyncio.TimerHandle]
    _clock_resolution: float

    def __init__(self, start: float = 0.0, end: float = math.inf) -> None:
        selector = _JumpingSelector()
        self._now = start
        self._end = end
        super().__init__(selector)
        selector.loop = self
        self.unhandled: list[dict[str, Any]] = []
        self.set_exception_handler(_collect)
        self._fit_resolution()

    def time(self) -> float:
        return self._now

    def jump(self) -> None:
        """Move to the next timer's instant; ``Deadlock`` where there is none."""
        if not self._scheduled:
            raise Deadlock(f"at {self._now:.6f} s nothing can wake {_describe_waits(self)}")
        when = self._scheduled[0].when()
        if when > self._end:
            end, self._end = self._end, math.inf  # cleaning up may take its time
            raise TimeoutError(f"not finished at {end:g} s: {_describe_waits(self)}")
        self._now = max(self._now, when)
        self._fit_resolution()

    def run_in_executor(
        self,
        executor: Executor | None,
        func: Callable[[*_Ts], _T],
        *args: *_Ts,
    ) -> asyncio.Future[_T]:
        """Run ``func`` here and now: a thread would need time that does not pass."""
        future: asyncio.Future[_T] = self.create_future()
        try:
            result = func(*args)
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(result)
        return future

    def _fit_resolution(self) -> None:
        # asyncio fires timers with when < time() + resolution. Once the clock's own spacing
        # of floats exceeds the resolution that sum is time() itself and no timer would fire.
        self._clock_resolution = max(_RESOLUTION, math.ulp(self._now))


class VirtualClock:
    """A ``voicebridge.clock.Clock``: UTC is 2026-01-01 plus the loop's time."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.now = (loop or asyncio.get_running_loop()).time

    def utc(self) -> datetime:
        return _EPOCH + timedelta(seconds=self.now())


def run_virtual(
    coro: Coroutine[Any, Any, _T], *, timeout_virtual: float = 3600.0, debug: bool = True
) -> _T:
    """Run ``coro`` to its end on a fresh ``VirtualLoop`` and return its result.

    Raises ``TimeoutError`` after ``timeout_virtual`` seconds of virtual time, ``Deadlock``
    where nothing can go on, and ``UnhandledError`` where ``coro`` succeeded but some task
    or callback failed unseen. Tasks left over are cancelled, as by ``asyncio.run``.
    """
    loop = VirtualLoop(end=timeout_virtual)
    with asyncio.Runner(debug=debug, loop_factory=lambda: loop) as runner:
        result = runner.run(coro)
    if loop.unhandled:
        raise UnhandledError(loop.unhandled)
    return result


class _JumpingSelector(selectors.DefaultSelector):
    """Polls; where the loop wanted to wait and nothing is ready, the loop's clock jumps."""

    loop: VirtualLoop
    _turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            self._turns += 1
            if self._turns > _TURNS_PER_INSTANT:
                self._turns = 0
                raise Deadlock(f"busy without end: {_describe_waits(self.loop)}")
            return ready
        self._turns = 0
        self.loop.jump()
        return ready


def _collect(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    assert isinstance(loop, VirtualLoop)
    loop.unhandled.append(context)


def _describe_context(context: dict[str, Any]) -> str:
    message = str(context.get("message", "unhandled"))
    error = context.get("exception")
    return message if error is None else f"{message}: {error!r}"


def _describe_waits(loop: asyncio.AbstractEventLoop) -> str:
    tasks = sorted(asyncio.all_tasks(loop), key=asyncio.Task.get_name)
    return "; ".join(f"{task.get_name()} in {_innermost_wait(task)}" for task in tasks)


def _innermost_wait(task: asyncio.Task[Any]) -> str:
    """``function (file:line)`` of the deepest coroutine that the task is suspended in."""
    where = "?"
    awaited: Any = task.get_coro()
    while (frame := getattr(awaited, "cr_frame", None)) is not None:
        code: CodeType = frame.f_code
        where = f"{code.co_qualname} ({code.co_filename}:{frame.f_lineno})"
        awaited = awaited.cr_await
    return where
