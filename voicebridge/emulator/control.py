"""The control API: how a developer plays the other side of a call, on the same port.

::

    GET  /emulator                        what runs: addresses, calls
    POST /emulator/calls                  {"audio": file?, "number"?, "hangup_after"?,
                                           "starts_after"?} rings; 201
    GET  /emulator/calls                  newest first
    GET  /emulator/calls/{id}             status, timeline, measurement
    GET  /emulator/calls/{id}/heard.wav   what the caller heard
    GET  /emulator/calls/{id}/spoken.wav  what the caller said, on the same clock
    POST /emulator/calls/{id}/hangup      the caller hangs up
    GET  /emulator/behaviour              every switch
    PUT  /emulator/behaviour              replaces all; what is left out gets its default
    PATCH /emulator/behaviour             changes only what is given

No key is needed, so the emulator listens on loopback unless told otherwise. Requests that
change something must be ``application/json``, which a foreign web page cannot send.
"""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import wave
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from voicebridge.emulator.answers import Refusal, call_not_found
from voicebridge.emulator.behaviour import Behaviour
from voicebridge.emulator.numbers import phone_number
from voicebridge.emulator.script import CallerScript, built_in_audio, load_audio
from voicebridge.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from voicebridge.emulator.calls import EmulatedCall
    from voicebridge.emulator.exchange import Exchange
    from voicebridge.emulator.tape import Pcm

__all__ = ["Control", "call_report"]

_MAX_BODY = 256 * 1024


class _Ring(BaseModel):
    """Body of ``POST /emulator/calls``."""

    model_config = ConfigDict(extra="forbid")

    audio: str | None = None
    number: str = "+5511999990000"
    hangup_after: float | None = Field(default=2.0, ge=0, le=3_600)
    starts_after: float = Field(default=0.5, ge=0, le=600)


class Control:
    """``about`` gives the body of ``GET /emulator``."""

    def __init__(self, exchange: Exchange, about: Callable[[], dict[str, Any]]) -> None:
        self._exchange = exchange
        self._about = about

    def routes(self) -> list[Route]:
        call = "/emulator/calls/{call_id}"
        return [
            _route("GET", "/emulator", self._show),
            _route("GET", "/emulator/calls", self._list),
            _route("POST", "/emulator/calls", self._ring),
            _route("GET", call, self._one),
            _route("GET", f"{call}/heard.wav", self._heard),
            _route("GET", f"{call}/spoken.wav", self._spoken),
            _route("POST", f"{call}/hangup", self._hangup),
            _route("GET", "/emulator/behaviour", self._behaviour),
            _route("PUT", "/emulator/behaviour", self._replace),
            _route("PATCH", "/emulator/behaviour", self._change),
        ]

    async def _show(self, request: Request) -> Response:
        return JSONResponse(self._about())

    async def _list(self, request: Request) -> Response:
        calls = [call_summary(call) for call in self._exchange.newest_first()]
        return JSONResponse({"calls": calls})

    async def _ring(self, request: Request) -> Response:
        wish = _Ring.model_validate(await _json(request))
        source = built_in_audio if wish.audio is None else lambda: load_audio(wish.audio or "")
        # Decoding a long file would hold up every call of this loop.
        audio = await asyncio.get_running_loop().run_in_executor(None, source)
        script = CallerScript(
            audio=audio,
            number=phone_number(wish.number),
            hangup_after=wish.hangup_after,
            starts_after=wish.starts_after,
        )
        return JSONResponse(call_summary(self._exchange.ring(script)), 201)

    async def _one(self, request: Request) -> Response:
        return JSONResponse(call_report(self._call(request)))

    async def _heard(self, request: Request) -> Response:
        call = self._call(request)
        return _wav(call.far_end.heard, call.far_end.sample_rate)

    async def _spoken(self, request: Request) -> Response:
        call = self._call(request)
        return _wav(call.far_end.spoken, call.far_end.sample_rate)

    async def _hangup(self, request: Request) -> Response:
        await _json(request)
        call = self._call(request)
        self._exchange.hang_up(call)
        return JSONResponse(call_summary(call))

    async def _behaviour(self, request: Request) -> Response:
        return JSONResponse(self._exchange.behaviour.model_dump(mode="json"))

    async def _replace(self, request: Request) -> Response:
        self._exchange.behaviour = Behaviour.model_validate(await _json(request))
        return await self._behaviour(request)

    async def _change(self, request: Request) -> Response:
        changes = await _json(request)
        merged = self._exchange.behaviour.model_dump(mode="json")
        for group, switches in changes.items():
            if isinstance(switches, dict) and isinstance(merged.get(group), dict):
                merged[group] |= switches
            else:
                merged[group] = switches
        self._exchange.behaviour = Behaviour.model_validate(merged)
        return await self._behaviour(request)

    def _call(self, request: Request) -> EmulatedCall:
        call = self._exchange.find(request.path_params["call_id"])
        if call is None:
            raise call_not_found()
        return call


def call_summary(call: EmulatedCall) -> dict[str, Any]:
    return call.as_dto() | {"reason": call.reason}


def call_report(call: EmulatedCall) -> dict[str, Any]:
    """Everything about one call; ``timeline`` in seconds since it was created."""
    timeline = [
        {"at": round(at - call.created, 6), "what": what, "detail": detail}
        for at, what, detail in call.timeline
    ]
    measurement = dataclasses.asdict(call.far_end.measurement())
    return call_summary(call) | {
        "timeline": timeline,
        "seconds": round(call.far_end.seconds, 3),
        "plays": call.plays,
        "measurement": measurement,
    }


def _route(method: str, path: str, handler: Callable[[Request], Awaitable[Response]]) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            if method != "GET":
                _check_json(request)
            return await handler(request)
        except Refusal as refusal:
            return JSONResponse(refusal.body(), refusal.status)
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
                for problem in error.errors(include_input=False, include_url=False)
            ]
            return JSONResponse({"error": "; ".join(problems), "code": "INVALID"}, 400)
        except AudioError as error:
            return JSONResponse({"error": str(error), "code": "AUDIO"}, 400)

    return Route(path, endpoint, methods=[method])


def _check_json(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(415, "send application/json", "NOT_JSON")


async def _json(request: Request) -> dict[str, Any]:
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _MAX_BODY:
            raise Refusal(413, "the body is too large")
    try:
        body = json.loads(raw or b"{}")
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise Refusal(400, "the body must be a JSON object", "NOT_JSON")
    return body


def _wav(samples: Pcm, rate: int) -> Response:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return Response(buffer.getvalue(), media_type="audio/wav")
