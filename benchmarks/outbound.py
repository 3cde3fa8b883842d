"""What a caller hears of our pacing, behind networks of five kinds and four kinds of server.

    python -m benchmarks.outbound [--minutes 5]

The real media session runs in virtual time over a model of TCP (in order, nothing lost,
stalls followed by their backlog, acknowledgements that come back a round trip later) to a
model of the far end. A hole is a stretch inside speech in which the far end had nothing to
play; a tail is how long it went on playing an utterance that was stopped. The link refuses a
message while too much is unacknowledged, and then it stays ours: the last table tells what
that bound is worth when speech is stopped during a stall.

No clock, no socket and no chance: the same figures on every machine.
"""

from __future__ import annotations

import argparse
import math
import random
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np

from voicebridge.core.config import TICK_MS, MediaConfig
from voicebridge.core.session import MediaSession

TICK: Final = TICK_MS / 1000
FRAME: Final = 0.060
RATE: Final = 16_000
IN_FLIGHT: Final = 8
"""Messages that may be unacknowledged; one more is refused."""
DELAYED_ACK: Final = 0.040
"""A receiver that has nothing to say acknowledges this much later."""


@dataclass(frozen=True)
class Network:
    """One way: a delay, its jitter, and times in which nothing gets through (per minute, s)."""

    name: str
    delay: float
    jitter: float
    holds_per_minute: float = 0.0
    shortest_hold: float = 0.0
    mean_hold: float = 0.0
    longest_hold: float = 0.0


NETWORKS: Final = (
    Network("LAN", 0.0002, 0.0002),
    Network("broadband", 0.010, 0.002, 6.0, 0.010, 0.010, 0.035),
    Network("LTE", 0.035, 0.008, 40.0, 0.020, 0.060, 0.400),
    Network("Wi-Fi", 0.008, 0.004, 50.0, 0.020, 0.060, 0.450),
    Network("stalls", 0.010, 0.002, 4.8, 0.200, 0.300, 0.800),
)


class Path:
    """The messages' way: when each arrives, and when we know."""

    def __init__(self, network: Network, seconds: float, chance: random.Random) -> None:
        self._network = network
        self._chance = chance
        self.holds: list[tuple[float, float]] = []
        at = 1.0
        while network.holds_per_minute and at < seconds:
            at += chance.expovariate(network.holds_per_minute / 60)
            extra = chance.expovariate(1 / network.mean_hold)
            length = min(network.shortest_hold + extra, network.longest_hold)
            self.holds.append((at, at + length))
            at += length
        self._arrived = 0.0
        self._acknowledged: list[float] = []

    def send(self, now: float) -> float:
        """When a message sent now arrives: never before an earlier one."""
        jitter = self._chance.expovariate(1 / self._network.jitter)
        self._arrived = self._through(max(self._arrived, now + self._network.delay + jitter))
        return self._arrived

    def acknowledged(self, arrived: float) -> float:
        """When the sender knows; the way back is held up at the same times."""
        return self._through(arrived + DELAYED_ACK + self._network.delay)

    def answered(self, now: float) -> float:
        """When a ping that is sent now is answered."""
        return self._through(self.send(now) + self._network.delay)

    def _through(self, at: float) -> float:
        index = bisect_right(self.holds, (at, float("inf"))) - 1
        return max(at, self.holds[index][1]) if index >= 0 else at


@dataclass
class FarEnd:
    """Plays what arrives: from a queue, on a ticker of its own or as it comes."""

    name: str
    limit: int
    """Messages that are kept; further ones are dropped."""
    ticker: bool
    phase: float = 0.0
    until: float = 0.0
    drops: int = 0
    played: list[tuple[float, bytes]] = field(default_factory=list)
    deepest: float = 0.0
    _slot: int = -1

    def take(self, message: bytes, arrived: float) -> None:
        if (self.until - arrived) / FRAME >= self.limit:
            self.drops += 1
            return
        if self.ticker:
            self._slot = max(self._slot + 1, math.ceil((arrived - self.phase) / FRAME))
            start = self.phase + self._slot * FRAME
        elif arrived > self.until:
            start = arrived + FRAME  # the phone's own buffer fills up again
        else:
            start = self.until
        self.until = start + FRAME
        self.deepest = max(self.deepest, self.until - arrived)
        self.played.append((start, message))


def far_ends(phase: float) -> list[FarEnd]:
    """The kinds of servers there are."""
    return [
        FarEnd("drop-newest 50", 50, ticker=True, phase=phase),
        FarEnd("30 s", 500, ticker=True, phase=phase),
        FarEnd("block 64", 64, ticker=True, phase=phase),
        FarEnd("unpaced", 10**9, ticker=False),
    ]


