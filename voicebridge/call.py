"""What a bot sees: the call it is in, and what it says.

Everything here is a thin, awaitable face on the call's media session and feed; no audio
is kept here. After hang-up iterators end quietly and every other method raises
`CallEnded`, which a bot may let through.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from voicebridge.core.resample import Resampler, resample_whole
from voicebridge.errors import AudioError, CallEnded, CallStateError
from voicebridge.listening import Frames, Happenings

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterable,
        AsyncIterator,
        Awaitable,
        Callable,
        Mapping,
    )
    from datetime import datetime

    from voicebridge.clock import Clock
    from voicebridge.core.events import Event, Playback
    from voicebridge.core.session import MediaSession
    from voicebridge.feed import Feed

#: How much unsent audio `write` lets a bot queue before it waits. What is queued costs
#: nothing at an interruption, so this bounds memory, not latency.
WRITE_AHEAD_MS = 1_000
#: The most that is held of one long text, so that an hour of audio is not copied. What is
#: held counts in `Playback.total_ms`, so it is more than people say in one breath.
HELD_MS = 120_000
#: The longest nap of a waiting writer: how soon it learns that its utterance was cut.
_NAP = 0.1
_FRAME = 0.020


class Bot:
    """A voice bot. Subclass it and write `run`; one object serves many calls at once."""

    async def run(self, call: Call) -> None:
        """Carries one call; returning hangs up once the last word was heard."""
        raise NotImplementedError

    async def start(self) -> None:
        """Called once before the first call, for what all calls share."""

    async def close(self) -> None:
        """Called once after the last call."""


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What is known of a call before a word is said."""

    id: str
    external_id: str | None
    direction: str
    caller: str | None = field(repr=False)
    called: str | None = field(repr=False)
    metadata: Mapping[str, str] = field(repr=False)
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Controls:
    """What a call may ask of the leg that carries it."""

    hangup: Callable[[str | None], None]
    play_url: Callable[[str], Awaitable[None]]


