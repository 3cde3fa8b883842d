"""Every error voicebridge raises on purpose.

::

    VoicebridgeError
    ├── ConfigError                  the operator must change something; exit code 2
    │   └── BotLoadError             a bot SPEC that names nothing usable
    ├── ProviderError                the Pilot Status API did not do what was asked
    │   ├── ProviderUnreachable      no usable answer: connect, timeout, garbage   .sent
    │   ├── ProviderRefused          an answer that says no            .status .code
    │   │   ├── Unauthorized             401
    │   │   ├── PaymentRequired          402
    │   │   ├── TenantScopeNotAllowed    403
    │   │   ├── FeatureNotSupported      400 FEATURE_NOT_SUPPORTED
    │   │   ├── InvalidRequest           other 400, 422
    │   │   │   └── NumberNotFound       400/404 NUMBER_NOT_FOUND
    │   │   ├── CallNotFound             404 CALL_NOT_FOUND (and any other 404)
    │   │   ├── Conflict                 409
    │   │   │   ├── InstanceNotConnected     WHATSAPP_INSTANCE_NOT_CONNECTED
    │   │   │   └── NumberBlocked            NUMBER_BLOCKED
    │   │   ├── RateLimited              429                           .retry_after
    │   │   ├── MetaCallingError         a mapped Meta code (1380xx)   .meta_code
    │   │   └── ProviderFault            5xx
    │   └── CallOver                 the call had ended before it could be done  .status
    ├── WebhookError                 a webhook that is not acted upon  .status
    ├── MediaError                   the media socket
    │   ├── MediaUrlRefused          a wsUrl that leaves the allow-list
    │   └── MediaUnavailable         the socket could not be opened
    ├── AudioError                   bytes that are not the audio they claim to be
    └── CallError
        ├── CallEnded                the call is over                  .reason
        └── CallStateError           a command that this call cannot take now

Messages say what to do. They never hold a key, token, secret, phone number or
media URL: an exception travels to logs, tracebacks and error trackers.
"""

from __future__ import annotations


class VoicebridgeError(Exception):
    """Base of all errors raised on purpose."""


class ConfigError(VoicebridgeError):
    """The configuration is wrong; the message says which key and how to mend it."""


class BotLoadError(ConfigError):
    """A bot SPEC could not be resolved, imported or constructed."""


class ProviderError(VoicebridgeError):
    """The provider's API did not do what was asked.

    ``operation`` is the client method's name, e.g. ``"accept"``.
    """

    def __init__(self, message: str, *, operation: str) -> None:
        super().__init__(message)
        self.operation = operation


class ProviderUnreachable(ProviderError):
    """No usable answer: refused, timed out, cut, or an answer that is not what the API speaks.

    ``sent`` tells whether the request may have taken effect: False only where it is
    certain that nothing reached the provider (connect failed).
    """

    def __init__(self, message: str, *, operation: str, sent: bool) -> None:
        super().__init__(message, operation=operation)
        self.sent = sent


class ProviderRefused(ProviderError):
    """The provider answered with an error status.

    ``status`` is the HTTP status, ``code`` the API's machine-readable code or None.
    """

    def __init__(
        self, message: str, *, operation: str, status: int, code: str | None = None
    ) -> None:
        super().__init__(message, operation=operation)
        self.status = status
        self.code = code


class Unauthorized(ProviderRefused):
    """401: the API key is missing, wrong or revoked."""


class PaymentRequired(ProviderRefused):
    """402: the account's plan does not cover this."""


class TenantScopeNotAllowed(ProviderRefused):
    """403: an account-wide key where a number-scoped one is needed."""


class FeatureNotSupported(ProviderRefused):
    """400 ``FEATURE_NOT_SUPPORTED``: this number's provider kind lacks the endpoint."""


class InvalidRequest(ProviderRefused):
    """400 or 422: the request itself is wrong; repeating it cannot help."""


class NumberNotFound(InvalidRequest):
    """``NUMBER_NOT_FOUND``: the key is bound to no number, or the number is not yours."""


class CallNotFound(ProviderRefused):
    """404: no such call (or webhook) for this key's number."""


class Conflict(ProviderRefused):
    """409: the state of the call or number does not allow it."""


class InstanceNotConnected(Conflict):
    """409 ``WHATSAPP_INSTANCE_NOT_CONNECTED``: the WhatsApp number is offline."""


class NumberBlocked(Conflict):
    """409 ``NUMBER_BLOCKED``: the number is blocked, e.g. for an unpaid charge."""


class RateLimited(ProviderRefused):
    """429. ``retry_after`` is the server's wish in seconds, None where it gave none."""

    def __init__(
        self,
        message: str,
        *,
        operation: str,
        status: int = 429,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, operation=operation, status=status, code=code)
        self.retry_after = retry_after


class MetaCallingError(ProviderRefused):
    """A calling error of Meta's that the API passes on; ``meta_code`` e.g. 138006."""

    def __init__(
        self, message: str, *, operation: str, status: int, code: str | None, meta_code: int | None
    ) -> None:
        super().__init__(message, operation=operation, status=status, code=code)
        self.meta_code = meta_code


class ProviderFault(ProviderRefused):
    """5xx: the provider failed; whether the request took effect is unknown for 500."""


class CallOver(ProviderError):
    """The call had already ended when it was to be answered; ``status`` is its final status."""

    def __init__(self, message: str, *, operation: str, status: str) -> None:
        super().__init__(message, operation=operation)
        self.status = status


class WebhookError(VoicebridgeError):
    """A webhook that is not acted upon; ``status`` is the HTTP status to answer with."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class MediaError(VoicebridgeError):
    """The media socket."""


class MediaUrlRefused(MediaError):
    """A ``wsUrl`` that the allow-list does not cover; nothing was connected."""


class MediaUnavailable(MediaError):
    """The media socket could not be opened; ``status`` is the upgrade's HTTP status, if any."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class AudioError(VoicebridgeError, ValueError):
    """Bytes or a file that is not the audio it claims to be."""


class CallError(VoicebridgeError):
    """A call."""


class CallEnded(CallError):
    """The call is over; a bot may let this through. ``reason`` is why, e.g. ``"caller"``."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the call has ended ({reason})")
        self.reason = reason


class CallStateError(CallError):
    """A command that the call cannot take in its present state; nothing was changed."""
