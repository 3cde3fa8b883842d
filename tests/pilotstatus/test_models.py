"""What the API says is read tolerantly and shown discreetly; what we send is checked."""

from __future__ import annotations

import logging
import zoneinfo
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from voicebridge.errors import ConfigError
from voicebridge.pilotstatus import calling
from voicebridge.pilotstatus.fields import phone_digits, read_count, read_instant, read_text
from voicebridge.pilotstatus.models import (
    AccountNotice,
    CallAction,
    CallDetails,
    CallEvent,
    CallEventKind,
    CallHours,
    CallingSettings,
    CallingSettingsUpdate,
    CallPermission,
    CallStatus,
    Direction,
    InitiatedCall,
    NoticeKind,
    PermissionAction,
    PermissionLimit,
    RealtimeSession,
    Webhook,
    WebhookLogEntry,
)

PHONE = "5511999990000"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)

FEW = settings(max_examples=50)

# Single values


@pytest.mark.parametrize(
    ("value", "digits"),
    [
        ("+5511999990000", PHONE),
        ("5511999990000", PHONE),
        ("+55 (11) 99999-0000", PHONE),
        ("5511999990000@s.whatsapp.net", PHONE),
        ("5511999990000:12@s.whatsapp.net", PHONE),
        ("5511999990000@c.us", PHONE),
        ("123456789012345@lid", None),
        ("120363-1@g.us", None),
        ("anonymous", None),
        ("", None),
        ("1234", None),
        ("1234567890123456", None),
        ("\u0665" * 11, None),
        (None, None),
        (5511999990000, None),
    ],
)
def test_phone_digits(value: object, digits: str | None) -> None:
    assert phone_digits(value) == digits


@FEW
@given(st.text() | JSON)
def test_phone_digits_of_anything(value: object) -> None:
    digits = phone_digits(value)
    assert digits is None or (digits.isascii() and digits.isdigit() and 5 <= len(digits) <= 15)


@pytest.mark.parametrize(
    "value",
    [
        "2026-07-03T15:00:00.000Z",
        "2026-07-03T15:00:00",
        "2026-07-03T12:00:00-03:00",
        1783090800,
        "1783090800",
        1783090800000,
        "1783090800000",
        datetime(2026, 7, 3, 15, tzinfo=UTC),
    ],
)
def test_instants_are_aware_utc(value: object) -> None:
    moment = read_instant(value)
    assert moment == datetime(2026, 7, 3, 15, tzinfo=UTC)
    assert moment.utcoffset() == timedelta(0)


@FEW
@given(st.text() | JSON | st.sampled_from(["9999-12-31T23:59:59-23:00", "0001-01-01T00:00+14:00"]))
def test_instant_of_anything(value: object) -> None:
    moment = read_instant(value)
    assert moment is None or moment.tzinfo is UTC


@pytest.mark.parametrize(
    ("value", "count"),
    [(3, 3), ("120", 120), (2.9, 2), (0, 0), (-1, None), ("x", None), (True, None), (None, None)],
)
def test_counts(value: object, count: int | None) -> None:
    assert read_count(value) == count


@FEW
@given(st.text() | JSON)
def test_count_and_text_of_anything(value: object) -> None:
    count, text = read_count(value), read_text(value)
    assert count is None or count >= 0
    assert text is None or text.strip() == text != ""


# Calls


@pytest.mark.parametrize("spelled", ["RINGING", "ringing", " Ringing "])
def test_status_of_any_case(spelled: str) -> None:
    assert CallStatus.parse(spelled) is CallStatus.RINGING


@pytest.mark.parametrize("value", ["ON_HOLD", "", 7, PHONE, ["RINGING"]])
def test_an_unknown_status_is_none_with_a_warning(
    value: object, caplog: pytest.LogCaptureFixture
) -> None:
    assert CallStatus.parse(value) is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert PHONE not in caplog.text


def test_terminal_statuses() -> None:
    assert {status for status in CallStatus if status.terminal} == {
        CallStatus.REJECTED,
        CallStatus.COMPLETED,
        CallStatus.FAILED,
        CallStatus.MISSED,
    }


def test_direction_of_any_case() -> None:
    assert Direction.parse("inbound") is Direction.INBOUND
    assert Direction.parse("sideways") is None
    assert Direction.parse(None) is None


