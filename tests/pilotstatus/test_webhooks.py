"""Webhook bodies: every vocabulary is understood, and no bytes do more than fail."""

from __future__ import annotations

import json
import string
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilot_status.webhooks import parse_customer_webhook

from voicebridge.errors import WebhookError
from voicebridge.pilotstatus.models import CallStatus, Direction, NoticeKind
from voicebridge.pilotstatus.webhooks import (
    AccountNotice,
    CallEvent,
    CallEventKind,
    Unknown,
    parse_event,
)

RINGING: dict[str, Any] = {
    "event": "call.ringing",
    "callId": "call_01HZX",
    "externalCallId": "1A2B3C4D",
    "direction": "INBOUND",
    "status": "RINGING",
    "from": "+5511999999999",
    "to": "+5511888888888",
    "timestamp": "2026-07-03T15:00:00.000Z",
}
OFFER: dict[str, Any] = {
    "event": "CallOffer",
    "instance": "vendas",
    "instanceToken": "canary-token",
    "data": {
        "CallID": "1A2B3C4D",
        "From": "5511999999999:12@s.whatsapp.net",
        "CallCreator": "5511999999999@s.whatsapp.net",
        "Timestamp": "2026-07-03T12:00:00-03:00",
        "RemotePlatform": "android",
        "RemoteVersion": "2.26",
    },
}
AT = datetime(2026, 7, 3, 15, tzinfo=UTC)


def parse(document: object, *, trusted: bool = False) -> Any:
    return parse_event(json.dumps(document).encode(), trusted=trusted)


def call(document: dict[str, Any], **changes: Any) -> CallEvent:
    found = parse({**document, **changes})
    assert isinstance(found, CallEvent)
    return found


def offer(**changes: Any) -> CallEvent:
    return call(OFFER, data={**OFFER["data"], **changes})


# The normalised vocabulary.


def test_a_ringing_call() -> None:
    assert parse(RINGING) == CallEvent(
        kind=CallEventKind.RINGING,
        call_id="call_01HZX",
        external_id="1A2B3C4D",
        direction=Direction.INBOUND,
        status=CallStatus.RINGING,
        peer="5511999999999",
        own="5511888888888",
        timestamp=AT,
        duration_seconds=None,
        native=False,
        reason=None,
        callback_data=None,
        trusted=False,
    )


def test_the_verdict_on_the_signature_travels_with_the_event() -> None:
    assert parse(RINGING, trusted=True).trusted is True
    assert parse(OFFER, trusted=True).trusted is True
    assert parse(RINGING).trusted is False


def test_on_an_outbound_call_the_peer_is_whom_we_called() -> None:
    event = call(RINGING, direction="outbound")
    assert (event.direction, event.peer) == (Direction.OUTBOUND, "5511888888888")
    assert event.own == "5511999999999"


@pytest.mark.parametrize("direction", [None, "", "SIDEWAYS", 1, [], {}])
def test_without_a_direction_nobody_is_taken_for_the_peer(direction: object) -> None:
    event = call(RINGING, direction=direction)
    assert (event.direction, event.peer, event.own) == (None, None, None)


def test_the_wrapped_shape_says_the_same() -> None:
    inner = {key: value for key, value in RINGING.items() if key != "event"}
    assert parse({"event": "call.ringing", "data": inner}) == parse(RINGING)


def test_inside_goes_before_outside() -> None:
    # An envelope's timestamp is that of the delivery and differs between retries.
    inner = {"callId": "call_1", "timestamp": RINGING["timestamp"]}
    event = call({"event": "call.ended", "timestamp": "2030-01-01T00:00:00Z", "data": inner})
    assert event.timestamp == AT


@pytest.mark.parametrize("data", [None, "text", 1, [], [1], True])
def test_data_that_is_no_object_is_overlooked(data: object) -> None:
    assert call(RINGING, data=data) == parse(RINGING)


def test_keys_and_names_are_read_in_any_case() -> None:
    shouted = {key.upper(): value for key, value in RINGING.items()}
    assert parse(shouted | {"EVENT": " Call.Ringing "}) == parse(RINGING)


