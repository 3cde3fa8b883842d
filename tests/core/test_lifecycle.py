"""The call's state table: total, idempotent, and final once it has ended."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicebridge.core.lifecycle import TABLE, Command, Lifecycle, Signal, State
from voicebridge.errors import CallStateError

STEPS = st.lists(st.sampled_from([*Signal, *Command]), max_size=30)


def walk(*steps: Signal | Command) -> Lifecycle:
    call = Lifecycle()
    for step in steps:
        if isinstance(step, Signal):
            call.signal(step)
        else:
            call.command(step)
    return call


def test_every_state_has_a_row() -> None:
    assert set(TABLE) == set(State)


@pytest.mark.parametrize(
    ("steps", "state"),
    [
        ((), State.NEW),
        ((Signal.OFFERED,), State.RINGING),
        ((Signal.OFFERED, Command.ANSWER), State.ANSWERING),
        ((Signal.OFFERED, Command.ANSWER, Signal.MEDIA_OPEN), State.LIVE),
        ((Command.DIAL, Signal.ANSWERED, Signal.MEDIA_OPEN), State.LIVE),
        (
            (Signal.OFFERED, Command.ANSWER, Signal.MEDIA_OPEN, Signal.MEDIA_LOST),
            State.RECONNECTING,
        ),
        ((Signal.OFFERED, Command.HANGUP), State.ENDING),
        ((Signal.OFFERED, Command.HANGUP, Signal.TERMINATED), State.ENDED),
        ((Signal.OFFERED, Command.ANSWER, Signal.OVER), State.ENDED),
        ((Signal.OVER, Signal.OFFERED), State.ENDED),
        ((Signal.OFFERED, Signal.CONNECTED), State.RINGING),
        ((Signal.OFFERED, Signal.OFFERED), State.RINGING),
    ],
)
def test_walks(steps: tuple[Signal | Command, ...], state: State) -> None:
    assert walk(*steps).state is state


def test_a_repeated_signal_is_counted_and_changes_nothing() -> None:
    call = walk(Signal.OFFERED)
    assert call.signal(Signal.OFFERED) is False
    assert call.ignored == {Signal.OFFERED: 1}


@pytest.mark.parametrize("command", [Command.ANSWER, Command.DIAL])
def test_an_ended_call_takes_no_command_but_hangup(command: Command) -> None:
    call = walk(Signal.OVER)
    call.command(Command.HANGUP)
    with pytest.raises(CallStateError, match="ended"):
        call.command(command)
    assert call.state is State.ENDED


@given(STEPS)
def test_any_sequence_ends_for_good_and_never_raises_but_for_commands(
    steps: list[Signal | Command],
) -> None:
    call = Lifecycle()
    ended = False
    for step in steps:
        before = call.state
        try:
            call.signal(step) if isinstance(step, Signal) else call.command(step)
        except CallStateError:
            assert isinstance(step, Command)
            assert call.state is before
        if ended:
            assert call.state is State.ENDED
        ended = call.state is State.ENDED


@given(STEPS)
def test_a_call_is_answered_at_most_once(steps: list[Signal | Command]) -> None:
    call = Lifecycle()
    answers = 0
    for step in steps:
        try:
            call.signal(step) if isinstance(step, Signal) else call.command(step)
        except CallStateError:
            continue
        answers += step is Command.ANSWER
    assert answers <= 1


@given(STEPS)
def test_the_end_is_always_one_signal_away(steps: list[Signal | Command]) -> None:
    call = Lifecycle()
    for step in steps:
        with contextlib.suppress(CallStateError):
            call.signal(step) if isinstance(step, Signal) else call.command(step)
    call.signal(Signal.OVER)
    assert call.state is State.ENDED
