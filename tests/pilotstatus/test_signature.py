"""The signature: raw bytes, every secret, and no header that could do more than fail."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from voicebridge.errors import ConfigError, WebhookError
from voicebridge.pilotstatus.signature import SignatureChecker, SignatureMode

OLD, NEW = SecretStr("whsec_old_canary"), SecretStr("whsec_new_canary")
BODY = b'{"event": "call.ringing", "callId": "call_1", "from": "\\u002b5511"}'


def digest(body: bytes = BODY, secret: SecretStr = NEW) -> bytes:
    return hmac.new(secret.get_secret_value().encode(), body, hashlib.sha256).digest()


def sign(body: bytes = BODY, secret: SecretStr = NEW) -> bytes:
    return digest(body, secret).hex().encode()


def checker(*secrets: SecretStr, mode: SignatureMode = "required") -> SignatureChecker:
    return SignatureChecker(secrets or (NEW,), mode)


def assert_refused(found: SignatureChecker, *signatures: bytes, body: bytes = BODY) -> None:
    with pytest.raises(WebhookError) as caught:
        found.check(body, signatures)
    assert caught.value.status == 401
    assert "canary" not in str(caught.value)


ACCEPTED = {
    "lower case": sign(),
    "upper case": sign().upper(),
    "prefix": b"sha256=" + sign(),
    "prefix in capitals": b"SHA256=" + sign().upper(),
    "blanks around": b"  \t" + sign() + b"\t ",
    "blanks after the prefix": b"sha256= " + sign(),
    "base64": base64.b64encode(digest()),
}

REFUSED = {
    "empty": b"",
    "blank": b"   ",
    "flipped digit": bytes([sign()[0] ^ 1]) + sign()[1:],
    "last digit missing": sign()[:-1],
    "one digit more": sign() + b"0",
    "twice the prefix": b"sha256=sha256=" + sign(),
    "another prefix": b"sha1=" + sign(),
    "prefix alone": b"sha256=",
    "two in one": sign() + b", " + sign(),
    "no hex digits": b"z" * 64,
    "non-ASCII": "é".encode() * 32,
    "latin-1 digits": b"\xb2" * 64,
    "NUL": b"\0" * 64,
    "8 KB": b"a" * 8192,
    "8 KB ending well": b" " * 8192 + sign(),
    "base64 of another": base64.b64encode(digest(b"other")),
    "base64 of 31 bytes": base64.b64encode(digest()[:31]),
    "url-safe base64": base64.urlsafe_b64encode(b"\xff" * 32),
    "raw digest": digest(),
    "digest of the old secret": sign(secret=OLD),
    "unkeyed hash": hashlib.sha256(BODY).hexdigest().encode(),
    "empty key": sign(secret=SecretStr("")),
}


@pytest.mark.parametrize("form", ACCEPTED)
def test_accepted_forms(form: str) -> None:
    assert checker().check(BODY, [ACCEPTED[form]]) is True


@pytest.mark.parametrize("form", REFUSED)
def test_refused_forms(form: str) -> None:
    assert_refused(checker(), REFUSED[form])


def test_base64_is_counted() -> None:
    found = checker()
    found.check(BODY, [sign()])
    assert_refused(found, base64.b64encode(digest(b"other")))
    assert found.base64_accepted == 0
    found.check(BODY, [base64.b64encode(digest())])
    assert found.base64_accepted == 1


def test_a_missing_header_is_refused() -> None:
    assert_refused(checker())


def test_a_repeated_header_is_refused_even_if_all_are_right() -> None:
    assert_refused(checker(), sign(), sign())
    assert_refused(checker(mode="if-present"), sign(), sign())


def test_the_raw_bytes_count_and_not_what_they_mean() -> None:
    same = json.dumps(json.loads(BODY)).encode()
    assert json.loads(same) == json.loads(BODY)
    assert_refused(checker(), sign(), body=same)


def test_secrets_overlap_while_they_are_rotated() -> None:
    found = checker(OLD, NEW)
    assert found.check(BODY, [sign(secret=OLD)])
    assert found.check(BODY, [sign(secret=NEW)])
    found.rotate([NEW])
    assert_refused(found, sign(secret=OLD))
    assert found.check(BODY, [sign(secret=NEW)])


@pytest.mark.parametrize(
    ("mode", "signatures", "trusted"),
    [
        ("required", [sign()], True),
        # Where a forger may leave the header out, a present one proves little in general:
        # everything is confirmed with the API.
        ("if-present", [sign()], False),
        ("if-present", [], False),
        ("off", [], False),
        ("off", [b"nonsense"], False),
        ("off", [b"nonsense", b"twice"], False),
    ],
)
def test_what_each_mode_trusts(mode: SignatureMode, signatures: list[bytes], trusted: bool) -> None:
    assert checker(mode=mode).check(BODY, signatures) is trusted


def test_if_present_refuses_a_wrong_signature() -> None:
    assert_refused(checker(mode="if-present"), sign(b"other"))


def test_if_present_without_a_secret_cannot_judge() -> None:
    assert SignatureChecker([], "if-present").check(BODY, [b"anything"]) is False


@pytest.mark.parametrize(
    ("secrets", "mode", "key"),
    [
        ([], "required", "VOICEBRIDGE_WEBHOOK_SECRET"),
        ([SecretStr("")], "required", "VOICEBRIDGE_WEBHOOK_SECRET"),
        ([NEW, SecretStr("  ")], "required", "VOICEBRIDGE_WEBHOOK_SECRET"),
        ([SecretStr("")], "if-present", "VOICEBRIDGE_WEBHOOK_SECRET"),
        ([NEW], "sometimes", "VOICEBRIDGE_SIGNATURE_MODE"),
    ],
)
def test_settings_that_protect_nothing_are_refused(
    secrets: list[SecretStr], mode: str, key: str
) -> None:
    with pytest.raises(ConfigError, match=key) as caught:
        SignatureChecker(secrets, cast("Any", mode))
    assert "canary" not in str(caught.value)


def test_a_rotation_cannot_remove_the_last_secret() -> None:
    found = checker()
    with pytest.raises(ConfigError):
        found.rotate([])
    assert found.check(BODY, [sign()])


def test_secrets_of_any_characters_work() -> None:
    odd = SecretStr("päss\udcff wörd")
    key = odd.get_secret_value().encode("utf-8", "surrogateescape")
    signature = hmac.new(key, BODY, hashlib.sha256).hexdigest().encode()
    assert checker(odd).check(BODY, [signature])


def test_the_secret_is_not_shown() -> None:
    assert "canary" not in repr(checker(OLD, NEW))


@given(st.binary(max_size=300), st.lists(st.binary(max_size=200), max_size=3))
def test_any_headers_end_in_a_verdict(body: bytes, signatures: list[bytes]) -> None:
    found = checker(OLD, NEW)
    if signatures in ([sign(body, OLD)], [sign(body, NEW)]):
        return
    assert_refused(found, *signatures, body=body)


@given(st.binary(max_size=300), st.integers(0, 299), st.integers(1, 255))
def test_one_changed_byte_of_the_body_is_noticed(body: bytes, at: int, mask: int) -> None:
    signature = sign(body)
    assert checker().check(body, [signature]) is True
    changed = bytearray(body or b"x")
    changed[at % len(changed)] ^= mask
    assert_refused(checker(), signature, body=bytes(changed))
