"""`voicebridge dial`: one outbound call, carried to its end, without webhooks."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from typing import TYPE_CHECKING, Any

from voicebridge.errors import ConfigError
from voicebridge.wiring import open_bridge

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from voicebridge.call import Bot
    from voicebridge.clock import Clock
    from voicebridge.line import MediaConnector
    from voicebridge.settings import Settings
    from voicebridge.summary import CallSummary

_E164 = re.compile(r"\+?[1-9][0-9]{7,14}")
#: Without webhooks the status is all we see of the other side: ask often.
POLL_SECONDS = 2.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def check_number(number: str) -> str:
    """The number in E.164 with ``+``.

    Raises:
        ConfigError: it is none.
    """
    compact = re.sub(r"[\s().-]", "", number)
    if not _E164.fullmatch(compact):
        raise ConfigError("NUMBER must be E.164: + and country code, e.g. +5511999990000")
    return compact if compact.startswith("+") else "+" + compact


async def dial_once(
    settings: Settings,
    bot: Bot,
    to: str,
    *,
    clock: Clock | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    connect: MediaConnector | None = None,
) -> CallSummary:
    """Places the call and returns its summary when it is over.

    The first SIGINT or SIGTERM hangs up, so that nobody is left on a dead line; a second
    one ends at once. ``clock``, ``transport`` and ``connect`` stand in for the outside
    world in tests.

    Raises:
        ProviderError: the call could not be placed.
    """
    call = settings.call.model_copy(
        update={"poll_seconds": min(settings.call.poll_seconds, POLL_SECONDS)}
    )
    task = asyncio.current_task()
    assert task is not None
    with _cancelled_by_signals(task):
        async with open_bridge(
            settings.model_copy(update={"call": call}),
            bot,
            clock=clock,
            transport=transport,
            connect=connect,
        ) as running:
            bridge = running.bridge
            placed = await bridge.dial(to)
            try:
                await bridge.idle()
            except asyncio.CancelledError:
                task.uncancel()
                await bridge.hangup(placed.id)
                await bridge.idle()
            return bridge.summary(placed.id) or placed


def was_answered(summary: CallSummary) -> bool:
    """Whether somebody picked up; early media is not carried before that."""
    return summary.frames["received"] > 0 or summary.reason == "bot"


@contextlib.contextmanager
def _cancelled_by_signals(task: asyncio.Task[Any]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
