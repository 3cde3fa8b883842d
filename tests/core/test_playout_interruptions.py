"""Ten thousand interruptions at random instants, checked by somebody who only listens.

The listener knows nothing of the ledger. It gets messages when they arrive, plays them one
after the other, and reads from the samples which millisecond of which utterance was played:
each of them holds one value of its own. What the ledger claims is held against that.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass, field

import numpy as np
import pytest

from voicebridge.core.events import PlaybackFinished
from voicebridge.core.session import MediaConfig, MediaSession

TICK = 0.020
PATH_DELAY = 0.150
WIRE_FRAME_MS = 60
LEAD_MS = 180
SLOTS = 10
LONGEST_MS = 2_000
LOWEST = 2_000
READABLE = 13
"""Samples of one value in a row: no fade has so many, a whole millisecond has 16."""


def spoken(number: int, from_ms: int, to_ms: int) -> bytes:
    values = LOWEST + number % SLOTS * LONGEST_MS + np.arange(from_ms, to_ms)
    return np.repeat(values, 16).astype("<i2").tobytes()


@dataclass
class Listener:
    """Somebody's ear, ``delay`` seconds behind the socket."""

    delay: float
    until: float = 0.0
    played: dict[int, list[tuple[float, int]]] = field(default_factory=dict)
    """By slot: when a millisecond was heard to its end, and how far that is."""
    before: dict[int, list[tuple[float, int]]] = field(default_factory=dict)
    """The same, of utterances whose values are said again by another one."""
    pending: list[tuple[float, int, int]] = field(default_factory=list)

    def take(self, message: bytes, now: float) -> None:
        start = max(self.until, now)
        self.until = start + len(message) / 32_000
        samples = np.frombuffer(message, "<i2")
        edges = np.flatnonzero(np.diff(samples)) + 1
        starts, ends = np.append(0, edges), np.append(edges, samples.size)
        for first, end in zip(starts.tolist(), ends.tolist(), strict=True):
            value = int(samples[first]) - LOWEST
            if value >= 0 and end - first >= READABLE:
                slot, ms = divmod(value, LONGEST_MS)
                self.pending.append((start + end / 16_000, slot, ms + 1))

    def cut_off(self, now: float) -> None:
        """The connection is gone, and what was not played by now with it."""
        self.advance(now)
        self.pending.clear()
        self.until = 0.0

    def advance(self, now: float) -> None:
        heard = 0
        for at, slot, ms in self.pending:
            if at > now + 1e-9:
                break
            heard += 1
            marks = self.played.setdefault(slot, [])
            if not marks or ms > marks[-1][1]:
                marks.append((at + self.delay, ms))
        del self.pending[:heard]

    def heard_ms(self, number: int, now: float) -> int:
        marks = self.before.get(number, self.played.get(number % SLOTS, []))
        index = bisect_right(marks, (now + 1e-9, LONGEST_MS))
        return marks[index - 1][1] if index else 0


@dataclass
class Told:
    """An utterance as it was told to the session."""

    number: int
    written_ms: int = 0
    words: list[tuple[str, int]] = field(default_factory=list)
    """Each word and the millisecond at which it ends."""
    announced: str | None = None
    ended: bool = False
    claimed_ms: int = 0


