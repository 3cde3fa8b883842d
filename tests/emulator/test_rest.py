"""The REST API in memory and virtual time: keys, rules, lifecycle, scripted failures."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pydantic import SecretStr

from tests.emulator.world import BridgeEnd, World
from voicebridge.emulator import (
    Behaviour,
    CallerBehaviour,
    CallerScript,
    Outcome,
    RestBehaviour,
)
from voicebridge.testing.clock import run_virtual

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\na=setup:active\r\n"
USER = "+5511999990000"


def run(
    scenario: Callable[[World], Awaitable[None]], behaviour: Behaviour | None = None, **config: Any
) -> None:
    async def main() -> None:
        async with World(behaviour, **config) as world:
            await scenario(world)

    run_virtual(main())


def rest(**switches: Any) -> Behaviour:
    return Behaviour(rest=RestBehaviour(**switches))


def caller(**switches: Any) -> Behaviour:
    return Behaviour(caller=CallerBehaviour(**switches))


def code(response: httpx.Response) -> tuple[int, str | None]:
    return response.status_code, response.json().get("code")


class TestKeys:
    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ({"x-api-key": "ps_emulator"}, (200, None)),
            ({"x-api-key-id": "key_emulator"}, (200, None)),
            ({"x-api-key": "ps_emulator_tenant"}, (403, "TENANT_SCOPE_NOT_ALLOWED")),
            ({"x-api-key": "ps_wrong"}, (401, None)),
            ({"x-api-key": "ps_émulator"}, (401, None)),
            ({"authorization": "Bearer ps_emulator"}, (401, None)),
            ({}, (401, None)),
        ],
    )
    def test_scope(self, headers: dict[str, str], expected: tuple[int, str | None]) -> None:
        async def scenario(world: World) -> None:
            world.http.headers.pop("x-api-key")
            encoded = {name.encode(): value.encode() for name, value in headers.items()}
            response = await world.http.get("/v1/calls", headers=encoded)
            assert code(response) == expected
            assert set(response.json()) <= {"calls", "error", "code"}

        run(scenario)

    def test_unknown_paths_have_the_envelope_too(self) -> None:
        async def scenario(world: World) -> None:
            assert (await world.http.get("/v1/nothing")).json() == {"error": "Not Found"}
            assert (await world.http.put("/v1/webhooks")).status_code == 405

        run(scenario)


class TestCalls:
    def test_ids_have_the_providers_shapes_and_both_work(self) -> None:
        async def scenario(world: World) -> None:
            call = await world.emulator.ring(CallerScript())
            assert re.fullmatch(r"call_[0-9A-HJKMNP-TV-Z]{26}", call.id)
            assert re.fullmatch(r"[0-9A-F]{32}", call.external_id or "")
            for reference in (call.id, call.external_id):
                found = (await world.http.get(f"/v1/calls/{reference}")).json()
                assert (found["id"], found["status"]) == (call.id, "RINGING")
            assert code(await world.http.get("/v1/calls/call_nope")) == (404, "CALL_NOT_FOUND")

        run(scenario)

    def test_the_call_object(self) -> None:
        async def scenario(world: World) -> None:
            call = await world.answered(CallerScript(number=USER))
            await asyncio.sleep(12.4)
            await world.post(f"/v1/calls/{call.id}/terminate")
            found = (await world.http.get(f"/v1/calls/{call.id}?includeSdp=1")).json()
            assert found == {
                "id": call.id,
                "externalCallId": call.external_id,
                "direction": "INBOUND",
                "status": "COMPLETED",
                "peerNumber": "5511999990000",
                "fromNumber": "5511999990000",
                "conversationId": None,
                "bizOpaqueCallbackData": None,
                "startedAt": "2026-01-01T00:00:00.000Z",
                "connectedAt": "2026-01-01T00:00:00.300Z",
                "endedAt": "2026-01-01T00:00:12.400Z",
                "durationSeconds": 12,
                "errorCode": None,
                "errorMessage": None,
                "createdAt": "2026-01-01T00:00:00.000Z",
                "updatedAt": "2026-01-01T00:00:12.400Z",
                "sdpOffer": None,
                "sdpAnswer": None,
            }

        run(scenario)

    def test_list_is_newest_first_and_pages_by_cursor(self) -> None:
        async def scenario(world: World) -> None:
            ids = []
            for _ in range(30):
                ids.append((await world.emulator.ring(CallerScript())).id)
                await asyncio.sleep(1)

            async def listed(**params: Any) -> list[dict[str, Any]]:
                response = await world.http.get("/v1/calls", params=params)
                calls: list[dict[str, Any]] = response.json()["calls"]
                return calls

            assert [call["id"] for call in await listed()] == ids[::-1][:25]
            page = await listed(limit=10)
            following = await listed(limit=10, before=page[-1]["createdAt"])
            assert [call["id"] for call in page + following] == ids[::-1][:20]
            assert await listed(before="2026-01-01T00:00:00") == []

        run(scenario)

    @pytest.mark.parametrize(
        ("params", "expected"),
        [
            ({"limit": "0"}, "INVALID_LIMIT"),
            ({"limit": "101"}, "INVALID_LIMIT"),
            ({"limit": "ten"}, "INVALID_LIMIT"),
            ({"limit": "-1"}, "INVALID_LIMIT"),
            ({"limit": "٣"}, "INVALID_LIMIT"),
            ({"before": "yesterday"}, "INVALID_BEFORE"),
            ({"before": ""}, "INVALID_BEFORE"),
        ],
    )
    def test_list_validation(self, params: dict[str, str], expected: str) -> None:
        async def scenario(world: World) -> None:
            assert code(await world.http.get("/v1/calls", params=params)) == (400, expected)

        run(scenario)

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ({}, (400, "MISSING_TO")),
            ({"to": ""}, (400, "MISSING_TO")),
            ({"to": "12"}, (400, None)),
            ({"to": 5511}, (400, None)),
            ({"to": USER, "bizOpaqueCallbackData": 7}, (400, None)),
            ({"to": USER, "bizOpaqueCallbackData": "x" * 513}, (400, None)),
            ({"to": "+55 (11) 99999-0000"}, (201, None)),
        ],
    )
    def test_initiate_validation(
        self, body: dict[str, Any], expected: tuple[int, str | None]
    ) -> None:
        async def scenario(world: World) -> None:
            assert code(await world.post("/v1/calls", body)) == expected

        run(scenario)

    @pytest.mark.parametrize("raw", [b"{", b"[]", b"\xff", b'"x"', b"[" * 10_000])
    def test_bodies_that_are_no_json_object(self, raw: bytes) -> None:
        async def scenario(world: World) -> None:
            response = await world.http.post("/v1/calls", content=raw)
            assert response.json() == {"error": "Validation error"}

        run(scenario)

    def test_a_body_of_half_a_megabyte_is_refused(self) -> None:
        async def scenario(world: World) -> None:
            response = await world.http.post("/v1/calls", content=b" " * 500_000)
            assert response.status_code == 413

        run(scenario)

    def test_a_disconnected_instance(self) -> None:
        async def scenario(world: World) -> None:
            call = await world.emulator.ring(CallerScript())
            refused = (409, "WHATSAPP_INSTANCE_NOT_CONNECTED")
            assert code(await world.post("/v1/calls", {"to": USER})) == refused
            for verb in ("accept", "reject", "terminate", "play", "realtime-session"):
                assert code(await world.post(f"/v1/calls/{call.id}/{verb}")) == refused
            assert (await world.http.get(f"/v1/calls/{call.id}")).status_code == 200

        run(scenario, rest(instance_connected=False))

    @pytest.mark.parametrize(
        ("kind", "operations"),
        [
            (
                "EVO_GO",
                [
                    ("POST", "/v1/calls/{}/pre-accept"),
                    ("GET", "/v1/calls/settings"),
                    ("PUT", "/v1/calls/settings"),
                    ("GET", "/v1/calls/permissions?to=%2B5511999990000"),
                    ("POST", "/v1/calls/permissions/request"),
                ],
            ),
            ("META", [("POST", "/v1/calls/{}/play"), ("POST", "/v1/calls/{}/realtime-session")]),
        ],
    )
    def test_features_of_the_other_kind(self, kind: str, operations: list[Any]) -> None:
        async def scenario(world: World) -> None:
            call = await world.emulator.ring(CallerScript())
            for method, path in operations:
                response = await world.http.request(method, path.format(call.id))
                assert code(response) == (400, "FEATURE_NOT_SUPPORTED"), path

        run(scenario, kind=kind)


class TestLifecycle:
    def test_accept_twice_is_harmless_by_default(self) -> None:
        async def scenario(world: World) -> None:
            call = await world.answered()
            again = await world.post(f"/v1/calls/{call.id}/accept")
            assert again.json() == {"success": True, "id": call.id, "status": "ACCEPTED"}

        run(scenario)

    def test_accept_twice_can_conflict(self) -> None:
        async def scenario(world: World) -> None:
            call = await world.answered()
            again = await world.post(f"/v1/calls/{call.id}/accept")
            assert code(again) == (409, "CALL_ALREADY_ACCEPTED")

        run(scenario, rest(accept_twice_status=409))

    @pytest.mark.parametrize("status", [200, 404, 409])
    def test_ended_calls(self, status: int) -> None:
        async def scenario(world: World) -> None:
            call = await world.emulator.ring(CallerScript())
            assert (await world.post(f"/v1/calls/{call.id}/reject")).json()["status"] == "REJECTED"
            for verb in ("reject", "terminate"):
                assert (await world.post(f"/v1/calls/{call.id}/{verb}")).status_code == status
            late = await world.post(f"/v1/calls/{call.id}/accept")
            assert code(late) == (410, "CALL_ALREADY_ENDED")
            assert call.status == "REJECTED"

        run(scenario, rest(over_status=status, accept_over_status=410))

    def test_an_accepted_call_is_not_rejected_any_more(self) -> None:
        async def scenario(world: World) -> None:
            call = await world.answered()
            assert code(await world.post(f"/v1/calls/{call.id}/reject"))[0] == 409

        run(scenario)

    def test_terminating_a_ringing_call_rejects_it(self) -> None:
        async def scenario(world: World) -> None:
            call = await world.emulator.ring(CallerScript())
            await world.post(f"/v1/calls/{call.id}/terminate")
            assert call.status == "REJECTED"

        run(scenario)

    @pytest.mark.parametrize(
        ("switches", "status", "ended"),
        [
            ({"ring_s": 30.0}, "MISSED", 30.0),
            ({"cancel": "ringing", "cancel_after_s": 3.0}, "MISSED", 3.0),
            ({"elsewhere_after_s": 4.0}, "COMPLETED", 4.0),
            ({"elsewhere_after_s": 4.0, "elsewhere_status": "REJECTED"}, "REJECTED", 4.0),
        ],
    )
    def test_a_call_nobody_answers_here(
        self, switches: dict[str, Any], status: str, ended: float
    ) -> None:
        async def scenario(world: World) -> None:
            call = await world.emulator.ring(CallerScript())
            await call.ended()
            assert (call.status, call.when("ended")) == (status, ended)
            assert call.duration_seconds is None

        run(scenario, caller(**switches))

    def test_the_caller_cancels_as_the_accept_arrives(self) -> None:
        async def scenario(world: World) -> None:
            call = await world.emulator.ring(CallerScript())
            late = await world.post(f"/v1/calls/{call.id}/accept")
            assert code(late) == (409, "CALL_ALREADY_ENDED")
            assert call.status == "MISSED"

        run(scenario, caller(cancel="on_accept"))

    def test_the_caller_cancels_right_after_the_accept(self) -> None:
        async def scenario(world: World) -> None:
            call = await world.answered()
            await call.ended()
            assert (call.status, call.connected) == ("MISSED", None)

        run(scenario, caller(cancel="after_accept"))

    def test_ringing_stops_with_the_accept(self) -> None:
        async def scenario(world: World) -> None:
            call = await world.emulator.ring(CallerScript())
            await asyncio.sleep(9.9)
            await world.post(f"/v1/calls/{call.id}/accept")
            await asyncio.sleep(60)
            assert call.status == "ACCEPTED"

        run(scenario, caller(ring_s=10.0, connect_after_s=1.0))

    @pytest.mark.parametrize(
        ("dialled", "status", "at"),
        [
            ("declines", "REJECTED", 2.3),
            ("no_answer", "MISSED", 45.3),
            ("unreachable", "FAILED", 0.3),
        ],
    )
    def test_outbound_calls_that_fail(self, dialled: str, status: str, at: float) -> None:
        async def scenario(world: World) -> None:
            reply = (await world.post("/v1/calls", {"to": USER})).json()
            assert reply["status"] == "INITIATED"
            call = world.emulator.calls[reply["id"]]
            await call.ended()
            assert call.status == status
            assert call.when("ended") == pytest.approx(at)
            assert (call.error_code is None) == (dialled != "unreachable")

        run(scenario, caller(dialled=dialled))

    def test_outbound_call_that_is_answered(self) -> None:
        async def scenario(world: World) -> None:
            world.emulator.script_outbound(
                lambda to: CallerScript(number=to, answer_after=5.0, hangup_after=7.0)
            )
            body = {"to": USER, "bizOpaqueCallbackData": "order-42"}
            reply = (await world.post("/v1/calls", body)).json()
            assert reply["externalCallId"] is None
            call = world.emulator.calls[reply["id"]]
            await asyncio.sleep(1.0)
            assert (call.status, call.external_id is None) == ("RINGING", False)
            assert code(await world.post(f"/v1/calls/{call.id}/accept"))[0] == 409
            assert code(await world.post(f"/v1/calls/{call.id}/realtime-session"))[0] == 409
            await call.ended()
            assert call.connected == pytest.approx(0.3 + 5.0 + 0.3)
            assert call.when("ended") == pytest.approx(5.6 + 0.5 + 7.0)
            dto = (await world.http.get(f"/v1/calls/{call.id}")).json()
            assert dto["bizOpaqueCallbackData"] == "order-42"
            assert dto["fromNumber"] == "5511888880000"

        run(scenario, caller(external_id_late=True))

    def test_media_can_run_before_the_answer(self) -> None:
        async def scenario(world: World) -> None:
            call_id = (await world.post("/v1/calls", {"to": USER})).json()["id"]
            call = world.emulator.calls[call_id]
            await asyncio.sleep(1.0)
            end, _ = await world.connect(call)
            await asyncio.sleep(1.0)
            assert end.audio
            assert call.status == "RINGING"

        run(scenario, caller(media_before_answer=True, answers_after_s=10.0))


class TestRealtimeSession:
    def test_reply(self) -> None:
        async def scenario(world: World) -> None:
            call = await world.answered()
            reply = (await world.post(f"/v1/calls/{call.id}/realtime-session")).json()
            assert set(reply) == {"wsUrl", "token", "expiresInSeconds"}
            assert reply["expiresInSeconds"] == 120
            assert reply["wsUrl"].endswith(f"?token={reply['token']}")
            bad = await world.post(f"/v1/calls/{call.id}/realtime-session", {"mode": "shout"})
            assert bad.status_code == 400

        run(scenario)

    @pytest.mark.parametrize("claim", [0, -1, "soon", None])
    def test_odd_replies(self, claim: Any) -> None:
        async def scenario(world: World) -> None:
            call = await world.answered()
            reply = (await world.post(f"/v1/calls/{call.id}/realtime-session")).json()
            assert reply.get("expiresInSeconds") == claim
            assert "token" not in reply
            assert reply["wsUrl"] == "wss://evil.example/x"

        run(
            scenario,
            rest(expires_in_seconds=claim, token_in_body=False, ws_url="wss://evil.example/x"),
        )

    def test_not_before_the_accept_unless_allowed(self) -> None:
        async def scenario(world: World) -> None:
            call = await world.emulator.ring(CallerScript())
            path = f"/v1/calls/{call.id}/realtime-session"
            assert code(await world.post(path)) == (409, "CALL_NOT_ACTIVE")
            world.emulator.behaviour = rest(session_before_accept=True)
            assert (await world.post(path)).status_code == 200

        run(scenario)

    def test_refused_for_a_while_after_the_accept(self) -> None:
        async def scenario(world: World) -> None:
            call = await world.answered()
            path = f"/v1/calls/{call.id}/realtime-session"
            assert code(await world.post(path)) == (425, "TOO_EARLY")
            await asyncio.sleep(2.9)
            assert code(await world.post(path))[0] == 425
            await asyncio.sleep(0.2)
            assert (await world.post(path)).status_code == 200

        run(
            scenario,
            rest(
                session_ready_after_s=3.0,
                session_refusal_status=425,
                session_refusal_code="TOO_EARLY",
            ),
        )


class TestPlay:
    @pytest.mark.parametrize(
        ("switch", "field", "status"),
        [
            ("mediaUrl", "mediaUrl", 200),
            ("mediaUrl", "audioUrl", 400),
            ("audioUrl", "audioUrl", 200),
            ("audioUrl", "mediaUrl", 400),
            ("both", "mediaUrl", 200),
            ("both", "audioUrl", 200),
        ],
    )
    def test_field(self, switch: Any, field: str, status: int) -> None:
        async def scenario(world: World) -> None:
            call = await world.answered()
            url = "https://cdn.example.com/hello.wav"
            reply = await world.post(f"/v1/calls/{call.id}/play", {field: url})
            assert code(reply) == (status, None)
            assert call.plays == ([url] if status == 200 else [])

        run(scenario, rest(play_field=switch))

    @pytest.mark.parametrize(
        "url",
        [
            "http://localhost/x.wav",
            "http://localhost./x.wav",
            "http://127.0.0.1:8000/x.wav",
            "http://[::1]/x.wav",
            "http://10.1.2.3/x.wav",
            "http://169.254.169.254/latest",
            "http://metadata.internal/x",
            "http://printer/x.wav",
        ],
    )
    def test_guard(self, url: str) -> None:
        async def scenario(world: World) -> None:
            call = await world.answered()
            path = f"/v1/calls/{call.id}/play"
            assert code(await world.post(path, {"mediaUrl": url})) == (400, "URL_NOT_ALLOWED")
            world.emulator.behaviour = rest(play_guard=False)
            assert (await world.post(path, {"mediaUrl": url})).status_code == 200

        run(scenario)

    @pytest.mark.parametrize("url", ["ftp://a.example/x", "x", "http://[", 7, None])
    def test_not_a_url(self, url: Any) -> None:
        async def scenario(world: World) -> None:
            call = await world.answered()
            reply = await world.post(f"/v1/calls/{call.id}/play", {"mediaUrl": url})
            assert reply.status_code == 400

        run(scenario)

    def test_not_into_an_ended_call(self) -> None:
        async def scenario(world: World) -> None:
            call = await world.answered()
            await world.emulator.hang_up(call)
            body = {"mediaUrl": "https://cdn.example.com/hello.wav"}
            assert code(await world.post(f"/v1/calls/{call.id}/play", body))[0] == 409

        run(scenario)


class TestScript:
    def test_outcomes_in_order_then_all_is_well(self) -> None:
        async def scenario(world: World) -> None:
            got = [(await world.http.get("/v1/calls")).status_code for _ in range(5)]
            assert got == [500, 503, 503, 200, 200]
            assert [status for _, status in world.emulator.requests] == got

        outcomes = (Outcome(status=500), Outcome(status=503, repeat=2))
        run(scenario, rest(script={"list_calls": outcomes}))

    def test_for_ever(self) -> None:
        async def scenario(world: World) -> None:
            for _ in range(20):
                assert (await world.http.get("/v1/calls")).status_code == 502
            world.emulator.behaviour = Behaviour()
            assert (await world.http.get("/v1/calls")).status_code == 200

        run(scenario, rest(script={"list_calls": (Outcome(status=502, repeat=0),)}))

    def test_the_script_goes_on_when_other_switches_change(self) -> None:
        async def scenario(world: World) -> None:
            assert (await world.http.get("/v1/calls")).status_code == 500
            world.emulator.behaviour = rest(script=script, latency_s=1.0)
            assert (await world.http.get("/v1/calls")).status_code == 501

        script: Any = {"list_calls": (Outcome(status=500), Outcome(status=501))}
        run(scenario, rest(script=script))

    @pytest.mark.parametrize("retry_after", ["1", "3600", "Thu, 01 Jan 2026 00:00:05 GMT", "-3"])
    def test_429(self, retry_after: str) -> None:
        async def scenario(world: World) -> None:
            reply = await world.http.get("/v1/calls")
            assert (reply.status_code, reply.headers["retry-after"]) == (429, retry_after)
            assert reply.json() == {"error": "Too many requests"}

        outcome = Outcome(status=429, error="Too many requests", retry_after=retry_after)
        run(scenario, rest(script={"list_calls": (outcome,)}))

    @pytest.mark.parametrize("processed", [True, False])
    @pytest.mark.parametrize("kind", ["status", "reset", "hang", "garbage"])
    def test_a_lost_answer_may_have_taken_effect(self, kind: Any, processed: bool) -> None:
        async def scenario(world: World) -> None:
            call = await world.emulator.ring(CallerScript())
            request = world.post(f"/v1/calls/{call.id}/accept")
            if kind == "reset":
                with pytest.raises(httpx.ReadError):
                    await request
            elif kind == "hang":
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(request, 5.0)
            else:
                reply = await request
                assert reply.status_code == (500 if kind == "status" else 200)
                assert ("<html>" in reply.text) == (kind == "garbage")
            assert call.status == ("ACCEPTED" if processed else "RINGING")

        outcome = Outcome(kind=kind, processed=processed)
        run(scenario, rest(script={"accept": (outcome,)}))

    def test_slow(self) -> None:
        async def scenario(world: World) -> None:
            loop = asyncio.get_running_loop()
            await world.http.get("/v1/calls")
            assert loop.time() == pytest.approx(4.5)
            await world.http.get("/v1/calls")
            assert loop.time() == pytest.approx(5.0)

        script: Any = {"list_calls": (Outcome(kind="ok", delay_s=4.0),)}
        run(scenario, rest(script=script, latency_s=0.5))

    def test_a_wrong_key_meets_no_script(self) -> None:
        async def scenario(world: World) -> None:
            reply = await world.http.get("/v1/calls", headers={"x-api-key": "no"})
            assert reply.status_code == 401

        run(scenario, rest(script={"list_calls": (Outcome(status=500, repeat=0),)}))


HOURS = {
    "status": "ENABLED",
    "timezone_id": "America/Sao_Paulo",
    "weekly_operating_hours": [
        {"day_of_week": "MONDAY", "open_time": "0800", "close_time": "1200"},
        {"day_of_week": "MONDAY", "open_time": "1300", "close_time": "1800"},
    ],
}


class TestMeta:
    def test_settings_are_updated_partly_and_hours_wholly(self) -> None:
        async def scenario(world: World) -> None:
            holidays = [{"date": "2026-12-25", "start_time": "0000", "end_time": "2359"}]
            full = HOURS | {"holiday_schedule": holidays}
            for update in ({"call_hours": full}, {"call_icon_visibility": "DISABLE_ALL"}):
                assert (await world.http.put("/v1/calls/settings", json=update)).json() == {
                    "success": True
                }
            calling = (await world.http.get("/v1/calls/settings")).json()["calling"]
            assert calling["status"] == "ENABLED"
            assert calling["call_icon_visibility"] == "DISABLE_ALL"
            assert calling["call_hours"]["holiday_schedule"] == holidays
            await world.http.put("/v1/calls/settings", json={"call_hours": HOURS})
            calling = (await world.http.get("/v1/calls/settings")).json()["calling"]
            assert calling["call_hours"]["holiday_schedule"] == []

        run(scenario, kind="META")

    @pytest.mark.parametrize(
        "update",
        [
            {"sip": {"status": "ENABLED"}},
            {"status": "ON"},
            {"call_icon_visibility": "SOME"},
            {"unheard_of": 1},
            {"voicemail": "yes"},
            {"call_hours": None},
            {"call_hours": HOURS | {"status": "MAYBE"}},
            {"call_hours": HOURS | {"timezone_id": "Mars/Olympus"}},
            {"call_hours": HOURS | {"weekly_operating_hours": []}},
            {"call_hours": HOURS | {"extra": 1}},
            {"call_hours": HOURS | {"weekly_operating_hours": [{"day_of_week": "FUNDAY"}]}},
            *(
                {
                    "call_hours": HOURS
                    | {
                        "weekly_operating_hours": [
                            {"day_of_week": "MONDAY", "open_time": opens, "close_time": closes}
                            for opens, closes in spans
                        ]
                    }
                }
                for spans in (
                    [("2500", "2600")],
                    [("1200", "0800")],
                    [("8:00", "1200")],
                    [("0800", "1200"), ("1100", "1300")],
                    [("0100", "0200"), ("0300", "0400"), ("0500", "0600")],
                )
            ),
            *(
                {"call_hours": HOURS | {"holiday_schedule": holidays}}
                for holidays in (
                    [{"date": "2025-12-31", "start_time": "0000", "end_time": "2359"}],
                    [{"date": "someday", "start_time": "0000", "end_time": "2359"}],
                    [{"date": "2026-12-25", "start_time": "1000", "end_time": "0900"}],
                    [{"date": "2026-12-25", "start_time": "0000", "end_time": "2359"}] * 21,
                    "none",
                )
            ),
        ],
    )
    def test_settings_that_meta_refuses(self, update: dict[str, Any]) -> None:
        async def scenario(world: World) -> None:
            before = (await world.http.get("/v1/calls/settings")).json()
            reply = await world.http.put("/v1/calls/settings", json=update)
            assert reply.status_code == 400
            assert reply.json()["error"].startswith("Validation error")
            assert (await world.http.get("/v1/calls/settings")).json() == before

        run(scenario, kind="META")

    def test_a_small_number_cannot_enable_calling(self) -> None:
        async def scenario(world: World) -> None:
            reply = await world.http.put("/v1/calls/settings", json={"status": "ENABLED"})
            assert "138015" in reply.json()["error"]

        run(scenario, rest(daily_limit=1_999), kind="META")

    def test_permission_is_asked_granted_and_announced(self) -> None:
        async def scenario(world: World) -> None:
            body = {"to": USER, "sdp": SDP}
            probe = {"to": USER}
            assert code(await world.post("/v1/calls", body)) == (
                400,
                "META_CALL_PERMISSION_REQUIRED",
            )
            asked = await world.post("/v1/calls/permissions/request", probe | {"text": "May we?"})
            assert asked.status_code == 201
            assert asked.json()["messageId"].startswith("wamid.")
            again = await world.post("/v1/calls/permissions/request", probe)
            assert code(again) == (400, "META_CALL_PERMISSION_REQUEST_LIMIT")
            await asyncio.sleep(1.1)
            await world.emulator.webhooks.settled()
            notice = world.mailbox.of("call.permission_updated")
            assert (notice["callId"], notice["status"], notice["from"]) == (
                None,
                "TEMPORARY",
                USER,
            )
            permission = (await world.http.get("/v1/calls/permissions", params=probe)).json()
            assert permission["permission"]["status"] == "temporary"
            assert permission["permission"]["expiration_time"] > 1_767_225_600
            assert (await world.post("/v1/calls", body)).status_code == 201
            await asyncio.sleep(8 * 86_400)
            permission = (await world.http.get("/v1/calls/permissions", params=probe)).json()
            assert permission["permission"] == {"status": "no_permission"}

        async def main() -> None:
            async with World(kind="META") as world:
                await scenario(world)

        run_virtual(main(), timeout_virtual=1e7)

    @pytest.mark.parametrize(
        ("answer", "status"),
        [("grant_permanent", "permanent"), ("deny", "no_permission"), ("ignore", "no_permission")],
    )
    def test_the_users_answer(self, answer: Any, status: str) -> None:
        async def scenario(world: World) -> None:
            await world.post("/v1/calls/permissions/request", {"to": USER})
            await asyncio.sleep(2.0)
            await world.emulator.webhooks.settled()
            reply = await world.http.get("/v1/calls/permissions", params={"to": USER})
            assert reply.json()["permission"]["status"] == status
            assert len(world.mailbox.events) == (answer != "ignore")

        run(scenario, caller(permission=answer), kind="META")

    def test_sdp_is_needed(self) -> None:
        async def scenario(world: World) -> None:
            call = await world.emulator.ring(CallerScript())
            assert (call.external_id or "").startswith("wacid.")
            offer = (await world.http.get(f"/v1/calls/{call.id}?includeSdp=1")).json()["sdpOffer"]
            assert offer.startswith("v=0")
            assert (await world.post(f"/v1/calls/{call.id}/accept", {})).status_code == 400
            assert (await world.post("/v1/calls", {"to": USER})).status_code == 400
            body = {"sdp": SDP, "sdpType": "answer"}
            assert (await world.post(f"/v1/calls/{call.id}/pre-accept", body)).json()[
                "status"
            ] == "RINGING"
            wrong = body | {"sdpType": "offer"}
            assert (await world.post(f"/v1/calls/{call.id}/accept", wrong)).status_code == 400
            assert (await world.post(f"/v1/calls/{call.id}/accept", body)).status_code == 200
            assert code(await world.post(f"/v1/calls/{call.id}/pre-accept", body))[0] == 409
            assert call.sdp_answer == SDP

        run(scenario, kind="META")

    def test_calls_need_calling_to_be_enabled(self) -> None:
        async def scenario(world: World) -> None:
            await world.http.put("/v1/calls/settings", json={"status": "DISABLED"})
            reply = await world.post("/v1/calls", {"to": USER, "sdp": SDP})
            assert "138000" in reply.json()["error"]

        run(scenario, kind="META")


def test_old_calls_are_forgotten_only_when_they_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        first = await world.emulator.ring(CallerScript(record=False))
        await world.post(f"/v1/calls/{first.id}/accept")
        over = await world.emulator.ring(CallerScript())
        await world.post(f"/v1/calls/{over.id}/reject")
        newest = await world.emulator.ring(CallerScript())
        assert list(world.emulator.calls) == [first.id, newest.id]

    monkeypatch.setattr("voicebridge.emulator.exchange._KEPT_CALLS", 2)
    run(scenario)


def test_secrets_and_numbers_stay_out_of_reprs() -> None:
    async def scenario(world: World) -> None:
        call = await world.answered(CallerScript(number=USER))
        url = await world.session(call)
        token = url.partition("token=")[2]
        await world.emulator.connect_media(SecretStr(url), BridgeEnd())
        shown = repr((call, call.far_end.script, world.emulator.config, call.timeline))
        for secret in ("99999", "88888", "ps_emulator", token, "whsec"):
            assert secret not in shown

    run(scenario)
