"""Virtual time is exact, in order, never stands still and never hides an error."""

from __future__ import annotations

import asyncio
import gc
import math
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicebridge.testing import Deadlock, UnhandledError, VirtualClock, VirtualLoop, run_virtual

if TYPE_CHECKING:
    from voicebridge.clock import Clock


def now() -> float:
    return asyncio.get_running_loop().time()


def test_result_is_returned() -> None:
    async def main() -> str:
        return "done"

    assert run_virtual(main()) == "done"


def test_exception_passes_through() -> None:
    async def main() -> NoReturn:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run_virtual(main())


def test_an_hour_passes_exactly() -> None:
    async def main() -> float:
        await asyncio.sleep(3599.5)
        return now()

    assert run_virtual(main()) == 3599.5


def test_sixty_seconds_of_a_20_ms_grid_lands_on_every_point() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        seen: list[float] = []
        for n in range(1, 3001):
            woken = loop.create_future()
            loop.call_at(n * 0.02, woken.set_result, None)
            await woken
            seen.append(loop.time())
        return seen

    assert run_virtual(main(), debug=False) == [n * 0.02 for n in range(1, 3001)]


@given(
    start=st.floats(0, 1e15),
    delays=st.lists(st.floats(0, 1e6, allow_subnormal=True), min_size=1, max_size=20),
)
def test_timers_fire_once_in_order_at_their_instant(start: float, delays: list[float]) -> None:
    fired: list[tuple[int, float, float]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def fire(index: int, when: float) -> None:
            fired.append((index, when, loop.time()))
            if len(fired) == len(delays):
                done.set_result(None)

        for index, delay in enumerate(delays):
            when = loop.time() + delay
            loop.call_at(when, fire, index, when)
        await done

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(start)) as runner:
        runner.run(main())
    assert sorted(index for index, _, _ in fired) == list(range(len(delays)))
    assert [when for _, when, _ in fired] == sorted(when for _, when, _ in fired)
    for _, when, at in fired:
        # asyncio lets a timer fire early by less than its resolution.
        assert abs(at - when) <= max(1e-9, math.ulp(when))


@pytest.mark.parametrize("start", [0.0, 1e6, 2.0**24, 1e9, 1e15])
def test_tiny_timeouts_never_loop_forever(start: float) -> None:
    async def main() -> None:
        for _ in range(100):
            await asyncio.sleep(1e-12)
            await asyncio.sleep(5e-324)

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(start)) as runner:
        runner.run(main())


def test_cancelled_timers_do_not_move_time() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        loop.call_later(1.0, lambda: None).cancel()
        await asyncio.sleep(5.0)
        return now()

    assert run_virtual(main()) == 5.0


def test_timers_beyond_the_selectors_longest_wait() -> None:
    async def main() -> float:
        await asyncio.sleep(40 * 86_400)
        return now()

    assert run_virtual(main(), timeout_virtual=math.inf) == 40 * 86_400


def test_timeouts_use_virtual_time() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(7.25):
                await asyncio.Event().wait()
        return now()

    assert run_virtual(main()) == 7.25


def test_deadlock_names_the_tasks_and_where_they_wait() -> None:
    async def wait_for_news() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wait_for_news(), name="listener")
            await asyncio.sleep(2)

    with pytest.raises(Deadlock, match=r"at 2\.000000 s .*listener in Event\.wait \(.*locks\.py"):
        run_virtual(main())


def test_busy_polling_is_a_deadlock_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicebridge.testing.clock._TURNS_PER_INSTANT", 1000)

    async def main() -> None:
        while True:  # noqa: ASYNC110 - the mistake under test
            await asyncio.sleep(0)

    with pytest.raises(Deadlock, match="busy without end"):
        run_virtual(main(), debug=False)


def test_turns_are_counted_per_instant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicebridge.testing.clock._TURNS_PER_INSTANT", 100)

    async def main() -> None:
        for _ in range(20):
            for _ in range(50):
                await asyncio.sleep(0)
            await asyncio.sleep(0.001)

    run_virtual(main())


def test_virtual_time_limit() -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110 - never finishes on purpose
            await asyncio.sleep(1)

    with pytest.raises(TimeoutError, match=r"not finished at 30 s: .*sleep"):
        run_virtual(main(), timeout_virtual=30)


def test_cleaning_up_after_the_limit_may_take_time() -> None:
    cleaned: list[float] = []

    async def main() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(5)
            cleaned.append(now())

    with pytest.raises(TimeoutError, match="not finished"):
        run_virtual(main(), timeout_virtual=30)
    assert cleaned == [5.0]


def test_a_timeout_of_the_code_itself_is_left_as_it_is() -> None:
    async def main() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match=r"^mine$"):
        run_virtual(main())


def test_a_task_that_fails_unseen_fails_the_run() -> None:
    async def fail() -> None:
        raise ValueError("unseen")

    async def main() -> None:
        task = asyncio.create_task(fail())
        await asyncio.sleep(1)
        del task
        gc.collect()

    with pytest.raises(UnhandledError, match="unseen") as caught:
        run_virtual(main())
    assert isinstance(caught.value.contexts[0]["exception"], ValueError)


def test_a_callback_that_fails_fails_the_run() -> None:
    def fail() -> None:
        raise ValueError("in a callback")

    async def main() -> None:
        asyncio.get_running_loop().call_soon(fail)
        await asyncio.sleep(1)

    with pytest.raises(UnhandledError, match="in a callback"):
        run_virtual(main())


def test_leftover_tasks_are_cancelled() -> None:
    cancelled: list[str] = []

    async def linger() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append("linger")
            raise

    kept: list[asyncio.Task[None]] = []

    async def main() -> None:
        kept.append(asyncio.create_task(linger()))
        await asyncio.sleep(0)

    run_virtual(main())
    assert cancelled == ["linger"]


def test_executor_runs_inline() -> None:
    async def main() -> tuple[int, float]:
        return await asyncio.to_thread(sum, [1, 2, 3]), now()

    assert run_virtual(main()) == (6, 0.0)


def test_executor_errors_reach_the_awaiter() -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await asyncio.get_running_loop().run_in_executor(None, divmod, 1, 0)

    run_virtual(main())


def test_name_resolution_runs_inline() -> None:
    async def main() -> list[object]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(
            "127.0.0.1", 80, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
        return [address for *_, address in found]

    assert run_virtual(main()) == [("127.0.0.1", 80)]


def test_call_soon_threadsafe_wakes_the_loop() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        woken = asyncio.Event()
        loop.call_soon(loop.call_soon_threadsafe, woken.set)
        await woken.wait()

    run_virtual(main())


def test_debug_mode_is_on_unless_asked_otherwise() -> None:
    async def main() -> bool:
        return asyncio.get_running_loop().get_debug()

    assert run_virtual(main()) is True
    assert run_virtual(main(), debug=False) is False


def test_virtual_clock() -> None:
    async def main() -> tuple[float, datetime]:
        clock: Clock = VirtualClock()
        await asyncio.sleep(86_400.25)
        return clock.now(), clock.utc()

    assert run_virtual(main(), timeout_virtual=math.inf) == (
        86_400.25,
        datetime(2026, 1, 2, 0, 0, 0, 250_000, tzinfo=UTC),
    )


def test_virtual_clock_of_a_given_loop() -> None:
    loop = VirtualLoop(start=12.5)
    try:
        assert VirtualClock(loop).now() == 12.5
    finally:
        loop.close()