class Conversation:
    """One call, in which everything happens at any time."""

    def __init__(self, seed: int, delay: float) -> None:
        self.chance = random.Random(seed)
        self.session = MediaSession(MediaConfig(), 0.0)
        self.now = 0.0
        self.ear = Listener(delay)
        self.slack_ms = WIRE_FRAME_MS + round((PATH_DELAY - delay) * 1000)
        self.open = False
        self.clogged = False
        self.begun = 0
        self.telling: dict[int, Told] = {}
        self.cut_off_at: list[float] = []
        self.finished: list[tuple[float, Told, PlaybackFinished]] = []
        self.interruptions = 0

    def run(self, interruptions: int) -> None:
        while self.interruptions < interruptions:
            self.speak()
            getattr(self, self.chance.choice(EVENTS))()
            for _ in range(self.chance.choice((0, 1, 1, 2, 3, 5, 8))):
                self.tick(self.chance.choice((TICK, TICK, TICK, TICK, 0.013, 0.03)))
            self.check()
        self.end()

    def speak(self) -> None:
        """Keeps somebody speaking, with words of any length and text of any kind."""
        telling = [told for told in self.telling.values() if not told.ended]
        # One that waits long must be over before its values are said again by another one.
        oldest = min(self.telling, default=self.begun)
        if not telling and len(self.telling) < 3 and self.begun - oldest < SLOTS // 2:
            announced = self.chance.choice((None, None, "so many words of a sentence to say"))
            number = self.begun = self.session.begin(text=announced)
            self.ear.before[number - SLOTS] = self.ear.played.pop(number % SLOTS, [])
            telling = [self.telling.setdefault(number, Told(number, announced=announced))]
        for told in telling:
            for _ in range(self.chance.randrange(1, 5)):
                self.write(told)
            if told.written_ms > LONGEST_MS - 700 or self.chance.random() < 0.1:
                told.ended = True
                self.session.end(told.number)

    def write(self, told: Told) -> None:
        length = self.chance.randrange(30, 400)
        if told.written_ms + length > LONGEST_MS:
            return
        word = "".join(self.chance.choices("aeioudnst", k=self.chance.randrange(1, 9)))
        pcm = spoken(told.number, told.written_ms, told.written_ms + length)
        told.written_ms += length
        told.words.append((word, told.written_ms))
        text = None if told.announced else f"{word} "
        self.session.write(told.number, pcm, self.now, text=text)

    # What happens.

    def stop(self) -> None:
        if self.telling:
            self.interruptions += 1
            self.session.stop(self.chance.choice(list(self.telling)), self.now)
            self.flush()

    def pause(self) -> None:
        self.interruptions += 1
        self.session.pause(self.now)

    def resume(self) -> None:
        self.interruptions += 1
        self.session.resume(self.now, rewind_ms=self.chance.choice((0, 80, 150, 150, 300)))

    def clog(self) -> None:
        self.interruptions += 1
        self.clogged = not self.clogged

    def lose(self) -> None:
        if self.open:
            self.interruptions += 1
            self.open = False
            self.session.lost(self.now)
            self.ear.cut_off(self.now)
            self.cut_off_at.append(self.now)

    def connect(self) -> None:
        if not self.open:
            self.interruptions += 1
            self.open = True
            self.session.opened(self.now)
            self.flush()

    def nothing(self) -> None:
        """Most of the time people just talk."""

    def tick(self, seconds: float = TICK) -> None:
        self.now += seconds
        self.session.tick(self.now)
        self.flush()

    def flush(self) -> None:
        messages = self.session.to_send()
        taken = self.chance.randrange(len(messages) + 1) if self.clogged else len(messages)
        if self.clogged and self.chance.random() < 0.8:
            taken = 0
        for message in messages[:taken]:
            self.ear.take(message, self.now)
        if taken < len(messages):
            self.session.unsend(messages[taken:])
        self.ear.advance(self.now)
        for event in self.session.events():
            assert isinstance(event, PlaybackFinished)
            self.finished.append((self.now, self.telling.pop(event.utterance), event))

    # What is claimed.

    def check(self) -> None:
        for told in self.telling.values():
            playback = self.session.playback(told.number, self.now)
            assert playback.heard_ms >= told.claimed_ms
            told.claimed_ms = playback.heard_ms
            self.compare(told, playback.heard_ms, playback.heard_text, self.slack_ms)
        for at, told, event in [each for each in self.finished if self.now - each[0] > 0.5]:
            self.finished.remove((at, told, event))
            # A cut utterance counts what is beyond recall; a socket that is lost then takes it.
            lost = LEAD_MS * any(at <= each <= at + LEAD_MS / 1000 for each in self.cut_off_at)
            playback = event.playback
            assert playback.heard_ms >= told.claimed_ms
            assert playback.total_ms == told.written_ms
            self.compare(told, playback.heard_ms, playback.heard_text, self.slack_ms + lost)

    def compare(self, told: Told, claimed_ms: int, text: str | None, slack_ms: int) -> None:
        heard_ms = self.ear.heard_ms(told.number, self.now)
        assert abs(claimed_ms - heard_ms) <= slack_ms
        assert text is not None
        if told.announced:
            assert told.announced.startswith(text)
            return
        count = len(text.split())
        assert text.split() == [word for word, _ in told.words[:count]]
        surely = sum(end <= heard_ms - slack_ms for _, end in told.words)
        possibly = sum(end <= heard_ms + slack_ms for _, end in told.words)
        assert surely <= count <= possibly

    def end(self) -> None:
        """Everything that was written and not cut is heard in the end, once everybody is back."""
        self.clogged = False
        self.connect()
        self.session.resume(self.now)
        for told in self.telling.values():
            self.session.end(told.number)
        for _ in range(round((len(self.telling) * LONGEST_MS / 1000 + 2.0) / TICK)):
            self.tick()
        assert not self.telling
        self.check()
        assert self.session.stats.lost == 0


EVENTS = ["stop", "pause", "resume", "clog", "lose", "connect", "nothing", "nothing"]
EVENTS += ["resume", "clog", "connect", "nothing", "nothing"]  # they undo


@pytest.mark.parametrize("seed", range(10))
def test_what_is_claimed_as_heard_was_heard(seed: int) -> None:
    """1,000 interruptions each, in calls of 50; the path is as long as configured."""
    for call in range(20):
        conversation = Conversation(seed * 100 + call, PATH_DELAY)
        conversation.run(50)
        assert conversation.interruptions >= 50


@pytest.mark.parametrize("seed", range(2))
def test_a_path_that_is_shorter_than_configured_costs_no_more_than_its_difference(
    seed: int,
) -> None:
    chance = random.Random(seed)
    for call in range(20):
        Conversation(10_000 + seed * 100 + call, chance.random() * PATH_DELAY).run(50)
