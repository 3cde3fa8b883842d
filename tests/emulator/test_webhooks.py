"""Webhooks in virtual time: bodies, signatures, subscriptions and every delivery fault."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilot_status.webhooks import (
    is_customer_webhook_event,
    is_unknown_customer_webhook_event,
    parse_customer_webhook,
)

from tests.emulator.world import SECRET, World
from voicebridge.emulator import (
    Behaviour,
    CallerBehaviour,
    CallerScript,
    RestBehaviour,
    WebhookBehaviour,
)
from voicebridge.testing.clock import run_virtual

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ORDER = ["call.ringing", "call.connected", "call.ended"]


def run(
    scenario: Callable[[World], Awaitable[None]], behaviour: Behaviour | None = None, **config: Any
) -> None:
    async def main() -> None:
        async with World(behaviour, **config) as world:
            await scenario(world)

    run_virtual(main())


def hooks(**switches: Any) -> Behaviour:
    return Behaviour(webhooks=WebhookBehaviour(**switches))


async def whole_call(world: World, seconds: float = 10.0) -> None:
    """An answered call that the caller ends, with all its webhooks delivered."""
    call = await world.emulator.ring(CallerScript())
    await asyncio.sleep(1.0)
    await world.post(f"/v1/calls/{call.id}/accept")
    await asyncio.sleep(0.3 + seconds)
    await world.emulator.hang_up(call)
    await world.emulator.webhooks.settled()


class TestBodies:
    def test_of_an_answered_call(self) -> None:
        async def scenario(world: World) -> None:
            await whole_call(world, 10.0)
            assert world.mailbox.events == ORDER
            call = next(iter(world.emulator.calls.values()))
            assert world.mailbox.bodies[0] == {
                "event": "call.ringing",
                "callId": call.id,
                "externalCallId": call.external_id,
                "direction": "INBOUND",
                "status": "RINGING",
                "from": "+5511999990000",
                "to": "+5511888880000",
                "timestamp": "2026-01-01T00:00:00.000Z",
            }
            ended = world.mailbox.of("call.ended")
            assert (ended["status"], ended["duration"]) == ("COMPLETED", 10)

        run(scenario)

    def test_of_a_missed_call(self) -> None:
        async def scenario(world: World) -> None:
            call = await world.emulator.ring(CallerScript())
            await call.ended()
            await world.emulator.webhooks.settled()
            assert world.mailbox.events == ["call.ringing", "call.missed"]
            assert "duration" not in world.mailbox.bodies[1]

        run(scenario)

    def test_of_an_outbound_call(self) -> None:
        async def scenario(world: World) -> None:
            body = {"to": "+5511999990000", "bizOpaqueCallbackData": "order-42"}
            call_id = (await world.post("/v1/calls", body)).json()["id"]
            await asyncio.sleep(5.0)
            await world.post(f"/v1/calls/{call_id}/terminate")
            await world.emulator.webhooks.settled()
            assert world.mailbox.events == ORDER
            for notice in world.mailbox.bodies:
                assert notice["direction"] == "OUTBOUND"
                assert (notice["from"], notice["to"]) == ("+5511888880000", "+5511999990000")
            assert world.mailbox.of("call.ended")["bizOpaqueCallbackData"] == "order-42"

        run(scenario)

    @given(
        ids=st.sampled_from(["both", "pilot_only", "external_only", "none"]),
        peer=st.sampled_from(["phone", "lid", "null"]),
        timestamp=st.sampled_from(["iso", "naive", "epoch_ms", "garbage"]),
        duration=st.sampled_from(["duration", "durationSeconds", "both"]),
        skew=st.floats(-1e6, 1e6),
    )
    def test_the_sdk_takes_every_flat_body(
        self, ids: str, peer: str, timestamp: str, duration: str, skew: float
    ) -> None:
        async def scenario(world: World) -> None:
            await whole_call(world)
            for body in world.mailbox.bodies:
                assert is_customer_webhook_event(body)
                assert (body["callId"] is None) == (ids in ("external_only", "none"))
                assert (body["externalCallId"] is None) == (ids in ("pilot_only", "none"))

        run(
            scenario,
            hooks(
                ids=ids,
                peer=peer,
                timestamp=timestamp,
                duration_field=duration,
                timestamp_skew_s=skew,
            ),
        )

    def test_skew_makes_events_old(self) -> None:
        async def scenario(world: World) -> None:
            await whole_call(world)
            assert world.mailbox.bodies[0]["timestamp"] == "2025-12-31T23:50:00.000Z"

        run(scenario, hooks(timestamp_skew_s=-600))

    def test_wrapped(self) -> None:
        async def scenario(world: World) -> None:
            await whole_call(world)
            for body in world.mailbox.bodies:
                assert set(body) == {"event", "data"}
                assert body["data"]["direction"] == "INBOUND"

        run(scenario, hooks(shape="wrapped"))

    @pytest.mark.parametrize(
        ("native", "events"),
        [
            ("only", ["CallOffer", "CallAccept", "CallTerminate"]),
            ("first", ["CallOffer", "call.ringing", "CallAccept", "call.connected"]),
            ("also", ["call.ringing", "CallOffer", "call.connected", "CallAccept"]),
        ],
    )
    def test_native_vocabulary(self, native: str, events: list[str]) -> None:
        async def scenario(world: World) -> None:
            await whole_call(world)
            assert world.mailbox.events[: len(events)] == events
            call = next(iter(world.emulator.calls.values()))
            for body in world.mailbox.bodies:
                if body["event"].startswith("call."):
                    continue
                assert is_unknown_customer_webhook_event(parse_customer_webhook(body))
                assert body["instanceToken"]
                assert body["data"]["CallID"] == call.external_id
                assert body["data"]["From"] == "5511999990000@s.whatsapp.net"
            assert world.mailbox.of("CallOffer")["data"]["RemotePlatform"] == "android"
            assert world.mailbox.of("CallTerminate")["data"]["Reason"] == "hangup"

        run(scenario, hooks(native=native))

    def test_answered_elsewhere_says_so_natively(self) -> None:
        async def scenario(world: World) -> None:
            call = await world.emulator.ring(CallerScript())
            await call.ended()
            await world.emulator.webhooks.settled()
            assert world.mailbox.of("CallTerminate")["data"]["Reason"] == "accepted_elsewhere"

        run(
            scenario,
            Behaviour(
                caller=CallerBehaviour(elsewhere_after_s=2.0),
                webhooks=WebhookBehaviour(native="only"),
            ),
        )


class TestSignature:
    def header(self, behaviour: Behaviour, **config: Any) -> tuple[str | None, str]:
        found: list[tuple[str | None, str]] = []

        async def scenario(world: World) -> None:
            await world.emulator.ring(CallerScript())
            await asyncio.sleep(0.1)
            request = world.mailbox.requests[0][1]
            right = hmac.new(SECRET.encode(), request.content, hashlib.sha256).hexdigest()
            found.append((request.headers.get("x-pilot-status-signature"), right))

        run(scenario, behaviour, **config)
        return found[0]

    def test_on(self) -> None:
        sent, right = self.header(hooks())
        assert sent == right

    def test_off(self) -> None:
        assert self.header(hooks(signature="off"))[0] is None

    def test_wrong(self) -> None:
        sent, right = self.header(hooks(signature="wrong"))
        assert sent is not None
        assert sent != right
        assert len(sent) == len(right)

    def test_prefixed_and_upper(self) -> None:
        sent, right = self.header(hooks(signature="prefixed"))
        assert sent == f"sha256={right}"
        sent, right = self.header(hooks(signature="upper"))
        assert sent == right.upper()


class TestDelivery:
    def deliveries(
        self, behaviour: Behaviour, *answers: int, settle: bool = True
    ) -> list[tuple[str, float]]:
        """``(event, seconds)`` of a call of 10 s that connects at 1.3 s."""
        got: list[tuple[str, float]] = []

        async def scenario(world: World) -> None:
            world.mailbox.answers = list(answers)
            await whole_call(world)
            mailbox = world.mailbox
            got.extend(
                (event, round(at, 3))
                for event, at in zip(mailbox.events, mailbox.instants, strict=True)
            )

        run(scenario, behaviour)
        return got

    def test_in_order_by_default(self) -> None:
        assert self.deliveries(hooks()) == [
            ("call.ringing", 0.0),
            ("call.connected", 1.3),
            ("call.ended", 11.3),
        ]

    @pytest.mark.parametrize(
        ("connected", "at"),
        [
            ("missing", []),
            ("late", [3.3]),
            ("duplicate", [1.3, 1.3]),
            ("after_ended", [11.5]),
        ],
    )
    def test_connected(self, connected: str, at: list[float]) -> None:
        got = self.deliveries(hooks(connected=connected, connected_late_s=2.0))
        assert [when for event, when in got if event == "call.connected"] == at
        assert ("call.ended", 11.3) in got

    def test_delays_reorder(self) -> None:
        got = self.deliveries(hooks(delays={"call.ringing": 20.0}, delay_s=0.5))
        assert [event for event, _ in got] == ["call.connected", "call.ended", "call.ringing"]
        assert got[0] == ("call.connected", 1.8)

    def test_drop(self) -> None:
        got = self.deliveries(hooks(drop=("call.ringing", "call.ended")))
        assert [event for event, _ in got] == ["call.connected"]

    def test_a_lost_first_delivery_comes_with_the_retry(self) -> None:
        got = self.deliveries(hooks(lose_first=("call.ringing",)))
        assert ("call.ringing", 30.0) in got
        assert len(got) == 3

    def test_copies(self) -> None:
        got = self.deliveries(hooks(copies=5))
        assert [event for event, _ in got].count("call.ringing") == 5

    def test_repeat_although_answered(self) -> None:
        got = self.deliveries(hooks(repeat_after_s=600.0))
        assert [at for event, at in got if event == "call.ringing"] == [0.0, 600.0]

    def test_retries_until_2xx(self) -> None:
        got = self.deliveries(hooks(), 503, 500)
        assert [at for event, at in got if event == "call.ringing"][:2] == [0.0, 30.0]
        assert len(got) == 5

    def test_retries_end(self) -> None:
        got = self.deliveries(hooks(retries=2, retry_s=1.0), *[500] * 100)
        assert [at for event, at in got if event == "call.ringing"] == [0.0, 1.0, 2.0]
        assert len(got) == 9

    def test_a_receiver_that_hangs_times_out_and_is_logged(self) -> None:
        async def main() -> None:
            async with World(hooks(timeout_s=5.0, retries=1)) as world:

                async def hang(request: httpx.Request) -> httpx.Response:
                    await asyncio.sleep(3_000)
                    return httpx.Response(200)

                world.emulator.webhooks._transport = httpx.MockTransport(hang)
                await world.emulator.ring(CallerScript())
                await asyncio.sleep(36.0)
                webhook = world.emulator.webhooks.all()[0]
                logged = [entry for entry in webhook.log if entry["event"] == "call.ringing"]
                assert len(logged) == 1
                assert logged[0]["status"] == "FAILED"
                assert logged[0]["statusCode"] is None
                assert logged[0]["durationMs"] == 5_000

        run_virtual(main())

    def test_stop_drops_what_is_pending(self) -> None:
        async def scenario(world: World) -> None:
            await world.emulator.ring(CallerScript())
            await asyncio.sleep(1.0)
            await world.emulator.stop()
            await asyncio.sleep(100.0)
            assert world.mailbox.events == []

        run(scenario, hooks(delay_s=5.0))

    def test_the_timeline_tells_of_sending_and_answer(self) -> None:
        async def scenario(world: World) -> None:
            call = await world.emulator.ring(CallerScript())
            await asyncio.sleep(0.1)
            steps = [(what, detail) for _, what, detail in call.timeline]
            assert ("webhook", "call.ringing") in steps
            assert ("webhook_answered", "call.ringing 200") in steps

        run(scenario)


class TestSubscriptions:
    async def create(self, world: World, **body: Any) -> dict[str, Any]:
        reply = await world.post("/v1/webhooks", {"url": "http://other/hook"} | body)
        assert reply.status_code == 201
        created: dict[str, Any] = reply.json()
        return created

    def test_create_get_list_update_delete(self) -> None:
        async def scenario(world: World) -> None:
            created = await self.create(world, name="mine", events=["call.ringing"])
            assert set(created) == {
                *("id", "tenantId", "name", "url", "environment", "active", "events", "apiKeys"),
                *("lastTriggered", "whatsappNumberIds", "whatsappInstanceIds"),
                *("createdAt", "updatedAt"),
            }
            path = f"/v1/webhooks/{created['id']}"
            assert (await world.http.get(path)).json() == created
            listed = (await world.http.get("/v1/webhooks")).json()
            assert [row["name"] for row in listed] == ["emulator", "mine"]
            await asyncio.sleep(1)
            changed = (
                await world.http.patch(path, json={"events": ["call.ended"], "active": False})
            ).json()
            assert (changed["events"], changed["active"]) == (["call.ended"], False)
            assert changed["updatedAt"] > created["updatedAt"]
            assert (await world.http.delete(path)).status_code == 200
            gone = await world.http.get(path)
            assert (gone.status_code, gone.json()["code"]) == (404, "WEBHOOK_NOT_FOUND")
            assert SECRET not in json.dumps([created, listed, changed])

        run(scenario)

    @pytest.mark.parametrize(
        ("wished", "kept"),
        [
            ([], []),
            (["*"], ["*"]),
            (["call.ringing", "call.ringing", "nonsense"], ["call.ringing"]),
            (["call.permission_updated", "message.received"], ["message.received"]),
        ],
    )
    def test_events_that_the_number_cannot_emit_are_dropped(
        self, wished: list[str], kept: list[str]
    ) -> None:
        async def scenario(world: World) -> None:
            assert (await self.create(world, events=wished))["events"] == kept

        run(scenario)

    def test_call_events_may_be_dropped_as_one_page_says(self) -> None:
        async def scenario(world: World) -> None:
            assert (await self.create(world, events=["call.ringing", "*"]))["events"] == ["*"]

        run(scenario, Behaviour(rest=RestBehaviour(call_events_dropped=True)))

    def test_meta_emits_permission_updates(self) -> None:
        async def scenario(world: World) -> None:
            created = await self.create(world, events=["call.permission_updated", "CallOffer"])
            assert created["events"] == ["call.permission_updated"]

        run(scenario, kind="META")

    @pytest.mark.parametrize(
        ("change", "delivered"),
        [
            ({"events": []}, []),
            ({"active": False}, []),
            ({"events": ["call.ended"]}, ["call.ended"]),
            ({"events": ["call.ringing", "call.missed"]}, ["call.ringing"]),
        ],
    )
    def test_only_what_is_subscribed_is_delivered(
        self, change: dict[str, Any], delivered: list[str]
    ) -> None:
        async def scenario(world: World) -> None:
            webhook = (await world.http.get("/v1/webhooks")).json()[0]
            await world.http.patch(f"/v1/webhooks/{webhook['id']}", json=change)
            await whole_call(world)
            assert world.mailbox.events == delivered

        run(scenario)

    @pytest.mark.parametrize(
        "body",
        [
            {"url": "ftp://x"},
            {"url": "http://["},
            {"url": None},
            {"name": ""},
            {"name": 3},
            {"events": "call.ringing"},
            {"events": [1]},
        ],
    )
    def test_validation(self, body: dict[str, Any]) -> None:
        async def scenario(world: World) -> None:
            reply = await world.post("/v1/webhooks", {"url": "http://other/hook"} | body)
            assert reply.status_code == 400
            webhook = (await world.http.get("/v1/webhooks")).json()[0]
            for change in (body, {"active": "no"}, {"secret": "x"}):
                reply = await world.http.patch(f"/v1/webhooks/{webhook['id']}", json=change)
                assert reply.status_code == 400

        run(scenario)

    @pytest.mark.parametrize(
        ("key", "number", "expected"),
        [
            ("ps_emulator", None, (201, None)),
            ("ps_emulator", "num_emulator", (201, None)),
            ("ps_emulator", "num_other", (400, "NUMBER_MISMATCH")),
            ("ps_emulator_tenant", None, (400, "NUMBER_REQUIRED")),
            ("ps_emulator_tenant", "num_other", (404, "NUMBER_NOT_FOUND")),
            ("ps_emulator_tenant", "num_emulator", (201, None)),
        ],
    )
    def test_whose_number(self, key: str, number: str | None, expected: tuple[int, Any]) -> None:
        async def scenario(world: World) -> None:
            body = {"url": "http://other/hook"}
            named = body | ({"whatsappNumberId": number} if number else {})
            reply = await world.post("/v1/webhooks", named, headers={"x-api-key": key})
            assert (reply.status_code, reply.json().get("code")) == expected

        run(scenario)

    def test_log(self) -> None:
        async def scenario(world: World) -> None:
            for _ in range(20):
                await whole_call(world, 1.0)
            webhook = (await world.http.get("/v1/webhooks")).json()[0]
            path = f"/v1/webhooks/{webhook['id']}/logs"
            entries = (await world.http.get(path)).json()
            assert len(entries) == 50
            assert entries[0]["event"] == "call.ended"
            assert set(entries[0]) == {
                *("event", "status", "statusCode", "payload", "response", "durationMs"),
                "createdAt",
            }
            assert entries[0]["status"] == "SUCCESS"
            ringing = (await world.http.get(f"{path}?event=call.ringing&limit=5")).json()
            assert [entry["event"] for entry in ringing] == ["call.ringing"] * 5
            for limit in ("0", "51", "x"):
                assert (await world.http.get(f"{path}?limit={limit}")).status_code == 400

        run(scenario)
