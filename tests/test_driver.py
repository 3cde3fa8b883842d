"""The timing wheel: punctual, even, and fair when something goes wrong."""

from __future__ import annotations

import asyncio
import logging

import pytest

from voicebridge.driver import FULL, SLOTS, TICK, Driver
from voicebridge.testing.clock import run_virtual


class Recorder:
    def __init__(self) -> None:
        self.ticks: list[float] = []

    def tick(self, now: float) -> None:
        self.ticks.append(now)


class Broken:
    def tick(self, now: float) -> None:
        raise RuntimeError("broken on purpose")


def test_every_call_ticks_each_20_ms_on_an_absolute_grid() -> None:
    async def scenario() -> list[Recorder]:
        driver = Driver()
        calls = [Recorder() for _ in range(50)]
        for call in calls:
            driver.add(call)
        await asyncio.sleep(10)
        return calls

    for call in run_virtual(scenario()):
        assert len(call.ticks) == pytest.approx(500, abs=1)
        first = call.ticks[0]
        for index, at in enumerate(call.ticks):
            assert at == pytest.approx(first + index * TICK, abs=1e-6)


def test_calls_are_spread_over_the_turn() -> None:
    async def scenario() -> list[Recorder]:
        driver = Driver()
        calls = [Recorder() for _ in range(SLOTS * FULL * 2)]
        for call in calls:
            driver.add(call)
        await asyncio.sleep(1)
        return calls

    phases = [round(call.ticks[0] % TICK, 4) for call in run_virtual(scenario())]
    assert len(set(phases)) == SLOTS
    assert max(phases.count(phase) for phase in phases) == 2 * FULL


def test_few_calls_share_few_wake_ups() -> None:
    async def scenario() -> list[Recorder]:
        driver = Driver()
        calls = [Recorder() for _ in range(FULL * 3)]
        for call in calls:
            driver.add(call)
        await asyncio.sleep(1)
        return calls

    phases = [round(call.ticks[0] % TICK, 4) for call in run_virtual(scenario())]
    assert len(set(phases)) == 3


def test_a_removed_call_is_not_ticked_again_and_an_empty_wheel_stands_still() -> None:
    async def scenario() -> tuple[int, int]:
        driver = Driver()
        call = Recorder()
        driver.add(call)
        await asyncio.sleep(0.1)
        driver.remove(call)
        driver.remove(call)
        before = len(call.ticks)
        await asyncio.sleep(10)
        return before, len(call.ticks)

    before, after = run_virtual(scenario())
    assert before == after > 0


def test_one_broken_call_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> Recorder:
        driver = Driver()
        call = Recorder()
        driver.add(Broken())
        driver.add(call)
        await asyncio.sleep(1)
        return call

    with caplog.at_level(logging.ERROR):
        assert len(run_virtual(scenario()).ticks) >= 49
    assert sum("taken off the clock" in record.message for record in caplog.records) == 1


def test_after_a_stall_a_call_ticks_once_and_the_grid_stays() -> None:
    """A blocked loop must not be followed by a burst of ticks."""

    class Stalling(Recorder):
        def tick(self, now: float) -> None:
            super().tick(now)
            if len(self.ticks) == 10:
                loop = asyncio.get_running_loop()
                loop._now = loop.time() + 0.5  # type: ignore[attr-defined]

    async def scenario() -> Stalling:
        driver = Driver()
        call = Stalling()
        driver.add(call)
        await asyncio.sleep(1)
        return call

    ticks = run_virtual(scenario()).ticks
    assert ticks[10] - ticks[9] == pytest.approx(0.5, abs=0.021)
    grid = (ticks[-1] - ticks[0]) / TICK
    assert grid == pytest.approx(round(grid), abs=1e-4)
    assert len(ticks) < 30
