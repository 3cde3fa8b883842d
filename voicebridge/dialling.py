"""`voicebridge dial`: one outbound call, carried to its end, without webhooks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from voicebridge.errors import ConfigError
from voicebridge.wiring import open_bridge

if TYPE_CHECKING:
    from voicebridge.bridge import CallSummary
    from voicebridge.call import Bot
    from voicebridge.settings import Settings

_E164 = re.compile(r"\+?[1-9]\d{7,14}")
#: Without webhooks the status is all we see of the other side: ask often.
POLL_SECONDS = 2.0


def check_number(number: str) -> str:
    """The number in E.164 with ``+``.

    Raises:
        ConfigError: it is none.
    """
    compact = re.sub(r"[\s().-]", "", number)
    if not _E164.fullmatch(compact):
        raise ConfigError("NUMBER must be E.164: + and country code, e.g. +5511999990000")
    return compact if compact.startswith("+") else "+" + compact


async def dial_once(settings: Settings, bot: Bot, to: str) -> CallSummary:
    """Places the call and returns its summary when it is over.

    Raises:
        ProviderError: the call could not be placed.
    """
    call = settings.call.model_copy(
        update={"poll_seconds": min(settings.call.poll_seconds, POLL_SECONDS)}
    )
    async with open_bridge(settings.model_copy(update={"call": call}), bot) as running:
        placed = await running.bridge.dial(to)
        await running.bridge.idle()
        return running.bridge.summary(placed.id) or placed
