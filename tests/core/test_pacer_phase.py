"""The send grid lies on the ticks, even where the first tick after opening was late itself."""

from __future__ import annotations

import itertools
import random

import pytest

from voicebridge.core.session import MediaConfig, MediaSession


@pytest.mark.parametrize("jitter_ms", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("late_ms", [0.0, 2.0, 9.5, 10.5, 11.0, 16.0, 19.0])
def test_messages_leave_each_60_ms_and_not_early_and_late_in_turn(
    late_ms: float, jitter_ms: float
) -> None:
    chance = random.Random(1)
    session = MediaSession(MediaConfig(), 0.0)
    session.opened(0.0)
    session.to_send()
    sends: list[float] = []
    for tick in range(3_000):
        late = late_ms if tick == 0 else chance.random() * jitter_ms
        now = 0.007 + tick * 0.020 + late / 1000
        session.tick(now)
        sends += [now] * len(session.to_send())
    gaps = [later - earlier for earlier, later in itertools.pairwise(sends)]
    off_beat = sum(abs(gap - 0.060) > 0.012 for gap in gaps)
    assert off_beat <= 10, "half a tick beside the ticks every second one would be"
    assert session.stats.late == 0