@pytest.mark.parametrize("kind", CallEventKind)
def test_every_kind(kind: CallEventKind) -> None:
    event = call(RINGING, event=f"call.{kind.value}")
    assert (event.kind, event.native) == (kind, False)


def test_a_permission_is_not_a_call_status() -> None:
    event = call(
        RINGING, event="call.permission_updated", status="PERMANENT", callId=None, direction=None
    )
    assert (event.status, event.call_id) == (None, None)


@pytest.mark.parametrize(
    ("call_id", "external_id"), [(None, "1A2B"), ("call_1", None), (None, None)]
)
def test_either_id_may_be_missing(call_id: str | None, external_id: str | None) -> None:
    event = call(RINGING, callId=call_id, externalCallId=external_id)
    assert (event.call_id, event.external_id) == (call_id, external_id)


@pytest.mark.parametrize(
    "value",
    ["", " ", "a b", "call_1\r\nx: y", "<b>", 'x"', "x'", "é", "\ud800", "a" * 201, 7, {}, [], 1e9],
)
def test_an_id_that_could_not_be_quoted_safely_is_none(value: object) -> None:
    event = call(RINGING, callId=value, externalCallId=value)
    assert (event.call_id, event.external_id) == (None, None)


def test_meta_ids_in_base64_are_ids() -> None:
    assert call(RINGING, externalCallId="wacid.HBg+/x==").external_id == "wacid.HBg+/x=="


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"duration": 42}, 42),
        ({"durationSeconds": 42}, 42),
        ({"duration": None, "durationSeconds": 42}, 42),
        ({"duration": 0}, 0),
        ({"duration": "42"}, 42),
        ({"duration": 41.9}, 41),
        ({}, None),
        ({"duration": -1}, None),
        ({"duration": True}, None),
        ({"duration": "soon"}, None),
        ({"duration": [42]}, None),
        ({"duration": 10**30}, None),
        ({"duration": float("nan")}, None),
        ({"duration": float("inf")}, None),
    ],
)
def test_durations(fields: dict[str, Any], seconds: int | None) -> None:
    assert call({**RINGING, "event": "call.ended", **fields}).duration_seconds == seconds


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-07-03T15:00:00Z", AT),
        ("2026-07-03T15:00:00", AT),
        ("2026-07-03T12:00:00-03:00", AT),
        ("2026-07-03T15:00:00.000000000Z", AT),
        ("2026-07-03 15:00:00", AT),
        (1783090800, AT),
        (1783090800.0, AT),
        (1783090800000, AT),
        ("1783090800", AT),
        ("1783090800000", AT),
        (None, None),
        ("", None),
        ("yesterday", None),
        ("2026-13-41T99:00:00Z", None),
        ("9999-12-31T23:59:59-23:00", None),
        (True, None),
        ([], None),
        (10**400, None),
        (-(10**18), None),
        (float("nan"), None),
        (float("inf"), None),
    ],
)
def test_timestamps(value: object, expected: datetime | None) -> None:
    assert call(RINGING, timestamp=value).timestamp == expected


@pytest.mark.parametrize(
    ("value", "digits"),
    [
        ("+5511999999999", "5511999999999"),
        ("5511999999999", "5511999999999"),
        ("+55 (11) 99999-9999", "5511999999999"),
        ("5511999999999@s.whatsapp.net", "5511999999999"),
        ("5511999999999:7@s.whatsapp.net", "5511999999999"),
        ("5511999999999@c.us", "5511999999999"),
        ("182736455463728@lid", None),
        ("120363000000000000@g.us", None),
        ("anonymous", None),
        ("", None),
        ("٥٥١١٩٩٩٩٩٩٩٩٩", None),
        ("+55<script>", None),
        ("1" * 10_000, None),
        (None, None),
        ({}, None),
    ],
)
def test_phones(value: object, digits: str | None) -> None:
    assert call(RINGING, **{"from": value}).peer == digits


