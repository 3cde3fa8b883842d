"""What is known of one call when it is over: facts, not yet judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from voicebridge.lab.measure import Samples

__all__ = ["BridgeFigures", "CallRecord", "FarFigures", "Happening"]


@dataclass(frozen=True, slots=True)
class Happening:
    """``at`` is monotonic seconds; ``detail`` holds no number, token or media URL."""

    at: float
    what: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class BridgeFigures:
    """What the bridge says of itself. Frames are messages on the wire."""

    sent: int = 0
    received: int = 0
    late: int = 0
    lost: int = 0
    lead_mean_ms: float | None = None
    lead_max_ms: float | None = None
    cpu_ms_per_call_second: float | None = None
    rss_mib: float | None = None


@dataclass(frozen=True, slots=True)
class FarFigures:
    """What the far end says of the bridge.

    ``hole_ms`` is silence that had to be put in because nothing came; ``rule_breaks`` are
    messages that the provider's protocol does not allow, by name.
    """

    arrivals: tuple[float, ...] = ()
    holes: int = 0
    hole_ms: float = 0.0
    overflow_ms: float = 0.0
    rule_breaks: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call, ended.

    ``spoken`` and ``heard`` are what the caller said and heard, int16 mono at ``rate``, on
    one clock whose sample 0 is the instant ``connected_at``. Instants are monotonic
    seconds; None: it did not come to that.
    """

    bot: str
    status: str
    spoken: Samples
    heard: Samples
    signalled_at: float
    answered_at: float | None
    connected_at: float | None
    timeline: tuple[Happening, ...]
    far: FarFigures
    bridge: BridgeFigures
    rate: int = 16_000

    @property
    def expects_echo(self) -> bool:
        """Whether the bot was there to say everything back."""
        return self.bot.rsplit(":", 1)[-1] in ("echo", "EchoBot")

    @property
    def seconds(self) -> float:
        """Length of the conversation."""
        return self.heard.size / self.rate

    def since_signal(self, sample: int) -> float:
        """Seconds from the webhook to a sample of ``spoken`` or ``heard``."""
        if self.connected_at is None:
            return 0.0
        return self.connected_at - self.signalled_at + sample / self.rate

    def tracks(self) -> tuple[Samples, Samples]:
        """Caller and bot from the webhook on, equally long."""
        lead = np.zeros(max(0, round(self.since_signal(0) * self.rate)), np.int16)
        tail = abs(self.spoken.size - self.heard.size)
        more = np.zeros(tail, np.int16)
        longer = self.spoken.size >= self.heard.size
        caller = np.concatenate((lead, self.spoken, more[: 0 if longer else tail]))
        bot = np.concatenate((lead, self.heard, more[: tail if longer else 0]))
        return caller, bot
