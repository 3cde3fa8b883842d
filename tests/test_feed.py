"""What reaches a bot, and what becomes of it where the bot is slow or gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from voicebridge.core.events import DtmfReceived, Event, Hangup, Playback, PlaybackFinished
from voicebridge.feed import AUDIO_LIMIT, EVENT_LIMIT, Feed
from voicebridge.testing import run_virtual

if TYPE_CHECKING:
    from voicebridge.mailbox import Mailbox

QUIET = bytes(640)


def loud(number: int) -> bytes:
    return (1_000 + number).to_bytes(2, "little") * 320


async def drain(ear: Mailbox[bytes]) -> list[bytes]:
    return [frame async for frame in ear]


async def test_audio_before_the_first_listener_is_kept_for_it_alone() -> None:
    feed = Feed()
    feed.hear([loud(1), loud(2)])
    first, second = feed.listen(), feed.listen()
    feed.hear([loud(3)])
    feed.close("caller")
    assert await drain(first) == [loud(1), loud(2), loud(3)]
    assert await drain(second) == [loud(3)]


async def test_silence_before_the_first_word_is_not_kept() -> None:
    feed = Feed()
    feed.hear([QUIET, QUIET, loud(1), QUIET, loud(2)])
    ear = feed.listen()
    feed.hear([QUIET])
    feed.close("caller")
    assert await drain(ear) == [loud(1), QUIET, loud(2), QUIET]


async def test_only_the_newest_ten_seconds_are_kept() -> None:
    feed = Feed()
    feed.hear([loud(number) for number in range(AUDIO_LIMIT + 7)])
    assert feed.waiting == AUDIO_LIMIT
    assert feed.dropped_frames == 7
    ear = feed.listen()
    feed.close("caller")
    assert await drain(ear) == [loud(number) for number in range(7, AUDIO_LIMIT + 7)]


@given(lags=st.lists(st.integers(0, 2 * AUDIO_LIMIT), min_size=1, max_size=4))
def test_a_slow_listener_loses_its_own_oldest_frames_only(lags: list[int]) -> None:
    async def scenario() -> None:
        feed = Feed()
        feed.unlisten(feed.listen())
        ears = [feed.listen() for _ in lags]
        total = 2 * AUDIO_LIMIT
        taken: list[list[bytes]] = [[] for _ in lags]
        for number in range(total):
            feed.hear([loud(number)])
            for ear, lag, frames in zip(ears, lags, taken, strict=True):
                if number >= lag:
                    frames.append(await anext(ear))
        assert feed.waiting <= AUDIO_LIMIT
        feed.close("caller")
        for ear, lag, frames in zip(ears, lags, taken, strict=True):
            frames += await drain(ear)
            dropped = max(0, lag - AUDIO_LIMIT)
            assert len(frames) + ear.dropped == total
            assert ear.dropped >= dropped
            assert frames == sorted(frames, key=lambda f: int.from_bytes(f[:2], "little"))
            assert frames[-1] == loud(total - 1)

    run_virtual(scenario(), debug=False)


async def test_a_listener_that_left_gets_and_holds_nothing() -> None:
    feed = Feed()
    ear = feed.listen()
    feed.unlisten(ear)
    feed.unlisten(ear)
    feed.hear([loud(1)])
    assert (len(ear), feed.waiting) == (0, 0)


async def test_after_the_end_there_is_nothing_to_listen_to() -> None:
    feed = Feed()
    feed.unlisten(feed.listen())
    feed.close("caller")
    feed.hear([loud(1)])
    feed.tell(DtmfReceived("1", 0))
    assert await drain(feed.listen()) == []
    assert [event async for event in feed.watch()] == []
    assert await feed.expect(1) is None
    assert await feed.over() == feed.reason == "caller"


async def test_the_first_listener_may_come_after_the_end() -> None:
    feed = Feed()
    feed.hear([loud(1)])
    feed.close("caller")
    assert await drain(feed.listen()) == [loud(1)]


async def test_events_reach_every_watcher_and_end_with_the_hangup() -> None:
    feed = Feed()
    first = feed.watch()
    feed.tell(DtmfReceived("1", 10))
    second = feed.watch()
    feed.unwatch(feed.watch())
    feed.tell(DtmfReceived("2", 20))
    feed.close("caller")
    feed.close("again")
    one, two = DtmfReceived("1", 10), DtmfReceived("2", 20)
    assert [event async for event in first] == [one, two, Hangup("caller")]
    assert [event async for event in second] == [two, Hangup("caller")]


async def test_a_watcher_that_does_not_look_keeps_the_newest_and_the_hangup() -> None:
    feed = Feed()
    watcher = feed.watch()
    for number in range(3 * EVENT_LIMIT):
        feed.tell(DtmfReceived("1", number))
    feed.close("caller")
    events: list[Event] = [event async for event in watcher]
    assert len(events) == EVENT_LIMIT
    assert events[-1] == Hangup("caller")


async def test_the_fate_of_an_utterance_is_told_once() -> None:
    feed = Feed()
    heard, unheard, dropped = feed.expect(1), feed.expect(2), feed.expect(3)
    dropped.cancel()
    playback = Playback(20, 20, interrupted=False)
    feed.tell(PlaybackFinished(1, playback))
    feed.tell(PlaybackFinished(1, Playback(0, 0, interrupted=True)))
    feed.tell(PlaybackFinished(3, playback))
    feed.tell(PlaybackFinished(99, playback))
    feed.close("caller")
    assert await heard == playback
    assert await unheard is None


async def test_waiting_for_the_end_may_be_given_up() -> None:
    feed = Feed()
    waiting = asyncio.ensure_future(feed.over())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert feed.reason is None
    feed.close("caller")
    assert await feed.over() == "caller"
