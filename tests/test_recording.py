from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from voicebridge.errors import ConfigError
from voicebridge.recording import Recording, RecordingConfig, RecordingFormat, Recordings
from voicebridge.soundfiles import FlacWriter, FrameWriter, WavWriter, open_flac, open_wav

if TYPE_CHECKING:
    from pathlib import Path

RATE = 16_000
FORMATS: list[RecordingFormat] = ["wav", "flac"]
OPENERS = {"wav": open_wav, "flac": open_flac}


def speech_like(seed: int, samples: int) -> bytes:
    generator = np.random.default_rng(seed)
    steps = generator.normal(0, 200, samples)
    return (np.clip(np.cumsum(steps), -20_000, 20_000) + 5_000).astype("<i2").tobytes()


def config(path: Path, kind: RecordingFormat = "wav") -> RecordingConfig:
    return RecordingConfig(path / "calls", kind, announced=True)


def hold_call(recording: Recording, seconds: float, start: float = 0.0) -> tuple[bytes, bytes]:
    """Ticks a call through; what caller and bot said, one sample after another."""
    caller, bot = speech_like(1, int(seconds * RATE)), speech_like(2, int(seconds * RATE))
    for tick in range(int(seconds * 50)):
        now = start + (tick + 1) * 0.020
        recording.heard(now, caller[tick * 640 : (tick + 1) * 640])
        if tick % 3 == 0:
            recording.sent(now - 0.020, bot[tick * 640 : (tick + 3) * 640])
        recording.tick(now)
    return caller, bot


def read(path: Path) -> npt.NDArray[np.int16]:
    samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
    assert rate == RATE
    assert samples.shape[1] == 2
    return np.asarray(samples)


class Disk:
    """A writer that keeps its frames, waits for leave, or fails from a certain write on."""

    def __init__(self, fail_at: int | None = None, gate: threading.Event | None = None) -> None:
        self.frames = b""
        self.closed = threading.Event()
        self._fail_at = fail_at
        self._gate = gate
        self._writes = 0

    def write(self, stereo: bytes) -> None:
        if self._gate is not None:
            assert self._gate.wait(20)
        self._writes += 1
        if self._fail_at is not None and self._writes >= self._fail_at:
            raise OSError(28, "No space left on device")
        self.frames += stereo

    def write_silence(self, frames: int) -> None:
        self.frames += bytes(4 * frames)

    def flush(self) -> None: ...

    def close(self) -> None:
        assert not self.closed.is_set()
        self.closed.set()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_call_is_on_disk_as_it_was(tmp_path: Path, kind: RecordingFormat) -> None:
    recordings = Recordings(config(tmp_path, kind))
    recording = recordings.start("call_01HZX", RATE, 100.0)
    caller, bot = hold_call(recording, 6.0, 100.0)
    recording.finish(106.0)
    recording.finish(106.0)
    assert recordings.close()
    path = tmp_path / "calls" / f"call_01HZX.{kind}"
    samples = read(path)
    assert samples[:, 0].tobytes() == caller
    assert samples[:, 1].tobytes() == bot
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    stats = recordings.stats
    assert (stats.started, stats.finished, stats.failed, stats.dropped_bytes) == (1, 1, 0, 0)


@pytest.mark.parametrize("kind", FORMATS)
def test_what_was_flushed_can_be_read_after_a_crash(tmp_path: Path, kind: str) -> None:
    """The bytes on disk at that moment, with neither close nor a last flush."""
    writer = OPENERS[kind](tmp_path / "call", RATE)
    path = tmp_path / f"call.{kind}"
    stereo = speech_like(3, 2 * 5 * RATE)
    crashed = tmp_path / f"crashed.{kind}"
    for second in range(5):
        writer.write(stereo[second * RATE * 4 : (second + 1) * RATE * 4])
        writer.flush()
        writer.write(bytes(4_000))  # not flushed: part of it may be on disk
        crashed.write_bytes(path.read_bytes())
        samples = read(crashed)
        whole = (second + 1) * (RATE + 1_000) - 1_000
        assert whole - 4_097 < len(samples) <= whole
        expected = stereo[: RATE * 4]
        assert samples[: min(RATE, len(samples))].tobytes() == expected[: len(samples) * 4]
    writer.close()
    assert len(read(path)) == 5 * (RATE + 1_000)