@pytest.mark.parametrize("character", ["\r\nINFO forged", "\x1b[2J", "<img onerror=x>", "\ud800"])
def test_text_of_strangers_is_tamed(character: str) -> None:
    event = call(
        RINGING, reason=f"busy{character}" * 2_000, bizOpaqueCallbackData=f"x{character}" * 5
    )
    assert event.reason is not None
    assert len(event.reason) <= 64
    assert set(event.reason) <= {*string.ascii_letters, *string.digits, *" ._:-"}
    assert event.callback_data is None or event.callback_data.isprintable()


def test_numbers_and_callback_data_are_not_shown() -> None:
    shown = repr(call(RINGING, bizOpaqueCallbackData="canary"))
    assert "5511" not in shown
    assert "canary" not in shown
    assert "call_01HZX" in shown


# The native vocabulary.


def test_an_offer() -> None:
    event = parse(OFFER)
    assert event == CallEvent(
        kind=CallEventKind.RINGING,
        call_id=None,
        external_id="1A2B3C4D",
        direction=Direction.INBOUND,
        status=None,
        peer="5511999999999",
        own=None,
        timestamp=AT,
        duration_seconds=None,
        native=True,
        reason=None,
        callback_data=None,
        trusted=False,
    )


def test_the_instance_token_goes_no_further() -> None:
    assert "canary" not in repr(parse(OFFER))


def test_behind_a_lid_the_creator_may_be_known() -> None:
    assert offer(From="1827364554@lid").peer == "5511999999999"
    assert offer(From="1827364554@lid", CallCreator="1827364554@lid").peer is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("CallAccept", CallEventKind.CONNECTED),
        ("CALLACCEPT", CallEventKind.CONNECTED),
        ("CallTerminate", CallEventKind.ENDED),
    ],
)
def test_later_native_events_claim_no_direction(name: str, kind: CallEventKind) -> None:
    event = call(OFFER, event=name)
    assert (event.kind, event.direction, event.native) == (kind, None, True)


def test_the_reason_of_a_termination() -> None:
    event = call(OFFER, event="CallTerminate", data={"CallID": "1A", "Reason": "timeout"})
    assert (event.reason, event.external_id) == ("timeout", "1A")


def test_the_native_call_id_is_not_the_providers() -> None:
    assert offer().call_id is None


# What is not about a call.


@pytest.mark.parametrize(
    "name",
    ["call.future_thing", "message.received", "CallRelayLatency", "CallOfferNotice", "number.x"],
)
def test_unknown_events_keep_their_name(name: str) -> None:
    assert parse({"event": name, "data": {}}) == Unknown(name)


@pytest.mark.parametrize(
    "document",
    [{}, {"event": None}, {"event": 1}, {"event": {"a": 1}}, {"event": "\r\n"}, {"event": "é"}],
)
def test_names_that_cannot_be_logged(document: dict[str, Any]) -> None:
    assert parse(document) == Unknown("unnamed")


def violation() -> dict[str, Any]:
    value = {
        "phone_number": "16505552771",
        "event": "ACCOUNT_VIOLATION",
        "violation_info": {"violation_type": "USER_INITIATED_CALLS_LOW_PICKUP_RATE"},
    }
    return {
        "object": "whatsapp_business_account",
        "entry": [
            {
                "id": "0",
                "time": 1641848059,
                "changes": [{"field": "account_update", "value": value}] * 2,
            }
        ],
    }


@pytest.mark.parametrize("document", [violation(), [violation()]])
def test_account_notices_of_meta_come_all_together(document: object) -> None:
    notices = parse(document)
    assert len(notices) == 2
    assert all(isinstance(notice, AccountNotice) for notice in notices)
    assert notices[0].kind is NoticeKind.VIOLATION
    assert "16505552771" not in repr(notices)


# Bad bytes.


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"true",
        b"1",
        b'"call.ringing"',
        b"[]",
        b'[{"event": "call.ringing"}]',
        b"{",
        b"{'event': 'call.ringing'}",
        b"\xff\xfe{\x00}\x00",
        b'{"event": "call.ringing\xff"}',
        b"[" * 10_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"event": "call.ringing", "duration": ' + b"9" * 5_000 + b"}",
        b"event=call.ringing",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(WebhookError) as caught:
        parse_event(body)
    assert caught.value.status == 400
    assert caught.value.__cause__ is None


