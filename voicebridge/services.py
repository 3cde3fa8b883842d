"""What all calls of a process share: the edges, the clock, and when calls are given up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from voicebridge.core.session import MediaConfig
from voicebridge.core.watchdog import Limits

if TYPE_CHECKING:
    import asyncio

    from voicebridge.clock import Clock
    from voicebridge.driver import Driver
    from voicebridge.line import MediaConnector
    from voicebridge.metrics import Metrics
    from voicebridge.provider import Provider
    from voicebridge.recording import Recordings


@dataclass(frozen=True, slots=True)
class LegConfig:
    """When a leg gives up, in seconds; see `voicebridge.settings.CallSettings`."""

    media: MediaConfig = field(default_factory=MediaConfig)
    detect_format: bool = True
    greeting_wait: float = 1.5
    ring_seconds: float = 25.0
    dial_seconds: float = 60.0
    limits: Limits = field(default_factory=Limits)
    poll_seconds: float = 25.0
    fallback_prompt_url: str = field(default="", repr=False)
    fallback_prompt_seconds: float = 8.0
    bot_grace_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Services:
    """What all legs of a process share."""

    provider: Provider
    connect: MediaConnector
    driver: Driver
    clock: Clock
    metrics: Metrics
    config: LegConfig
    recordings: Recordings | None = None
    abandoned: set[asyncio.Task[bool]] = field(default_factory=set)
    """Bots that outlive their call and take no cancellation; kept until they end."""


@dataclass(slots=True)
class LegTimes:
    """Instants on the monotonic clock, None where they did not come."""

    signalled: float
    accepted: float | None = None
    media_open: float | None = None
    ended: float | None = None
