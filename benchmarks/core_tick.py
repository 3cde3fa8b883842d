"""CPU of the pure media core per second of a call: an echo, and an idle call.

Run ``python benchmarks/core_tick.py``. No event loop, no socket, no clock but the one that
measures: what remains is the floor that a call costs in the core.
"""

from __future__ import annotations

import time

from voicebridge.core.session import MediaConfig, MediaSession

TICK = 0.020
BYTES_PER_MS = 32


def echo(seconds: float, inbound_ms: int, wire_frame_ms: int) -> float:
    """Microseconds per call-second of hearing and saying everything that comes."""
    session = MediaSession(MediaConfig(wire_frame_ms=wire_frame_ms), 0.0)
    stream = session.begin(live=True)
    message = bytes([7, 9]) * (inbound_ms * 16)
    per_message = inbound_ms // 20
    start = time.perf_counter()
    session.opened(0.0)
    for step in range(1, int(seconds / TICK) + 1):
        now = step * TICK
        if step % per_message == 0:
            session.receive(message, now)
            for frame in session.heard():
                session.write(stream, frame, now)
        session.tick(now)
        session.to_send()
        session.heard()
        session.events()
    return (time.perf_counter() - start) / seconds * 1e6


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


def main() -> None:
    """Prints the best of five runs: what the code costs, not what the machine was busy with."""
    for inbound_ms, wire_ms in ((60, 60), (20, 60), (20, 20), (60, 20)):
        best = min(echo(20.0, inbound_ms, wire_ms) for _ in range(5))
        per_60_ms = best * 0.060
        print(
            f"echo, {inbound_ms} ms in, {wire_ms} ms out: {best:6.0f} us per call-second "
            f"({per_60_ms:.1f} us per 60 ms)"
        )
    print(f"idle tick: {min(idle_tick(3_000) for _ in range(5)):.2f} us")


if __name__ == "__main__":
    main()
