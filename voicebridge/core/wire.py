"""What text on the media socket may mean.

The socket is documented to carry binary PCM16 only (docs.pilotstatus.com.br, realtime
media session). Servers of the same family also say hello, announce a format, or wrap
audio in JSON; so text is read with tolerance, never answered, and never fatal.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

_RATES = (8_000, 16_000, 24_000, 48_000)


@dataclass(frozen=True, slots=True)
class WireText:
    """A text message, understood as far as possible.

    ``kind`` is its ``type`` or ``event``, lower case, ``"unknown"`` where there is none
    that is safe to log. ``audio`` is decoded base64 PCM, ``sample_rate`` an announced
    rate, ``digit`` a pressed key.
    """

    kind: str
    sample_rate: int | None = None
    audio: bytes | None = None
    digit: str | None = None


_UNKNOWN = WireText("unknown")


def read_text(text: str) -> WireText:
    """Reads any text; never raises."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return _UNKNOWN
    if not isinstance(message, dict):
        return _UNKNOWN
    kind = _kind(message)
    return WireText(kind, _rate(message), _audio(message, kind), _digit(message, kind))


def _kind(message: dict[str, Any]) -> str:
    value = message.get("type") or message.get("event")
    if isinstance(value, str) and len(value) <= 32 and value.replace(".", "_").isidentifier():
        return value.lower()
    return "unknown"


def _rate(message: dict[str, Any]) -> int | None:
    media = message.get("media")
    for place in (message, media if isinstance(media, dict) else {}):
        for key in ("sampleRate", "sample_rate"):
            if place.get(key) in _RATES:
                return int(place[key])
    return None


def _audio(message: dict[str, Any], kind: str) -> bytes | None:
    media = message.get("media")
    payload = message.get("payload")
    if payload is None and isinstance(media, dict):
        payload = media.get("payload")
    if kind not in ("media", "audio") or not isinstance(payload, str):
        return None
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        return None


def _digit(message: dict[str, Any], kind: str) -> str | None:
    if kind not in ("dtmf", "digit"):
        return None
    digit = message.get("digit") or message.get("value")
    if isinstance(digit, str) and len(digit) == 1 and digit in "0123456789*#ABCD":
        return digit
    return None