def test_of_duplicate_keys_the_last_counts() -> None:
    event = parse_event(b'{"event": "call.ended", "event": "call.ringing", "callId": "a"}')
    assert isinstance(event, CallEvent)
    assert event.kind is CallEventKind.RINGING


def test_a_byte_order_mark_is_no_error() -> None:
    assert parse_event(b"\xef\xbb\xbf" + json.dumps(RINGING).encode()) == parse(RINGING)


def parses_or_refuses(body: bytes) -> None:
    try:
        found = parse_event(body)
    except WebhookError as refusal:
        refused = refusal.status
    else:
        check(found)
        return
    assert refused == 400


def check(found: object) -> None:
    repr(found).encode()
    if isinstance(found, CallEvent):
        for text in (found.call_id, found.external_id, found.peer, found.own, found.reason):
            assert text is None or (text.isascii() and text.isprintable())
        assert found.timestamp is None or found.timestamp.utcoffset() is not None
        assert found.callback_data is None or found.callback_data.encode()


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**60), 10**60)
    | st.floats()
    | st.text(st.characters(), max_size=40)
    | st.sampled_from(
        ["call.ringing", "CallOffer", "INBOUND", "RINGING", "+5511999999999", "\ud800"]
    )
    | st.datetimes().map(str)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
field_names = st.sampled_from(
    [*RINGING, *OFFER["data"], "duration", "durationSeconds", "reason", "data", "entry"]
)


@given(st.binary(max_size=400))
def test_any_bytes_end_in_a_value_or_a_refusal(body: bytes) -> None:
    parses_or_refuses(body)


@given(values)
def test_any_json_ends_in_a_value_or_a_refusal(document: object) -> None:
    parses_or_refuses(json.dumps(document).encode())


@given(
    st.sampled_from(
        ["call.ringing", "call.ended", "call.permission_updated", "CallOffer", "CallX"]
    ),
    st.dictionaries(field_names, values, max_size=8),
    st.booleans(),
)
def test_known_events_with_any_fields_end_in_a_value(
    name: str, fields: dict[str, Any], wrapped: bool
) -> None:
    document = {"data": fields} if wrapped else fields
    parses_or_refuses(json.dumps({**document, "event": name}).encode())


@given(st.sampled_from([violation(), [violation()]]), st.data())
def test_notices_with_any_fields_end_in_a_value(document: Any, data: st.DataObject) -> None:
    document = json.loads(json.dumps(document))
    envelope = document[0] if isinstance(document, list) else document
    where = data.draw(
        st.sampled_from(
            [
                envelope,
                envelope["entry"][0],
                envelope["entry"][0]["changes"][0],
                envelope["entry"][0]["changes"][0]["value"],
            ]
        )
    )
    names = ["entry", "changes", "value", "restriction_info", "phone_number_settings", "time"]
    where[data.draw(st.sampled_from([*where, *names]))] = data.draw(values)
    parses_or_refuses(json.dumps(document).encode())


# The official SDK as witness.

nullable = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
normalised = st.fixed_dictionaries(
    {
        "event": st.sampled_from([f"call.{kind.value}" for kind in CallEventKind]),
        "callId": nullable,
        "direction": nullable,
        "status": st.text(max_size=20),
        "from": nullable,
        "to": nullable,
        "timestamp": st.text(max_size=30),
    },
    optional={"externalCallId": nullable, "duration": st.integers()},
)


@given(normalised)
def test_every_call_event_that_the_sdk_accepts_is_one_here(document: dict[str, Any]) -> None:
    assert parse_customer_webhook(document) == document
    found = parse(document)
    assert isinstance(found, CallEvent)
    assert f"call.{found.kind.value}" == document["event"]


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=30))
def test_what_the_sdk_does_not_know_is_not_an_error_here(name: str) -> None:
    document: dict[str, Any] = {"event": f"new.{name}", "data": {"x": 1}}
    assert parse_customer_webhook(document)["event"] == document["event"]
    assert parse(document) == Unknown(document["event"])