FULL_CALL: dict[str, Any] = {
    "id": "call_01HZX",
    "externalCallId": "0018F2C9B00F33ACD31A60AEA2486853",
    "direction": "INBOUND",
    "status": "COMPLETED",
    "peerNumber": PHONE,
    "fromNumber": f"+{PHONE}",
    "conversationId": "conv_abc",
    "bizOpaqueCallbackData": None,
    "startedAt": "2026-07-03T15:00:00.000Z",
    "connectedAt": "2026-07-03T15:00:05.000Z",
    "endedAt": "2026-07-03T15:02:05.000Z",
    "durationSeconds": 120,
    "errorCode": None,
    "errorMessage": None,
    "createdAt": "2026-07-03T15:00:00.000Z",
    "updatedAt": "2026-07-03T15:02:05.000Z",
    "somethingNew": {"a": 1},
}


def test_a_full_call() -> None:
    read = CallDetails.model_validate(FULL_CALL)
    assert read.status is CallStatus.COMPLETED
    assert read.raw_status == "COMPLETED"
    assert read.direction is Direction.INBOUND
    assert read.terminal
    assert read.peer_number == read.from_number == PHONE
    assert read.connected_at == datetime(2026, 7, 3, 15, 0, 5, tzinfo=UTC)
    assert read.duration_seconds == 120
    assert PHONE not in repr(read)
    assert PHONE not in str(read)


def test_a_bare_call_and_one_made_by_hand() -> None:
    read = CallDetails.model_validate({"id": "call_1"})
    assert (read.status, read.raw_status, read.terminal) == (None, None, False)
    made = CallDetails(id="call_1", status=CallStatus.RINGING, direction=Direction.INBOUND)
    assert made.raw_status == "RINGING"
    assert CallDetails.model_validate(made.as_json()) == made


def test_raw_status_survives_a_round_trip() -> None:
    read = CallDetails.model_validate({"id": "call_1", "status": "ON_HOLD"})
    assert CallDetails.model_validate(read.as_json() | {"status": "ON_HOLD"}) == read


@pytest.mark.parametrize("bad", [{}, {"id": None}, {"id": ""}, {"id": " "}, {"id": True}, [], None])
def test_without_an_id_there_is_no_call(bad: object) -> None:
    with pytest.raises(ValidationError):
        CallDetails.model_validate(bad)


@FEW
@given(st.fixed_dictionaries({}, optional={key: JSON for key in FULL_CALL if key != "id"}))
def test_no_field_but_the_id_can_spoil_a_call(fields: dict[str, Any]) -> None:
    for kind in (CallDetails, InitiatedCall):
        assert kind.model_validate(fields | {"id": "call_1"}).id == "call_1"


def test_validation_errors_do_not_show_what_was_given() -> None:
    with pytest.raises(ValidationError) as caught:
        CallAction.model_validate({"id": None, "success": PHONE})
    assert PHONE not in str(caught.value)


def test_an_action() -> None:
    read = CallAction.model_validate({"success": True, "id": 7, "status": "ACCEPTED"})
    assert (read.success, read.id, read.status) == (True, "7", CallStatus.ACCEPTED)


def test_a_session_hides_its_address() -> None:
    read = RealtimeSession.model_validate(
        {"wsUrl": "wss://m.example/ws?token=sesame", "token": "sesame", "expiresInSeconds": 120}
    )
    assert read.token is not None
    assert read.token.get_secret_value() == "sesame"
    assert "sesame" not in repr(read) + str(read) + str(read.model_dump())


@pytest.mark.parametrize("token", [None, "", 7, {"a": 1}])
def test_a_session_needs_no_token(token: object) -> None:
    assert RealtimeSession.model_validate({"wsUrl": "wss://m", "token": token}).token is None


@FEW
@given(JSON)
def test_any_lifetime_of_a_session_will_do(value: object) -> None:
    read = RealtimeSession.model_validate({"wsUrl": "wss://m", "expiresInSeconds": value})
    assert read.expires_in_seconds is None or read.expires_in_seconds > 0


