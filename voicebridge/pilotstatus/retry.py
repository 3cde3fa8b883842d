"""When to ask again: pure decisions about the provider's REST calls.

One rule: a request whose effect is unknown is never simply repeated. Reads and writes
that replace may be; answering, declining and hanging up look at the call first; dialling,
playing and creating are not done twice. Time (``now``, monotonic seconds) and chance
(``rng``) are arguments.

The outcomes of attempts map to steps in ``_AFTER_ATTEMPT``, what a look at the call
showed in ``_AFTER_LOOK``; ``Course`` walks one operation through both.
"""

from __future__ import annotations

import re
from collections import deque
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from datetime import datetime

__all__ = [
    "BACKOFF_BASE_SECONDS",
    "BACKOFF_CAP_SECONDS",
    "RETRY_AFTER_CAP_SECONDS",
    "Breaker",
    "Course",
    "Kind",
    "Lane",
    "Outcome",
    "RetryQuota",
    "Seen",
    "Step",
    "backoff",
    "outcome_of_status",
    "parse_retry_after",
    "retry_delay",
]

BACKOFF_BASE_SECONDS = 0.25
BACKOFF_CAP_SECONDS = 2.0
RETRY_AFTER_CAP_SECONDS = 5.0


class Outcome(Enum):
    """What is known after one attempt."""

    OK = auto()
    NOT_SENT = auto()  # connect failed: certainly without effect
    BUSY = auto()  # 429, 503: refused before it was done
    GATEWAY = auto()  # 408, 502, 504: probably without effect
    UNKNOWN = auto()  # timeout, reset, other 5xx, unusable answer: may have been done
    GONE = auto()  # 404
    CONFLICT = auto()  # 409
    REFUSED = auto()  # any other no


class Seen(Enum):
    """What a look at the call (``GET``) showed."""

    WAITING = auto()  # INITIATED, RINGING
    LIVE = auto()  # ACCEPTED, or connected
    OVER = auto()  # a terminal status
    GONE = auto()  # 404
    STRANGE = auto()  # a status unknown here
    NOTHING = auto()  # the look itself failed


class Step(Enum):
    """What to do next."""

    DONE = auto()
    RETRY = auto()
    LOOK = auto()
    OVER = auto()  # stop: the call has ended
    FAIL = auto()  # stop: raise the last error


class Kind(Enum):
    """How an operation may be repeated."""

    SAFE = auto()  # reads, and writes that replace what is there
    ACCEPT = auto()
    REJECT = auto()
    HANGUP = auto()
    MINT = auto()  # a realtime session: an unused one dies by itself
    ONCE = auto()  # play, create: a second effect is worse than none
    DIAL = auto()


_ATTEMPTS = {
    Kind.SAFE: 3,
    Kind.ACCEPT: 4,
    Kind.REJECT: 3,
    Kind.HANGUP: 5,
    Kind.MINT: 3,
    Kind.ONCE: 2,
    Kind.DIAL: 2,
}

_R, _L, _F = Step.RETRY, Step.LOOK, Step.FAIL
_COLUMNS = (
    Outcome.NOT_SENT,
    Outcome.BUSY,
    Outcome.GATEWAY,
    Outcome.UNKNOWN,
    Outcome.GONE,
    Outcome.CONFLICT,
)
_AFTER_ATTEMPT: dict[Kind, dict[Outcome, Step]] = {
    kind: dict(zip(_COLUMNS, row, strict=True))
    for kind, row in {
        #            not sent, busy, gateway, unknown, gone, conflict
        Kind.SAFE: (_R, _R, _R, _R, _F, _F),
        Kind.ACCEPT: (_R, _R, _R, _L, _L, _L),
        Kind.REJECT: (_R, _R, _R, _L, _L, _L),
        Kind.HANGUP: (_R, _R, _R, _L, _L, _L),
        Kind.MINT: (_R, _R, _R, _R, _L, _L),
        Kind.ONCE: (_R, _R, _F, _F, _F, _F),
        Kind.DIAL: (_R, _F, _F, _F, _F, _F),
    }.items()
}

