"""Callers whose speech carries a number in every 20 ms, so that each bit of it can be timed.

The rule: instants are taken where the far end hands audio to its socket and gets it back,
so a round trip holds the network, the bridge and its playout, and nothing of the phone.
"""

from __future__ import annotations

import asyncio
import math
import statistics
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from voicebridge.emulator import CallerScript

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from voicebridge.emulator import EmulatedCall, Emulator
    from voicebridge.emulator.ear import Verdict

__all__ = ["Caller", "Lag", "Window", "marked_speech", "quantiles", "ring", "window_of"]

SLOT = 320
"""Samples of one number's worth of speech: 20 ms."""
SLOT_MS = 20
_MARK = np.array((1_234, -2_345, 1_357, -2_468), "<i2")
_MAGIC = _MARK.tobytes()
_DIGIT = 256
"""Numbers are two samples to this base: as quiet as the mark, so that no limiter acts."""
_NUMBER = len(_MAGIC) + 4
_LOUD = 300
"""Of what is between the numbers: above any silence gate, below any declick's threshold."""
_LAG_STEP_S = 0.005
_LOOK_S = 0.05


def marked_speech(seconds: float) -> npt.NDArray[np.int16]:
    """Speech to a machine: each 20 ms hold a mark and the number of those 20 ms."""
    slots = math.ceil(seconds * 1_000 / SLOT_MS)
    audio = np.full((slots, SLOT), _LOUD, np.int16)
    audio[:, 1::2] = -_LOUD
    audio[:, 2:6] = _MARK
    audio[:, 6], audio[:, 7] = np.divmod(np.arange(slots), _DIGIT)
    return audio.reshape(-1)


def _numbers(pcm: bytes) -> list[int]:
    numbers = []
    at = pcm.find(_MAGIC)
    while 0 <= at <= len(pcm) - _NUMBER:
        high, low = np.frombuffer(pcm, "<i2", 2, at + len(_MAGIC)).tolist()
        numbers.append(high * _DIGIT + low)
        at = pcm.find(_MAGIC, at + _NUMBER)
    return numbers


@dataclass
class Caller:
    """One call and what its far end sent and got back: number -> instant."""

    call: EmulatedCall
    sent: dict[int, float] = field(default_factory=dict)
    came: dict[int, float] = field(default_factory=dict)
    repeated: int = 0

    def tap(self) -> None:
        """Notes every message from now on. The emulator itself stays as it is."""
        far_end = self.call.far_end
        take, receive = far_end.take, far_end.receive

        def noted_take(now: float) -> list[bytes]:
            messages = take(now)
            for message in messages:
                self.sent.update(dict.fromkeys(_numbers(message), now))
            return messages

        def noted_receive(data: bytes, now: float) -> Verdict:
            for number in _numbers(data):
                self.repeated += number in self.came
                self.came.setdefault(number, now)
            return receive(data, now)

        vars(far_end).update(take=noted_take, receive=noted_receive)


async def ring(
    emulator: Emulator, count: int, seconds: float, *, every_s: float, record: bool = False
) -> list[Caller]:
    """``count`` inbound calls, one each ``every_s``, so that they do not march in step."""
    script = CallerScript(audio=marked_speech(seconds), record=record)
    loop = asyncio.get_running_loop()
    begin = loop.time()
    callers = []
    for index in range(count):
        await asyncio.sleep(max(0.0, begin + index * every_s - loop.time()))
        caller = Caller(await emulator.ring(script))
        caller.tap()
        callers.append(caller)
    return callers


async def all_echoed(callers: Sequence[Caller], within_s: float) -> None:
    """Until every caller has heard something back.

    Raises:
        RuntimeError: some did not in time; it says how far the first of them came.
    """
    now = asyncio.get_running_loop().time
    until = now() + within_s
    while deaf := [caller.call for caller in callers if not caller.came]:
        if now() > until:
            begin = deaf[0].created
            walk = ", ".join(f"{what} {at - begin:.2f} s" for at, what, _ in deaf[0].timeline)
            raise RuntimeError(
                f"{len(deaf)} of {len(callers)} callers heard nothing for {within_s:g} s; "
                f"the first of them: {walk}"
            )
        await asyncio.sleep(_LOOK_S)