def test_an_event_hides_the_numbers() -> None:
    event = CallEvent(
        kind=CallEventKind.RINGING,
        call_id="call_1",
        external_id=None,
        direction=Direction.INBOUND,
        status=CallStatus.RINGING,
        peer=PHONE,
        own="5511888880000",
        timestamp=None,
        duration_seconds=None,
        native=False,
        reason=None,
        callback_data=None,
    )
    assert PHONE not in repr(event)
    assert "5511888880000" not in repr(event)


# Webhooks


def test_a_webhook_delivers_what_it_is_subscribed_to() -> None:
    hook = Webhook.model_validate({"id": "wh_1", "events": ["call.ringing", 7, None]})
    assert hook.events == ("call.ringing",)
    assert hook.delivers("call.ringing")
    assert not hook.delivers("call.ended")
    assert Webhook(id="w", events=("*",)).delivers("call.ended")
    assert not Webhook(id="w", events=("*",), active=False).delivers("call.ended")
    assert not Webhook.model_validate({"id": "w", "events": None}).delivers("call.ended")


def test_a_log_entry_hides_its_payload() -> None:
    entry = WebhookLogEntry.model_validate(
        {
            "event": "call.ringing",
            "status": "FAILED",
            "statusCode": "500",
            "payload": {"from": PHONE},
        }
    )
    assert not entry.delivered
    assert entry.status_code == 500
    assert PHONE not in repr(entry)


# Calling settings

MONDAY = {"day_of_week": "MONDAY", "open_time": "0900", "close_time": "1200"}
HOURS: dict[str, Any] = {
    "status": "ENABLED",
    "timezone_id": "America/Sao_Paulo",
    "weekly_operating_hours": [MONDAY],
}
HOLIDAY = {"date": "2026-12-25", "start_time": "0000", "end_time": "2359"}


def test_an_update_sends_only_what_is_set() -> None:
    update = CallingSettingsUpdate.model_validate(
        {
            "status": "ENABLED",
            "call_hours": HOURS | {"holiday_schedule": [HOLIDAY]},
            "call_icons": {"restrict_to_user_countries": ["BR", "US"]},
            "audio": {"additional_codecs": ["PCMA"]},
            "voicemail": {"status": "ENABLED"},
        }
    )
    payload = update.payload()
    assert set(payload) == {"status", "call_hours", "call_icons", "audio", "voicemail"}
    assert payload["call_hours"]["weekly_operating_hours"] == [MONDAY]
    assert payload["call_hours"]["holiday_schedule"] == [HOLIDAY]


