"""Phone numbers as people write them."""

from __future__ import annotations

import re

from voicebridge.emulator.answers import Refusal, validation_error

__all__ = ["phone_number"]


def phone_number(value: object) -> str:
    """E.164 with ``+``. Raises ``Refusal``: ``MISSING_TO``, or a validation error."""
    if value is None or value == "":
        raise Refusal(400, "Missing `to`", "MISSING_TO")
    if not isinstance(value, str) or not re.fullmatch(r"\+?[\d\s().-]{8,24}", value):
        raise validation_error("to")
    digits = re.sub(r"\D", "", value)
    if not 8 <= len(digits) <= 15:
        raise validation_error("to")
    return f"+{digits}"
