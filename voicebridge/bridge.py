"""All live calls of a process: who comes in, who is turned away, who is still there.

`submit` is the only way in for webhook events and is synchronous: it looks the call up,
tells its leg, or starts one. Nothing here waits on the network but the tasks it starts,
and every task it starts is in `_tasks` until it is done.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from voicebridge.call import Bot, CallFacts
from voicebridge.errors import CallStateError, ProviderError
from voicebridge.leg import Leg
from voicebridge.logs import call_id
from voicebridge.pilotstatus.models import CallStatus, Direction
from voicebridge.pilotstatus.webhooks import CallEvent, CallEventKind
from voicebridge.summary import CallSummary, result_of, summarise

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from voicebridge.pilotstatus.models import CallDetails
    from voicebridge.services import Services

T = TypeVar("T")

#: How long an ended call's id absorbs late events (webhooks are retried for minutes).
TOMBSTONE_SECONDS = 900.0
TOMBSTONES = 10_000
RECENT_CALLS = 200
#: Polite rejections under way at once; beyond, the provider is asked to come again.
REJECTIONS = 200
#: For hanging up everything at the end of the process.
CLOSE_LIMIT = 15.0
#: How long an operator's hang-up lets the bot be heard.
OPERATOR_PATIENCE = 1.0
#: How long a bot may take to close what its calls shared.
BOT_CLOSE_LIMIT = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BridgeConfig:
    """Limits of the process."""

    max_calls: int = 50
    stale_ring_seconds: float = 45.0
    ringing_poll_seconds: float = 0.0


class Bridge:
    """Live calls of one process. Create it inside the running loop."""

    def __init__(self, services: Services, bot: Bot, bot_name: str, config: BridgeConfig) -> None:
        self._services = services
        self._clock = services.clock
        self._config = config
        self._bots: dict[str, Bot] = {bot_name: bot}
        self._bot_name = bot_name
        self._legs: dict[str, Leg] = {}  # by every id the call is known by
        self._live: set[Leg] = set()
        self._recent: deque[tuple[frozenset[str], CallSummary]] = deque(maxlen=RECENT_CALLS)
        self._tombstones: OrderedDict[str, float] = OrderedDict()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._rejecting = 0
        self._dialling = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False
        self._closing = False

    async def start(self) -> None:
        """Starts the bots, and the poller where one is configured."""
        for bot in self._bots.values():
            await bot.start()
        if self._config.ringing_poll_seconds:
            self._spawn(self._poll_ringing(), "ringing-poll")

    async def close(self) -> None:
        """Hangs up what is left, waits for it, closes the bots."""
        self.drain()
        self._closing = True
        for leg in tuple(self._live):
            leg.hang_up("shutdown", within=0.0)
        try:
            async with asyncio.timeout(CLOSE_LIMIT):
                await self._idle.wait()
        except TimeoutError:
            _log.error(
                "calls are left behind: the API did not take their end",
                extra={"calls": self.active},
            )
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for name, bot in self._bots.items():
            await self._close_bot(name, bot)

    async def _close_bot(self, name: str, bot: Bot) -> None:
        try:
            async with asyncio.timeout(BOT_CLOSE_LIMIT):
                await bot.close()
        except Exception:
            _log.exception("the bot could not be closed", extra={"bot": name})
            self._services.metrics.bot_errors_total.labels(bot=name).inc()

    @property
    def active(self) -> int:
        """Calls that are being dialled, answered, carried or ended."""
        return len(self._live) + self._dialling

    def _settle(self) -> None:
        """Notes how many calls there are, for who waits for none and for the metrics."""
        if self.active or self._rejecting:
            self._idle.clear()
        else:
            self._idle.set()
        self._services.metrics.calls_active.set(self.active)

    @property
    def abandoned(self) -> int:
        """Bots that outlive their call because they take no cancellation."""
        return len(self._services.abandoned)

    def drain(self) -> None:
        """Takes no new calls from now on; live ones go on."""
        self.draining = True
        self._services.metrics.draining.set(1)

    async def idle(self) -> None:
        """Waits until no call is live and none is being turned away."""
        await self._idle.wait()

    # Webhook events.

    def submit(self, event: CallEvent) -> bool:
        """Takes one event; False where it cannot be taken now and should come again."""
        ids = [each for each in (event.external_id, event.call_id) if each]
        if not ids:
            _log.warning("a call event without any id was ignored", extra={"event": event.kind})
            return True
        leg = next((self._legs[each] for each in ids if each in self._legs), None)
        if leg is not None:
            if event.trusted:  # nobody else may give a call another name
                self._claim(leg, ids)
            self._tell(leg, event)
            return True
        if event.kind is CallEventKind.RINGING:
            return self._offer(event, ids)
        if event.kind in (CallEventKind.ENDED, CallEventKind.MISSED) and event.trusted:
            self._bury(ids)
        return True

    def _tell(self, leg: Leg, event: CallEvent) -> None:
        if event.kind is CallEventKind.RINGING:
            return  # a repetition, or the other vocabulary
        if event.native or not event.trusted:
            leg.check()
        elif event.kind is CallEventKind.CONNECTED:
            leg.connected()
        elif event.kind in (CallEventKind.ENDED, CallEventKind.MISSED):
            leg.over("caller" if event.kind is CallEventKind.ENDED else "missed")

    def _offer(self, event: CallEvent, ids: list[str]) -> bool:
        if event.direction is Direction.OUTBOUND:
            return True  # somebody else's outbound call rings
        if any(self._buried(each) for each in ids):
            return True
        age = 0.0
        if event.timestamp is not None:
            age = max(0.0, (self._clock.utc() - event.timestamp).total_seconds())
        facts = CallFacts(
            id=event.call_id or ids[0],
            external_id=event.external_id,
            direction="inbound",
            caller=event.peer,
            called=event.own,
            metadata={},
            started_at=self._clock.utc(),
        )
        confirm = event.native or not event.trusted or age > self._config.stale_ring_seconds
        if self.draining or self.active >= self._config.max_calls:
            return self._turn_away(ids, look=confirm or len(ids) == 1)
        leg = Leg(
            facts,
            self._bots[self._bot_name],
            self._bot_name,
            self._services,
            claim=self._claim,
            confirm=confirm,
            ring_age=age,
        )
        self._carry(leg, ids)
        return True

    def _claim(self, leg: Leg, ids: list[str]) -> bool:
        """Other names of a call; False if another leg carries it, which then gets all names."""
        other = next(
            (self._legs[each] for each in ids if self._legs.get(each, leg) is not leg), leg
        )
        own = [each for each, owner in self._legs.items() if owner is leg]
        for each in (*ids, *own):
            self._legs[each] = other
        return other is leg

    def _carry(self, leg: Leg, ids: list[str]) -> None:
        for each in ids:
            self._legs[each] = leg
        self._live.add(leg)
        self._settle()
        self._spawn(self._run(leg), f"call {leg.facts.id}")

    async def _run(self, leg: Leg) -> None:
        call_id.set(leg.facts.id)
        _log.info("call started", extra={"direction": leg.facts.direction, "bot": leg.bot_name})
        try:
            await leg.run()
        finally:
            self._forget(leg)

    def _forget(self, leg: Leg) -> None:
        ids = [each for each, owner in self._legs.items() if owner is leg]
        for each in ids:
            del self._legs[each]
        self._bury(ids)
        self._live.discard(leg)
        self._settle()
        summary = summarise(leg, self._clock.now())
        if leg.reason != "duplicate":
            self._recent.appendleft((frozenset(ids), summary))
        metrics = self._services.metrics
        metrics.calls_total.labels(
            direction=leg.facts.direction, result=result_of(leg.reason)
        ).inc()
        if summary.first_audio_ms is not None:
            metrics.first_audio_seconds.observe(summary.first_audio_ms / 1000)
        _log.info(
            "call ended",
            extra={
                "reason": result_of(leg.reason),
                "seconds": summary.duration_seconds,
                "answer_ms": summary.answer_ms,
                "first_audio_ms": summary.first_audio_ms,
                "reconnects": summary.reconnects,
                "frames_dropped": leg.feed.dropped_frames,
                **{f"frames_{name}": value for name, value in summary.frames.items()},
            },
        )

    def _turn_away(self, ids: list[str], *, look: bool) -> bool:
        """Rejects a call beyond the cap, so that the caller hears busy and not endless ringing.

        ``look``: the API must confirm first that it rings, and that it is not one of ours
        under its other name.
        """
        if self._rejecting >= REJECTIONS:
            return False
        self._rejecting += 1
        self._settle()
        self._bury(ids)
        self._spawn(self._reject(ids, look), "reject")
        return True

    async def _reject(self, ids: list[str], look: bool) -> None:
        call_id.set(ids[-1])
        try:
            if look and not await self._rings(ids):
                return
            await self._services.provider.reject(ids[-1])
            why = "draining" if self.draining else "no room"
            _log.info("call rejected: %s", why, extra={"active": self.active})
            self._services.metrics.calls_total.labels(direction="inbound", result="rejected").inc()
        except ProviderError as error:
            _log.warning("a call beyond the cap could not be rejected: %s", error)
        finally:
            self._rejecting -= 1
            self._settle()

    async def _rings(self, ids: list[str]) -> bool:
        """Whether this is an inbound call that rings and that no leg carries."""
        call = await self._services.provider.get_call(ids[-1])
        names = [each for each in (call.id, call.external_call_id) if each]
        owner = next((self._legs[each] for each in names if each in self._legs), None)
        if owner is not None:
            for each in ids:
                self._tombstones.pop(each, None)
            self._claim(owner, ids)
            return False
        return call.status is CallStatus.RINGING and call.direction is Direction.INBOUND

    def _bury(self, ids: list[str]) -> None:
        until = self._clock.now() + TOMBSTONE_SECONDS
        for each in ids:
            self._tombstones[each] = until
            self._tombstones.move_to_end(each)
        while len(self._tombstones) > TOMBSTONES:
            self._tombstones.popitem(last=False)

    def _buried(self, call_id: str) -> bool:
        return self._tombstones.get(call_id, 0.0) > self._clock.now()

    # Commands.

    async def dial(
        self, to: str, *, bot: str | None = None, metadata: Mapping[str, str] | None = None
    ) -> CallSummary:
        """Places an outbound call and carries it; returns as soon as it rings.

        Raises:
            CallStateError: draining, the cap is reached, or an unknown bot.
            ProviderError: the call was not placed; never tried twice.
        """
        name = bot or self._bot_name
        if name not in self._bots:
            raise CallStateError(f"no bot is called {name!r} here; have: {', '.join(self._bots)}")
        if self.draining:
            raise CallStateError("this bridge is draining and places no calls")
        if self.active >= self._config.max_calls:
            raise CallStateError("the cap of VOICEBRIDGE_MAX_CALLS is reached; try again later")
        # A task of the bridge's own: who asked for the call may go away while it is placed,
        # and a call that was placed must be carried.
        self._dialling += 1
        self._settle()
        placing = self._spawn(self._place(to, name, dict(metadata or {})), "dial")
        return await asyncio.shield(placing)

    async def _place(self, to: str, name: str, metadata: dict[str, str]) -> CallSummary:
        try:
            # Our own id travels with the call, so that an unclear answer can be looked up.
            placed = await self._services.provider.initiate(to, callback_data=uuid.uuid4().hex)
            facts = CallFacts(
                id=placed.id,
                external_id=placed.external_call_id,
                direction="outbound",
                caller=None,
                called="".join(filter(str.isdigit, to)),
                metadata=metadata,
                started_at=self._clock.utc(),
            )
            leg = Leg(facts, self._bots[name], name, self._services, claim=self._claim)
            self._carry(leg, [each for each in (placed.external_call_id, placed.id) if each])
        finally:
            self._dialling -= 1
            self._settle()
        if self._closing:
            leg.hang_up("shutdown", within=0.0)
        return summarise(leg, self._clock.now())

    async def hangup(self, call_id: str) -> bool:
        """Ends a live call within a second or so; False where there is none of that id."""
        leg = self._legs.get(call_id)
        if leg is None:
            return False
        leg.hang_up("operator", within=OPERATOR_PATIENCE)
        return True

    # Views.

    def summaries(self) -> list[CallSummary]:
        """Live calls, oldest first, then the latest two hundred that ended, newest first."""
        live = sorted(self._live, key=lambda leg: leg.times.signalled)
        now = self._clock.now()
        return [*(summarise(leg, now) for leg in live), *(summary for _, summary in self._recent)]

    def summary(self, call_id: str) -> CallSummary | None:
        """One call by any id it is known by."""
        if (leg := self._legs.get(call_id)) is not None:
            return summarise(leg, self._clock.now())
        return next((summary for ids, summary in self._recent if call_id in ids), None)

    # Background.

    def _spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, ProviderError):  # those are told to whoever asked
            _log.error("a background task failed", exc_info=error, extra={"task": task.get_name()})

    async def _poll_ringing(self) -> None:
        """Finds calls whose webhook was lost; off by default."""
        while not self.draining:
            await asyncio.sleep(self._config.ringing_poll_seconds)
            try:
                calls = await self._services.provider.list_calls(limit=5)
            except Exception as error:  # the poller must live as long as the bridge
                _log.warning("the calls could not be listed: %s", error)
                continue
            for call in calls:
                if call.status is CallStatus.RINGING and call.direction is Direction.INBOUND:
                    self.submit(_offer_of(call))


def _offer_of(call: CallDetails) -> CallEvent:
    return CallEvent(
        kind=CallEventKind.RINGING,
        call_id=call.id,
        external_id=call.external_call_id,
        direction=Direction.INBOUND,
        status=CallStatus.RINGING,
        peer=call.peer_number,
        own=call.from_number,
        timestamp=None,
        duration_seconds=None,
        native=False,
        reason=None,
        callback_data=None,
        trusted=True,
    )
