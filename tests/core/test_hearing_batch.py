"""The batch: every sample is heard once and in order, whoever else is on the line."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.listening import SPEECH, Recorder, probabilities
from voicebridge.core.energy_gate import EnergyGateSettings
from voicebridge.core.hearing_batch import HearingBatch
from voicebridge.core.speech_gate import SpeechBegan, SpeechGate
from voicebridge.core.vad import CHUNK, CONTEXT
from voicebridge.weights import neural_vad

FRAME = 320
ALWAYS_OPEN = EnergyGateSettings(above_floor_db=-200)


def counting(samples: int) -> np.ndarray:
    """Audio in which every stretch tells where it is."""
    return (np.arange(samples) % 30_000).astype(np.int16)


def frames_of(audio: np.ndarray) -> list[bytes]:
    return [audio[k : k + FRAME].tobytes() for k in range(0, audio.size - FRAME + 1, FRAME)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), max_size=40), st.booleans())
def test_each_call_is_heard_whole_in_order_and_once(bursts: list[list[int]], peek: bool) -> None:
    vad = Recorder()
    batch = HearingBatch(vad, ALWAYS_OPEN)
    listeners = [batch.listen() for _ in range(3)]
    audio = counting(FRAME * 200)
    sent, ends = [0, 0, 0], [0, 0, 0]
    for burst in bursts:
        for index, listener in enumerate(listeners):
            listener.peek = peek
            for _ in range(burst[index]):
                listener.push(audio[sent[index] : sent[index] + FRAME].tobytes())
                sent[index] += FRAME
        batch.run()
        for index, listener in enumerate(listeners):
            for heard in listener.take():
                ends[index] += FRAME
                assert heard.end == ends[index]
    assert ends == sent
    for index, listener in enumerate(listeners):
        kept = vad.kept[listener.row]
        chunks = np.concatenate([window[CONTEXT:] for window in kept]) if kept else np.empty(0)
        assert (chunks == audio[: sent[index] // CHUNK * CHUNK]).all()
        for before, after in pairwise(kept):
            assert (after[:CONTEXT] == before[-CONTEXT:]).all()
        assert peek or not vad.peeked[listener.row]
    assert batch.stats.frames * FRAME == sum(sent)


def test_a_peek_is_the_newest_audio_and_its_answer_the_newest_frames() -> None:
    vad = Recorder()
    batch = HearingBatch(vad, ALWAYS_OPEN)
    listener = batch.listen()
    audio = counting(8 * FRAME) + 1
    found = []
    for frame in frames_of(audio):
        listener.push(frame)
        batch.run()
        found += [heard.probability for heard in listener.take()]
    # 8 frames are 5 chunks. The fifth frame ends 64 samples after a chunk, the last one with
    # a chunk: they have nothing to peek at, and answer by the chunk.
    ends = [FRAME * count for count in (1, 2, 3, 4)] + [3 * CHUNK, FRAME * 6, FRAME * 7, FRAME * 8]
    assert found == pytest.approx([audio[end - 1] / 32768 for end in ends])
    assert len(vad.kept[0]) == 5
    assert len(vad.peeked[0]) == 6
    assert (vad.peeked[0][-1] == audio[7 * FRAME - CHUNK - CONTEXT : 7 * FRAME]).all()


def test_all_calls_go_through_one_pass() -> None:
    vad = Recorder()
    batch = HearingBatch(vad, ALWAYS_OPEN)
    listeners = [batch.listen() for _ in range(5)]
    for listener in listeners:
        listener.peek = False
        for frame in frames_of(counting(2 * FRAME)):
            listener.push(frame)
    batch.run()
    assert vad.batches == [5]
    batch.run()
    assert vad.batches == [5]


def test_quiet_is_not_shown_to_the_engine_and_the_onset_is_replayed() -> None:
    vad = Recorder()
    batch = HearingBatch(vad)
    listener = batch.listen()
    listener.peek = False
    quiet = (np.arange(FRAME * 100) % 7).astype(np.int16)
    loud = (counting(FRAME * 10) // 2 + 3000) * (-1) ** np.arange(FRAME * 10)
    audio = np.concatenate([quiet, loud]).astype(np.int16)
    found = []
    for frame in frames_of(audio):
        listener.push(frame)
        batch.run()
        found += listener.take()
    assert [heard.probability for heard in found[30:100]] == [0.0] * 70
    assert found[-1].probability > 0.1
    assert batch.stats.skipped == 75
    # From five frames before the onset on, nothing is left out.
    whole = np.concatenate([window[CONTEXT:] for window in vad.kept[0]])
    replayed = audio[95 * FRAME :]
    tail = whole[-(replayed.size // CHUNK * CHUNK) :]
    assert (tail == replayed[: tail.size]).all()


def test_a_frame_before_the_gate_shuts_keeps_the_last_answer() -> None:
    batch = HearingBatch(Recorder(), EnergyGateSettings(hang_ms=60, replay_ms=0))
    listener = batch.listen()
    listener.peek = False
    silent = bytes(2 * FRAME)
    loud = (np.full(FRAME, 9_000) * (-1) ** np.arange(FRAME)).astype(np.int16).tobytes()
    found = []
    # The window ends with the second frame of the second burst, the gate shuts with the
    # second frame of the third.
    for burst in ([silent] * 5, [loud, silent], [silent, silent]):
        for frame in burst:
            listener.push(frame)
        batch.run()
        found += [heard.probability for heard in listener.take()]
    answer = pytest.approx(9_000 / 32768)
    assert found == [0, 0, 0, 0, 0, 0, answer, answer, 0]


def test_a_closed_listener_is_heard_no_more_and_gives_its_row_back() -> None:
    vad = Recorder()
    batch = HearingBatch(vad, ALWAYS_OPEN)
    gone, stays = batch.listen(), batch.listen()
    for listener in (gone, stays):
        for frame in frames_of(counting(2 * FRAME)):
            listener.push(frame)
    gone.close()
    gone.close()
    gone.push(bytes(640))
    batch.run()
    assert vad.closed == [gone.row]
    assert vad.kept[gone.row] == []
    assert len(stays.take()) == 2
    assert gone.take() == []


def test_frames_of_another_length_are_refused() -> None:
    listener = HearingBatch(Recorder()).listen()
    with pytest.raises(ValueError, match="640 bytes"):
        listener.push(bytes(320))


def test_without_gate_and_peek_it_is_the_engine() -> None:
    audio, _ = soundfile.read(SPEECH[0], dtype="int16")
    expected = probabilities(neural_vad(), audio)
    batch = HearingBatch(neural_vad(), gate=None)
    listener = batch.listen()
    listener.peek = False
    found = []
    for frame in frames_of(audio):
        listener.push(frame)
        batch.run()
        found += listener.take()
    for heard in found:
        newest = heard.end // CHUNK
        wanted = expected[newest - 1] if newest else 0.0
        assert heard.probability == pytest.approx(wanted, abs=1e-5)


def test_speech_is_found_soon_and_noise_before_it_is_not() -> None:
    batch = HearingBatch(neural_vad())
    listeners = [batch.listen() for _ in SPEECH]
    gates = [SpeechGate() for _ in SPEECH]
    hiss = np.random.default_rng(5).standard_normal(32_000) * 10
    recordings = [
        np.concatenate([hiss, soundfile.read(path, dtype="int16")[0]]).astype(np.int16)
        for path in SPEECH
    ]
    began: dict[int, list[SpeechBegan]] = {index: [] for index in range(len(SPEECH))}
    for start in range(0, max(map(len, recordings)), FRAME):
        for index, listener in enumerate(listeners):
            frame = recordings[index][start : start + FRAME]
            listener.peek = not gates[index].speaking
            if frame.size == FRAME:
                listener.push(frame.tobytes())
        batch.run()
        for index, listener in enumerate(listeners):
            for heard in listener.take():
                event = gates[index].hear(heard.probability)
                if isinstance(event, SpeechBegan):
                    began[index].append(event)
    for events in began.values():
        first = events[0]
        assert 2_000 <= first.decided_ms <= 2_300
        assert first.from_ms <= 2_000 + 130, "the onset is inside the pre-roll"
    assert batch.stats.skipped > 0.5 * 100 * len(SPEECH)