_D, _O = Step.DONE, Step.OVER
_SIGHTS = (Seen.WAITING, Seen.LIVE, Seen.OVER, Seen.GONE, Seen.STRANGE, Seen.NOTHING)
_AFTER_LOOK: dict[Kind, dict[Seen, Step]] = {
    kind: dict(zip(_SIGHTS, row, strict=True))
    for kind, row in {
        #             waiting, live, over, gone, strange, nothing
        Kind.ACCEPT: (_R, _D, _O, _F, _R, _L),
        Kind.REJECT: (_R, _F, _D, _D, _R, _R),
        Kind.HANGUP: (_R, _R, _D, _D, _R, _R),
        # "Not active yet" is the caller's to wait for: it knows what else it waits for.
        Kind.MINT: (_F, _F, _O, _F, _F, _F),
    }.items()
}

# Before these give up over gateway errors: one of the requests may have got through.
_LOOK_AT_LAST = frozenset({Kind.ACCEPT, Kind.REJECT, Kind.HANGUP})


def outcome_of_status(status: int) -> Outcome:
    """The outcome an HTTP status means; a 2xx still needs a readable body."""
    if 200 <= status < 300:
        return Outcome.OK
    if status in (429, 503):
        return Outcome.BUSY
    if status in (408, 502, 504):
        return Outcome.GATEWAY
    if status >= 500:
        return Outcome.UNKNOWN
    return {404: Outcome.GONE, 409: Outcome.CONFLICT}.get(status, Outcome.REFUSED)