@pytest.mark.parametrize("kind", FORMATS)
def test_silence_and_many_lengths(tmp_path: Path, kind: str) -> None:
    writer = OPENERS[kind](tmp_path / "call", RATE)
    stereo = speech_like(4, 2 * 9_000)
    expected = b""
    for frames in (0, 1, 3_999, 4_096, 40_000):
        writer.write_silence(frames)
        writer.write(stereo[: frames * 4])
        expected += bytes(frames * 4) + stereo[: frames * 4]
    writer.close()
    assert read(tmp_path / f"call.{kind}").tobytes() == expected


@pytest.mark.parametrize(
    "call_id",
    ["../../etc/passwd", "/abs", "..", "", "a/b", "a\0b", "x" * 300, "ação", "-rf", "\udc80"],
)
def test_no_id_leads_out_of_the_directory(tmp_path: Path, call_id: str) -> None:
    recordings = Recordings(config(tmp_path))
    recording = recordings.start(call_id, RATE, 0.0)
    recording.finish(0.1)
    assert recordings.close()
    assert [each.name for each in tmp_path.iterdir()] == ["calls"]
    (only,) = (tmp_path / "calls").iterdir()
    assert only.name == f"{recording.name}.wav"
    assert len(only.name) < 120


def test_two_ids_and_two_calls_of_one_id_are_files_of_their_own(tmp_path: Path) -> None:
    recordings = Recordings(config(tmp_path))
    names = set()
    for call_id in ("a/b", "a.b", "a_b", "a_b"):
        recording = recordings.start(call_id, RATE, 0.0)
        recording.finish(0.1)
        names.add(recording.name)
    assert recordings.close()
    assert len(names) == 3
    files = [each.name for each in (tmp_path / "calls").iterdir()]
    assert len(files) == 4
    assert "a_b.wav" in files
    assert "a_b-2.wav" in files


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("kept")
    recordings = Recordings(config(tmp_path))
    (tmp_path / "calls" / "call.wav").symlink_to(target)
    recordings.start("call", RATE, 0.0).finish(0.1)
    assert recordings.close()
    assert target.read_text() == "kept"
    assert (tmp_path / "calls" / "call-2.wav").is_file()


def test_a_full_disk_ends_that_file_and_nothing_else(tmp_path: Path) -> None:
    disks = [Disk(fail_at=3), Disk()]
    waiting = iter(disks)
    recordings = Recordings(config(tmp_path), open_writer=lambda _stem, _rate: next(waiting))
    first = recordings.start("first", RATE, 0.0)
    hold_call(first, 8.0)
    first.finish(8.0)
    second = recordings.start("second", RATE, 0.0)
    caller, _ = hold_call(second, 2.0)
    second.finish(2.0)
    assert recordings.close()
    assert all(disk.closed.is_set() for disk in disks)
    assert len(disks[0].frames) < 3 * 40_000
    assert np.frombuffer(disks[1].frames, "<i2")[0::2].tobytes() == caller
    assert (recordings.stats.failed, recordings.stats.finished) == (1, 1)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_disk_that_is_really_full(tmp_path: Path, kind: RecordingFormat) -> None:
    """The kernel's own ENOSPC: at the header, and in the middle of the audio."""

    def full(_stem: Path, rate: int) -> FrameWriter:
        descriptor = os.open("/dev/full", os.O_RDWR)
        return WavWriter(descriptor, rate) if kind == "wav" else FlacWriter(descriptor, rate)

    before = set(os.listdir("/dev/fd"))
    recordings = Recordings(config(tmp_path, kind), open_writer=full)
    recording = recordings.start("call", RATE, 0.0)
    hold_call(recording, 6.0)
    recording.finish(6.0)
    assert recordings.close()
    assert recordings.stats.failed == 1
    assert recordings.stats.finished == 0
    assert len(os.listdir("/dev/fd")) <= len(before)


