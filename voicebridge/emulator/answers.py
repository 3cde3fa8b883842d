"""How the API says no: the error envelope and the refusals that several places share."""

from __future__ import annotations

from voicebridge.errors import VoicebridgeError

__all__ = [
    "Refusal",
    "call_not_found",
    "feature_not_supported",
    "not_connected",
    "validation_error",
]


class Refusal(VoicebridgeError):
    """An answer other than 2xx; ``str`` is its ``error`` text."""

    def __init__(self, status: int, error: str, code: str | None = None) -> None:
        super().__init__(error)
        self.status = status
        self.code = code

    def body(self) -> dict[str, str]:
        return {"error": str(self)} | ({"code": self.code} if self.code else {})


def feature_not_supported() -> Refusal:
    return Refusal(
        400, "This feature is not supported by the number's provider", "FEATURE_NOT_SUPPORTED"
    )


def call_not_found() -> Refusal:
    return Refusal(404, "Call not found", "CALL_NOT_FOUND")


def not_connected() -> Refusal:
    return Refusal(409, "WhatsApp instance is not connected", "WHATSAPP_INSTANCE_NOT_CONNECTED")


def validation_error(what: str | None = None) -> Refusal:
    return Refusal(400, "Validation error" if what is None else f"Validation error: {what}")