@pytest.mark.parametrize(
    ("update", "complaint"),
    [
        ({}, "at least one field"),
        ({"status": "ON"}, "ENABLED"),
        ({"sip": {"status": "ENABLED"}, "status": "ENABLED"}, "remove sip"),
        ({"stauts": "ENABLED"}, "Extra inputs"),
        ({"call_icon_visibility": "HIDDEN"}, "DISABLE_ALL"),
        ({"callback_permission_status": "YES"}, "ENABLED"),
        ({"call_icons": {"restrict_to_user_countries": ["Brazil"]}}, "pattern"),
        ({"audio": {"additional_codecs": ["G722"]}}, "PCMA"),
    ],
)
def test_an_update_that_would_be_refused(update: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        CallingSettingsUpdate.model_validate(update)


def week(*spans: tuple[str, str], day: str = "MONDAY") -> list[dict[str, str]]:
    return [{"day_of_week": day, "open_time": o, "close_time": c} for o, c in spans]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"status": "MAYBE"}, "ENABLED"),
        ({"timezone_id": "Brasilia"}, "IANA"),
        ({"timezone_id": "../etc/passwd"}, "IANA"),
        ({"timezone_id": ""}, "IANA"),
        ({"weekly_operating_hours": []}, "at least 1"),
        ({"weekly_operating_hours": week(("0900", "1200"), day="FUNDAY")}, "MONDAY"),
        ({"weekly_operating_hours": week(("9:00", "1200"))}, "HHMM"),
        ({"weekly_operating_hours": week(("0900", "2400"))}, "HHMM"),
        ({"weekly_operating_hours": week(("0960", "1200"))}, "HHMM"),
        ({"weekly_operating_hours": week(("1200", "0900"))}, "before close_time"),
        ({"weekly_operating_hours": week(("0900", "0900"))}, "before close_time"),
        ({"weekly_operating_hours": week(("0900", "1200"), ("1100", "1300"))}, "overlapping"),
        ({"weekly_operating_hours": week(("0900", "1800"), ("1000", "1100"))}, "overlapping"),
        (
            {"weekly_operating_hours": week(("0800", "0900"), ("1000", "1100"), ("1200", "1300"))},
            "more than 2",
        ),
        ({"holiday_schedule": [HOLIDAY] * 21}, "at most 20"),
        ({"holiday_schedule": [HOLIDAY | {"date": "2026-02-30"}]}, "date"),
        ({"holiday_schedule": [HOLIDAY | {"start_time": "2359", "end_time": "0000"}]}, "before"),
        ({"holiday_schedule": [HOLIDAY | {"end_time": 2359}]}, "string"),
    ],
)
def test_call_hours_that_meta_would_refuse(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        CallHours.model_validate(HOURS | change)


def test_spans_may_touch_and_days_are_apart() -> None:
    spans = week(("1200", "1800"), ("0900", "1200")) + week(("0900", "1800"), day="TUESDAY")
    hours = CallHours.model_validate(HOURS | {"weekly_operating_hours": spans})
    assert len(hours.weekly_operating_hours) == 3


def test_holidays_in_the_past_are_refused_by_the_local_date() -> None:
    update = CallingSettingsUpdate.model_validate(
        {"call_hours": HOURS | {"holiday_schedule": [HOLIDAY]}}
    )
    update.check(date(2026, 12, 25))
    with pytest.raises(ConfigError, match="2026-12-25"):
        update.check(date(2026, 12, 26))
    CallingSettingsUpdate(status="ENABLED").check(date(2026, 1, 1))


def test_zones_without_zone_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "_known_zones", lambda: frozenset[str]())
    hours = CallHours.model_validate(HOURS | {"timezone_id": "Mars/Olympus_Mons"})
    with pytest.raises(ValidationError, match="IANA"):
        CallHours.model_validate(HOURS | {"timezone_id": "Mars/../Olympus"})
    with pytest.raises(zoneinfo.ZoneInfoNotFoundError):
        zoneinfo.ZoneInfo(hours.timezone_id)
    assert hours.local_date(datetime(2026, 1, 2, 11, tzinfo=UTC)) == date(2026, 1, 1)


def test_local_date_is_that_of_the_zone() -> None:
    hours = CallHours.model_validate(HOURS | {"timezone_id": "Asia/Tokyo"})
    assert hours.local_date(datetime(2026, 1, 1, 15, tzinfo=UTC)) == date(2026, 1, 2)


def test_stored_settings_with_restrictions() -> None:
    restrictions = {
        "restrictions_list": [
            {
                "type": "RESTRICTED_BUSINESS_INITIATED_CALLING",
                "reason": "high negative feedback",
                "expiration": 1754072386,
            }
        ]
    }
    stored = CallingSettings.model_validate(
        {"calling": {"status": "ENABLED", "restrictions": restrictions, "sip": {"servers": ["s"]}}}
    )
    assert stored.enabled
    assert "sip" not in stored.raw
    (restriction,) = stored.restrictions
    assert restriction.type == "RESTRICTED_BUSINESS_INITIATED_CALLING"
    assert restriction.expires_at == datetime.fromtimestamp(1754072386, UTC)


@FEW
@given(st.dictionaries(st.sampled_from([*CallingSettings.model_fields, "calling"]), JSON))
def test_stored_settings_are_read_whatever_they_hold(body: dict[str, Any]) -> None:
    CallingSettings.model_validate(body)


@pytest.mark.parametrize("kind", [CallingSettings, CallPermission])
@pytest.mark.parametrize("body", [None, [], "ENABLED", 7])
def test_what_is_no_object_holds_no_settings(kind: type[BaseModel], body: object) -> None:
    with pytest.raises(ValidationError):
        kind.model_validate(body)


def test_permission() -> None:
    made = CallPermission(
        status="permanent",
        actions=(
            PermissionAction(
                action_name="start_call",
                can_perform_action=True,
                limits=(PermissionLimit(max_allowed=1),),
            ),
        ),
    )
    assert made.allows()
    assert made.actions[0].limits[0].max_allowed == 1
    read = CallPermission.model_validate(
        {"permission": {"status": "NO_PERMISSION"}, "actions": [7, {"can_perform_action": True}]}
    )
    assert read.status == "no_permission"
    assert not read.allows()
    assert CallPermission.model_validate({"permission": {"status": "odd"}}).status is None