@pytest.mark.parametrize("kind", FORMATS)
def test_what_was_written_before_the_disk_filled_can_be_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"call.{kind}"
    writer = OPENERS[kind](tmp_path / "call", RATE)
    stereo = speech_like(5, 2 * 4 * RATE)
    writer.write(stereo)
    writer.flush()
    # From here on the file's descriptor leads to a full device.
    (descriptor,) = (
        int(each)
        for each in os.listdir("/proc/self/fd")
        if os.path.realpath(f"/proc/self/fd/{each}") == str(path)
    )
    full = os.open("/dev/full", os.O_RDWR)
    os.dup2(full, descriptor)
    os.close(full)
    with pytest.raises(OSError, match="No space"):
        writer.write(4 * stereo)
    with pytest.raises(OSError, match="No space"):
        writer.close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(descriptor)
    samples = read(path)
    assert 4 * RATE - 4_097 < len(samples) <= 4 * RATE
    assert samples.tobytes() == stereo[: samples.size * 2]


def test_a_slow_disk_costs_audio_and_not_the_call(tmp_path: Path) -> None:
    """What does not fit is dropped, counted, and silence of its length keeps the rest in place."""
    gate = threading.Event()
    disk = Disk(gate=gate)
    disks = [disk]

    def open_next(_stem: Path, _rate: int) -> FrameWriter:
        return disks.pop(0)

    recordings = Recordings(config(tmp_path), open_writer=open_next, pending_limit=100_000)

    def catch_up() -> None:
        """Another call's end is written when all before it is."""
        other = Disk()
        disks.append(other)
        recordings.start("other", RATE, 0.0).finish(0.0)
        assert other.closed.wait(20)

    recording = recordings.start("call", RATE, 0.0)
    caller, bot = hold_call(recording, 10.0)
    assert recordings.stats.dropped_bytes > 0
    gate.set()  # the disk is well again
    for tick in range(200):
        catch_up()
        recording.tick(10.0 + (tick + 1) * 0.020)
    catch_up()
    recording.finish(14.0)
    assert recordings.close()
    samples = np.frombuffer(disk.frames, "<i2").reshape(-1, 2)
    assert len(samples) == 14 * RATE
    start = 100_000 // 4 // 8_000 * 8_000
    assert samples[:start, 0].tobytes() == caller[: start * 2]
    assert not samples[start : 6 * RATE].any()
    assert samples[8 * RATE : 10 * RATE, 1].tobytes() == bot[8 * RATE * 2 :]
    assert recordings.stats.finished == recordings.stats.started


def test_the_end_of_a_call_closes_its_file_even_when_nothing_fits(tmp_path: Path) -> None:
    gate = threading.Event()
    disk = Disk(gate=gate)
    recordings = Recordings(
        config(tmp_path), open_writer=lambda _stem, _rate: disk, pending_limit=40_000
    )
    recording = recordings.start("call", RATE, 0.0)
    hold_call(recording, 6.0)
    recording.finish(6.0)
    gate.set()
    assert recordings.close()
    assert disk.closed.is_set()
    assert len(disk.frames) == 6 * RATE * 4


def test_a_call_that_was_never_finished_is_closed_with_the_process(tmp_path: Path) -> None:
    recordings = Recordings(config(tmp_path, "flac"))
    caller, _ = hold_call(recordings.start("call", RATE, 0.0), 6.0)
    assert recordings.close()
    samples = read(tmp_path / "calls" / "call.flac")
    assert len(samples) >= 2 * RATE
    assert samples[:, 0].tobytes() == caller[: len(samples) * 2]


def test_a_file_that_cannot_be_opened_is_counted_once(tmp_path: Path) -> None:
    def refuse(_stem: Path, _rate: int) -> FrameWriter:
        raise PermissionError(13, "Permission denied")

    recordings = Recordings(config(tmp_path), open_writer=refuse)
    recording = recordings.start("call", RATE, 0.0)
    hold_call(recording, 8.0)
    recording.finish(8.0)
    assert recordings.close()
    assert (recordings.stats.failed, recordings.stats.finished) == (1, 0)


def test_nobody_is_recorded_unannounced(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ANNOUNCED"):
        RecordingConfig(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_is_a_matter_of_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="VOICEBRIDGE_RECORDING__DIR"):
        Recordings(RecordingConfig(tmp_path / "file" / "x", announced=True))
