"""Recordings on disk: one stereo file per call, written beside the event loop.

The rule: a call never waits for a disk. The loop only hands blocks to one writer thread, up
to a bounded amount; beyond it, and after a disk has failed, audio is dropped and counted, and
the file is closed in good order. A block that was dropped for slowness leaves silence of its
length, so that what follows keeps its place.

A file is readable up to its last flush whatever becomes of the process: its header is
brought up to date each time. It is readable by its owner alone, and its name is made of the
call's id and nothing that could lead elsewhere.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from voicebridge.core.recorder import Recorder
from voicebridge.errors import ConfigError
from voicebridge.soundfiles import FrameWriter, open_flac, open_wav

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Recording", "RecordingConfig", "Recordings"]

RecordingFormat = Literal["flac", "wav"]

_STEREO_FRAME: Final = 4
_BLOCK_SECONDS: Final = 0.5
_FLUSH_BYTES: Final = 128_000
"""About two seconds at 16 kHz: what a crash may cost beyond what the assembly holds."""
_PENDING_LIMIT: Final = 32 * 1024 * 1024
"""Bytes for the disk that may wait: five seconds of a hundred calls."""
_CLOSE_LIMIT: Final = 10.0
_NAME_LIMIT: Final = 80

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RecordingConfig:
    """Where recordings go, and that callers know of them."""

    directory: Path
    format: RecordingFormat = "flac"
    announced: bool = False

    def __post_init__(self) -> None:
        if not self.announced:
            raise ConfigError(
                "recording is on, but nothing says that callers are told: have the bot announce "
                "it and set VOICEBRIDGE_RECORDING__ANNOUNCED=true, or clear "
                "VOICEBRIDGE_RECORDING__DIR"
            )


@dataclass(slots=True)
class RecordingStats:
    """Counts of a process. The writer's and the loop's fields are apart: each has one owner."""

    started: int = 0
    dropped_bytes: int = 0
    """The disk was too slow, or had failed."""
    finished: int = 0
    failed: int = 0
    """Files that are cut short or could not be opened."""


class Recordings:
    """The writer of a process. Start before the first call, close after the last."""

    def __init__(
        self,
        config: RecordingConfig,
        *,
        open_writer: Callable[[Path, int], FrameWriter] | None = None,
        pending_limit: int = _PENDING_LIMIT,
    ) -> None:
        """Raises ConfigError where the directory cannot be made or written to."""
        self.stats = RecordingStats()
        self._config = config
        self._open = open_writer or (open_flac if config.format == "flac" else open_wav)
        self._limit = pending_limit
        self._pending = 0
        self._lock = threading.Lock()
        self._files: set[_File] = set()
        """Open ones; the writer's."""
        # Unbounded, for the end of a file must always fit; audio is bounded by _pending.
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        try:
            config.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"VOICEBRIDGE_RECORDING__DIR cannot be used: {error.strerror}"
            ) from None
        if not os.access(config.directory, os.W_OK | os.X_OK):
            raise ConfigError("VOICEBRIDGE_RECORDING__DIR cannot be written to")
        self._thread = threading.Thread(target=self._write, name="recordings", daemon=True)
        self._thread.start()

    def start(self, call_id: str, rate: int, now: float) -> Recording:
        """A call's recording, beginning at the instant ``now`` of its clock."""
        self.stats.started += 1
        return Recording(self, _File(call_id, rate), Recorder(rate, now), now)

    def close(self) -> bool:
        """Writes what waits and ends the writer; False if the disk did not let it in time.

        Blocks; to be called when the calls are over, away from the loop.
        """
        self._jobs.put(None)
        self._thread.join(_CLOSE_LIMIT)
        return not self._thread.is_alive()

    def _submit(self, file: _File, stereo: bytes, *, last: bool = False) -> bool:
        """Hands a block to the writer; False where it was dropped. Never waits."""
        with self._lock:
            fits = not file.failed and self._pending + len(stereo) <= self._limit
            if fits:
                self._pending += len(stereo)
        if not fits:
            self.stats.dropped_bytes += len(stereo)
            stereo, missing = b"", len(stereo)
            file.missing += missing
            if not last:
                return False
        silence, file.missing = file.missing, 0
        self._jobs.put(_Job(file, stereo, silence, last))
        return fits

    # The writer's thread.

    def _write(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._do(job)
            with self._lock:
                self._pending -= len(job.stereo)
        for file in list(self._files):
            self._end(file)

    def _do(self, job: _Job) -> None:
        file = job.file
        try:
            if file.writer is None and not file.failed:
                file.writer = self._open(self._config.directory / file.name, file.rate)
                self._files.add(file)
            if file.writer is not None:
                self._append(file, file.writer, job)
        except Exception as error:
            # Not only OSError: an encoder's own failure must not end the writer either.
            self._give_up(file, error)
        if job.last and file.writer is not None:
            self._end(file)

    def _append(self, file: _File, writer: FrameWriter, job: _Job) -> None:
        if job.silence:
            writer.write_silence(job.silence // _STEREO_FRAME)
        if job.stereo:
            writer.write(job.stereo)
        file.unflushed += job.silence + len(job.stereo)
        if file.unflushed >= _FLUSH_BYTES:
            writer.flush()
            file.unflushed = 0

    def _give_up(self, file: _File, error: Exception) -> None:
        file.failed = True
        self.stats.failed += 1
        _log.error("a recording is cut short: %s", _cause(error))
        if file.writer is not None:
            self._end(file, failed=True)

    def _end(self, file: _File, *, failed: bool = False) -> None:
        writer, file.writer = file.writer, None
        assert writer is not None
        self._files.discard(file)
        try:
            writer.close()
        except Exception as error:
            if not failed:
                file.failed = failed = True
                self.stats.failed += 1
                _log.error("a recording was not finished: %s", _cause(error))
        self.stats.finished += not failed


class Recording:
    """One call's recording, as the loop sees it. No method waits or raises."""

    def __init__(self, owner: Recordings, file: _File, recorder: Recorder, now: float) -> None:
        self._owner = owner
        self._file = file
        self._recorder = recorder
        self._due = now + _BLOCK_SECONDS
        self._open = True
        self.heard = recorder.heard
        """``heard(at, pcm)``: audio of the caller that is complete at ``at``."""
        self.sent = recorder.sent
        """``sent(play_at, pcm)``: audio of the bot that begins to play at ``play_at``."""
        self.lost = recorder.lost
        """``lost(now)``: what would play from now on does not."""

    @property
    def name(self) -> str:
        return self._file.name

    def tick(self, now: float) -> None:
        """At each of the session's ticks; every half second it hands over what is final."""
        if now >= self._due and self._open:
            self._due = now + _BLOCK_SECONDS
            stereo = self._recorder.take(now)
            if stereo:
                self._owner._submit(self._file, stereo)

    def finish(self, now: float) -> None:
        """The call is over: writes the rest and closes the file. Harmless to repeat."""
        if self._open:
            self._open = False
            self._owner._submit(self._file, self._recorder.finish(now), last=True)


class _File:
    """What the writer knows of one recording."""

    __slots__ = ("failed", "missing", "name", "rate", "unflushed", "writer")

    def __init__(self, call_id: str, rate: int) -> None:
        self.name = _safe_name(call_id)
        self.rate = rate
        self.writer: FrameWriter | None = None
        self.failed = False
        self.unflushed = 0
        self.missing = 0
        """Bytes dropped and not yet made up for by silence; the loop's."""


@dataclass(frozen=True, slots=True)
class _Job:
    file: _File
    stereo: bytes
    silence: int
    last: bool


def _cause(error: Exception) -> str:
    """Without the path, which an OSError shows."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _safe_name(call_id: str) -> str:
    """A file name without a suffix: letters, digits, ``-`` and ``_``.

    An id that had to be changed gets a part of its hash, so that two ids stay two names.
    """
    name = re.sub(r"[^A-Za-z0-9_-]", "_", call_id)[:_NAME_LIMIT]
    if name != call_id or not name:
        digest = hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        name = f"{name}-{digest}"
    return name