class Course:
    """One operation on its way: fed with what happened, it says what to do next.

    ``attempts`` counts requests of the operation itself. A look is free unless it has to
    be repeated, so that a course always ends.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.attempts = 0
        self._left = _ATTEMPTS[kind]
        self._last = Outcome.NOT_SENT
        self._gone_before = False
        self._maybe_done = False

    def after_attempt(self, outcome: Outcome) -> Step:
        """The step after an attempt of the operation."""
        self.attempts += 1
        self._left -= 1
        self._last = outcome
        if outcome in (Outcome.GATEWAY, Outcome.UNKNOWN):
            self._maybe_done = True
        if outcome is Outcome.OK:
            return Step.DONE
        step = self._affordable(_AFTER_ATTEMPT[self.kind].get(outcome, Step.FAIL))
        if step is Step.FAIL and outcome is Outcome.GATEWAY and self.kind in _LOOK_AT_LAST:
            return Step.LOOK
        return step

    def after_look(self, seen: Seen) -> Step:
        """The step after a look at the call."""
        step = self._after_accept(seen) if self.kind is Kind.ACCEPT else None
        step = step or _AFTER_LOOK[self.kind][seen]
        if step is Step.LOOK:
            self._left -= 1
        return self._affordable(step)

    def _after_accept(self, seen: Seen) -> Step | None:
        """Where an accept depends on more than what was seen; None: it does not."""
        if seen is Seen.LIVE:
            # Answered by us only if a request of ours may have got through.
            return Step.DONE if self._maybe_done else Step.FAIL
        if seen in (Seen.OVER, Seen.NOTHING):
            return None
        if self._last is Outcome.CONFLICT:
            return Step.FAIL
        if Seen.GONE is seen or self._last is Outcome.GONE:
            # The webhook may be ahead of the provider's own database, by a moment only.
            first, self._gone_before = not self._gone_before, True
            return Step.RETRY if first else Step.FAIL
        return None

    def _affordable(self, step: Step) -> Step:
        spent = self._left <= 0 if step is Step.RETRY else self._left < 0
        return Step.FAIL if spent and step in (Step.RETRY, Step.LOOK) else step


def backoff(retry: int, rng: random.Random) -> float:
    """Seconds before retry number ``retry`` (0, 1, ...): full jitter, doubling, capped."""
    return rng.uniform(0.0, min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2.0 ** min(retry, 16)))


def retry_delay(retry: int, retry_after: float | None, rng: random.Random) -> float:
    """Seconds to wait: the server's wish if it gave one, capped, else ``backoff``.

    The wish is spread by up to ``BACKOFF_BASE_SECONDS``, for it was told to everybody.
    """
    if retry_after is None:
        return backoff(retry, rng)
    return min(retry_after, RETRY_AFTER_CAP_SECONDS) + rng.uniform(0.0, BACKOFF_BASE_SECONDS)


def parse_retry_after(value: str | None, utc_now: datetime) -> float | None:
    """Seconds that a ``Retry-After`` header asks for (RFC 9110, section 10.2.3).

    Takes seconds or an HTTP date; None for garbage, for negative numbers and for dates
    that have passed. Not capped.
    """
    if value is None:
        return None
    text = value.strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
        # "-0000" is UTC of an unknown zone and comes back naive.
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (moment - utc_now).total_seconds()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return seconds if seconds >= 0 else None


class RetryQuota:
    """Retries are at most ``ratio`` of the requests of the last ``window`` seconds.

    ``floor`` retries per window are always allowed, so that a lone call can retry; an
    outage with many calls then costs the provider a tenth more, not a multiple. A retry
    that brought an answer is given back: the quota holds back storms, not the recovery
    after them.
    """

    def __init__(self, ratio: float = 0.1, window: float = 10.0, floor: int = 10) -> None:
        self._ratio = ratio
        self._window = window
        self._floor = floor
        self._requests: deque[float] = deque()
        self._retries: deque[float] = deque()

    def request(self, now: float) -> None:
        """Count a first attempt."""
        self._forget(now)
        self._requests.append(now)

    def take(self, now: float) -> bool:
        """Whether a retry may be made now; a True is counted."""
        self._forget(now)
        if len(self._retries) >= max(self._floor, int(len(self._requests) * self._ratio)):
            return False
        self._retries.append(now)
        return True

    def give_back(self) -> None:
        """A retry that was taken got its answer."""
        if self._retries:
            self._retries.pop()

    def _forget(self, now: float) -> None:
        for times in (self._requests, self._retries):
            while times and times[0] <= now - self._window:
                times.popleft()


class Lane(Enum):
    """Requests that must not wait for each other: RESERVED is for hanging up and looking."""

    ORDINARY = auto()
    RESERVED = auto()


class Breaker:
    """Stops asking a provider that does not answer, and finds out when it does again.

    A lane opens after ``threshold`` transport failures in a row. While any lane is
    open, one request per ``probe_seconds`` passes, over all open lanes together. A
    success closes its own lane and lets the other one probe at once.
    """

    def __init__(self, threshold: int = 5, probe_seconds: float = 2.0) -> None:
        self._threshold = threshold
        self._probe_seconds = probe_seconds
        self._failures = dict.fromkeys(Lane, 0)
        self._next_probe = 0.0

    def open(self, lane: Lane) -> bool:
        return self._failures[lane] >= self._threshold

    def admit(self, lane: Lane, now: float) -> bool:
        """Whether a request may be sent now; a True while open is the probe."""
        if not self.open(lane):
            return True
        if now < self._next_probe:
            return False
        self._next_probe = now + self._probe_seconds
        return True

    def wait(self, lane: Lane, now: float) -> float:
        """Seconds until ``admit`` can be True; 0 where it is."""
        return max(0.0, self._next_probe - now) if self.open(lane) else 0.0

    def succeeded(self, lane: Lane, now: float) -> None:
        """An answer came, whatever it said."""
        if self.open(lane):
            self._next_probe = now
        self._failures[lane] = 0

    def failed(self, lane: Lane, now: float) -> None:
        """No answer came."""
        self._failures[lane] += 1
        if self._failures[lane] == self._threshold:
            self._next_probe = max(self._next_probe, now + self._probe_seconds)