class Call:
    """One session, ticked as the driver does, over one path to one far end."""

    def __init__(
        self,
        config: MediaConfig,
        path: Path,
        far: FarEnd,
        *,
        seed: int,
        bound: int = IN_FLIGHT,
        pings: bool = True,
    ) -> None:
        self.session = MediaSession(config, 0.0)
        self.path, self.far, self.bound, self.pings = path, far, bound, pings
        self.now = 0.0
        self._chance = random.Random(seed)
        self._unacknowledged: list[float] = []
        self._pongs: list[tuple[float, float]] = []
        self.refused = 0
        self._steps = 0
        self.session.opened(0.0)
        self._flush()

    def tick(self) -> None:
        """The next 20 ms: mostly on time, half a millisecond late on average."""
        self._steps += 1
        late = min(self._chance.expovariate(2_000), 0.015)
        self.now = self._steps * TICK + late
        while self._pongs and self._pongs[0][0] <= self.now:
            at, sent = self._pongs.pop(0)
            self.session.pong(at, rtt=at - sent if self.pings else None)
        self.session.tick(self.now)
        self._flush()
        if self.session.ping_due(self.now):
            self.session.pinged(self.now)
            self._pongs.append((self.path.answered(self.now), self.now))
        self.session.heard()

    def _flush(self) -> None:
        waiting = [at for at in self._unacknowledged if at > self.now]
        messages = self.session.to_send()
        for index, message in enumerate(messages):
            if len(waiting) > self.bound:
                self.refused += len(messages) - index
                self.session.unsend(messages[index:])
                break
            arrived = self.path.send(self.now)
            waiting.append(self.path.acknowledged(arrived))
            self.far.take(message, arrived)
        self._unacknowledged = waiting


def speech(value: int, seconds: float) -> bytes:
    """Audio that tells whose it is."""
    return np.full(round(seconds * RATE), value, "<i2").tobytes()


def holes(far: FarEnd) -> int:
    """Stretches inside speech in which nothing was played."""
    voiced = [start for start, message in far.played if any(message)]
    return sum(after - before > FRAME + 0.001 for before, after in pairwise(voiced))


def tail(far: FarEnd, value: int, stopped_at: float) -> tuple[float, float]:
    """Seconds from the stop to the last sample of it played, and how much was still played."""
    last, played = stopped_at, 0.0
    for start, message in far.played:
        if start + FRAME <= stopped_at:
            continue
        # A fade goes down from its value, so that nothing else comes near it.
        samples = np.frombuffer(message, "<i2")
        mine = np.flatnonzero((samples > value - 1_000) & (samples <= value))
        if mine.size:
            last = max(last, start + (int(mine[-1]) + 1) / RATE)
            played += np.count_nonzero(mine / RATE + start > stopped_at) / RATE
    return last - stopped_at, played


@dataclass
class Result:
    minutes: float
    holes: int = 0
    drops: int = 0
    refused: int = 0
    deepest: float = 0.0
    lead_ms: float = 0.0


def talk(config: MediaConfig, network: Network, name: str, minutes: float) -> Result:
    """A bot that speaks without a pause."""
    chance = random.Random(f"{network.name}")
    far = next(each for each in far_ends(chance.random() * FRAME) if each.name == name)
    call = Call(config, Path(network, minutes * 60, chance), far, seed=1)
    stream = call.session.begin()
    for _ in range(round(minutes * 60 / TICK)):
        if call.session.ahead_ms(stream) < 2_000:
            call.session.write(stream, speech(9_000, 5.0), call.now)
        call.tick()
    lead_ms = call.session.stats.lead_ms_mean
    return Result(minutes, holes(far), far.drops, call.refused, far.deepest, lead_ms)


