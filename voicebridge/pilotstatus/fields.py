"""Single values of the provider's JSON. One rule: what cannot be read is None, not an error.

The API adds fields, statuses and event names without notice, and a call must not be
lost over a date nobody needs. Only what a caller cannot do without (an id, a socket
address) is required by the models themselves.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic.alias_generators import to_camel

__all__ = [
    "Count",
    "Dto",
    "Instant",
    "Phone",
    "Text",
    "phone_digits",
    "read_count",
    "read_instant",
    "read_text",
]

_PHONE_DOMAINS = frozenset({"s.whatsapp.net", "c.us"})
_PHONE_DRESSING = re.compile(r"[\s().\-]")
_PHONE = re.compile(r"\+?([0-9]{5,15})")
_EPOCH = re.compile(r"[0-9]{9,14}")
# An epoch beyond this many seconds (year 5138) can only be milliseconds.
_MILLISECONDS_FROM = 100_000_000_000


def phone_digits(value: object) -> str | None:
    """Digits of a phone number, without ``+``; None for a LID, a group, or anything else.

    Takes E.164 with or without ``+``, common punctuation, and WhatsApp JIDs
    (``5511...:12@s.whatsapp.net``). The API writes numbers without ``+``, its webhooks
    with one: compare only what went through here.
    """
    if not isinstance(value, str):
        return None
    user, at, domain = value.strip().partition("@")
    if at:
        if domain.lower() not in _PHONE_DOMAINS:
            return None
        user = re.split(r"[:.]", user, maxsplit=1)[0]
    match = _PHONE.fullmatch(_PHONE_DRESSING.sub("", user))
    return match[1] if match else None


def read_instant(value: object) -> datetime | None:
    """Aware UTC of an ISO 8601 text, or of epoch seconds or milliseconds; None if unreadable.

    A text without an offset is taken as UTC.
    """
    try:
        if isinstance(value, datetime):
            moment = value
        elif isinstance(value, str) and not _EPOCH.fullmatch(value.strip()):
            moment = datetime.fromisoformat(value.strip())
        elif isinstance(value, (int, float, str)) and not isinstance(value, bool):
            seconds = float(value)
            if seconds >= _MILLISECONDS_FROM:
                seconds /= 1000
            moment = datetime.fromtimestamp(seconds, UTC)
        else:
            return None
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        return None


def read_count(value: object) -> int | None:
    """A whole number >= 0, also from a float or a text such as ``"120"``; else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = int(value) if isinstance(value, int) else int(float(value))
    except (ValueError, OverflowError):
        return None
    return number if number >= 0 else None


def read_text(value: object) -> str | None:
    """A non-empty string, stripped; a whole number becomes its digits; else None."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        return None
    return value.strip() or None


Phone = Annotated[str | None, BeforeValidator(phone_digits)]
Instant = Annotated[datetime | None, BeforeValidator(read_instant)]
Count = Annotated[int | None, BeforeValidator(read_count)]
Text = Annotated[str | None, BeforeValidator(read_text)]


class Dto(BaseModel):
    """Frozen object of the API: camelCase outside, snake_case inside, unknown fields ignored.

    Inputs are kept out of validation errors, for those travel to logs.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    def as_json(self) -> dict[str, Any]:
        """The object under the API's own field names, ready for ``json.dumps``."""
        return self.model_dump(mode="json", by_alias=True)
