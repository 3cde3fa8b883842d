"""The figures of a call as ``report.json``, and whether they are good.

One rule: the keys are a contract. Programs read them, so none changes its meaning or
vanishes; what was not measured is null.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from voicebridge import __version__
from voicebridge.lab.measure import (
    EchoReport,
    Samples,
    Spread,
    echo_report,
    first_voiced,
    pacing_jitter_ms,
    pesq_score,
    spread,
)

if TYPE_CHECKING:
    from voicebridge.lab.record import CallRecord

__all__ = ["DemoReport", "Examination", "Frames", "Lead", "Stop", "Typical", "examine"]

# A bridge sends its lead at once; the grid is judged from here on.
_SETTLING_SECONDS = 0.5
_WORST_ROUND_TRIP_MS = 600
_LEAST_IDENTICAL = 0.99
_WORST_HOLE_MS = 120
_MOST_LATE = 0.05
_UNMEASURED = Spread()


@dataclass(frozen=True, slots=True)
class Frames:
    """Messages on the media socket: sent and received by the bridge, ``late`` of those sent.

    ``lost`` is audio of the bot that was never sent, though nothing told it to be silent.
    """

    sent: int = 0
    received: int = 0
    late: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Typical:
    """Half, and nearly all, of the values are at most this."""

    p50: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True)
class Lead:
    """Audio sent and not yet due to be heard."""

    mean: float | None = None
    max: float | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """From the caller's first voiced sample to the last of the bot that was played."""

    p50: float | None = None
    p95: float | None = None


@dataclass(frozen=True, slots=True)
class DemoReport:
    """``report.json``; names ending in ``_ms`` are milliseconds.

    ``answer_ms``: webhook sent to call accepted. ``first_audio_ms``: webhook sent to the
    first voiced sample of the bot in the caller's ear. ``round_trip_ms``: the caller's
    speech until it is heard again, one value per half second of it.
    """

    bot: str
    version: str = __version__
    calls: int = 1
    answer_ms: float | None = None
    first_audio_ms: float | None = None
    round_trip_ms: Spread = _UNMEASURED
    frames: Frames = Frames()
    pacing_jitter_ms: Typical = Typical()
    lead_ms: Lead = Lead()
    bargein_stop_ms: Stop = Stop()
    pesq: float | None = None
    cpu_ms_per_call_second: float | None = None
    rss_mib_per_call: float | None = None
    ok: bool = False
    problems: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """JSON-ready: numbers rounded to what was measured, keys in their order."""
        values = cast("dict[str, object]", _rounded(asdict(self)))
        return {"version": values.pop("version")} | values

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), indent=2, allow_nan=False)


@dataclass(frozen=True, slots=True)
class Examination:
    """A report and the single values behind it."""

    report: DemoReport
    echo: EchoReport
    jitter_ms: tuple[float, ...]
    first_spoken: int | None
    first_heard: int | None


def examine(record: CallRecord) -> Examination:
    """Measures a call and judges it."""
    echo = echo_report(record.spoken, record.heard, rate=record.rate)
    jitter = _jitter(record.far.arrivals)
    off_grid = spread(jitter)
    spoken = first_voiced(record.spoken, rate=record.rate)
    heard = first_voiced(record.heard, rate=record.rate)
    trips = spread(echo.round_trips_ms)
    bridge = record.bridge
    problems = _problems(record, echo, trips, heard)
    report = DemoReport(
        bot=record.bot,
        answer_ms=_ms(record.signalled_at, record.answered_at),
        first_audio_ms=record.since_signal(heard) * 1000 if heard is not None else None,
        round_trip_ms=trips,
        frames=Frames(bridge.sent, bridge.received, bridge.late, bridge.lost),
        pacing_jitter_ms=Typical(off_grid.p50, off_grid.p99),
        lead_ms=Lead(bridge.lead_mean_ms, bridge.lead_max_ms),
        pesq=_pesq(record, echo),
        cpu_ms_per_call_second=bridge.cpu_ms_per_call_second,
        rss_mib_per_call=bridge.rss_mib,
        ok=not problems,
        problems=problems,
    )
    return Examination(report, echo, jitter, spoken, heard)


def _problems(
    record: CallRecord, echo: EchoReport, trips: Spread, heard: int | None
) -> tuple[str, ...]:
    """What speaks against the bridge, in words that say what was seen."""
    if record.connected_at is None:
        return (f"the call was never connected; its last status is {record.status}",)
    problems = []
    if record.status != "COMPLETED":
        problems.append(f"the call ended as {record.status}, not as COMPLETED")
    if heard is None:
        problems.append("the caller never heard the bot")
    elif record.expects_echo:
        problems += _echo_problems(echo, trips)
    return (*problems, *_wire_problems(record))


def _echo_problems(echo: EchoReport, trips: Spread) -> list[str]:
    problems = []
    identical = echo.identical_fraction
    if echo.lost:
        problems.append(f"{echo.lost} of {len(echo.pieces)} pieces of speech never came back")
    if identical is not None and identical < _LEAST_IDENTICAL:
        problems.append(f"only {identical:.1%} of the caller's voice came back unchanged")
    if trips.p95 is not None and trips.p95 > _WORST_ROUND_TRIP_MS:
        problems.append(f"speech came back after {trips.p95:.0f} ms (95 % within), which is slow")
    return problems


def _wire_problems(record: CallRecord) -> list[str]:
    far, bridge = record.far, record.bridge
    problems = [f"{count} {name}" for name, count in far.rule_breaks if count]
    if far.hole_ms > _WORST_HOLE_MS:
        problems.append(f"the far end ran dry {far.holes} times, {far.hole_ms:.0f} ms in all")
    if far.overflow_ms:
        problems.append(f"{far.overflow_ms:.0f} ms of audio came too fast and were dropped")
    if bridge.lost:
        problems.append(f"{bridge.lost} samples of the bot were lost inside the bridge")
    if bridge.late > _MOST_LATE * bridge.sent:
        problems.append(f"{bridge.late} of {bridge.sent} messages were sent late")
    return problems


def _jitter(arrivals: tuple[float, ...]) -> tuple[float, ...]:
    if not arrivals:
        return ()
    settled = [at for at in arrivals if at >= arrivals[0] + _SETTLING_SECONDS]
    return tuple(pacing_jitter_ms(settled).tolist())


def _pesq(record: CallRecord, echo: EchoReport) -> float | None:
    """Of the echo against the caller; without an echo there is nothing to compare."""
    lags = [piece.lag for piece in echo.pieces if piece.lag is not None]
    if not lags or not record.expects_echo:
        return None
    lag = int(np.median(lags))
    start = max(0, echo.pieces[0].start - record.rate // 4)
    reference: Samples = record.spoken[start:]
    return pesq_score(reference, record.heard[start + lag :], rate=record.rate)


def _ms(start: float, end: float | None) -> float | None:
    return None if end is None else (end - start) * 1000


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return round(value, 3) if isinstance(value, float) else value
