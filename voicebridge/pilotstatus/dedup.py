"""Which webhooks were seen before.

The provider retries, so one event may arrive several times, and the signature covers
no timestamp, so anyone who recorded a delivery may send it again
(docs.pilotstatus.com.br, guides/receive-messages). One rule: an event is remembered
only once it was taken, because a retry after a refusal must get through.

Pure: no clock, no I/O; ``now`` is monotonic seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import StrEnum
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

__all__ = ["Deduplicator", "Verdict", "body_key"]

KEEP_SECONDS: Final = 15 * 60.0
CAPACITY: Final = 50_000


class Verdict(StrEnum):
    """What is known of an event."""

    FIRST = "first"
    REPLAYED = "replayed"


def body_key(body: bytes) -> bytes:
    """A 16-byte name for this exact body."""
    return blake2b(body, digest_size=16).digest()


class Deduplicator:
    """A bounded memory of event keys, least recently seen out first.

    An event has one or more keys: the hash of its bytes, and what it says (call id,
    event, timestamp), since a retry may be serialised anew. Any known key makes it a
    replay. When ``capacity`` keys are held, the one seen longest ago is forgotten even
    if it is younger than ``keep_seconds``, and counted in ``evicted``: under a flood,
    the idempotent call state is the second line.
    """

    def __init__(self, *, capacity: int = CAPACITY, keep_seconds: float = KEEP_SECONDS) -> None:
        if capacity < 1:
            raise ValueError("capacity must be at least 1")
        self.evicted = 0
        self._capacity = capacity
        self._keep_seconds = keep_seconds
        # Ordered by last sighting, which is also the order of expiry.
        self._seen: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def judge(self, keys: Sequence[Hashable], now: float) -> Verdict:
        """Whether any of ``keys`` is known. Remembers nothing new."""
        self._expire(now)
        if any(key in self._seen for key in keys):
            self.remember(keys, now)
            return Verdict.REPLAYED
        return Verdict.FIRST

    def remember(self, keys: Sequence[Hashable], now: float) -> None:
        """Notes that these keys were seen at ``now``."""
        for key in keys:
            self._seen[key] = now
            self._seen.move_to_end(key)
        while len(self._seen) > self._capacity:
            self._seen.popitem(last=False)
            self.evicted += 1

    def _expire(self, now: float) -> None:
        while self._seen:
            key, seen_at = next(iter(self._seen.items()))
            if now - seen_at <= self._keep_seconds:
                return
            del self._seen[key]
