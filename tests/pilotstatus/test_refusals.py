"""Error answers become the right exception, and say nothing private."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicebridge import errors
from voicebridge.pilotstatus.refusals import refusal, scrub


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, None, errors.InvalidRequest),
        (400, "MISSING_TO", errors.InvalidRequest),
        (400, "FEATURE_NOT_SUPPORTED", errors.FeatureNotSupported),
        (400, "NUMBER_NOT_FOUND", errors.NumberNotFound),
        (404, "NUMBER_NOT_FOUND", errors.NumberNotFound),
        (401, None, errors.Unauthorized),
        (402, "SUBSCRIPTION_REQUIRED_FOR_MEDIA", errors.PaymentRequired),
        (403, "TENANT_SCOPE_NOT_ALLOWED", errors.TenantScopeNotAllowed),
        (403, None, errors.TenantScopeNotAllowed),
        (403, "SOMETHING_ELSE", errors.ProviderRefused),
        (404, "CALL_NOT_FOUND", errors.CallNotFound),
        (404, "WEBHOOK_NOT_FOUND", errors.CallNotFound),
        (409, None, errors.Conflict),
        (409, "WHATSAPP_INSTANCE_NOT_CONNECTED", errors.InstanceNotConnected),
        (409, "NUMBER_BLOCKED", errors.NumberBlocked),
        (418, None, errors.ProviderRefused),
        (422, None, errors.InvalidRequest),
        (429, None, errors.RateLimited),
        (500, None, errors.ProviderFault),
        (503, "WHATSAPP_INSTANCE_NOT_CONNECTED", errors.ProviderFault),
        (301, None, errors.ProviderRefused),
    ],
)
def test_status_and_code_choose_the_exception(
    status: int, code: str | None, kind: type[errors.ProviderRefused]
) -> None:
    error = refusal("accept", status, {"error": "no", "code": code})
    assert type(error) is kind
    assert (error.operation, error.status, error.code) == ("accept", status, code)
    assert str(error).startswith("accept: ")


@pytest.mark.parametrize(
    ("body", "meta"),
    [
        ({"code": "META_CALL_PERMISSION_REQUIRED"}, 138006),
        ({"code": "META_CALL_PERMISSION_REQUEST_LIMIT"}, 138009),
        ({"code": "META_CALL_LIMIT", "error": "(#138012) limit"}, 138012),
        ({"code": "138000"}, 138000),
        ({"code": 138015}, 138015),
        ({"error": "tier too low", "metaCode": 138015}, 138015),
        ({"code": "META_SOMETHING_NEW"}, None),
    ],
)
@pytest.mark.parametrize("status", [400, 403, 502])
def test_metas_codes_are_recognised_wherever_they_stand(
    body: dict[str, object], meta: int | None, status: int
) -> None:
    error = refusal("initiate", status, body)
    assert isinstance(error, errors.MetaCallingError)
    assert error.meta_code == meta


@pytest.mark.parametrize("body", [None, [], "no", 7, {}, {"error": {"a": 1}, "code": ["x"]}])
def test_any_body_will_do(body: object) -> None:
    error = refusal("get_call", 400, body)
    assert isinstance(error, errors.InvalidRequest)
    assert error.code is None


def test_other_numbers_are_not_metas() -> None:
    error = refusal("initiate", 400, {"error": "request 1380061234 failed, 138999 too"})
    assert type(error) is errors.InvalidRequest


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("cannot call +5511999990000 now", "cannot call [number] now"),
        ("cannot call +55 (11) 99999-0000.", "cannot call [number]."),
        ("5511999990000@s.whatsapp.net is away", "[address] is away"),
        ("see https://x.example/?token=abc for more", "see [address] for more"),
        ("wss://media.example/ws?token=abc", "[address]"),
        ("key ps_live_abc123 unknown", "key [key] unknown"),
        ("token: abc", "token=[hidden]"),
        ("id " + "A1" * 16, "id [hidden]"),
        ("limit 2000 reached (#138012)", "limit 2000 reached (#138012)"),
        ("two\nlines\x00\x1b[31m", "two lines [31m"),
        ("word " * 100, ("word " * 100)[:157] + "..."),
        (None, ""),
        ({"a": 1}, ""),
    ],
)
def test_scrub(text: object, clean: str) -> None:
    assert scrub(text) == clean


def test_scrub_knows_the_key_itself() -> None:
    assert scrub("bad key hunter2!", "hunter2!") == "bad key [key]"


@given(st.text(), st.text("0123456789", min_size=8, max_size=15), st.text())
def test_no_phone_number_gets_through(before: str, digits: str, after: str) -> None:
    assert digits not in scrub(f"{before} +{digits} {after}")


@given(st.text())
def test_scrubbed_is_one_short_printable_line(text: str) -> None:
    line = scrub(text)
    assert len(line) <= 160
    assert line.isprintable()
