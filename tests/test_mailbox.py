"""The queue between a call and its bot."""

from __future__ import annotations

import asyncio

from voicebridge.mailbox import Mailbox
from voicebridge.testing.clock import run_virtual


def test_items_come_in_order_and_the_end_is_quiet() -> None:
    async def scenario() -> list[int]:
        box: Mailbox[int] = Mailbox(4)
        for item in (1, 2, 3):
            box.put(item)
        box.close()
        box.put(4)
        return [item async for item in box]

    assert run_virtual(scenario()) == [1, 2, 3]


def test_a_full_mailbox_drops_the_oldest_and_counts() -> None:
    async def scenario() -> tuple[list[int], int]:
        box: Mailbox[int] = Mailbox(2)
        for item in range(5):
            box.put(item)
        box.close()
        return [item async for item in box], box.dropped

    assert run_virtual(scenario()) == ([3, 4], 3)


def test_a_waiting_reader_is_woken_by_an_item_and_by_the_end() -> None:
    async def scenario() -> list[int]:
        box: Mailbox[int] = Mailbox(2)
        loop = asyncio.get_running_loop()
        loop.call_later(1.0, box.put, 7)
        loop.call_later(2.0, box.close)
        return [item async for item in box]

    assert run_virtual(scenario()) == [7]


def test_a_cancelled_reader_loses_nothing() -> None:
    async def scenario() -> int:
        box: Mailbox[int] = Mailbox(2)
        reader = asyncio.ensure_future(anext(box))
        await asyncio.sleep(0)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        box.put(1)
        return await anext(box)

    assert run_virtual(scenario()) == 1
