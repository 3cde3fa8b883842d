"""How fast webhooks are acknowledged: 300 a second over loopback, 400 B to 20 KB each.

    python -m benchmarks.webhooks [--rate 300] [--seconds 10]

A server process runs the real application (signature, parsing, deduplication, metrics,
connection guard) over a bridge that takes everything. The same load goes to a bare
Starlette endpoint in a process of its own, in alternating slices of the same run, so
that the ratio holds on any machine. Requests leave on a fixed schedule whether or not
earlier ones were answered, and each is timed from the instant it was due: a server that
stalls is charged for everyone who waits.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import random
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from voicebridge.clock import LoopClock
from voicebridge.metrics import Metrics
from voicebridge.server.app import ServerConfig, create_app
from voicebridge.server.serve import serve

if TYPE_CHECKING:
    from starlette.requests import Request

    from voicebridge.pilotstatus.models import CallEvent

SECRET = "benchmark-secret"
PATH = "/webhooks/pilotstatus"
SIZES = (400, 600, 1_000, 2_000, 5_000, 20_000)
CONNECTIONS = 32
SLICES = 5
ANSWER_WITHIN = 10.0


@dataclass
class TakesAll:
    """A bridge whose queue is never full."""

    taken: int = 0
    draining: bool = False
    active: int = 0

    def submit(self, event: CallEvent) -> bool:
        self.taken += 1
        return True

    def summaries(self) -> list[NoSummary]:
        return []

    def summary(self, call_id: str) -> NoSummary | None:
        return None

    async def dial(
        self, to: str, *, bot: str | None = None, metadata: dict[str, str] | None = None
    ) -> NoSummary:
        return NoSummary()

    async def hangup(self, call_id: str) -> bool:
        return False

    def drain(self) -> None: ...


class NoSummary:
    def as_dict(self) -> dict[str, object]:
        return {}


async def _bare(request: Request) -> Response:
    await request.body()
    return Response()


async def serve_one(kind: str) -> None:
    """The server process: prints its port, ends when its standard input does."""
    if kind == "real":
        config = ServerConfig(secrets=(SecretStr(SECRET),))
        app = create_app(TakesAll(), config, Metrics(), clock=LoopClock())
    else:
        app = Starlette(routes=[Route(PATH, _bare, methods=["POST"])])
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), stop.set)
    await serve(app, "127.0.0.1", 0, on_ready=lambda url: print(url, flush=True), stop=stop)


def body_of(number: int, size: int) -> bytes:
    event = {
        "event": "call.ringing",
        "callId": f"call_{number}",
        "externalCallId": f"{number:032X}",
        "direction": "INBOUND",
        "status": "RINGING",
        "from": "+5511999990000",
        "to": "+5511888880000",
        "timestamp": "2026-01-01T00:00:00.000Z",
        "pad": "",
    }
    event["pad"] = "x" * (size - len(json.dumps(event)))
    return json.dumps(event).encode()


def request_of(number: int, size: int) -> bytes:
    body = body_of(number, size)
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"x-pilot-status-signature: {signature}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@dataclass
class Target:
    """One server process, a pool of connections to it, and what was measured."""

    process: asyncio.subprocess.Process
    port: int
    idle: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(
        default_factory=lambda: asyncio.Queue(CONNECTIONS)
    )
    seconds: list[float] = field(default_factory=list)
    failed: int = 0

    async def one(self, request: bytes, due: float) -> None:
        loop = asyncio.get_running_loop()
        reader, writer = await self.idle.get()
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
            self.seconds.append(loop.time() - due)
            self.failed += not head.startswith(b"HTTP/1.1 200")
            self.idle.put_nowait((reader, writer))
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            self.failed += 1
            writer.close()
            await self.connect()

    async def connect(self) -> None:
        self.idle.put_nowait(await asyncio.open_connection("127.0.0.1", self.port))


async def start(kind: str) -> Target:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.webhooks", "--serve", kind),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().strip()
    return Target(process, int(url.rpartition(":")[2]))


async def load(target: Target, requests: list[bytes], rate: float) -> None:
    """Sends each request at its instant; returns when all are answered."""
    # Fresh connections per slice: the server closes those that idled through another's.
    while not target.idle.empty():
        target.idle.get_nowait()[1].close()
    for _ in range(CONNECTIONS):
        await target.connect()
    loop = asyncio.get_running_loop()
    begin = loop.time() + 0.05
    async with asyncio.TaskGroup() as tasks:
        for index, request in enumerate(requests):
            due = begin + index / rate
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            tasks.create_task(target.one(request, due))


def quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


async def measure(rate: float, seconds: float) -> dict[str, object]:
    rng = random.Random(7)
    targets = {kind: await start(kind) for kind in ("real", "bare")}
    number, per_slice = 0, max(1, round(rate * seconds / SLICES))
    try:
        for turn in range(SLICES + 1):
            for target in targets.values():
                requests = [
                    request_of(number := number + 1, rng.choice(SIZES)) for _ in range(per_slice)
                ]
                await load(target, requests, rate)
                if turn == 0:  # warming up
                    target.seconds.clear()
    finally:
        for target in targets.values():
            assert target.process.stdin is not None
            target.process.stdin.close()
            await target.process.wait()
    rows = {
        kind: {
            "requests": len(target.seconds),
            "failed": target.failed,
            **{
                f"{name}_ms": round(1_000 * quantile(target.seconds, q), 3)
                for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
            },
        }
        for kind, target in targets.items()
    }
    ratios = {
        f"{name}_ratio": round(rows["real"][f"{name}_ms"] / rows["bare"][f"{name}_ms"], 2)
        for name in ("p50", "p95", "p99")
    }
    return {"rate": rate, **rows, **ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rate", type=float, default=300.0, help="requests per second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of load on each server")
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.add_argument("--serve", choices=("real", "bare"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve_one(options.serve))
        return
    result = asyncio.run(measure(options.rate, options.seconds))
    if options.json:
        print(json.dumps(result))
        return
    print(f"acknowledging {options.rate:g} webhooks/s, 400 B to 20 KB, {CONNECTIONS} connections")
    for kind in ("real", "bare"):
        print(f"  {kind}: {result[kind]}")
    print("  ratio:", {name: value for name, value in result.items() if name.endswith("_ratio")})


if __name__ == "__main__":
    main()
