"""`voicebridge demo`: one whole call through the real bridge, without an account.

Three loops, so that none waits for another: the emulator with the caller, the bridge under
test, and this one, which only watches. All three read the same monotonic clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import socket
import sys
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import soundfile
from pydantic import SecretStr

from voicebridge.emulator.emulator import Emulator, EmulatorConfig
from voicebridge.emulator.script import CALLER_RATE, CallerScript, load_audio
from voicebridge.errors import AudioError, ConfigError
from voicebridge.lab.bridge_host import BridgeOrder, start_bridge
from voicebridge.lab.demo_page import ATTRIBUTION, demo_page
from voicebridge.lab.loop_thread import LoopThread
from voicebridge.lab.measure import Samples, level_dbfs
from voicebridge.lab.picture import render
from voicebridge.lab.progress import Progress
from voicebridge.lab.record import BridgeFigures, CallRecord, FarFigures, Happening
from voicebridge.lab.report import DemoReport, Examination, examine
from voicebridge.lab.summary import summary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from rich.console import Console

    from voicebridge.emulator.calls import EmulatedCall

__all__ = ["bundled_speech", "demo_call", "run_demo"]

_API_KEY = "ps_emulator"
_WEBHOOK_SECRET = "demo-secret"  # shared by two ends of one process, and never beyond it
_PAUSE_SECONDS = 0.7
_HANGUP_AFTER_SECONDS = 1.2
_GRACE_SECONDS = 15.0
_ANSWER_SECONDS = 10.0
_IDLE_SECONDS = 5.0
_WATCH_SECONDS = 0.1
_METER_SECONDS = 0.1
# Beyond it, drawing the meters would cost the emulator noticeable time.
_METERED_SECONDS = 120.0
_AUDIBLE_DBFS = -45.0


class RunningBridge(Protocol):
    """What the demo needs of the bridge; all of it on the bridge's own loop."""

    async def figures(self) -> BridgeFigures: ...
    async def idle(self, seconds: float) -> None: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Glance:
    """The call as it is right now."""

    seen: frozenset[str]
    over: bool
    caller_dbfs: float
    bot_dbfs: float


def run_demo(bot: str, caller: Path | None, out: Path, *, console: Console) -> DemoReport:
    """:func:`demo_call` for callers without a loop."""
    return asyncio.run(demo_call(bot, caller, out, console=console))


async def demo_call(
    bot: str,
    caller: Path | None,
    out: Path,
    *,
    console: Console,
    start: Callable[[BridgeOrder], Awaitable[RunningBridge]] = start_bridge,
) -> DemoReport:
    """Places one call, shows it on ``console`` and writes what came of it to ``out``.

    Writes ``report.json``, ``call.wav`` (16 kHz PCM16, left caller, right bot, one clock from
    the webhook on) and ``report.html``. ``caller`` is what the caller says, any file that
    libsndfile reads; None takes the recordings of the package.

    Raises:
        AudioError: ``caller`` cannot be read or is empty.
        ConfigError: the bot, a setting or the directory ``out`` is of no use.
    """
    speech = bundled_speech() if caller is None else load_audio(caller)
    if not speech.any():
        raise AudioError("the caller's audio is empty or silent: give a file with speech in it")
    _make_room(out)
    with _fair_threads():
        record = await _call(bot, speech, console, start)
    examination = await asyncio.to_thread(examine, record)
    page = demo_page(record, examination, attribution=ATTRIBUTION if caller is None else None)
    await asyncio.to_thread(_write, out, record, examination, render(page))
    console.print(summary(record, examination, out))
    return examination.report