class Call:
    """One phone call, as the bot that answers it sees it.

    Attributes:
        id: the provider's public id, ``call_...``.
        external_id: the id on the WhatsApp side, None where unknown.
        direction: ``"inbound"`` or ``"outbound"``.
        caller, called: phone numbers, digits only; None where WhatsApp hides them. A
            caller's number is a hint, not proof of who calls.
        metadata: what `POST /calls` gave along.
        sample_rate: of the wire, in Hz; the rate of `audio` and `write` by default.
        started_at: when the call began, UTC.
    """

    def __init__(
        self, facts: CallFacts, session: MediaSession, feed: Feed, controls: Controls, clock: Clock
    ) -> None:
        self.id = facts.id
        self.external_id = facts.external_id
        self.direction = facts.direction
        self.caller = facts.caller
        self.called = facts.called
        self.metadata = facts.metadata
        self.started_at = facts.started_at
        self.sample_rate = session.config.sample_rate
        self._session = session
        self._feed = feed
        self._controls = controls
        self._clock = clock
        self._stream: Speech | None = None

    def __repr__(self) -> str:
        return f"<Call {self.id} {self.direction}>"

    def audio(self, sample_rate: int | None = None) -> AsyncIterator[bytes]:
        """The caller's voice: 20 ms frames of PCM16 LE mono, gapless in call time.

        Listening begins with this call, not with the first iteration. The first
        listener also gets what was said before it listened (up to ten seconds). A bot
        that falls more than ten seconds behind loses the oldest frames.

        Args:
            sample_rate: of the frames, in Hz; the wire's by default.
        """
        return Frames(self._feed, self.sample_rate, sample_rate or self.sample_rate)

    def events(self) -> AsyncIterator[Event]:
        """What happens in the call, from now on, ending with `Hangup`."""
        return Happenings(self._feed)

    def speech(self, *, sample_rate: int | None = None, interruptible: bool = True) -> Speech:
        """Opens an utterance to write to as audio is made; the primitive under `play`.

        Utterances are spoken one after the other, in the order of their first audio.
        """
        self._must_be_up()
        utterance = self._session.begin(interruptible=interruptible)
        return self._speech(utterance, sample_rate)

    def _speech(self, utterance: int, sample_rate: int | None) -> Speech:
        return Speech(self._session, self._feed, self._clock, utterance, sample_rate)

    async def write(self, pcm: bytes, sample_rate: int | None = None) -> None:
        """Queues raw audio behind what is being said; waits while a second is ahead.

        Raises:
            CallEnded: the call is over.
            AudioError: an odd number of bytes.
        """
        self._must_be_up()
        stream = self._stream
        if stream is None or stream.sample_rate != (sample_rate or self.sample_rate) or stream.cut:
            if stream is not None:
                stream.end()
            utterance = self._session.begin(live=True)
            stream = self._stream = self._speech(utterance, sample_rate)
        await stream.write(pcm)

    async def play(
        self,
        source: bytes | AsyncIterable[bytes] | str | Path,
        *,
        sample_rate: int | None = None,
        text: str | None = None,
        interruptible: bool = True,
    ) -> Playback:
        """Says something and returns when it was heard, or cut.

        Cancelling the call of `play` silences it.

        Args:
            source: PCM16 LE mono bytes, an async iterable of such, or the path of an
                audio file (WAV, FLAC, OGG, MP3).
            sample_rate: of bytes or iterable, in Hz; the wire's by default.
            text: what is being said, for `Playback.heard_text`.
            interruptible: whether the caller may cut it short.

        Raises:
            CallEnded: the call ended before the end was heard.
            AudioError: the file holds no audio, or bytes are odd in number.
        """
        self._must_be_up()
        if text is not None and not isinstance(text, str):
            raise TypeError("text is what is being said, a str")
        if isinstance(source, str | Path):
            pcm = await asyncio.get_running_loop().run_in_executor(
                None, _read_audio, Path(source), self.sample_rate
            )
            source, sample_rate = pcm, None
            self._must_be_up()
        utterance = self._session.begin(text=text, interruptible=interruptible)
        speech = self._speech(utterance, sample_rate)
        try:
            if isinstance(source, bytes | bytearray | memoryview):
                await speech.write(bytes(source))
            else:
                await speech.stream(source)
            speech.end()
            return await speech.done()
        except BaseException:
            speech.stop()
            raise

    async def play_url(self, url: str) -> None:
        """Has the provider play a public audio file into the call (``/play``).

        There is no end, stop or volume to it, and what it does to audio that this call
        sends at the same time is not documented: say nothing meanwhile.

        Raises:
            CallEnded, ProviderError.
        """
        self._must_be_up()
        await self._controls.play_url(url)

    async def hangup(self, reason: str | None = None) -> None:
        """Ends the call once what was said has been heard; returns when it is over.

        Raises:
            CallEnded: it was over before.
        """
        self._must_be_up()
        self._controls.hangup(reason)
        await self._feed.over()

    def _must_be_up(self) -> None:
        if (reason := self._feed.reason) is not None:
            raise CallEnded(reason)