def turns(network: Network, bound: int, stops: int, pings: bool) -> tuple[list[float], float]:
    """Seconds that speech lasts after each of so many stops, and holes per minute of speech.

    A bot that speaks for one to two seconds, is stopped, and is silent for another.
    """
    chance = random.Random(network.name)
    far = far_ends(chance.random() * FRAME)[1]
    path = Path(network, stops * 4.0, chance)
    call = Call(MediaConfig(), path, far, seed=2, bound=bound, pings=pings)
    stopped: list[tuple[int, float]] = []
    spoken = 0.0
    for number in range(stops):
        value = 5_000 + number % 8 * 2_000
        utterance = call.session.begin()
        call.session.write(utterance, speech(value, 5.0), call.now)
        length = 1.0 + chance.random()
        spoken += length
        for _ in range(round(length / TICK)):
            call.tick()
        call.session.stop(utterance, call.now)
        stopped.append((value, call.now))
        for _ in range(round(1.0 / TICK)):
            call.tick()
    lasted = []
    for value, at in stopped:
        near = FarEnd("", 0, ticker=False)
        near.played = [each for each in far.played if at - 0.1 < each[0] < at + 2.0]
        lasted.append(tail(near, value, at)[0])
    return lasted, (holes(far) - stops + 1) / spoken * 60


def stalled_stop(bound: int, round_trip: float, stall: float, at: float) -> tuple[float, float]:
    """Seconds still played after a stop ``at`` seconds into a stall, and the depth 3 s later."""
    network = Network("", round_trip / 2, 0.001)
    path = Path(network, 0.0, random.Random(5))
    path.holds = [(2.0, 2.0 + stall)]
    far = FarEnd("", 10**9, ticker=True)
    call = Call(MediaConfig(), path, far, seed=3, bound=bound)
    number = call.session.begin()
    call.session.write(number, speech(9_000, 10.0), 0.0)
    stopped = 0.0
    while call.now < 2.0 + stall + 3.0:
        call.tick()
        if not stopped and call.now >= 2.0 + at:
            stopped = call.now
            call.session.stop(number, stopped)
    return tail(far, 9_000, stopped)[1], far.until - call.now - round_trip / 2


def healthy(bound: int, round_trip: float) -> int:
    """Messages refused in a minute by a path on which nothing is wrong."""
    network = Network("", round_trip / 2, 0.003)
    path = Path(network, 0.0, random.Random(6))
    call = Call(MediaConfig(), path, FarEnd("", 10**9, ticker=True), seed=4, bound=bound)
    for _ in range(3_000):
        call.tick()
    return call.refused


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def show_holes(minutes: float) -> None:
    print("holes per minute / overflow drops, and the mean lead after a send in ms")
    leads = [
        ("lead 40, fixed", MediaConfig(lead_ms=40, adaptive_lead=False)),
        ("lead 60, fixed", MediaConfig(adaptive_lead=False)),
        ("lead 60, adaptive", MediaConfig()),
    ]
    for network in NETWORKS:
        for label, config in leads:
            cells = []
            for far in far_ends(0.0):
                result = talk(config, network, far.name, minutes)
                cells.append(f"{far.name} {result.holes / minutes:5.1f} / {result.drops}")
            print(f"{network.name:10s} {label:18s} {'; '.join(cells)}; {result.lead_ms:.0f}")


def show_tails(stops: int) -> None:
    print(f"\ntail after a stop in ms, median / p95 / worst of {stops}; holes per minute of speech")
    for network in NETWORKS:
        for label, bound, pings in (
            ("8 unacknowledged, no round trips told", IN_FLIGHT, False),
            ("8 unacknowledged", IN_FLIGHT, True),
            ("3 unacknowledged", 3, True),
        ):
            lasted, per_minute = turns(network, bound, stops, pings)
            cells = " / ".join(f"{quantile(lasted, q) * 1000:.0f}" for q in (0.5, 0.95, 1.0))
            print(f"{network.name:10s} {label:38s} {cells}; {per_minute:.1f}")


def show_stalls() -> None:
    print("\nstop during a stall of 600 ms: ms still played, median / worst over the instant of")
    print("the stop; ms too deep for good afterwards; refused per minute without any stall")
    instants = [step * 0.02 for step in range(31)]
    for round_trip in (0.020, 0.100, 0.200):
        for bound in (1, 2, 3, 4, 5, 6, 8, 1_000):
            found = [stalled_stop(bound, round_trip, 0.600, at) for at in instants]
            played = [each for each, _ in found]
            deep = max(0.0, max(each for _, each in found) - 0.130 - FRAME)
            print(
                f"round trip {round_trip * 1000:3.0f} ms, {bound:4d} unacknowledged: "
                f"{quantile(played, 0.5) * 1000:4.0f} / {max(played) * 1000:4.0f}; "
                f"{deep * 1000:4.0f}; {healthy(bound, round_trip)}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="of speech, each combination")
    parser.add_argument("--stops", type=int, default=200)
    options = parser.parse_args()
    show_holes(options.minutes)
    show_tails(options.stops)
    show_stalls()


if __name__ == "__main__":
    main()
