"""The far end in pure time: what was heard, spoken and measured is a function of arrivals."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.emulator.world import FRAME, RATE, loud, tone
from voicebridge.emulator import CallerScript, FarEnd, MediaBehaviour

SAMPLES = FRAME // 2


def far_end(script: CallerScript | None = None, drift_ppm: float = 0.0, **media: Any) -> FarEnd:
    far = FarEnd(MediaBehaviour(**media), script, drift_ppm=drift_ppm)
    far.start(0.0)
    return far


def send_paced(far: FarEnd, frames: int, *, start: float = 0.0, every: float = 0.06) -> float:
    for index in range(frames):
        far.receive(loud(), start + index * every)
    return start + frames * every


class TestEar:
    def test_paced_audio_is_heard_whole_and_in_place(self) -> None:
        far = far_end()
        far.opened(0.0)
        end = send_paced(far, 50)
        far.closed(end)
        far.finish(end + 0.12)
        audible = np.flatnonzero(far.heard)
        assert len(audible) == 50 * SAMPLES
        assert audible[-1] - audible[0] == 50 * SAMPLES - 1
        figures = far.measurement()
        assert (figures.holes, figures.overflow_drops, figures.tail_cut_ms) == (0, 0, 0.0)
        assert figures.samples_in == figures.samples_out == 50 * SAMPLES

    @given(st.lists(st.integers(1, 4_000), min_size=1, max_size=40))
    def test_message_sizes_do_not_change_what_is_heard(self, sizes: list[int]) -> None:
        rng = np.random.default_rng(len(sizes))
        pcm = rng.integers(1, 256, sum(sizes) // 2 * 2, np.uint8).tobytes()
        whole, pieces = far_end(queue="drop_after_30s"), far_end(queue="drop_after_30s")
        whole.receive(pcm, 0.01)
        position = 0
        for size in sizes:
            pieces.receive(pcm[position : position + size], 0.01)
            position += size
        for far in (whole, pieces):
            far.finish(0.01 + len(pcm) / 2 / RATE + 1.0)
        np.testing.assert_array_equal(whole.heard, pieces.heard)

    @pytest.mark.parametrize(
        ("queue", "kept_frames"),
        [("drop_newest", 50), ("drop_after_30s", 500)],
    )
    def test_a_full_queue_drops_the_newest(self, queue: str, kept_frames: int) -> None:
        far = far_end(queue=queue)
        far.opened(0.0)
        for number in range(600):
            far.receive(np.full(SAMPLES, number + 1, "<i2").tobytes(), 0.001)
        far.finish(60.0)
        figures = far.measurement()
        heard = far.heard[far.heard > 0]
        # One frame went out on the tick at zero time; the rest is the queue.
        assert list(dict.fromkeys(heard.tolist())) == list(range(1, kept_frames + 1))
        assert figures.overflow_drops == 600 - kept_frames
        assert figures.max_queue_ms == kept_frames * 60

    def test_blocking_provider_stops_reading_and_loses_nothing(self) -> None:
        far = far_end(queue="block")
        for _ in range(64):
            assert far.reading()
            far.receive(loud(), 0.001)
        assert not far.reading()
        far.take(0.06 * 3)
        assert far.reading()
        assert far.measurement().overflow_drops == 0

    def test_unpaced_phone_drops_what_exceeds_a_second(self) -> None:
        far = far_end(queue="unpaced")
        far.receive(loud(50), 1.0)
        far.finish(5.0)
        figures = far.measurement()
        assert figures.overflow_drops > 30
        heard_s = np.count_nonzero(far.heard) / RATE
        assert 0.9 < heard_s < 1.2

    def test_under_run_inserts_silence_on_the_grid(self) -> None:
        far = far_end()
        far.opened(0.0)
        far.receive(loud(), 0.01)  # taken at 60 ms
        far.receive(loud(), 0.25)  # 120, 180 and 240 ms go without; taken at 300 ms
        far.closed(0.31)
        far.finish(0.4)
        starts = np.flatnonzero(np.diff((far.heard != 0).astype(int)) == 1) + 1
        assert [round(s / RATE, 3) for s in starts] == [0.06, 0.3]
        figures = far.measurement()
        assert (figures.holes, figures.longest_hole_ms) == (1, 180.0)

    def test_under_run_stalls_until_audio_comes(self) -> None:
        far = far_end(under_run="stall")
        far.opened(0.0)
        far.receive(loud(), 0.01)  # the engine waits since zero time and takes it at once
        far.receive(loud(), 0.2)  # due at 70 ms; taken as soon as it comes
        far.receive(loud(), 0.21)
        far.finish(0.5)
        starts = np.flatnonzero(np.diff((far.heard != 0).astype(int)) == 1) + 1
        assert [round(s / RATE, 3) for s in starts] == [0.01, 0.2]
        assert far.measurement().longest_hole_ms == pytest.approx(130, abs=0.2)

    def test_partial_frame_is_padded_after_120_ms(self) -> None:
        far = far_end()
        far.receive(tone(0.03).tobytes(), 0.01)
        far.take(0.12)
        assert far.measurement().samples_out == 0
        far.finish(0.4)
        assert np.count_nonzero(far.heard) == 480

    @pytest.mark.parametrize(
        ("wrong_size", "verdict"), [("accept", "taken"), ("drop", "dropped"), ("close", "refused")]
    )
    def test_wrong_size(self, wrong_size: str, verdict: str) -> None:
        far = far_end(wrong_size=wrong_size)
        assert far.receive(loud(), 0.0) == "taken"
        assert far.receive(loud()[:640], 0.0) == verdict
        assert far.measurement().odd_sizes == 1
        assert far.measurement().sizes == {FRAME: 1, 640: 1}

    def test_nothing_is_played_before_the_call_connects(self) -> None:
        far = FarEnd(MediaBehaviour())
        far.receive(loud(), 0.0)
        far.take(1.0)
        assert far.measurement().samples_out == 0
        far.start(1.0)
        far.finish(1.2)
        assert np.count_nonzero(far.heard) == SAMPLES

    def test_tail_cut_is_what_was_queued_at_the_end(self) -> None:
        far = far_end()
        far.receive(loud(4), 0.01)
        far.finish(0.13)  # frames are taken at 60 and 120 ms
        assert far.measurement().tail_cut_ms == 120.0

    def test_silence_in_the_tail_is_no_loss(self) -> None:
        far = far_end()
        far.receive(bytes(4 * FRAME), 0.0)
        far.finish(0.01)
        assert far.measurement().tail_cut_ms == 0.0

    def test_audible_after_a_stop(self) -> None:
        far = far_end()
        send_paced(far, 10, start=0.01)  # heard from 60 to 660 ms
        far.finish(2.0)
        assert far.audible_after_ms(0.45) == pytest.approx(210, abs=0.2)
        assert far.audible_after_ms(0.7) == 0.0


class TestMouth:
    def script(self, seconds: float = 0.6, **fields: Any) -> CallerScript:
        return CallerScript(audio=tone(seconds), starts_after=0.3, **fields)

    def collect(self, far: FarEnd, until: float, step: float = 0.01) -> list[tuple[float, bytes]]:
        got = []
        for index in range(int(until / step) + 1):
            got += [(index * step, message) for message in far.take(index * step)]
        return got

    def test_messages_come_when_their_last_sample_was_spoken(self) -> None:
        far = far_end(self.script(), prefill_ms=0)
        far.opened(0.0)
        got = self.collect(far, 1.2)
        assert [round(at, 2) for at, _ in got] == [round(0.06 * n, 2) for n in range(1, 21)]
        heard = np.frombuffer(b"".join(data for _, data in got), "<i2")
        np.testing.assert_array_equal(heard, far.spoken[: len(heard)])
        assert np.flatnonzero(heard)[0] == 0.3 * RATE

    def test_prefill_delays_the_first_messages_to_one_burst(self) -> None:
        far = far_end(self.script(), prefill_ms=120)
        far.opened(0.0)
        got = self.collect(far, 0.5)
        at = [round(instant, 2) for instant, _ in got]
        assert at[:4] == [0.18, 0.18, 0.18, 0.24]

    def test_what_was_said_before_the_socket_is_lost_to_the_bridge_only(self) -> None:
        far = far_end(self.script(), prefill_ms=0)
        far.opened(0.6)
        got = far.take(1.2)
        assert len(got) == 10
        assert np.count_nonzero(far.spoken) == 0.6 * RATE

    @pytest.mark.parametrize("frame_ms", [10, 20, 30, 40, 60])
    @pytest.mark.parametrize("frames_per_message", [1, 3])
    @pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 48_000])
    def test_frames_and_rates(self, frame_ms: int, frames_per_message: int, rate: int) -> None:
        far = far_end(
            self.script(),
            frame_ms=frame_ms,
            frames_per_message=frames_per_message,
            sample_rate=rate,
            prefill_ms=0,
        )
        far.opened(0.0)
        got = far.take(1.8)
        assert {len(m) for m in got} == {rate * frame_ms * frames_per_message // 1_000 * 2}
        assert far.sample_rate == rate
        spoken_s = np.count_nonzero(np.abs(far.spoken) > 100) / rate
        assert spoken_s == pytest.approx(0.6, rel=0.1)

    @given(st.integers(1, 60))
    def test_odd_lengths_lose_no_byte(self, messages: int) -> None:
        plain, odd = (
            far_end(self.script(2.0), odd_lengths=odd, prefill_ms=0) for odd in (False, True)
        )
        for far in (plain, odd):
            far.opened(0.0)
        whole = b"".join(plain.take(messages * 0.06))
        got = odd.take(messages * 0.06)
        assert any(len(message) % 2 for message in got)
        assert whole.startswith(b"".join(got))
        assert len(whole) - len(b"".join(got)) <= 1

    def test_dtx_sends_nothing_while_the_caller_is_silent(self) -> None:
        far = far_end(self.script(), silence="dtx", prefill_ms=0)
        far.opened(0.0)
        got = self.collect(far, 3.0)
        assert got[0][0] == pytest.approx(0.36)
        assert got[-1][0] < 1.1  # speech ends at 0.9, then 120 ms of hangover

    def test_dtx_fills_the_jitter_buffer_again_after_a_long_gap(self) -> None:
        far = far_end(self.script(), silence="dtx", prefill_ms=120)
        far.opened(0.0)
        self.collect(far, 4.0)
        far.say(tone(0.3), 4.0)
        bursts = [round(at, 2) for at, _ in self.collect(far, 4.6) if at > 4.0]
        assert bursts[0] == bursts[1] == bursts[2]

    def test_comfort_noise_is_quiet_and_speech_is_not(self) -> None:
        far = far_end(self.script(), silence="comfort_noise", prefill_ms=0)
        far.opened(0.0)
        got = np.abs(np.frombuffer(b"".join(far.take(3.0)), "<i2").astype(int))
        assert got[: int(0.3 * RATE)].max() < 8
        assert got.max() == 8_000

    @pytest.mark.parametrize(
        ("uplink", "messages", "peak"),
        [("deaf", 0, 0), ("deaf_after_comfort", 8, 7), ("comfort_only", 50, 7)],
    )
    def test_a_deaf_call(self, uplink: str, messages: int, peak: int) -> None:
        far = far_end(self.script(), uplink=uplink)
        far.opened(0.0)
        got = far.take(3.0)
        assert len(got) == messages
        assert all(np.abs(np.frombuffer(m, "<i2").astype(int)).max() <= peak for m in got)
        assert np.count_nonzero(np.abs(far.spoken) > 1_000) == (0.6 * RATE if messages != 9 else 0)

    def test_the_caller_hangs_up_after_the_last_word(self) -> None:
        far = far_end(self.script(hangup_after=1.5))
        assert far.hangup_at == pytest.approx(0.3 + 0.6 + 1.5)
        far.say(tone(1.0), 2.0)
        assert far.hangup_at == pytest.approx(2.0 + 1.0 + 1.5)

    def test_the_caller_stays_without_a_hangup(self) -> None:
        assert far_end(self.script()).hangup_at is None
        assert FarEnd(MediaBehaviour(), self.script(hangup_after=0)).hangup_at is None

    def test_drift_makes_the_callers_clock_fast(self) -> None:
        far = far_end(self.script(), drift_ppm=10_000, prefill_ms=0)
        far.opened(0.0)
        assert len(far.take(60.0)) == int(60 * 1.01 / 0.06)


class TestMeasurement:
    @given(st.floats(-3_000, 3_000))
    def test_drift_is_found(self, ppm: float) -> None:
        far = far_end()
        far.opened(0.0)
        send_paced(far, 200, every=0.06 / (1 + ppm * 1e-6))
        assert far.measurement().drift_ppm == pytest.approx(ppm, abs=5)

    def test_drift_needs_five_seconds(self) -> None:
        far = far_end()
        far.opened(0.0)
        send_paced(far, 50)
        assert far.measurement().drift_ppm is None

    def test_jitter_leaves_the_first_half_second_out(self) -> None:
        far = far_end()
        far.opened(0.0)
        far.receive(loud(5), 0.0)
        send_paced(far, 100, start=0.01)
        figures = far.measurement()
        assert figures.jitter_ms_p99 == pytest.approx(0, abs=1e-6)
        assert figures.interarrival_ms_p50 == pytest.approx(60)

    def test_jitter_sees_a_late_message(self) -> None:
        far = far_end()
        far.opened(0.0)
        for index in range(100):
            far.receive(loud(), index * 0.06 + (0.02 if index == 50 else 0.0))
        figures = far.measurement()
        assert figures.interarrival_ms_max == pytest.approx(80)
        assert 0 < figures.jitter_ms_p99 <= 20

    def test_a_gap_between_two_sockets_is_no_jitter(self) -> None:
        far = far_end()
        far.opened(0.0)
        end = send_paced(far, 30)
        far.closed(end)
        far.opened(end + 3.0)
        end = send_paced(far, 30, start=end + 3.0)
        far.closed(end)
        figures = far.measurement()
        assert figures.interarrival_ms_max == pytest.approx(60)
        assert figures.seconds == pytest.approx(60 * 0.06)
        assert figures.holes == 0

    def test_recording_can_be_left_out(self) -> None:
        far = far_end(CallerScript(audio=tone(1.0), record=False))
        far.opened(0.0)
        send_paced(far, 20)
        far.finish(2.0)
        assert not far.heard.any()
        assert not far.spoken.any()
        assert far.measurement().samples_out == 20 * SAMPLES

    def test_the_figures_of_an_untouched_call_are_zero(self) -> None:
        figures = dataclasses.asdict(FarEnd(MediaBehaviour()).measurement())
        assert figures.pop("drift_ppm") is None
        assert figures.pop("sizes") == {}
        assert set(figures.values()) == {0}

    def test_messages_keep_their_instants(self) -> None:
        far = far_end()
        far.opened(0.0)
        far.receive(loud(), 0.25)
        assert far.messages == [(0.25, FRAME)]

    @given(st.lists(st.floats(0.0, 0.3), min_size=1, max_size=60))
    def test_heard_and_spoken_share_one_clock(self, gaps: list[float]) -> None:
        far = far_end(CallerScript(audio=tone(1.0)))
        far.opened(0.0)
        now = 0.0
        for gap in gaps:
            now += gap
            far.take(now)
            far.receive(loud(), now)
        far.finish(now)
        assert len(far.heard) == len(far.spoken) == int((now + 1e-7) * RATE)