class Speech:
    """One utterance being made; see `Call.speech`."""

    def __init__(
        self,
        session: MediaSession,
        feed: Feed,
        clock: Clock,
        utterance: int,
        sample_rate: int | None,
    ) -> None:
        wire_rate = session.config.sample_rate
        self.utterance = utterance
        self.sample_rate = sample_rate or wire_rate
        self._session = session
        self._feed = feed
        self._clock = clock
        self._fate = feed.expect(utterance)
        self._resampler = (
            None if self.sample_rate == wire_rate else Resampler(self.sample_rate, wire_rate)
        )
        self._ended = False
        self._stopped = False

    @property
    def heard_ms(self) -> int:
        """How much of it the caller has heard by now, by the ledger."""
        return self._session.playback(self.utterance, self._clock.now()).heard_ms

    @property
    def cut(self) -> bool:
        """Whether it is over, by interruption or by the call's end: make no more of it."""
        return self._is_cut()

    def _is_cut(self) -> bool:
        return self._stopped or self._fate.done() or not self._session.is_open(self.utterance)

    async def write(self, pcm: bytes, text: str | None = None) -> bool:
        """Queues audio; waits while more than a second of it is unsent.

        Returns:
            False once the utterance was cut: make no more of it.

        Raises:
            CallEnded: the call is over.
            CallStateError: it was ended.
            AudioError: an odd number of bytes.
        """
        self._must_be_up()
        if len(pcm) % 2:
            raise AudioError(
                f"{len(pcm)} bytes are no whole number of 16-bit samples; "
                "keep the odd byte for the next chunk"
            )
        if self._ended:
            raise CallStateError("this utterance was ended; open another with call.speech()")
        second = self.sample_rate * 2
        if self.cut:
            # Whoever does not look at the answer writes on and on, never has to wait for
            # room, and would hold up every other call.
            await asyncio.sleep(_FRAME)
            return False
        for start in range(0, len(pcm), second) or (0,):
            if start:
                await asyncio.sleep(0)  # a long text must cost other calls no tick
            if self._is_cut():
                break
            piece = pcm[start : start + second]
            if self._resampler is not None:
                piece = self._resampler.process(piece)
            self._session.write(self.utterance, piece, self._clock.now(), text=text)
            text = None
            await self._room(HELD_MS)
        await self._room(WRITE_AHEAD_MS)
        self._must_be_up()
        return not self.cut

    def _must_be_up(self) -> None:
        if (reason := self._feed.reason) is not None:
            raise CallEnded(reason)

    async def stream(self, source: AsyncIterable[bytes]) -> None:
        """Writes a source to its end, or until it is cut; then closes it.

        Closing is how a generator of speech learns that nobody listens any more. One that
        is still waiting for its next audio then is cancelled there.
        """
        patience = asyncio.timeout(None)

        def lose_it(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the source has ended by itself
                patience.reschedule(0.0)

        self._fate.add_done_callback(lose_it)
        try:
            async with patience:
                async for chunk in source:
                    if not await self.write(chunk):
                        break
        except TimeoutError:
            if not patience.expired():
                raise  # the source's own
        finally:
            self._fate.remove_done_callback(lose_it)
            if (close := getattr(source, "aclose", None)) is not None:
                await close()

    async def _room(self, most_ms: int) -> None:
        """Waits until no more than that is ahead; the pacer sends in real time."""
        while (excess := self._session.ahead_ms(self.utterance) - most_ms) > 0:
            if self._feed.reason is not None or self.cut:
                return
            await asyncio.sleep(min(excess / 1_000, _NAP))

    def end(self) -> None:
        """Says that nothing more will be written."""
        if self._ended or self._stopped:
            return
        self._ended = True
        if self._resampler is not None and self._feed.reason is None and not self.cut:
            tail = self._resampler.flush()
            if tail:
                self._session.write(self.utterance, tail, self._clock.now())
        self._session.end(self.utterance)

    def stop(self) -> None:
        """Silences it now; what was sent already is beyond recall (about a tenth of a second)."""
        if not self._stopped:
            self._stopped = True
            self._session.stop(self.utterance, self._clock.now())

    async def done(self) -> Playback:
        """Waits until it was heard or cut.

        Raises:
            CallEnded: the call ended first.
        """
        playback = await asyncio.shield(self._fate)
        if playback is None:
            raise CallEnded(self._feed.reason or "unknown")
        return playback


def _read_audio(path: Path, sample_rate: int) -> bytes:
    """Decodes a whole audio file to PCM16 LE mono at ``sample_rate``; channels are mixed."""
    import soundfile

    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError):
        # Its own message shows the whole path.
        raise AudioError(
            f"cannot read audio from {path.name}: give an existing WAV, FLAC, OGG or MP3 file"
        ) from None
    return resample_whole(samples.mean(axis=1), rate, sample_rate)
