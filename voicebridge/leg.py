"""Carries one provider call from its first signal to its end.

A leg is one coroutine that walks the call through its states: answer, open media, greet,
converse, hang up. Everything that may happen meanwhile (the caller hangs up, media is
lost, the bot ends or fails, a limit passes) only sets a fact and wakes it; no callback
acts by itself, so at every moment there is one place where the call is.

Only the leg creates the tasks of its call, and it ends them: the bot's, and whatever
request is in flight when the call is over.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, TypeVar

from voicebridge.call import Bot, Call, CallFacts, Controls
from voicebridge.core.adapter import WireAdapter
from voicebridge.core.lifecycle import Command, Lifecycle, Signal, State
from voicebridge.core.session import MediaSession
from voicebridge.core.watchdog import Watchdog
from voicebridge.errors import (
    CallEnded,
    CallNotFound,
    CallOver,
    Conflict,
    FeatureNotSupported,
    MediaError,
    MediaUrlRefused,
    ProviderError,
)
from voicebridge.feed import Feed
from voicebridge.line import Line
from voicebridge.opening import Opener
from voicebridge.sampling import MediaSampler
from voicebridge.services import LegTimes

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from voicebridge.core.format import WireFormat
    from voicebridge.recording import Recording
    from voicebridge.services import Services

T = TypeVar("T")

LAST_WORDS_LIMIT = 10.0
#: Beyond the ledger's own estimate, for buffers on the way that nobody tells of.
LAST_WORDS_MARGIN = 0.25
TERMINATE_RETRY = 5.0
TERMINATE_LIMIT = 60.0
DIAL_POLL = 1.0
#: How long a look at the call's status may hold up everything else.
LOOK_LIMIT = 2.0

_log = logging.getLogger(__name__)


class _Over(Exception):
    """The call ended on the other side; unwinds a leg to its end."""


class _GiveUp(Exception):
    """The call cannot be carried on; ``reason`` goes to the summary."""

    def __init__(self, reason: str, *, prompt: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.prompt = prompt


class Leg:
    """One call; see the module's docstring. ``run`` never raises but when cancelled.

    ``claim(leg, ids)`` registers what else the call turns out to be known by; False where
    another leg carries that call.
    """

    def __init__(
        self,
        facts: CallFacts,
        bot: Bot,
        bot_name: str,
        services: Services,
        *,
        claim: Callable[[Leg, list[str]], bool],
        confirm: bool = False,
        ring_age: float = 0.0,
    ) -> None:
        self.facts = facts
        self.bot_name = bot_name
        self.lifecycle = Lifecycle()
        self.feed = Feed()
        self.times = LegTimes(signalled=services.clock.now())
        self.reason: str | None = None
        self._bot = bot
        self._services = services
        self._claim = claim
        self._confirm = confirm
        self._ring_age = ring_age
        self._config = services.config
        self._clock = services.clock
        self._wake = asyncio.Event()
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._hangup_wish: str | None = None
        self._unwanted: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._last_words_limit = LAST_WORDS_LIMIT
        self._line_up = asyncio.Event()  # something proves that the caller hears us
        self._answered = asyncio.Event()  # an outbound call was picked up
        self._bot_task: asyncio.Task[bool] | None = None
        self._poll_at = float("inf")
        self.line = Line(
            MediaSession(self._config.media, self.times.signalled),
            self.feed,
            self._clock,
            services.driver,
            on_lost=self._on_lost,
            on_heard=self._line_up.set,
            on_broken=lambda: self.hang_up("error", within=0.0),
            adapter=WireAdapter(self._config.media, detect=self._config.detect_format),
            record=self._record if services.recordings is not None else None,
            on_format=self._on_format,
        )
        self._opener = Opener(self.line, services, facts.id)

    # What the bridge tells.

    def connected(self) -> None:
        """The provider says that media flows (``call.connected``)."""
        if self.facts.direction == "outbound" and self.lifecycle.signal(Signal.ANSWERED):
            self._answered.set()
        else:
            self.lifecycle.signal(Signal.CONNECTED)
        self._line_up.set()

    def over(self, reason: str) -> None:
        """The provider says that the call has ended."""
        if not self._over.done():
            self._over.set_result(reason)
        self._wake.set()

    def check(self) -> None:
        """Somebody unproven says that something changed: ask the provider soon."""
        self._poll_at = self._clock.now()
        self._wake.set()

    def hang_up(self, reason: str | None, *, within: float = LAST_WORDS_LIMIT) -> None:
        """We want the call to end: after what is queued now was heard, or ``within`` seconds."""
        self._hangup_wish = self._hangup_wish or reason or "hangup"
        self._last_words_limit = min(self._last_words_limit, within)
        if within < LAST_WORDS_LIMIT and not self.line.up and not self._unwanted.done():
            self._unwanted.set_result(self._hangup_wish)  # no media to say anything with
        self._wake.set()

    def _on_lost(self, code: int | None) -> None:
        self.lifecycle.signal(Signal.MEDIA_LOST)
        self._wake.set()

    def _on_format(self, found: WireFormat) -> None:
        _log.warning("the media server speaks another format than configured: %s", found)
        self._services.metrics.media_format_changes_total.inc()

    def _record(self, now: float) -> Recording:
        assert self._services.recordings is not None
        rate = self._config.media.sample_rate
        return self._services.recordings.start(self.facts.id, rate, now)

    # The walk.

    async def run(self) -> None:
        prompt = False
        try:
            if self.facts.direction == "inbound":
                await self._answer()
            else:
                await self._await_answer()
            await self._open_media()
            await self._greeting_gate()
            if self._hangup_wish is not None:
                raise _GiveUp(self._hangup_wish)
            self.reason = await self._converse()
        except _Over:
            self.reason = self._over.result()
        except _GiveUp as stop:
            self.reason, prompt = stop.reason, stop.prompt
        except Exception:
            _log.exception("the call failed; it is hung up")
            self.reason = "error"
        finally:
            await self._finish(prompt)

    async def _answer(self) -> None:
        self.lifecycle.signal(Signal.OFFERED)
        if self._confirm:
            await self._confirm_ringing()
        self.lifecycle.command(Command.ANSWER)
        now = self._clock.now()
        # A stale ring that was confirmed just now still rings: it gets a short while.
        deadline = now + max(self._config.ring_seconds - self._ring_age, 5.0)
        try:
            await self._unless_over(
                self._services.provider.accept(self.facts.id, deadline=deadline), self._unwanted
            )
        except CallOver as over:
            raise self._ended(over.status) from None
        except (Conflict, CallNotFound) as error:
            # Another device has it, or it is gone: hanging up would cut somebody else's talk.
            _log.warning("the call is not ours to answer: %s", error)
            raise self._ended("taken") from None
        except ProviderError as error:
            _log.error("the call could not be answered: %s", error)
            raise _GiveUp("unanswered") from None
        self.times.accepted = self._clock.now()
        self._services.metrics.answer_seconds.observe(self.times.accepted - self.times.signalled)

    async def _confirm_ringing(self) -> None:
        """An unsigned, native or stale offer is only a hint: the API says what is true."""
        try:
            call = await self._unless_over(self._services.provider.get_call(self.facts.id))
        except ProviderError as error:
            _log.warning("an offer could not be confirmed and is not answered: %s", error)
            raise self._ended("unconfirmed") from None
        ids = [each for each in (call.id, call.external_call_id) if each]
        if not self._claim(self, ids):
            raise self._ended("duplicate")  # the same call, told under its other id
        if call.status != "RINGING" or call.direction != "INBOUND":
            raise self._ended("not_ringing")

    async def _await_answer(self) -> None:
        """Waits until the person we called picks up; early media is no proof of that."""
        self.lifecycle.command(Command.DIAL)
        give_up_at = self._clock.now() + self._config.dial_seconds
        while not self._answered.is_set():
            left = give_up_at - self._clock.now()
            if left <= 0:
                raise _GiveUp("no_answer")
            if self._hangup_wish is not None:
                raise _GiveUp(self._hangup_wish)
            try:
                await self._unless_over(
                    asyncio.wait_for(self._answered.wait(), min(left, DIAL_POLL)), self._unwanted
                )
            except TimeoutError:
                await self._poll()
        self.times.accepted = self._clock.now()

    async def _open_media(self) -> None:
        """Opens the first socket; where that fails, the fallback prompt must do instead."""
        try:
            await self._unless_over(self._opener.first(), self._unwanted)
        except FeatureNotSupported as error:
            _log.error("realtime media is not available: %s", error)
            raise _GiveUp("media_unsupported", prompt=True) from None
        except MediaUrlRefused as error:
            _log.error("the media address is not one of ours: %s", error)
            raise _GiveUp("media_refused", prompt=True) from None
        except CallOver as over:
            raise self._ended(over.status) from None
        except (MediaError, ProviderError):
            raise _GiveUp("media_unavailable", prompt=True) from None
        self.times.media_open = self._clock.now()
        self._poll_at = min(self._poll_at, self.times.media_open + self._config.poll_seconds)
        self._media_open()

    def _media_open(self) -> None:
        """The line is open, unless it was lost again before this coroutine ran on."""
        self.lifecycle.signal(Signal.MEDIA_OPEN)
        if not self.line.up:
            self._on_lost(None)

    async def _greeting_gate(self) -> None:
        """Waits for proof that the caller hears us, but not for ever.

        ``call.connected`` may never come on a call that is in fact up, and a caller may
        be silent; so for an inbound call a timer opens the gate too.
        """
        if self.facts.direction == "outbound":
            await self._unless_over(asyncio.sleep(0.3))
            return
        accepted = self.times.accepted or self._clock.now()
        wait = max(0.0, accepted + self._config.greeting_wait - self._clock.now())
        try:
            await self._unless_over(asyncio.wait_for(self._line_up.wait(), wait))
        except TimeoutError:
            _log.info("nothing proves that the caller hears us; greeting all the same")

    async def _converse(self) -> str:
        """The bot runs; returns why the conversation is to end."""
        controls = Controls(hangup=self.hang_up, play_url=self._play_url)
        call = Call(self.facts, self.line.session, self.feed, controls, self._clock)
        bot = self._bot_task = asyncio.create_task(self._run_bot(call), name="bot")
        bot.add_done_callback(lambda _: self._wake.set())
        sampler = MediaSampler(self._services.metrics, self.line.session.stats, self.feed)
        watch = Watchdog(self._config.limits, self._clock.now())
        while True:
            await self._wait_until(min(watch.next_at, self._poll_at))
            if self._over.done():
                raise _Over
            if self.lifecycle.state is State.RECONNECTING:
                await self._reconnect()
            if self._hangup_wish is not None:
                await self._last_words()
                return self._hangup_wish
            if bot.done():
                if bot.result():
                    await self._last_words()
                    return "bot"
                raise _GiveUp("bot_error", prompt=True)
            now = self._clock.now()
            if now >= watch.next_at:
                sampler.sample()
                reason = watch.check(now, self.line.take_peak(), self.line.last_audio_at)
                if reason is not None:
                    raise _GiveUp(reason, prompt=reason == "deaf")
            if now >= self._poll_at:
                await self._poll()

    async def _wait_until(self, deadline: float) -> None:
        """Until something happens, or the deadline."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _run_bot(self, call: Call) -> bool:
        """Runs the bot; False where it failed."""
        well = True
        try:
            await self._bot.run(call)
        except* CallEnded:
            pass  # let through, alone or out of a task group
        except* (Exception, SystemExit):  # the exit of one bot is not that of the process
            well = self._bot_failed()
        except* asyncio.CancelledError:
            # Ours once the call is over; before that, of something that the bot awaited.
            well = self.feed.reason is not None or self._bot_failed()
        return well

    def _bot_failed(self) -> bool:
        _log.exception("the bot failed; its call ends, other calls go on")
        self._services.metrics.bot_errors_total.labels(bot=self.bot_name).inc()
        return False

    async def _reconnect(self) -> None:
        """Media again for a call that is still up; the bot and its queue stay as they are."""
        reconnects = self._services.metrics.media_reconnects_total
        try:
            back = await self._unless_over(self._opener.again(self._look), self._unwanted)
        except CallOver as over:
            raise self._ended(over.status) from None
        except _Over:
            if self.line.told_lost:  # and not its normal end
                reconnects.labels(result="call_over").inc()
            raise
        reconnects.labels(result="restored" if back else "gave_up").inc()
        if not back:
            raise _GiveUp("media_lost", prompt=True)
        self._media_open()

    async def _look(self) -> None:
        """At the call, before media is opened again: at its normal end the socket goes first."""
        await self._poll()
        self.line.tell_lost()

    async def _poll(self) -> None:
        """Asks the API how the call stands; the webhooks may have been lost."""
        self._poll_at = self._clock.now() + self._config.poll_seconds
        try:
            async with asyncio.timeout(LOOK_LIMIT):
                call = await self._unless_over(self._services.provider.get_call(self.facts.id))
        except (ProviderError, TimeoutError) as error:
            _log.debug("the call's status is unknown: %s", error)
            return
        if call.status is not None and call.status.terminal:
            raise self._ended(call.status.value)
        if call.connected_at is not None and not self._answered.is_set():
            self.connected()

    async def _play_url(self, url: str) -> None:
        await self._services.provider.play(self.facts.id, url)

    # The end.

    async def _last_words(self) -> None:
        """Lets what was said up to now be heard before the line goes.

        What a bot goes on to say after the end was decided is not waited for.
        """
        self.lifecycle.command(Command.HANGUP)
        now = self._clock.now()
        heard_at = self.line.session.drained_at() + LAST_WORDS_MARGIN
        while not self._over.done() and self.line.up:
            until = min(heard_at, now + self._last_words_limit)
            if self._clock.now() >= until:
                return
            await self._wait_until(until)

    async def _finish(self, prompt: bool) -> None:
        """Hangs up, closes media, ends the bot; runs to its end even when all is refused."""
        # To the bot it is over now: what follows may take the provider a minute.
        self.feed.close(self.reason or "unknown")
        try:
            if not self._over.done() and self.lifecycle.state is not State.ENDED:
                if prompt and self._config.fallback_prompt_url:
                    await self._fallback_prompt()
                await self._terminate()
        finally:
            self.lifecycle.signal(Signal.OVER)
            self.times.ended = self._clock.now()
            try:
                await self.line.close()
            finally:
                await self._end_bot()

    async def _fallback_prompt(self) -> None:
        """``/play`` of the operator's canned prompt.

        To the bot the call is over, so that the prompt is the only owner of the outbound
        audio; there is no event at its end, so its length is configured.
        """
        self.line.session.stop_all(self._clock.now())
        url = self._config.fallback_prompt_url
        try:
            await self._unless_over(self._services.provider.play(self.facts.id, url))
            await self._unless_over(asyncio.sleep(self._config.fallback_prompt_seconds))
        except _Over:
            pass
        except Exception as error:  # whatever it is, the call must still be hung up
            _log.warning("the fallback prompt was not played: %s", error)

    async def _terminate(self) -> None:
        """Hangs up for certain: an accepted call that nobody ends costs and annoys."""
        if self.lifecycle.state is State.NEW:
            return
        self.lifecycle.command(Command.HANGUP)
        give_up_at = self._clock.now() + TERMINATE_LIMIT
        while not self._over.done():
            try:
                await self._unless_over(self._services.provider.terminate(self.facts.id))
                self.lifecycle.signal(Signal.TERMINATED)
                return
            except _Over:
                return
            except Exception as error:  # an open call costs more than an odd error
                if self._clock.now() > give_up_at:
                    _log.error("the call could not be hung up and is given up: %s", error)
                    return
                _log.warning("hanging up failed and is tried again: %s", error)
                await self._wait_until(self._clock.now() + TERMINATE_RETRY)

    async def _end_bot(self) -> None:
        """Lets the bot see the end, then cancels it, then leaves it behind."""
        bot = self._bot_task
        if bot is None:
            return
        await asyncio.wait({bot}, timeout=self._config.bot_grace_seconds)
        if not bot.done():
            bot.cancel()
            await asyncio.wait({bot}, timeout=self._config.bot_grace_seconds)
        if not bot.done():
            _log.error("the bot does not end; it is abandoned")
            self._services.abandoned.add(bot)
            bot.add_done_callback(self._services.abandoned.discard)
            self._services.metrics.bot_errors_total.labels(bot=self.bot_name).inc()

    def _ended(self, reason: str) -> _Over:
        """Notes that the call is over, for raising."""
        self.over(reason.lower())
        return _Over()

    async def _unless_over(
        self, work: Coroutine[Any, Any, T], unwanted: asyncio.Future[str] | None = None
    ) -> T:
        """Awaits ``work``, or drops it and raises `_Over` as soon as the call has ended.

        Where ``unwanted`` is done first, `_GiveUp` with its reason.
        """
        task = asyncio.ensure_future(work)
        waiting: set[asyncio.Future[Any]] = {task, self._over, unwanted or self._over}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if self._over.done():
                raise _Over
            if unwanted is not None and unwanted.done():
                raise _GiveUp(unwanted.result())
            return task.result()
        finally:
            if not task.done():
                task.cancel()
            # The work's own end is waited for, so that no request outlives its call.
            await asyncio.gather(task, return_exceptions=True)
