"""Who sent a webhook: the check of ``x-pilot-status-signature``.

The header holds the lower-case hex HMAC-SHA256 of the raw body under the webhook's
secret; no timestamp is signed (docs.pilotstatus.com.br, concepts/webhooks; the official
SDK's notes on webhooks). One rule: the raw bytes are checked, before anything parses
them, and a header of any content ends in a verdict, never in another exception.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import TYPE_CHECKING, Final, Literal, get_args

from voicebridge.errors import ConfigError, WebhookError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import SecretStr

__all__ = ["SIGNATURE_HEADER", "SignatureChecker", "SignatureMode"]

SIGNATURE_HEADER: Final = "x-pilot-status-signature"

SignatureMode = Literal["required", "if-present", "off"]

_PREFIX: Final = b"sha256="
_HEX_LENGTH: Final = 64
_BASE64_LENGTH: Final = 44
# Longest accepted spelling: prefix, 64 digits, some blanks around.
_MAX_HEADER: Final = 128


class SignatureChecker:
    """Decides whether a body is the provider's.

    Modes: ``required`` refuses what is not signed with one of ``secrets``;
    ``if-present`` lets unsigned bodies pass and refuses wrongly signed ones; ``off``
    looks at nothing. Only ``required`` yields trust: where a forger may simply leave the
    header out, what an event claims has to be confirmed with ``GET /v1/calls/{id}``.

    Several secrets are for rotation: each is tried on every request. ``base64_accepted``
    counts signatures that came as base64, which is not documented but unambiguous.

    Raises ``ConfigError`` for ``required`` without a secret, a blank secret, or an unknown
    mode.
    """

    def __init__(self, secrets: Sequence[SecretStr], mode: SignatureMode) -> None:
        if mode not in get_args(SignatureMode):
            raise ConfigError(
                "VOICEBRIDGE_SIGNATURE_MODE must be one of "
                + ", ".join(f"'{known}'" for known in get_args(SignatureMode))
            )
        self.mode: SignatureMode = mode
        self.base64_accepted = 0
        self._secrets: tuple[bytes, ...] = ()
        self.rotate(secrets)

    def rotate(self, secrets: Sequence[SecretStr]) -> None:
        """Replaces all secrets; takes effect with the next request."""
        found = tuple(
            secret.get_secret_value().encode("utf-8", "surrogateescape") for secret in secrets
        )
        if any(not secret.strip() for secret in found):
            raise ConfigError(
                "VOICEBRIDGE_WEBHOOK_SECRET holds an empty secret: anyone could sign with it. "
                "Remove the stray comma or the empty entry"
            )
        if self.mode == "required" and not found:
            raise ConfigError(
                "VOICEBRIDGE_SIGNATURE_MODE=required needs VOICEBRIDGE_WEBHOOK_SECRET: copy the "
                "webhook's signing secret from the Pilot Status dashboard"
            )
        self._secrets = found

    def check(self, body: bytes, signatures: Sequence[bytes]) -> bool:
        """Whether the event in ``body`` may be trusted without asking the provider.

        ``signatures`` are the raw values of all signature headers of the request.
        Raises ``WebhookError`` (401).
        """
        if self.mode == "off" or not self._secrets:
            return False
        if not signatures:
            if self.mode == "if-present":
                return False
            raise WebhookError("the signature header is missing", status=401)
        if len(signatures) > 1 or not self._matches(body, signatures[0]):
            raise WebhookError(
                "the signature does not match: check that VOICEBRIDGE_WEBHOOK_SECRET is this "
                "webhook's secret",
                status=401,
            )
        return self.mode == "required"

    def _matches(self, body: bytes, header: bytes) -> bool:
        claimed = _decode(header)
        if claimed is None:
            return False
        digest, in_base64 = claimed
        matched = False
        for secret in self._secrets:  # all of them: the time taken tells nothing
            expected = hmac.new(secret, body, hashlib.sha256).digest()
            matched |= hmac.compare_digest(expected, digest)
        if matched and in_base64:
            self.base64_accepted += 1
        return matched


def _decode(header: bytes) -> tuple[bytes, bool] | None:
    """The 32 bytes that a header spells and whether it was in base64; None if it spells none."""
    if len(header) > _MAX_HEADER:
        return None
    text = header.strip(b" \t")
    if text[: len(_PREFIX)].lower() == _PREFIX:
        text = text[len(_PREFIX) :].strip(b" \t")
    try:
        if len(text) == _HEX_LENGTH:
            return binascii.unhexlify(text), False
        if len(text) == _BASE64_LENGTH:
            digest = base64.b64decode(text, validate=True)
            return (digest, True) if len(digest) == hashlib.sha256().digest_size else None
    except (binascii.Error, ValueError):
        return None
    return None
