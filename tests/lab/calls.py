"""Calls whose figures are known, for the tests of what is made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from voicebridge.lab.record import BridgeFigures, CallRecord, FarFigures, Happening

if TYPE_CHECKING:
    from voicebridge.lab.measure import Samples

RATE = 16_000
LAG = 3_200
SPEECH = Path(__file__).parent.parent / "speech"


def clip(name: str) -> Samples:
    samples, rate = soundfile.read(SPEECH / f"{name}.flac", dtype="int16")
    assert rate == RATE
    return np.asarray(samples, np.int16)


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE), np.int16)


def echoed_call() -> CallRecord:
    """An echo of 200 ms, answered 20 ms after the webhook and connected 320 ms after it."""
    spoken = np.concatenate((silence(0.5), clip("en_agent-user"), silence(1)))
    heard = np.concatenate((np.zeros(LAG, np.int16), spoken))[: spoken.size]
    began = 1000.0
    timeline = (
        Happening(began - 0.001, "created", "webhook"),
        Happening(began, "webhook", "call.ringing"),
        Happening(began + 0.004, "webhook_answered", "call.ringing 202"),
        Happening(began + 0.02, "accept"),
        Happening(began + 0.03, "realtime_session", "talk"),
        Happening(began + 0.05, "media_open"),
        Happening(began + 0.32, "connected"),
        Happening(began + 0.33, "webhook", "call.connected"),
        Happening(began + 6.7, "ended", "COMPLETED hangup"),
        Happening(began + 6.71, "webhook", "call.ended"),
    )
    return CallRecord(
        bot="echo",
        status="COMPLETED",
        spoken=spoken,
        heard=heard,
        signalled_at=began,
        answered_at=began + 0.02,
        connected_at=began + 0.32,
        timeline=timeline,
        far=FarFigures(arrivals=tuple(began + 0.1 + 0.06 * n for n in range(100))),
        bridge=BridgeFigures(
            sent=106,
            received=104,
            lead_mean_ms=118.0,
            lead_max_ms=120.0,
            cpu_ms_per_call_second=2.34567,
            rss_mib=0.5,
        ),
    )


def with_far(record: CallRecord, far: FarFigures) -> CallRecord:
    return replace(record, far=replace(far, arrivals=record.far.arrivals))
