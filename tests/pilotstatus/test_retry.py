"""The retry table, row by row, and the pieces of chance and time around it."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicebridge.pilotstatus.retry import (
    BACKOFF_BASE_SECONDS,
    BACKOFF_CAP_SECONDS,
    RETRY_AFTER_CAP_SECONDS,
    Breaker,
    Course,
    Kind,
    Lane,
    Outcome,
    RetryQuota,
    Seen,
    Step,
    backoff,
    outcome_of_status,
    parse_retry_after,
    retry_delay,
)

NOW = datetime(2026, 7, 3, 15, 0, tzinfo=UTC)
LOOKERS = (Kind.ACCEPT, Kind.REJECT, Kind.HANGUP, Kind.MINT)
DOING = (Kind.ACCEPT, Kind.REJECT, Kind.HANGUP)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.OK),
        (201, Outcome.OK),
        (204, Outcome.OK),
        (301, Outcome.REFUSED),
        (400, Outcome.REFUSED),
        (401, Outcome.REFUSED),
        (403, Outcome.REFUSED),
        (404, Outcome.GONE),
        (408, Outcome.GATEWAY),
        (409, Outcome.CONFLICT),
        (429, Outcome.BUSY),
        (500, Outcome.UNKNOWN),
        (502, Outcome.GATEWAY),
        (503, Outcome.BUSY),
        (504, Outcome.GATEWAY),
        (520, Outcome.UNKNOWN),
    ],
)
def test_outcome_of_status(status: int, outcome: Outcome) -> None:
    assert outcome_of_status(status) is outcome


@pytest.mark.parametrize(
    ("kind", "attempts"),
    [
        (Kind.SAFE, 3),
        (Kind.ACCEPT, 4),
        (Kind.REJECT, 3),
        (Kind.HANGUP, 5),
        (Kind.MINT, 3),
        (Kind.ONCE, 2),
        (Kind.DIAL, 2),
    ],
)
def test_certainly_unsent_requests_are_repeated_up_to_the_budget(kind: Kind, attempts: int) -> None:
    course = Course(kind)
    steps = [course.after_attempt(Outcome.NOT_SENT) for _ in range(attempts)]
    assert steps == [Step.RETRY] * (attempts - 1) + [Step.FAIL]
    assert course.attempts == attempts


@pytest.mark.parametrize("kind", Kind)
def test_success_is_done_and_a_plain_no_is_final(kind: Kind) -> None:
    assert Course(kind).after_attempt(Outcome.OK) is Step.DONE
    assert Course(kind).after_attempt(Outcome.REFUSED) is Step.FAIL


def first_step(kind: Kind, outcome: Outcome) -> Step:
    return Course(kind).after_attempt(outcome)


def test_a_doubtful_effect_is_never_simply_repeated() -> None:
    assert {k: first_step(k, Outcome.UNKNOWN) for k in Kind} == {
        Kind.SAFE: Step.RETRY,
        Kind.ACCEPT: Step.LOOK,
        Kind.REJECT: Step.LOOK,
        Kind.HANGUP: Step.LOOK,
        Kind.MINT: Step.RETRY,
        Kind.ONCE: Step.FAIL,
        Kind.DIAL: Step.FAIL,
    }


@pytest.mark.parametrize("kind", LOOKERS)
@pytest.mark.parametrize("outcome", [Outcome.GONE, Outcome.CONFLICT])
def test_404_and_409_about_a_call_are_looked_into(kind: Kind, outcome: Outcome) -> None:
    assert first_step(kind, outcome) is Step.LOOK


@pytest.mark.parametrize("kind", [Kind.SAFE, Kind.ONCE, Kind.DIAL])
@pytest.mark.parametrize("outcome", [Outcome.GONE, Outcome.CONFLICT])
def test_404_and_409_elsewhere_are_final(kind: Kind, outcome: Outcome) -> None:
    assert first_step(kind, outcome) is Step.FAIL


def test_a_busy_provider_is_asked_again_except_to_dial() -> None:
    retried = {k for k in Kind if first_step(k, Outcome.BUSY) is Step.RETRY}
    assert retried == set(Kind) - {Kind.DIAL}


def test_a_gateway_error_leaves_in_doubt_what_must_not_happen_twice() -> None:
    retried = {k for k in Kind if first_step(k, Outcome.GATEWAY) is Step.RETRY}
    assert retried == set(Kind) - {Kind.DIAL, Kind.ONCE}


@pytest.mark.parametrize("kind", DOING)
def test_gateway_errors_to_the_end_are_looked_into_before_giving_up(kind: Kind) -> None:
    course = Course(kind)
    while (step := course.after_attempt(Outcome.GATEWAY)) is Step.RETRY:
        pass
    assert step is Step.LOOK
    assert course.after_look(Seen.WAITING) is Step.FAIL


def after(kind: Kind, outcome: Outcome, seen: Seen) -> Step:
    course = Course(kind)
    assert course.after_attempt(outcome) is Step.LOOK
    return course.after_look(seen)


@pytest.mark.parametrize(
    ("outcome", "seen", "step"),
    [
        (Outcome.UNKNOWN, Seen.LIVE, Step.DONE),
        (Outcome.UNKNOWN, Seen.WAITING, Step.RETRY),
        (Outcome.UNKNOWN, Seen.STRANGE, Step.RETRY),
        (Outcome.UNKNOWN, Seen.OVER, Step.OVER),
        (Outcome.UNKNOWN, Seen.NOTHING, Step.LOOK),
        (Outcome.UNKNOWN, Seen.GONE, Step.RETRY),
        # Somebody else's answer is not ours.
        (Outcome.CONFLICT, Seen.LIVE, Step.FAIL),
        (Outcome.CONFLICT, Seen.WAITING, Step.FAIL),
        (Outcome.CONFLICT, Seen.STRANGE, Step.FAIL),
        (Outcome.CONFLICT, Seen.GONE, Step.FAIL),
        (Outcome.CONFLICT, Seen.OVER, Step.OVER),
        (Outcome.GONE, Seen.OVER, Step.OVER),
        (Outcome.GONE, Seen.GONE, Step.RETRY),
        (Outcome.GONE, Seen.WAITING, Step.RETRY),
        (Outcome.GONE, Seen.LIVE, Step.FAIL),
    ],
)
def test_accept_after_a_look(outcome: Outcome, seen: Seen, step: Step) -> None:
    assert after(Kind.ACCEPT, outcome, seen) is step


def test_accept_retries_an_unknown_call_once_only() -> None:
    course = Course(Kind.ACCEPT)
    course.after_attempt(Outcome.GONE)
    assert course.after_look(Seen.GONE) is Step.RETRY
    course.after_attempt(Outcome.GONE)
    assert course.after_look(Seen.GONE) is Step.FAIL


@pytest.mark.parametrize("doubt", [Outcome.UNKNOWN, Outcome.GATEWAY])
def test_conflict_after_doubt_is_our_own_success(doubt: Outcome) -> None:
    course = Course(Kind.ACCEPT)
    if course.after_attempt(doubt) is Step.LOOK:
        assert course.after_look(Seen.WAITING) is Step.RETRY
    assert course.after_attempt(Outcome.CONFLICT) is Step.LOOK
    assert course.after_look(Seen.LIVE) is Step.DONE


@pytest.mark.parametrize("outcome", [Outcome.UNKNOWN, Outcome.GONE, Outcome.CONFLICT])
@pytest.mark.parametrize(
    ("kind", "seen", "step"),
    [
        (Kind.REJECT, Seen.WAITING, Step.RETRY),
        (Kind.REJECT, Seen.LIVE, Step.FAIL),
        (Kind.REJECT, Seen.OVER, Step.DONE),
        (Kind.REJECT, Seen.GONE, Step.DONE),
        (Kind.REJECT, Seen.STRANGE, Step.RETRY),
        (Kind.REJECT, Seen.NOTHING, Step.RETRY),
        (Kind.HANGUP, Seen.WAITING, Step.RETRY),
        (Kind.HANGUP, Seen.LIVE, Step.RETRY),
        (Kind.HANGUP, Seen.OVER, Step.DONE),
        (Kind.HANGUP, Seen.GONE, Step.DONE),
        (Kind.HANGUP, Seen.STRANGE, Step.RETRY),
        (Kind.HANGUP, Seen.NOTHING, Step.RETRY),
    ],
)
def test_reject_and_hangup_after_a_look(
    outcome: Outcome, kind: Kind, seen: Seen, step: Step
) -> None:
    assert after(kind, outcome, seen) is step


@pytest.mark.parametrize("seen", Seen)
def test_a_refused_session_tells_whether_the_call_is_over(seen: Seen) -> None:
    expected = Step.OVER if seen is Seen.OVER else Step.FAIL
    assert after(Kind.MINT, Outcome.CONFLICT, seen) is expected


def test_the_last_attempt_is_still_looked_at() -> None:
    course = Course(Kind.ACCEPT)
    for _ in range(3):
        assert course.after_attempt(Outcome.UNKNOWN) is Step.LOOK
        assert course.after_look(Seen.WAITING) is Step.RETRY
    assert course.after_attempt(Outcome.UNKNOWN) is Step.LOOK
    assert course.after_look(Seen.LIVE) is Step.DONE


def test_looking_at_nothing_ends() -> None:
    course = Course(Kind.ACCEPT)
    course.after_attempt(Outcome.UNKNOWN)
    steps = [course.after_look(Seen.NOTHING) for _ in range(4)]
    assert steps == [Step.LOOK, Step.LOOK, Step.LOOK, Step.FAIL]


@given(kind=st.sampled_from(Kind), data=st.data())
def test_every_course_ends(kind: Kind, data: st.DataObject) -> None:
    course, step, looks = Course(kind), Step.RETRY, 0
    while step in (Step.RETRY, Step.LOOK):
        if step is Step.RETRY:
            step = course.after_attempt(data.draw(st.sampled_from(Outcome)))
        else:
            looks += 1
            step = course.after_look(data.draw(st.sampled_from(Seen)))
        assert course.attempts <= 5
        assert looks <= 10


# Waiting


@given(retry=st.integers(0, 10_000), seed=st.integers())
def test_backoff_is_jittered_and_capped(retry: int, seed: int) -> None:
    ceiling = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2.0 ** min(retry, 16))
    assert 0.0 <= backoff(retry, random.Random(seed)) <= ceiling


def test_backoff_spreads_over_its_whole_range() -> None:
    rng = random.Random(1)
    draws = [backoff(3, rng) for _ in range(1000)]
    assert min(draws) < 0.1
    assert max(draws) > 1.9


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("1", 1.0),
        (" 2 ", 2.0),
        ("0", 0.0),
        ("3600", 3600.0),
        (format_datetime(NOW + timedelta(seconds=7), usegmt=True), 7.0),
        ("Fri, 03 Jul 2026 15:00:03 -0000", 3.0),
        (format_datetime(NOW - timedelta(seconds=7), usegmt=True), None),
        ("-1", None),
        ("1.5", None),
        ("1e3", None),
        ("soon", None),
        ("", None),
        ("\u0661", None),
        ("9" * 40, None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ [+\-]?\w+"))
def test_retry_after_takes_anything(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(("wish", "least"), [(1.0, 1.0), (3600.0, RETRY_AFTER_CAP_SECONDS)])
def test_the_servers_wish_is_honoured_up_to_the_cap(wish: float, least: float) -> None:
    delay = retry_delay(0, wish, random.Random(3))
    assert least <= delay <= least + BACKOFF_BASE_SECONDS


def test_without_a_wish_the_backoff_decides() -> None:
    assert retry_delay(2, None, random.Random(3)) == backoff(2, random.Random(3))


# Quota


def test_a_lone_call_can_retry() -> None:
    quota = RetryQuota(floor=3)
    quota.request(0.0)
    assert [quota.take(0.0) for _ in range(4)] == [True, True, True, False]


def test_many_calls_retry_a_tenth() -> None:
    quota = RetryQuota(floor=3)
    for _ in range(200):
        quota.request(0.0)
    assert sum(quota.take(1.0) for _ in range(200)) == 20


def test_quota_slides() -> None:
    quota = RetryQuota(floor=1)
    assert quota.take(0.0)
    assert not quota.take(9.9)
    assert quota.take(10.0)


def test_quota_gives_back_what_was_answered() -> None:
    quota = RetryQuota(floor=1)
    quota.give_back()
    assert quota.take(0.0)
    assert not quota.take(0.0)
    quota.give_back()
    assert quota.take(0.0)
    assert not quota.take(0.0)


# Breaker


def broken(lane: Lane = Lane.ORDINARY, now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(5):
        assert breaker.admit(lane, now)
        breaker.failed(lane, now)
    return breaker


def test_breaker_opens_after_five_failures_in_a_row() -> None:
    breaker = Breaker()
    for _ in range(4):
        breaker.failed(Lane.ORDINARY, 0.0)
    breaker.succeeded(Lane.ORDINARY, 0.0)
    breaker.failed(Lane.ORDINARY, 0.0)
    assert not breaker.open(Lane.ORDINARY)
    assert broken().open(Lane.ORDINARY)


def test_breaker_probes_every_two_seconds() -> None:
    breaker = broken()
    asked = [t / 10 for t in range(601) if breaker.admit(Lane.ORDINARY, t / 10)]
    assert asked == [2.0 * n for n in range(1, 31)]
    assert breaker.wait(Lane.ORDINARY, 60.5) == pytest.approx(1.5)


def test_success_closes_the_breaker() -> None:
    breaker = broken()
    assert breaker.admit(Lane.ORDINARY, 2.0)
    assert not breaker.admit(Lane.ORDINARY, 2.0)
    breaker.succeeded(Lane.ORDINARY, 2.1)
    assert breaker.admit(Lane.ORDINARY, 2.1)
    assert breaker.wait(Lane.ORDINARY, 2.1) == 0.0


def test_lanes_break_apart_and_share_their_probes() -> None:
    breaker = broken()
    assert breaker.admit(Lane.RESERVED, 0.0)
    for _ in range(5):
        breaker.failed(Lane.RESERVED, 1.0)
    asked = [t / 10 for t in range(10, 211) for lane in Lane if breaker.admit(lane, t / 10)]
    assert len(asked) <= 10
    breaker.succeeded(Lane.ORDINARY, 21.0)
    assert breaker.admit(Lane.RESERVED, 21.0)
