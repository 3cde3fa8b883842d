"""The telephone exchange: places, connects and ends calls, and says so to whoever listens.

It owns the calls and their timers; webhooks, REST and media know calls only through it.
The one rule: every change of a call's status happens here, on the event loop's thread.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from voicebridge.emulator.answers import Refusal
from voicebridge.emulator.calls import CallStatus, Direction, EmulatedCall, Kind
from voicebridge.emulator.farend import FarEnd
from voicebridge.emulator.script import CallerScript

if TYPE_CHECKING:
    from collections.abc import Callable

    from voicebridge.clock import Clock
    from voicebridge.emulator.behaviour import Behaviour
    from voicebridge.emulator.ids import Ids

__all__ = ["Exchange", "Publish"]

_KEPT_CALLS = 2_000
_RINGS_AFTER_S = 0.3


class Publish(Protocol):
    def __call__(self, call: EmulatedCall, event: str) -> None:
        """Send the webhooks of ``event``; returns at once."""


class Exchange:
    """All calls of one number.

    ``behaviour`` may be replaced at any time; a call keeps the one it began with.
    ``clock`` is a function because it needs the running loop, which there may not be yet.
    """

    def __init__(
        self,
        behaviour: Behaviour,
        *,
        kind: Kind,
        number: str,
        ids: Ids,
        clock: Callable[[], Clock],
    ) -> None:
        self.behaviour = behaviour
        self.kind: Kind = kind
        self.number = number
        self.calls: dict[str, EmulatedCall] = {}
        self.publish: Publish = lambda call, event: None
        self.outbound_script: Callable[[str], CallerScript] = lambda to: CallerScript(number=to)
        self._ids = ids
        self._clock = clock
        self._closed = False

    def find(self, reference: str) -> EmulatedCall | None:
        """By the provider's own id or the external one."""
        call = self.calls.get(reference)
        if call is not None:
            return call
        return next((c for c in self.calls.values() if c.external_id == reference), None)

    def newest_first(self) -> list[EmulatedCall]:
        return list(reversed(self.calls.values()))

    def ring(self, script: CallerScript) -> EmulatedCall:
        """An inbound call: it rings from now on."""
        call = self._create("INBOUND", script, "RINGING")
        if self.kind == "META":
            call.sdp_offer = (
                "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=setup:actpass\r\n"
            )
        how = call.behaviour.caller
        self.publish(call, "call.ringing")
        self.later(call, how.ring_s, lambda: self._give_up(call, "timeout"))
        if how.cancel == "ringing":
            self.later(call, how.cancel_after_s, lambda: self._give_up(call, "cancelled"))
        if how.elsewhere_after_s is not None:
            self.later(call, how.elsewhere_after_s, lambda: self._answered_elsewhere(call))
        return call

    def dial(self, to: str, callback_data: str | None, sdp: str | None) -> EmulatedCall:
        """An outbound call to ``to`` (E.164)."""
        call = self._create("OUTBOUND", self.outbound_script(to), "INITIATED")
        call.callback_data, call.sdp_offer = callback_data, sdp
        if call.behaviour.caller.external_id_late:
            call.external_id = None
        self.later(call, _RINGS_AFTER_S, lambda: self._rings(call))
        return call

    def accept(self, call: EmulatedCall, sdp: str | None = None) -> None:
        """Raises ``Refusal`` as ``rest.accept_over_status`` and ``accept_twice_status`` say."""
        rest = self.behaviour.rest
        if call.direction == "OUTBOUND":
            raise Refusal(409, "Only inbound calls can be accepted", "CALL_NOT_RINGING")
        if call.status == "RINGING" and call.behaviour.caller.cancel == "on_accept":
            self.miss(call, "cancelled")
        if call.over:
            _refuse(rest.accept_over_status, "The call has already ended", "CALL_ALREADY_ENDED")
            return
        if call.status == "ACCEPTED":
            _refuse(rest.accept_twice_status, "Already accepted", "CALL_ALREADY_ACCEPTED")
            return
        call.sdp_answer = sdp
        self._answered(call)
        call.note(self._clock().now(), "accept")
        if call.behaviour.caller.cancel == "after_accept":
            self.later(call, 0.0, lambda: self.miss(call, "cancelled"))

    def reject(self, call: EmulatedCall) -> None:
        if call.over:
            _refuse(self.behaviour.rest.over_status, "The call has ended", "CALL_ALREADY_ENDED")
        elif call.status == "ACCEPTED":
            raise Refusal(409, "The call has already been accepted", "CALL_ALREADY_ACCEPTED")
        else:
            self.end(call, "REJECTED", "reject")

    def terminate(self, call: EmulatedCall) -> None:
        if call.over:
            _refuse(self.behaviour.rest.over_status, "The call has ended", "CALL_ALREADY_ENDED")
        elif call.direction == "INBOUND" and call.status == "RINGING":
            self.end(call, "REJECTED", "reject")
        else:
            call.note(self._clock().now(), "terminate")
            self.end(call, "COMPLETED", "terminate")

    def hang_up(self, call: EmulatedCall, reason: str = "hangup") -> None:
        """The other party hangs up, or gives up while it still rings."""
        if call.status == "ACCEPTED":
            self.end(call, "COMPLETED", reason)
        elif call.direction == "INBOUND":
            self.miss(call, "cancelled")
        else:
            self.end(call, "REJECTED", reason)

    def miss(self, call: EmulatedCall, reason: str) -> None:
        if call.connected is None:
            self.end(call, "MISSED", reason)

    def end(self, call: EmulatedCall, status: CallStatus, reason: str) -> None:
        """The end of ``call``; nothing where it is already over."""
        clock = self._clock()
        if call.over:
            return
        call.reason = reason
        call.move(status, clock.utc())
        call.far_end.finish(clock.now())
        call.note(clock.now(), "ended", f"{status} {reason}")
        for line in list(call.lines):
            line.call_over()
        self.publish(call, "call.missed" if status == "MISSED" else "call.ended")

    def close(self) -> None:
        """Nothing happens by itself any more; calls stay as they are."""
        self._closed = True
        for call in self.calls.values():
            for timer in call.timers:
                timer.cancel()
            call.timers.clear()

    def later(self, call: EmulatedCall, seconds: float, action: Callable[[], None]) -> None:
        """Run ``action`` after ``seconds`` unless the call is over by then."""
        if self._closed or call.over:
            return
        loop = asyncio.get_running_loop()
        call.timers.append(loop.call_at(self._clock().now() + seconds, action))

    def _create(self, way: Direction, script: CallerScript, status: CallStatus) -> EmulatedCall:
        clock = self._clock()
        media, network = self.behaviour.media, self.behaviour.network
        call = EmulatedCall(
            id=self._ids.ulid("call_", clock.utc()),
            external_id=self._external_id(),
            direction=way,
            peer=script.number,
            own=self.number,
            created_at=clock.utc(),
            created=clock.now(),
            behaviour=self.behaviour,
            far_end=FarEnd(
                media, script, drift_ppm=network.drift_ppm, seed=self._ids.seed() ^ network.seed
            ),
            status=status,
        )
        call.note(call.created, "created", way)
        self.calls[call.id] = call
        self._forget_oldest()
        return call

    def _external_id(self) -> str:
        return self._ids.evolution_call() if self.kind == "EVO_GO" else self._ids.meta("wacid")

    def _forget_oldest(self) -> None:
        if len(self.calls) > _KEPT_CALLS:
            over = next((call.id for call in self.calls.values() if call.over), None)
            if over is not None:
                del self.calls[over]

    def _rings(self, call: EmulatedCall) -> None:
        how = call.behaviour.caller
        if call.external_id is None:
            call.external_id = self._external_id()
        if how.dialled == "unreachable":
            call.error_code, call.error_message = "UNREACHABLE", "The number cannot be reached"
            self.end(call, "FAILED", "unreachable")
            return
        call.move("RINGING", self._clock().utc())
        self.publish(call, "call.ringing")
        self.later(call, how.ring_s, lambda: self._give_up(call, "timeout"))
        if how.media_before_answer:
            call.far_end.start(self._clock().now())
        patience = call.far_end.script.answer_after
        wait = how.answers_after_s if patience is None else patience
        if how.dialled == "declines":
            self.later(call, wait, lambda: self.end(call, "REJECTED", "reject"))
        elif how.dialled == "answers":
            self.later(call, wait, lambda: self._answered(call))

    def _answered(self, call: EmulatedCall) -> None:
        clock = self._clock()
        if not call.move("ACCEPTED", clock.utc()):
            return
        call.accepted = clock.now()
        self.later(call, call.behaviour.caller.connect_after_s, lambda: self._connect(call))

    def _give_up(self, call: EmulatedCall, reason: str) -> None:
        if call.status in ("INITIATED", "RINGING"):
            self.miss(call, reason)

    def _answered_elsewhere(self, call: EmulatedCall) -> None:
        if call.status == "RINGING":
            self.end(call, call.behaviour.caller.elsewhere_status, "accepted_elsewhere")

    def _connect(self, call: EmulatedCall) -> None:
        clock = self._clock()
        call.connected, call.connected_at = clock.now(), clock.utc()
        call.updated_at = call.connected_at
        call.far_end.start(call.connected)
        call.note(call.connected, "connected")
        self.publish(call, "call.connected")
        for line in list(call.lines):
            line.wake()
        self._await_hangup(call)

    def _await_hangup(self, call: EmulatedCall) -> None:
        # Asked again when the time has come: the caller may have said more by then.
        at = call.far_end.hangup_at
        if at is None:
            return
        now = self._clock().now()
        if now >= at:
            self.hang_up(call, "hangup")
        else:
            self.later(call, at - now, lambda: self._await_hangup(call))


def _refuse(status: int, error: str, code: str) -> None:
    if status >= 300:
        raise Refusal(status, error, code)
