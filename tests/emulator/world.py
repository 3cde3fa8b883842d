"""What the emulator's tests share: a client, a webhook receiver, a bridge's end of a socket."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
from pydantic import SecretStr

from voicebridge.emulator import (
    Behaviour,
    CallerScript,
    Emulator,
    EmulatorConfig,
    MediaBehaviour,
)
from voicebridge.testing.clock import VirtualClock

if TYPE_CHECKING:
    from voicebridge.emulator.calls import EmulatedCall
    from voicebridge.emulator.memory import MemorySocket

KEY = {"x-api-key": "ps_emulator"}
SECRET = "whsec-test"
RATE = 16_000
FRAME = 1_920


def tone(seconds: float, *, level: int = 8_000) -> np.ndarray[Any, np.dtype[np.int16]]:
    """A square wave of 400 Hz: no sample is zero."""
    half_periods = np.arange(int(seconds * RATE)) // 20
    return np.where(half_periods % 2, -level, level).astype(np.int16)


def loud(frames: int = 1) -> bytes:
    return tone(0.06 * frames).tobytes()


class Mailbox:
    """Receives webhooks; ``answers`` are the statuses to give, then 200."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[float, httpx.Request]] = []
        self.transport = httpx.MockTransport(self._take)

    @property
    def events(self) -> list[str]:
        return [json.loads(request.content)["event"] for _, request in self.requests]

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(request.content) for _, request in self.requests]

    @property
    def instants(self) -> list[float]:
        return [at for at, _ in self.requests]

    def of(self, event: str) -> dict[str, Any]:
        return next(body for body in self.bodies if body["event"] == event)

    async def _take(self, request: httpx.Request) -> httpx.Response:
        self.requests.append((asyncio.get_running_loop().time(), request))
        return httpx.Response(self.answers.pop(0) if self.answers else 200)


class World:
    """An emulator in memory, with the current (virtual) loop's clock."""

    def __init__(self, behaviour: Behaviour | None = None, **config: Any) -> None:
        self.mailbox = Mailbox()
        self.emulator = Emulator(
            EmulatorConfig(
                behaviour=behaviour or Behaviour(),
                webhook_url="http://bridge/webhooks/pilotstatus",
                webhook_secret=SecretStr(SECRET),
                seed=1,
                **config,
            ),
            clock=VirtualClock(),
            webhook_transport=self.mailbox.transport,
        )
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.emulator.app),
            base_url="http://emulator",
            headers=KEY,
        )

    async def __aenter__(self) -> World:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.emulator.stop()
        await self.http.aclose()

    async def post(self, path: str, body: Any = None, **kwargs: Any) -> httpx.Response:
        return await self.http.post(path, json=body, **kwargs)

    async def answered(self, script: CallerScript | None = None) -> EmulatedCall:
        """A ringing call that has been accepted; it connects 0.3 s later."""
        call = await self.emulator.ring(script or CallerScript())
        assert (await self.post(f"/v1/calls/{call.id}/accept")).status_code == 200
        return call

    async def session(self, call: EmulatedCall, mode: str = "talk") -> str:
        response = await self.post(f"/v1/calls/{call.id}/realtime-session", {"mode": mode})
        assert response.status_code == 200, response.text
        url: str = response.json()["wsUrl"]
        return url

    async def joined(
        self, script: CallerScript | None = None
    ) -> tuple[EmulatedCall, BridgeEnd, MemorySocket]:
        """An accepted call with an open media socket."""
        call = await self.answered(script)
        end, socket = await self.connect(call)
        return call, end, socket

    async def connect(self, call: EmulatedCall) -> tuple[BridgeEnd, MemorySocket]:
        end = BridgeEnd()
        url = SecretStr(await self.session(call))
        return end, await self.emulator.connect_media(url, end)


class BridgeEnd:
    """Records what a bridge's listener is told, with the instant of each."""

    def __init__(self) -> None:
        self.audio: list[tuple[float, bytes]] = []
        self.texts: list[str] = []
        self.pongs: list[tuple[float, bytes]] = []
        self.closes: list[tuple[float, int | None, str]] = []

    @property
    def heard(self) -> bytes:
        return b"".join(data for _, data in self.audio)

    @property
    def sizes(self) -> set[int]:
        return {len(data) for _, data in self.audio}

    @property
    def code(self) -> int | None:
        assert len(self.closes) == 1
        return self.closes[0][1]

    def on_audio(self, data: bytes) -> None:
        self.audio.append((_now(), data))

    def on_text(self, text: str) -> None:
        self.texts.append(text)

    def on_pong(self, payload: bytes) -> None:
        self.pongs.append((_now(), payload))

    def on_close(self, code: int | None, reason: str) -> None:
        self.closes.append((_now(), code, reason))


def media(**switches: Any) -> Behaviour:
    return Behaviour(media=MediaBehaviour(**switches))


async def stream(socket: MemorySocket, frames: int, *, every: float = 0.06) -> None:
    """Sends ``frames`` loud frames on an absolute grid."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    for index in range(frames):
        await asyncio.sleep(max(0.0, start + index * every - loop.time()))
        assert socket.send(loud())


def _now() -> float:
    return asyncio.get_running_loop().time()
