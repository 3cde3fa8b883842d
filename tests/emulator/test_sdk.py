"""Witness: the official SDK works against the emulator unchanged, for both provider kinds.

Its base address is fixed, so its ``transport`` is pointed at the emulator's app.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
from pilot_status import PilotStatusClient
from pilot_status.errors import (
    AuthenticationError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    RateLimitError,
    ServerError,
    ValidationError,
)
from pilot_status.webhooks import is_customer_webhook_event

from tests.emulator.world import Mailbox
from voicebridge.emulator import (
    Behaviour,
    CallerBehaviour,
    CallerScript,
    Emulator,
    EmulatorConfig,
    Outcome,
    RestBehaviour,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from urllib.request import Request

SDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\na=setup:active\r\n"
USER = "+5511999990000"
FAST = Behaviour(caller=CallerBehaviour(permission_after_s=0.0))


class Sdk:
    """The SDK's blocking client in a thread, its requests answered on this loop."""

    def __init__(self, emulator: Emulator, key: str = "ps_emulator") -> None:
        self._http = httpx.AsyncClient(
            transport=httpx.ASGITransport(emulator.app), base_url="http://emulator"
        )
        self._loop = asyncio.get_running_loop()
        self.calls = PilotStatusClient(api_key=key, transport=self._transport, get_retries=0).calls

    async def __call__(self, operation: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(operation, *args, **kwargs)

    def _transport(self, request: Request, timeout: float) -> tuple[int, Mapping[str, str], str]:
        future = asyncio.run_coroutine_threadsafe(self._send(request), self._loop)
        response = future.result(timeout)
        return response.status_code, dict(response.headers), response.text

    async def _send(self, request: Request) -> httpx.Response:
        parts = urlsplit(request.full_url)
        assert parts.netloc == "pilotstatus.com.br"
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        content = request.data if isinstance(request.data, bytes) else b""
        return await self._http.request(
            request.get_method(), target, headers=dict(request.header_items()), content=content
        )


def build(kind: Any, behaviour: Behaviour = FAST) -> tuple[Emulator, Mailbox]:
    mailbox = Mailbox()
    config = EmulatorConfig(kind=kind, behaviour=behaviour, webhook_url="http://bridge/hook")
    return Emulator(config, webhook_transport=mailbox.transport), mailbox


async def test_every_operation_on_an_evo_go_number() -> None:
    emulator, mailbox = build("EVO_GO")
    sdk = Sdk(emulator)
    calls = sdk.calls
    call = await emulator.ring(CallerScript())
    assert (await sdk(calls.get, call.external_id, include_sdp=True))["sdpOffer"] is None
    assert await sdk(calls.accept, call.id) == {
        "success": True,
        "id": call.id,
        "status": "ACCEPTED",
    }
    for mode in ("talk", "listen"):
        session = await sdk(calls.realtime_session, call.id, mode)
        assert session["token"] in session["wsUrl"]
        assert session["expiresInSeconds"] == 120
    assert (await sdk(calls.play, call.id, "https://example.com/a.wav"))["status"] == "ACCEPTED"
    assert (await sdk(calls.terminate, call.id))["status"] == "COMPLETED"
    refused = await emulator.ring(CallerScript())
    assert (await sdk(calls.reject, refused.external_id))["status"] == "REJECTED"
    started = await sdk(calls.initiate, {"to": USER, "bizOpaqueCallbackData": "x"})
    assert started["status"] == "INITIATED"
    listed = (await sdk(calls.list, limit=2))["calls"]
    assert [row["id"] for row in listed] == [started["id"], refused.id]
    older = (await sdk(calls.list, before="2000-01-01T00:00:00Z"))["calls"]
    assert older == []
    for operation, args in (
        (calls.pre_accept, (call.id, SDP)),
        (calls.get_settings, ()),
        (calls.update_settings, ({"status": "ENABLED"},)),
        (calls.get_permissions, (USER,)),
        (calls.request_permission, (USER,)),
    ):
        with pytest.raises(ValidationError) as caught:
            await sdk(operation, *args)
        body: Any = caught.value.body
        assert body["code"] == "FEATURE_NOT_SUPPORTED"
    assert all(is_customer_webhook_event(body) for body in mailbox.bodies)
    await emulator.stop()


async def test_every_operation_on_a_meta_number() -> None:
    emulator, mailbox = build("META")
    sdk = Sdk(emulator)
    calls = sdk.calls
    call = await emulator.ring(CallerScript())
    assert (await sdk(calls.get, call.external_id, include_sdp=True))["sdpOffer"].startswith("v=0")
    assert (await sdk(calls.pre_accept, call.id, SDP))["status"] == "RINGING"
    assert (await sdk(calls.accept, call.id, SDP))["status"] == "ACCEPTED"
    assert (await sdk(calls.terminate, call.id))["status"] == "COMPLETED"
    assert (await sdk(calls.reject, (await emulator.ring(CallerScript())).id))["success"]
    assert (await sdk(calls.get_settings))["calling"]["status"] == "ENABLED"
    assert await sdk(calls.update_settings, {"call_icon_visibility": "DISABLE_ALL"}) == {
        "success": True
    }
    assert (await sdk(calls.get_permissions, USER))["permission"] == {"status": "no_permission"}
    with pytest.raises(ValidationError, match="138006"):
        await sdk(calls.initiate, {"to": USER, "sdp": SDP})
    assert (await sdk(calls.request_permission, USER, "May we?"))["messageId"]
    permission = await sdk(calls.get_permissions, USER)
    assert permission["permission"]["status"] == "temporary"
    assert {action["action_name"] for action in permission["actions"]} == {
        "start_call",
        "send_call_permission_request",
    }
    started = await sdk(calls.initiate, {"to": USER, "sdp": SDP})
    assert started["externalCallId"].startswith("wacid.")
    assert (await sdk(calls.list, limit=1))["calls"][0]["id"] == started["id"]
    for operation, args in (
        (calls.play, (call.id, "https://example.com/a.wav")),
        (calls.realtime_session, (call.id, "talk")),
    ):
        with pytest.raises(ValidationError):
            await sdk(operation, *args)
    assert all(is_customer_webhook_event(body) for body in mailbox.bodies)
    await emulator.stop()


@pytest.mark.parametrize(
    ("key", "outcome", "error"),
    [
        ("ps_wrong", None, AuthenticationError),
        ("ps_emulator_tenant", None, ForbiddenError),
        ("ps_emulator", Outcome(status=409), ConflictError),
        ("ps_emulator", Outcome(status=429, error="Too many requests"), RateLimitError),
        ("ps_emulator", Outcome(status=503), ServerError),
    ],
)
async def test_errors_are_the_sdks_own(
    key: str, outcome: Outcome | None, error: type[Exception]
) -> None:
    script: Any = {} if outcome is None else {"get_call": (outcome,)}
    emulator, _ = build("EVO_GO", Behaviour(rest=RestBehaviour(script=script)))
    sdk = Sdk(emulator, key)
    with pytest.raises(error):
        await sdk(sdk.calls.get, "call_x")
    if outcome is not None:
        with pytest.raises(NotFoundError):
            await sdk(sdk.calls.get, "call_x")