# Account notices


def envelope(field: str, value: dict[str, Any]) -> dict[str, Any]:
    entry = {"id": "0", "time": 1641848059, "changes": [{"field": field, "value": value}]}
    return {"object": "whatsapp_business_account", "entry": [entry]}


VIOLATION = envelope(
    "account_update",
    {
        "phone_number": "16505552771",
        "event": "ACCOUNT_VIOLATION",
        "violation_info": {
            "violation_type": "USER_INITIATED_CALLS_LOW_PICKUP_RATE",
            "remediation": "Answer more calls.",
        },
    },
)
RESTRICTION = envelope(
    "account_update",
    {
        "phone_number": "16505552771",
        "event": "ACCOUNT_RESTRICTION",
        "restriction_info": [
            {"restriction_type": "RESTRICTED_USER_INITIATED_CALLING", "expiration": 1641848057}
        ],
    },
)
SETTINGS = envelope(
    "account_settings_update",
    {
        "messaging_product": "whatsapp",
        "timestamp": "1671644824",
        "type": "[phone_number_settings]",
        "phone_number_settings": {
            "phone_number_id": "106540352242922",
            "calling": {"status": "ENABLED", "sip": {"servers": []}},
        },
    },
)


def test_a_violation() -> None:
    (notice,) = AccountNotice.parse_all(VIOLATION)
    assert notice.kind is NoticeKind.VIOLATION
    assert notice.violation is not None
    assert notice.violation.violation_type == "USER_INITIATED_CALLS_LOW_PICKUP_RATE"
    assert notice.violation.remediation == "Answer more calls."
    assert notice.at == datetime.fromtimestamp(1641848059, UTC)
    assert "16505552771" not in repr(notice)


def test_a_restriction() -> None:
    (notice,) = AccountNotice.parse_all(RESTRICTION)
    assert notice.kind is NoticeKind.RESTRICTION
    assert notice.restrictions[0].type == "RESTRICTED_USER_INITIATED_CALLING"
    assert notice.restrictions[0].expires_at == datetime.fromtimestamp(1641848057, UTC)


def test_changed_settings() -> None:
    (notice,) = AccountNotice.parse_all(SETTINGS)
    assert notice.kind is NoticeKind.SETTINGS
    assert notice.phone_number_id == "106540352242922"
    assert notice.settings is not None
    assert notice.settings.enabled
    assert notice.at == datetime.fromtimestamp(1671644824, UTC)


def test_several_notices_in_a_list() -> None:
    notices = AccountNotice.parse_all([VIOLATION, RESTRICTION, SETTINGS])
    assert [notice.kind for notice in notices] == [
        NoticeKind.VIOLATION,
        NoticeKind.RESTRICTION,
        NoticeKind.SETTINGS,
    ]


def test_an_unknown_notice_keeps_its_name() -> None:
    (notice,) = AccountNotice.parse_all(envelope("account_update", {"event": "DISABLED_UPDATE"}))
    assert (notice.kind, notice.name) == (NoticeKind.OTHER, "DISABLED_UPDATE")


def test_other_webhooks_are_no_notices() -> None:
    assert AccountNotice.parse_all({"event": "call.ringing"}) == ()
    assert AccountNotice.parse_all(envelope("messages", {"event": "x"})) == ()
    assert AccountNotice.parse_all({"entry": [{"changes": [7, {"field": "account_update"}]}]}) == ()


@FEW
@given(JSON)
def test_notices_of_anything(body: object) -> None:
    AccountNotice.parse_all(body)


@FEW
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "event",
                "type",
                "timestamp",
                "phone_number",
                "phone_number_settings",
                "violation_info",
                "restriction_info",
            ]
        ),
        JSON | st.fixed_dictionaries({"calling": JSON, "violation_type": JSON}),
    )
)
def test_notices_with_any_content(value: dict[str, Any]) -> None:
    assert len(AccountNotice.parse_all(envelope("account_update", value))) == 1
