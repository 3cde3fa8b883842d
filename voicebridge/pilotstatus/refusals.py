"""From an error answer of the API to an exception that says what to do.

One rule: of the body only ``error`` and ``code`` are used, and ``error`` only after
everything that looks like a phone number, key, token or address was taken out of it.

Codes: https://docs.pilotstatus.com.br/api/calls/endpoints (Common errors).
"""

from __future__ import annotations

import re
from typing import Any

from voicebridge.errors import (
    CallNotFound,
    Conflict,
    FeatureNotSupported,
    InstanceNotConnected,
    InvalidRequest,
    MetaCallingError,
    NumberBlocked,
    NumberNotFound,
    PaymentRequired,
    ProviderFault,
    ProviderRefused,
    RateLimited,
    TenantScopeNotAllowed,
    Unauthorized,
)

__all__ = ["refusal", "scrub"]

_MAX_TEXT = 160
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_SCRUBBED = (
    (re.compile(r"\b[a-z][a-z0-9+.\-]*://\S+", re.IGNORECASE), "[address]"),
    (re.compile(r"\bps_[\w\-]+"), "[key]"),
    (re.compile(r"\b(token|secret|key|password)\b\s*[=:]\s*\S+", re.IGNORECASE), r"\1=[hidden]"),
    (re.compile(r"\S+@\S+"), "[address]"),
    (re.compile(r"\b[A-Za-z0-9_\-]{32,}\b"), "[hidden]"),
    # Six-digit error codes stay, anything longer may be a phone number.
    (re.compile(r"\+?\(?[0-9](?:[\s().\-]{0,3}[0-9]){6,}"), "[number]"),
)

_META_ADVICE = {
    138000: "calling is not enabled on this number: enable it in its calling settings",
    138006: "this customer has not given permission to be called: request it first",
    138009: "too many permission requests to this customer: wait before asking again",
    138012: "this number has placed its calls of the last 24 hours: dial again later",
    138015: "the number's messaging limit is below 2,000 a day: calling cannot be enabled yet",
}
_META_CODES = {
    "META_CALL_PERMISSION_REQUIRED": 138006,
    "META_CALL_PERMISSION_REQUEST_LIMIT": 138009,
}
_META_NUMBER = re.compile(r"(?<![0-9])(138[0-9]{3})(?![0-9])")

_BY_CODE: dict[str, tuple[type[ProviderRefused], str]] = {
    "FEATURE_NOT_SUPPORTED": (
        FeatureNotSupported,
        "this number's provider kind does not have this endpoint; check which number the key is of",
    ),
    "NUMBER_NOT_FOUND": (NumberNotFound, "the API key is bound to no number: use a number's key"),
    "TENANT_SCOPE_NOT_ALLOWED": (
        TenantScopeNotAllowed,
        "the key belongs to the whole account: create a key for one number and use that",
    ),
    "WHATSAPP_INSTANCE_NOT_CONNECTED": (
        InstanceNotConnected,
        "the WhatsApp number is offline: reconnect it in the Pilot Status dashboard",
    ),
    "NUMBER_BLOCKED": (NumberBlocked, "the number is blocked: settle it in the dashboard"),
}
_BY_STATUS: dict[int, tuple[type[ProviderRefused], str]] = {
    400: (InvalidRequest, "the API refuses the request as invalid"),
    401: (Unauthorized, "the API key is missing, wrong or revoked: check VOICEBRIDGE_API_KEY"),
    402: (PaymentRequired, "the account's plan does not cover this"),
    403: (TenantScopeNotAllowed, _BY_CODE["TENANT_SCOPE_NOT_ALLOWED"][1]),
    404: (CallNotFound, "not found among what this key's number may see"),
    409: (Conflict, "the state of the call or number does not allow it"),
    422: (InvalidRequest, "the API refuses the request as invalid"),
}


def scrub(text: object, secret: str = "") -> str:
    """One short line of an error text, without anything private; empty if it is no text."""
    if not isinstance(text, str):
        return ""
    if secret:
        text = text.replace(secret, "[key]")
    line = " ".join("".join(c if c.isprintable() else " " for c in text[:2000]).split())
    for pattern, mask in _SCRUBBED:
        line = pattern.sub(mask, line)
    return line if len(line) <= _MAX_TEXT else line[: _MAX_TEXT - 3] + "..."


def refusal(
    operation: str, status: int, body: object, *, retry_after: float | None = None, secret: str = ""
) -> ProviderRefused:
    """The exception for an answer with an error ``status`` and decoded ``body`` (or None)."""
    held: dict[str, Any] = body if isinstance(body, dict) else {}
    code = _code(held)
    short = scrub(held.get("error"), secret)
    kind, advice = _kind(status, code)
    meta = _meta_code(held, code)
    if meta is not None or (code or "").startswith("META_"):
        kind, advice = MetaCallingError, _META_ADVICE.get(meta or 0, "Meta refuses the call")
    answer = f"HTTP {status}" + (f" {code}" if code else "") + (f": {short}" if short else "")
    message = f"{operation}: {advice} ({answer})"
    if kind is RateLimited:
        return RateLimited(
            message, operation=operation, status=status, code=code, retry_after=retry_after
        )
    if kind is MetaCallingError:
        return MetaCallingError(
            message, operation=operation, status=status, code=code, meta_code=meta
        )
    return kind(message, operation=operation, status=status, code=code)


def _kind(status: int, code: str | None) -> tuple[type[ProviderRefused], str]:
    if status == 429:
        return RateLimited, "too many requests: slow down"
    if status >= 500:
        return ProviderFault, "the API failed: try again later"
    if status < 400:
        return (
            ProviderRefused,
            "the API redirects, which is not followed: check VOICEBRIDGE_API_URL",
        )
    if code in _BY_CODE:
        return _BY_CODE[code]
    if status == 403 and code is not None:
        return ProviderRefused, "the key may not do this"
    return _BY_STATUS.get(status, (ProviderRefused, "the API refuses the request"))


def _code(body: dict[str, Any]) -> str | None:
    code = body.get("code")
    return code if isinstance(code, str) and _CODE.fullmatch(code) else None


def _meta_code(body: dict[str, Any], code: str | None) -> int | None:
    """Meta's number behind an error, wherever the API put it."""
    if code in _META_CODES:
        return _META_CODES[code]
    for name in ("metaCode", "code", "error"):
        value = body.get(name)
        match = _META_NUMBER.search(str(value)) if isinstance(value, (str, int)) else None
        if match and int(match[1]) in _META_ADVICE:
            return int(match[1])
    return None
