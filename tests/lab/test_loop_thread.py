"""A loop in a thread: runs, counts, cancels and ends."""

from __future__ import annotations

import asyncio
import threading

import pytest

from voicebridge.lab.loop_thread import LoopThread


async def test_work_runs_over_there_and_brings_back_its_result() -> None:
    async def where() -> str:
        return threading.current_thread().name

    async with LoopThread("elsewhere") as thread:
        assert await thread.run(where()) == "elsewhere"
        assert not any(t.name == "elsewhere" and not t.daemon for t in threading.enumerate())
    assert all(t.name != "elsewhere" for t in threading.enumerate())


async def test_errors_come_back() -> None:
    async def fail() -> None:
        raise KeyError("over there")

    async with LoopThread("elsewhere") as thread:
        with pytest.raises(KeyError, match="over there"):
            await thread.run(fail())


async def test_both_loops_read_one_clock() -> None:
    async def now() -> float:
        return asyncio.get_running_loop().time()

    async with LoopThread("elsewhere") as thread:
        before = await now()
        there = await thread.run(now())
        assert before <= there <= await now()


async def test_what_still_runs_is_cancelled_at_the_end() -> None:
    ended = threading.Event()

    async def linger() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    tasks = []

    async def start() -> None:
        tasks.append(asyncio.create_task(linger()))
        await asyncio.sleep(0)

    async with LoopThread("elsewhere") as thread:
        await thread.run(start())
        assert not ended.is_set()
    assert ended.is_set()


async def test_a_thread_counts_its_own_work_only() -> None:
    async def work() -> None:
        sum(number * number for number in range(300_000))

    async with LoopThread("busy") as busy, LoopThread("idle") as idle:
        before = await busy.cpu_seconds(), await idle.cpu_seconds()
        if before[0] is None:
            pytest.skip("only Linux counts by thread")
        await busy.run(work())
        after = await busy.cpu_seconds(), await idle.cpu_seconds()
        assert after[0] is not None
        assert after[1] is not None
        assert before[1] is not None
        assert after[0] - before[0] > after[1] - before[1]
