"""CPU of the pure media core per second of a call, and how punctual the driver sends.

    python -m benchmarks.core_tick [--seconds 6]

First without event loop, socket, or clock but the one that measures: what remains is the
floor that a call costs in the core. Then in real time: sessions on the driver's wheel echo
what they get, against bare senders, each with a timer on an absolute grid and nothing to do,
in alternating slices of the same run. Lateness is that of each message against the instant
at which its own grid made it due.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time

from voicebridge.core.session import MediaConfig, MediaSession
from voicebridge.core.stats import Histogram
from voicebridge.driver import Driver

TICK = 0.020
FRAME = 0.060
BYTES_PER_MS = 32
QUIET, LOUD = bytes([7, 9]), bytes([7, 0x7A])
"""One sample each, below and above what is limited."""


class Echo:
    """One call that says what it hears."""

    def __init__(
        self,
        config: MediaConfig,
        inbound_ms: int = 60,
        sample: bytes = QUIET,
        now: float = 0.0,
    ) -> None:
        self.session = MediaSession(config, now)
        self.session.opened(now)
        self.session.to_send()
        self._stream = self.session.begin(live=True)
        self._message = sample * (inbound_ms * BYTES_PER_MS // 2)
        self._every = inbound_ms // 20

    def step(self, step: int, now: float) -> None:
        """20 ms of a call."""
        session = self.session
        if step % self._every == 0:
            session.receive(self._message, now)
            for frame in session.heard():
                session.write(self._stream, frame, now)
        session.tick(now)
        session.to_send()
        session.heard()
        session.events()
        session.ping_due(now)


def cpu(calls: int, seconds: float, *, inbound_ms: int, wire_ms: int, sample: bytes) -> float:
    """Microseconds of CPU per call-second of hearing and saying everything that comes."""
    echoes = [Echo(MediaConfig(wire_frame_ms=wire_ms), inbound_ms, sample) for _ in range(calls)]
    gc.collect()
    start = time.process_time()
    for step in range(1, int(seconds / TICK) + 1):
        now = step * TICK
        for echo in echoes:
            echo.step(step, now)
    return (time.process_time() - start) / seconds / calls * 1e6


def echo(seconds: float, inbound_ms: int, wire_frame_ms: int) -> float:
    """Microseconds per call-second of one call alone."""
    return cpu(1, seconds, inbound_ms=inbound_ms, wire_ms=wire_frame_ms, sample=QUIET)


def idle_tick(count: int) -> float:
    """Microseconds per tick of a call in which nobody says anything."""
    session = MediaSession(MediaConfig(), 0.0)
    session.opened(0.0)
    message = bytes(1920)
    spent = 0.0
    for step in range(1, count + 1):
        now = step * TICK
        if step % 3 == 0:
            session.receive(message, now)
            session.heard()
        start = time.perf_counter()
        session.tick(now)
        spent += time.perf_counter() - start
        session.to_send()
    return spent / count * 1e6


class Paced(Echo):
    """The echo on the driver's wheel."""

    def __init__(self, now: float) -> None:
        super().__init__(MediaConfig(), now=now)
        self._step = 0

    def tick(self, now: float) -> None:
        self._step += 1
        self.step(self._step, now)


class Bare:
    """A sender with a timer of its own and nothing else to do."""

    def __init__(self, start: float, lateness: Histogram) -> None:
        self._lateness = lateness
        self._loop = asyncio.get_running_loop()
        self._due = start
        self._timer = self._loop.call_at(start, self._send)

    def _send(self) -> None:
        self._lateness.add((self._loop.time() - self._due) * 1000)
        self._due += FRAME
        self._timer = self._loop.call_at(self._due, self._send)

    def stop(self) -> None:
        self._timer.cancel()


async def punctuality(calls: int, seconds: float) -> tuple[Histogram, Histogram]:
    """How late messages are, in real time: those of our sessions, and of bare senders."""
    loop = asyncio.get_running_loop()
    ours, bare = Histogram(), Histogram()
    for _ in range(3):
        driver = Driver()
        sessions = [Paced(loop.time()) for _ in range(calls)]
        for session in sessions:
            driver.add(session)
        await asyncio.sleep(seconds / 3)
        for session in sessions:
            driver.remove(session)
            ours.merge(session.session.stats.lateness)
        start = loop.time() + 0.1
        senders = [Bare(start + FRAME * index / calls, bare) for index in range(calls)]
        await asyncio.sleep(seconds / 3)
        for sender in senders:
            sender.stop()
    return ours, bare


def show_cpu() -> None:
    """The best of five runs: what the code costs, not what the machine was busy with."""
    rows = [
        *((1, inbound, wire, QUIET) for inbound, wire in ((20, 60), (20, 20), (60, 20))),
        *((calls, 60, 60, QUIET) for calls in (1, 100, 400)),
        (1, 60, 60, LOUD),
    ]
    for calls, inbound_ms, wire_ms, sample in rows:
        seconds = max(1.0, 20.0 / calls)
        best = min(
            cpu(calls, seconds, inbound_ms=inbound_ms, wire_ms=wire_ms, sample=sample)
            for _ in range(5)
        )
        note = ", all of it too loud" if sample is LOUD else ""
        print(
            f"{calls:3d} echo, {inbound_ms} ms in, {wire_ms} ms out{note}: "
            f"{best / 1000:5.2f} ms per call-second ({best * 0.060:.1f} us per 60 ms)"
        )
    print(f"idle tick: {min(idle_tick(3_000) for _ in range(5)):.2f} us")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="of real time, each kind")
    parser.add_argument("--calls", type=int, default=200)
    options = parser.parse_args()
    show_cpu()
    histograms = asyncio.run(punctuality(options.calls, options.seconds))
    ours, bare = (each.quantile_ms(0.99) for each in histograms)
    print(
        f"p99 lateness of a message, {options.calls} sessions on the driver: {ours:.2f} ms; "
        f"bare senders: {bare:.2f} ms; ratio {ours / max(bare, 0.25):.2f}"
    )


if __name__ == "__main__":
    main()