def _make_room(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: {error.strerror}; give another directory") from error


def bundled_speech(pause_seconds: float = _PAUSE_SECONDS) -> Samples:
    """The recordings that come with the package in their order, with pauses between."""
    folder = resources.files(__package__) / "speech"
    pause = np.zeros(round(pause_seconds * CALLER_RATE), np.int16)
    parts: list[Samples] = []
    clips = (clip for clip in folder.iterdir() if clip.name.endswith(".flac"))
    for clip in sorted(clips, key=lambda clip: clip.name):
        with clip.open("rb") as file:
            samples, _rate = soundfile.read(file, dtype="int16")
        parts += [samples, pause]
    return np.concatenate(parts[:-1])


async def _call(
    bot: str,
    speech: Samples,
    console: Console,
    start: Callable[[BridgeOrder], Awaitable[RunningBridge]],
) -> CallRecord:
    port = _free_port()
    config = EmulatorConfig(
        api_key=SecretStr(_API_KEY),
        webhook_url=f"http://127.0.0.1:{port}/webhooks/pilotstatus",
        webhook_secret=SecretStr(_WEBHOOK_SECRET),
    )
    async with LoopThread("emulator") as far, LoopThread("bridge") as near:
        emulator = await far.run(_start_emulator(config))
        try:
            order = BridgeOrder(
                bot=bot,
                port=port,
                api_url=emulator.api_url,
                api_key=SecretStr(_API_KEY),
                webhook_secret=SecretStr(_WEBHOOK_SECRET),
            )
            bridge = await near.run(_started(start, order))
            try:
                return await _place(bot, speech, console, emulator, far, bridge, near)
            finally:
                await near.run(bridge.close())
        finally:
            await far.run(emulator.stop())


async def _place(
    bot: str,
    speech: Samples,
    console: Console,
    emulator: Emulator,
    far: LoopThread,
    bridge: RunningBridge,
    near: LoopThread,
) -> CallRecord:
    script = CallerScript(audio=speech, hangup_after=_HANGUP_AFTER_SECONDS)
    limit = speech.size / CALLER_RATE + _GRACE_SECONDS
    cpu, memory = await near.cpu_seconds(), _resident_mib()
    with Progress(console, f"A call to the bot {bot}") as progress:
        call = await far.run(emulator.ring(script))
        await _watch(call, far, progress, limit)
        # Without effect on a call that is over; the others must not ring on.
        await far.run(emulator.hang_up(call))
        await near.run(bridge.idle(_IDLE_SECONDS))
    cpu_after, memory_after = await near.cpu_seconds(), _resident_mib()
    record = await far.run(_record(bot, call, await near.run(bridge.figures())))
    cost = None
    if cpu is not None and cpu_after is not None and record.seconds:
        cost = (cpu_after - cpu) * 1000 / record.seconds
    more = None
    if memory is not None and memory_after is not None:
        more = max(0.0, memory_after - memory)
    figures = replace(record.bridge, cpu_ms_per_call_second=cost, rss_mib=more)
    return replace(record, bridge=figures)


async def _watch(call: EmulatedCall, far: LoopThread, progress: Progress, limit: float) -> None:
    """Shows the call until it is over, or took ``limit`` seconds, or nobody answers.

    A step is shown with the instant at which it happened where the emulator knows it.
    """
    now = asyncio.get_running_loop().time
    began = call.created
    progress.reach("signalled", 0.0)
    while now() - began < limit:
        glance = await far.run(_glance(call))
        passed = now() - began
        for step, what in (("answered", "accept"), ("media", "media_open")):
            if what in glance.seen:
                progress.reach(step, (call.when(what) or began) - began)  # type: ignore[arg-type]
        if glance.caller_dbfs > _AUDIBLE_DBFS:
            progress.reach("caller", passed)
        if glance.bot_dbfs > _AUDIBLE_DBFS:
            progress.reach("heard", passed)
        progress.update(passed, glance.caller_dbfs, glance.bot_dbfs)
        if glance.over:
            progress.reach("ended", passed)
        if glance.over or (passed > _ANSWER_SECONDS and call.connected is None):
            return
        await asyncio.sleep(_WATCH_SECONDS)


async def _glance(call: EmulatedCall) -> _Glance:
    end = call.far_end
    caller = bot = -np.inf
    if end.started and end.seconds < _METERED_SECONDS and not call.over:
        recent = round(_METER_SECONDS * end.sample_rate)
        caller, bot = level_dbfs(end.spoken[-recent:]), level_dbfs(end.heard[-recent:])
    seen = frozenset(what for _, what, _ in call.timeline)
    return _Glance(seen, call.over, caller, bot)


async def _record(bot: str, call: EmulatedCall, figures: BridgeFigures) -> CallRecord:
    measured = call.far_end.measurement()
    broken = (
        ("text messages on the media socket, which takes none", measured.text_frames),
        ("media messages that are not 60 ms long", measured.odd_sizes),
        ("media tokens used twice", measured.tokens_reused),
    )
    return CallRecord(
        bot=bot,
        status=call.status,
        spoken=call.far_end.spoken,
        heard=call.far_end.heard,
        signalled_at=call.when("webhook") or call.created,
        answered_at=call.when("accept"),
        connected_at=call.connected,
        timeline=tuple(Happening(*entry) for entry in call.timeline),
        far=FarFigures(
            arrivals=tuple(at for at, _ in call.far_end.messages),
            holes=measured.holes,
            hole_ms=measured.hole_ms,
            overflow_ms=measured.overflow_ms,
            rule_breaks=broken,
        ),
        bridge=figures,
        rate=call.far_end.sample_rate,
    )


async def _start_emulator(config: EmulatorConfig) -> Emulator:
    emulator = Emulator(config)
    await emulator.start()
    return emulator


async def _started(
    start: Callable[[BridgeOrder], Awaitable[RunningBridge]], order: BridgeOrder
) -> RunningBridge:
    return await start(order)


def _write(out: Path, record: CallRecord, examination: Examination, page: str) -> None:
    caller, bot = record.tracks()
    soundfile.write(out / "call.wav", np.stack((caller, bot), axis=1), record.rate, "PCM_16")
    (out / "report.json").write_text(examination.report.to_json() + "\n", "utf-8")
    (out / "report.html").write_text(page, "utf-8")


def _free_port() -> int:
    """A port that was free a moment ago: the emulator must know it before the bridge is up."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _resident_mib() -> float | None:
    """Memory of this process; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        return None
    return pages * mmap.PAGESIZE / 2**20


@contextlib.contextmanager
def _fair_threads() -> Iterator[None]:
    """Lets threads alternate each millisecond, not each five.

    With Python's default one end of the call could hold up the other for 5 ms, and the
    figures would show that as jitter of the bridge.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.001)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
