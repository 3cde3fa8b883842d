"""A webhook is acted upon once, however often it comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicebridge.pilotstatus.dedup import KEEP_SECONDS, Deduplicator, Verdict, body_key

FIRST, REPLAYED = Verdict.FIRST, Verdict.REPLAYED


def test_a_key_is_first_once() -> None:
    seen = Deduplicator()
    assert seen.judge(["a"], 0.0) is FIRST
    seen.remember(["a"], 0.0)
    assert seen.judge(["a"], 600.0) is REPLAYED


def test_what_was_only_judged_is_not_remembered() -> None:
    # An event that was refused for want of room must get through when it comes again.
    seen = Deduplicator()
    assert seen.judge(["a"], 0.0) is FIRST
    assert seen.judge(["a"], 1.0) is FIRST


def test_any_known_key_makes_a_replay_and_teaches_the_others() -> None:
    seen = Deduplicator()
    seen.remember([body_key(b'{"a":1}'), ("call_1", "ringing", 7)], 0.0)
    assert seen.judge([body_key(b'{"a": 1}'), ("call_1", "ringing", 7)], 1.0) is REPLAYED
    assert seen.judge([body_key(b'{"a": 1}')], 2.0) is REPLAYED


@pytest.mark.parametrize(
    ("age", "verdict"),
    [(KEEP_SECONDS - 1, REPLAYED), (KEEP_SECONDS, REPLAYED), (KEEP_SECONDS + 0.001, FIRST)],
)
def test_keys_are_kept_for_fifteen_minutes(age: float, verdict: Verdict) -> None:
    seen = Deduplicator()
    seen.remember(["a"], 1_000.0)
    assert seen.judge(["a"], 1_000.0 + age) is verdict


def test_a_replay_starts_the_time_anew() -> None:
    seen = Deduplicator()
    seen.remember(["a"], 0.0)
    assert seen.judge(["a"], 800.0) is REPLAYED
    assert seen.judge(["a"], 1_600.0) is REPLAYED


def test_what_has_expired_takes_no_room() -> None:
    seen = Deduplicator()
    for key in range(100):
        seen.remember([key], float(key))
    seen.judge(["x"], KEEP_SECONDS + 50)
    assert len(seen) == 50
    assert seen.evicted == 0


def test_the_key_seen_longest_ago_makes_room() -> None:
    seen = Deduplicator(capacity=2)
    seen.remember(["a"], 0.0)
    seen.remember(["b"], 1.0)
    assert seen.judge(["a"], 2.0) is REPLAYED
    seen.remember(["c"], 3.0)
    assert seen.evicted == 1
    assert [seen.judge([key], 4.0) for key in ("a", "b", "c")] == [REPLAYED, FIRST, REPLAYED]


def test_it_must_hold_something() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Deduplicator(capacity=0)


steps = st.lists(st.tuples(st.floats(0, 400), st.integers(0, 12)), max_size=80)


@given(steps, st.integers(1, 8))
def test_it_agrees_with_a_naive_memory(steps: list[tuple[float, int]], capacity: int) -> None:
    seen, sightings, now = Deduplicator(capacity=capacity), dict[int, float](), 0.0
    for wait, key in steps:
        now += wait
        sightings = {k: at for k, at in sightings.items() if now - at <= KEEP_SECONDS}
        assert seen.judge([key], now) is (REPLAYED if key in sightings else FIRST)
        seen.remember([key], now)
        sightings.pop(key, None)
        sightings[key] = now
        while len(sightings) > capacity:
            del sightings[next(iter(sightings))]
        assert len(seen) == len(sightings) <= capacity


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_bodies_have_the_same_key_only_if_they_are_the_same(a: bytes, b: bytes) -> None:
    assert (body_key(a) == body_key(b)) == (a == b)
