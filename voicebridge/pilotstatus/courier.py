"""Carries one operation to its end: attempts, looks, waits.

One rule: it decides nothing itself. ``Course`` says what to do after each outcome,
``RetryQuota`` and ``Breaker`` whether it may be done now, ``Transport`` does it; this
keeps the clock and the order.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from voicebridge.errors import (
    CallNotFound,
    CallOver,
    ProviderError,
    ProviderFault,
    ProviderUnreachable,
    RateLimited,
    TenantScopeNotAllowed,
    Unauthorized,
)
from voicebridge.pilotstatus.models import CallDetails, CallStatus
from voicebridge.pilotstatus.retry import (
    Breaker,
    Course,
    Kind,
    Lane,
    Outcome,
    RetryQuota,
    Seen,
    Step,
    retry_delay,
)
from voicebridge.pilotstatus.transport import Answer, Request, Transport, unreachable

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

__all__ = ["BUDGET_SECONDS", "Courier", "sight"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

# How long an operation may take from its first attempt, waits included.
BUDGET_SECONDS = {
    Kind.SAFE: 10.0,
    Kind.ACCEPT: 25.0,  # a phone rings about this long
    Kind.REJECT: 10.0,
    Kind.HANGUP: 20.0,
    Kind.MINT: 15.0,
    Kind.ONCE: 10.0,
    Kind.DIAL: 10.0,
}
# Somebody waits on the line: out of quota, these ask again instead of giving up.
_PATIENT = frozenset({Kind.ACCEPT, Kind.REJECT, Kind.HANGUP})
# Asking these late would surprise: with the breaker open they fail at once.
_HASTY = frozenset({Kind.ONCE, Kind.DIAL})
_ANSWERED = frozenset({Outcome.OK, Outcome.GONE, Outcome.CONFLICT, Outcome.REFUSED})
_QUOTA_WAIT_SECONDS = 1.0
_PROBE_JITTER_SECONDS = 0.5


def sight(call: CallDetails) -> Seen:
    """What a call's details mean for an operation in doubt."""
    if call.terminal:
        return Seen.OVER
    if call.status is CallStatus.ACCEPTED or call.connected_at is not None:
        return Seen.LIVE
    return Seen.STRANGE if call.status is None else Seen.WAITING


@dataclass(slots=True)
class _Trip:
    """One operation under way."""

    course: Course
    due: float
    waits: int = 0


class Courier:
    """Shared by all operations of one client; ``now`` is the loop's clock."""

    def __init__(
        self,
        transport: Transport,
        *,
        now: Callable[[], float],
        rng: random.Random,
        look: Callable[[str], Request[CallDetails]],
        on_request: Callable[[str, str], None] | None = None,
    ) -> None:
        self._transport = transport
        self._now = now
        self._rng = rng
        self._look_request = look
        self._on_request = on_request
        self._quota = RetryQuota()
        self._breaker = Breaker()
        self.key_refused = False

    async def carry(self, request: Request[T], deadline: float | None = None) -> T | None:
        """The operation's value; None where a look showed that it was done.

        Raises ``ProviderError``: the last attempt's, or ``CallOver``. Nothing is begun
        after ``deadline`` (monotonic), by default the kind's budget from now.
        """
        now = self._now()
        due = now + BUDGET_SECONDS[request.kind] if deadline is None else deadline
        if now >= due:
            answer = unreachable(request, "its deadline had passed before it began", "unsent")
            raise _error(answer)
        self._quota.request(now)
        trip = _Trip(Course(request.kind), due)
        while True:
            answer = await self._attempt(request, due)
            if trip.waits and answer.outcome in _ANSWERED:
                self._quota.give_back()
            step = trip.course.after_attempt(answer.outcome)
            if step is Step.LOOK:
                step = await self._look(request, trip)
            elif step is Step.DONE:
                return answer.value
            if step is Step.DONE:
                return None
            if step is Step.FAIL or not await self._pause(request, trip, answer.retry_after):
                raise _error(answer)

    async def _attempt(self, request: Request[T], due: float) -> Answer[T]:
        lane = request.lane
        while not self._breaker.admit(lane, self._now()):
            wait = self._breaker.wait(lane, self._now())
            wait += self._rng.uniform(0.0, _PROBE_JITTER_SECONDS)
            if request.kind in _HASTY or self._now() + wait >= due:
                return unreachable(request, "it has not been answering for a while", "unsent")
            await asyncio.sleep(wait)
        answer = await self._transport.attempt(request, due - self._now())
        self._learn(lane, answer)
        if self._on_request is not None:
            self._on_request(request.operation, answer.label)
        return answer

    def _learn(self, lane: Lane, answer: Answer[Any]) -> None:
        was_open = self._breaker.open(lane)
        if answer.heard:
            self._breaker.succeeded(lane, self._now())
        elif answer.unheard:
            self._breaker.failed(lane, self._now())
        if self._breaker.open(lane) != was_open:
            _log.warning("the API %s", "answers again" if was_open else "does not answer: probing")
        if isinstance(answer.error, (Unauthorized, TenantScopeNotAllowed)):
            if not self.key_refused:
                _log.error("%s", answer.error)
            self.key_refused = True
        elif answer.error is None:
            self.key_refused = False

    async def _look(self, request: Request[Any], trip: _Trip) -> Step:
        """Look at the call until it is known what to do."""
        while True:
            seen, status = await self._see(request, trip.due)
            step = trip.course.after_look(seen)
            if step is Step.OVER:
                raise CallOver(
                    f"{request.operation}: the call is over ({status})",
                    operation=request.operation,
                    status=status,
                )
            if step is not Step.LOOK:
                return step
            if not await self._pause(request, trip, None):
                return Step.FAIL

    async def _see(self, request: Request[Any], due: float) -> tuple[Seen, str]:
        assert request.call_id is not None
        try:
            call = await self.carry(self._look_request(request.call_id), due)
        except CallNotFound:
            return Seen.GONE, ""
        except (ProviderUnreachable, ProviderFault, RateLimited):
            return Seen.NOTHING, ""
        if call is None:
            return Seen.NOTHING, ""
        return sight(call), call.status or ""

    async def _pause(self, request: Request[Any], trip: _Trip, wish: float | None) -> bool:
        """Wait until the next retry; False if there is no time or quota for it."""
        delay = retry_delay(trip.waits, wish, self._rng)
        trip.waits += 1
        while True:
            if self._now() + delay >= trip.due:
                return False
            await asyncio.sleep(delay)
            if self._quota.take(self._now()):
                _log.info("%s: trying again, retry %d", request.operation, trip.waits)
                return True
            if request.kind not in _PATIENT:
                return False
            delay = _QUOTA_WAIT_SECONDS * (1.0 + self._rng.random())


def _error(answer: Answer[Any]) -> ProviderError:
    assert answer.error is not None
    return answer.error
