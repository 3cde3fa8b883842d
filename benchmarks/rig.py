"""The bridge under test as a process of its own, and what the kernel says it used.

The rule: the measured process has one core to itself and the measuring one, which plays the
provider and every caller, has the others; what is measured never measures itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import httpx
from pydantic import SecretStr

from voicebridge.emulator import Behaviour, Emulator, EmulatorConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

__all__ = [
    "Bridge",
    "Loop",
    "Usage",
    "aside",
    "loops",
    "machine",
    "measured_core",
    "open_rig",
    "process",
    "usage",
]

Loop = Literal["stock", "uvloop"]

SECRET = "benchmark-secret"
_ROOT = Path(__file__).resolve().parent.parent
_READY_S = 15.0
_END_S = 10.0
_CORES = sorted(os.sched_getaffinity(0))
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process since it began; subtract two. ``waited_s``: ready to run, and not run."""

    cpu_s: float
    waited_s: float
    rss_bytes: int

    def __sub__(self, earlier: Usage) -> Usage:
        return Usage(
            self.cpu_s - earlier.cpu_s,
            self.waited_s - earlier.waited_s,
            self.rss_bytes - earlier.rss_bytes,
        )


def usage(pid: int) -> Usage:
    """From ``/proc``: user and system time of all threads, the main thread's wait for a core."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    waited_ns = Path(f"/proc/{pid}/schedstat").read_text().split()[1]
    resident = Path(f"/proc/{pid}/statm").read_text().split()[1]
    cpu = (int(fields[11]) + int(fields[12])) * _TICK_S
    return Usage(cpu, int(waited_ns) / 1e9, int(resident) * _PAGE)


def measured_core() -> int:
    """The core of what is measured."""
    return _CORES[0]


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Keeps this process off the measured core, where there is another one."""
    if len(_CORES) > 1:
        os.sched_setaffinity(0, _CORES[1:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, _CORES)


def loops() -> tuple[Loop, ...]:
    """The event loops that can be measured here."""
    return ("stock", "uvloop") if find_spec("uvloop") else ("stock",)


def machine() -> dict[str, object]:
    """What the figures were measured on, and how busy it was with other work."""
    model = "unknown"
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "cpu": model,
        "cores": len(_CORES),
        "python": sys.version.split()[0],
        "uvloop": "uvloop" in loops(),
        "load_1m": round(os.getloadavg()[0], 2),
    }


@contextlib.asynccontextmanager
async def process(
    module: str, *arguments: str, core: int, environment: dict[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """``python -m module`` on one core, in an empty folder; terminated at the end."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("VOICEBRIDGE_")}
    paths = [str(_ROOT), clean.get("PYTHONPATH", "")]
    clean["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    with tempfile.TemporaryDirectory() as folder:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.pinned", str(core), module, *arguments),
            env=clean | (environment or {}),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            yield child
        finally:
            await _end(child)


async def _end(child: asyncio.subprocess.Process) -> None:
    for end in (child.terminate, child.kill):
        if child.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await child.wait()


@dataclass(frozen=True, slots=True)
class Bridge:
    """A running ``voicebridge serve``."""

    pid: int
    url: str
    client: httpx.AsyncClient

    async def calls(self) -> dict[str, dict[str, Any]]:
        """Its summaries by the provider's id, live ones and recent ones."""
        answer = await self.client.get(f"{self.url}/calls")
        answer.raise_for_status()
        return {each["id"]: each for each in answer.json()["calls"]}


@contextlib.asynccontextmanager
async def open_rig(
    *,
    bot: str,
    loop: Loop,
    max_calls: int,
    behaviour: Behaviour,
    settings: Sequence[tuple[str, str]] = (),
) -> AsyncIterator[tuple[Emulator, Bridge]]:
    """An emulator in this process and a bridge on the first core that serves its calls.

    ``settings`` are further ``VOICEBRIDGE_`` variables, without that prefix.
    """
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    config = EmulatorConfig(
        webhook_url=f"{url}/webhooks/pilotstatus",
        webhook_secret=SecretStr(SECRET),
        behaviour=behaviour,
    )
    async with Emulator(config) as emulator, httpx.AsyncClient(trust_env=False) as client:
        values = {
            "API_KEY": config.api_key.get_secret_value(),
            "API_URL": emulator.api_url,
            "WEBHOOK_SECRET": SECRET,
            "ALLOW_INSECURE_MEDIA": "true",
            "MEDIA_HOSTS": "127.0.0.1",
            "MAX_CALLS": str(max_calls),
            "LOG_LEVEL": "error",
            **dict(settings),
        }
        environment = {f"VOICEBRIDGE_{key}": value for key, value in values.items()}
        arguments = ("serve", "--bot", bot, "--port", str(port))
        async with process(
            f"voicebridge:{loop}", *arguments, core=measured_core(), environment=environment
        ) as child:
            bridge = Bridge(child.pid, url, client)
            await _ready(bridge, child)
            yield emulator, bridge


async def _ready(bridge: Bridge, child: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(_READY_S):
        while True:
            if child.returncode is not None:
                raise RuntimeError("the bridge ended as soon as it was started; see its message")
            with contextlib.suppress(httpx.TransportError):
                if (await bridge.client.get(f"{bridge.url}/healthz")).is_success:
                    return
            await asyncio.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