async def hang_up(emulator: Emulator, callers: Sequence[Caller]) -> None:
    """All of them; returns when the provider has ended every call."""
    for caller in callers:
        await emulator.hang_up(caller.call)
    await asyncio.gather(*(caller.call.ended() for caller in callers))


@dataclass(frozen=True, slots=True)
class Window:
    """What the far ends saw in a stretch of time; milliseconds."""

    round_trip: dict[str, float]
    over_framing: dict[str, float]
    """Round trip less the median of the same call and place in a message; early ones are 0."""
    jitter: dict[str, float]
    """How far each gap between messages is off the length of the message before it."""
    marks: int
    lost: int
    pending: int
    """Still queued a second after the window: the round trip has grown beyond that."""
    repeated: int
    holes: int
    """Of whole calls, not of the window: silence that a phone had to put in."""
    longest_hole_ms: float
    odd_sizes: dict[int, int]


def window_of(callers: Sequence[Caller], begin: float, end: float, wire_ms: int) -> Window:
    """Figures of what was sent from ``begin`` to ``end``; call it a second after ``end``."""
    trips: list[float] = []
    over: list[float] = []
    gaps: list[float] = []
    sizes: Counter[int] = Counter()
    lost = pending = 0
    for caller in callers:
        own = {n: at for n, at in caller.sent.items() if begin <= at < end}
        newest = max(caller.came, default=-1)
        missing = [number for number in own if number not in caller.came]
        # Audio keeps its order: what is missing before audio that came will never come.
        lost += sum(number < newest for number in missing)
        pending += sum(number > newest for number in missing)
        places: dict[int, list[float]] = {}
        for number, at in own.items():
            if number in caller.came:
                places.setdefault(number % 3, []).append((caller.came[number] - at) * 1_000)
        for place in places.values():
            trips += place
            usual = statistics.median(place)
            over += [max(0.0, trip - usual) for trip in place]
        arrived = [(at, size) for at, size in caller.call.far_end.messages if begin <= at < end]
        instants = np.array([each[0] for each in arrived])
        length = np.array([each[1] for each in arrived], np.float64) / 32
        gaps += np.abs(np.diff(instants) * 1_000 - length[:-1]).tolist()
        sizes.update(size for _, size in arrived)
    seen = [caller.call.far_end.measurement() for caller in callers]
    return Window(
        round_trip=quantiles(trips),
        over_framing=quantiles(over),
        jitter=quantiles(gaps),
        marks=len(trips) + lost + pending,
        lost=lost,
        pending=pending,
        repeated=sum(caller.repeated for caller in callers),
        holes=sum(each.holes for each in seen),
        longest_hole_ms=max(each.longest_hole_ms for each in seen),
        odd_sizes={size: count for size, count in sizes.items() if size != wire_ms * 32},
    )


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and max, to the microsecond where the values are milliseconds."""
    if not values:
        return {}
    found = np.percentile(values, (50, 95, 99, 100))
    return {
        name: round(float(value), 3)
        for name, value in zip(("p50", "p95", "p99", "max"), found, strict=True)
    }


class Lag:
    """How late this process wakes up: latencies that it measures are no better than that."""

    def __init__(self) -> None:
        self._late_ms: list[float] = []

    async def watch(self) -> None:
        """Runs until cancelled."""
        now: Callable[[], float] = asyncio.get_running_loop().time
        while True:
            due = now() + _LAG_STEP_S
            await asyncio.sleep(_LAG_STEP_S)
            self._late_ms.append((now() - due) * 1_000)

    def take(self) -> dict[str, float]:
        """Quantiles since the last time."""
        late_ms, self._late_ms = self._late_ms, []
        return quantiles(late_ms)
