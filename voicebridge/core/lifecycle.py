"""The state of one call, as a table.

Two kinds of things happen to a call. *Remote* signals tell what the provider or the
network did: they repeat, overtake one another, or never come, so a signal without an
entry leaves the state alone and is counted. *Local* commands tell what we want: one
without an entry is a mistake of ours, raises `CallStateError` and changes nothing.
ENDED absorbs everything.

::

    NEW ──offered──> RINGING ──answer──> ANSWERING ──media_open──> LIVE
     └───dial──────> RINGING ──answered─────^            ^          │ media_lost
                        │                                └─ RECONNECTING
                        └────── hangup ──────> ENDING ──terminated──> ENDED

Terminal statuses of the provider (REJECTED, COMPLETED, FAILED, MISSED) are never left,
whatever arrives later (docs.pilotstatus.com.br, Calls API reference, call object).
"""

from __future__ import annotations

from enum import StrEnum

from voicebridge.errors import CallStateError


class State(StrEnum):
    NEW = "new"
    RINGING = "ringing"
    ANSWERING = "answering"
    LIVE = "live"
    RECONNECTING = "reconnecting"
    ENDING = "ending"
    ENDED = "ended"


class Signal(StrEnum):
    """What happened to the call elsewhere."""

    OFFERED = "offered"  # the provider says that a customer calls
    ANSWERED = "answered"  # an outbound call was picked up
    CONNECTED = "connected"  # media is said to flow
    MEDIA_OPEN = "media_open"
    MEDIA_LOST = "media_lost"
    TERMINATED = "terminated"  # our hang-up or rejection took effect
    OVER = "over"  # the provider says that the call has ended


class Command(StrEnum):
    """What we decide."""

    DIAL = "dial"
    ANSWER = "answer"
    HANGUP = "hangup"


_S, _G, _C = State, Signal, Command

TABLE: dict[State, dict[Signal | Command, State]] = {
    _S.NEW: {
        _G.OFFERED: _S.RINGING,
        _G.OVER: _S.ENDED,
        _C.DIAL: _S.RINGING,
        _C.HANGUP: _S.ENDED,
    },
    _S.RINGING: {
        # An inbound call that is said to be connected before we answered was taken by
        # another device: CONNECTED has no entry, `GET /v1/calls/{id}` decides.
        _G.ANSWERED: _S.ANSWERING,
        _G.OVER: _S.ENDED,
        _C.ANSWER: _S.ANSWERING,
        _C.HANGUP: _S.ENDING,
    },
    _S.ANSWERING: {
        _G.CONNECTED: _S.ANSWERING,
        _G.MEDIA_OPEN: _S.LIVE,
        _G.OVER: _S.ENDED,
        _C.HANGUP: _S.ENDING,
    },
    _S.LIVE: {
        _G.CONNECTED: _S.LIVE,
        _G.MEDIA_LOST: _S.RECONNECTING,
        _G.OVER: _S.ENDED,
        _C.HANGUP: _S.ENDING,
    },
    _S.RECONNECTING: {
        _G.CONNECTED: _S.RECONNECTING,
        _G.MEDIA_OPEN: _S.LIVE,
        _G.OVER: _S.ENDED,
        _C.HANGUP: _S.ENDING,
    },
    _S.ENDING: {
        _G.MEDIA_LOST: _S.ENDING,
        _G.TERMINATED: _S.ENDED,
        _G.OVER: _S.ENDED,
        _C.HANGUP: _S.ENDING,
    },
    _S.ENDED: {},
}


class Lifecycle:
    """One call's place in the table, and how often the far side surprised us."""

    def __init__(self) -> None:
        self.state = State.NEW
        self.ignored: dict[Signal, int] = {}

    def signal(self, signal: Signal) -> bool:
        """Takes a remote signal; False where it has no entry and was only counted."""
        following = TABLE[self.state].get(signal)
        if following is None:
            self.ignored[signal] = self.ignored.get(signal, 0) + 1
            return False
        self.state = following
        return True

    def command(self, command: Command) -> None:
        """Takes a local command.

        Raises:
            CallStateError: this state does not take it; nothing was changed.
        """
        if self.state is State.ENDED:
            if command is Command.HANGUP:
                return
        elif (following := TABLE[self.state].get(command)) is not None:
            self.state = following
            return
        raise CallStateError(f"cannot {command} a call that is {self.state}")
