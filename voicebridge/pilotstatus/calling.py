"""Meta numbers only: calling settings, call permissions and restrictions.

One rule: what we send is checked here as strictly as Meta checks it, with a message
that names the field; what we receive is read tolerantly. Numbers connected through
Evolution GO have none of this; their endpoints answer ``FEATURE_NOT_SUPPORTED``.

Sources: https://docs.pilotstatus.com.br/api/calls/endpoints and
https://developers.facebook.com/documentation/business-messaging/whatsapp/calling/call-settings/
"""

from __future__ import annotations

import re
import zoneinfo
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from voicebridge.errors import ConfigError
from voicebridge.pilotstatus.fields import Count, Dto, Instant, Text

__all__ = [
    "CallHours",
    "CallIcons",
    "CallPermission",
    "CallingAudio",
    "CallingRestriction",
    "CallingSettings",
    "CallingSettingsUpdate",
    "HolidayOverride",
    "OperatingHours",
    "PermissionAction",
    "PermissionLimit",
    "PermissionRequest",
    "PermissionStatus",
]

Switch = Literal["ENABLED", "DISABLED"]
Weekday = Literal["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"]
PermissionStatus = Literal["no_permission", "temporary", "permanent"]

MAX_HOLIDAYS = 20
MAX_HOURS_PER_DAY = 2
# The last place on Earth to change its date.
_LATEST_ZONE = timedelta(hours=-12)
_ZONE_NAME = re.compile(r"[A-Za-z0-9_+\-]+(/[A-Za-z0-9_+\-]+)*")


@lru_cache(maxsize=1)
def _known_zones() -> frozenset[str]:
    """IANA zone names of this machine; empty where no time-zone data is installed."""
    return frozenset(zoneinfo.available_timezones())


def _time_of_day(value: str) -> str:
    if not re.fullmatch(r"([01][0-9]|2[0-3])[0-5][0-9]", value):
        raise ValueError("write times as HHMM between 0000 and 2359, e.g. 0930")
    return value


TimeOfDay = Annotated[str, BeforeValidator(lambda v: _time_of_day(v) if isinstance(v, str) else v)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class OperatingHours(_Strict):
    """One span of opening on one weekday, HHMM local time."""

    day_of_week: Weekday
    open_time: TimeOfDay
    close_time: TimeOfDay

    @model_validator(mode="after")
    def _opens_before_it_closes(self) -> Self:
        if self.open_time >= self.close_time:
            raise ValueError(f"{self.day_of_week}: open_time must be before close_time")
        return self


class HolidayOverride(_Strict):
    """Hours of one date that replace the weekly ones, HHMM local time."""

    date: date
    start_time: TimeOfDay
    end_time: TimeOfDay

    @model_validator(mode="after")
    def _starts_before_it_ends(self) -> Self:
        if self.start_time >= self.end_time:
            raise ValueError(f"{self.date}: start_time must be before end_time")
        return self


class CallHours(_Strict):
    """When customers may call. Replaces the stored object whole, holidays included."""

    status: Switch
    timezone_id: str
    weekly_operating_hours: tuple[OperatingHours, ...] = Field(min_length=1)
    holiday_schedule: tuple[HolidayOverride, ...] = Field(default=(), max_length=MAX_HOLIDAYS)

    @field_validator("timezone_id")
    @classmethod
    def _iana_zone(cls, value: str) -> str:
        known = _known_zones()
        if not _ZONE_NAME.fullmatch(value) or (known and value not in known):
            raise ValueError("timezone_id must be an IANA zone such as America/Sao_Paulo")
        return value

    @field_validator("weekly_operating_hours")
    @classmethod
    def _hours_of_a_day(cls, value: tuple[OperatingHours, ...]) -> tuple[OperatingHours, ...]:
        for day in dict.fromkeys(hours.day_of_week for hours in value):
            spans = sorted(
                (hours.open_time, hours.close_time) for hours in value if hours.day_of_week == day
            )
            if len(spans) > MAX_HOURS_PER_DAY:
                raise ValueError(f"{day} has more than {MAX_HOURS_PER_DAY} spans; merge them")
            if any(later[0] < earlier[1] for earlier, later in pairwise(spans)):
                raise ValueError(f"{day} has overlapping hours; merge or separate them")
        return value

    def local_date(self, utc: datetime) -> date:
        """The date in this schedule's zone; the earliest one on Earth where zones are unknown."""
        try:
            return utc.astimezone(zoneinfo.ZoneInfo(self.timezone_id)).date()
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            return (utc + _LATEST_ZONE).date()


class CallIcons(_Strict):
    """Countries (ISO 3166-1 alpha-2) whose users see the call button; empty: all."""

    restrict_to_user_countries: tuple[Annotated[str, Field(pattern="^[A-Z]{2}$")], ...] = ()


class CallingAudio(_Strict):
    """Codecs beside Opus, which is always on."""

    additional_codecs: tuple[Literal["PCMA", "PCMU"], ...] = ()


class CallingSettingsUpdate(_Strict):
    """A partial update: what is not set stays, but ``call_hours`` is replaced whole.

    Pilot Status documents ``status``, ``call_icon_visibility``,
    ``callback_permission_status``, ``call_hours`` and ``voicemail``. ``call_icons`` and
    ``audio`` are Meta's and may be refused. ``sip`` is refused by the API, so it is here.
    """

    status: Switch | None = None
    call_icon_visibility: Literal["DEFAULT", "DISABLE_ALL"] | None = None
    call_icons: CallIcons | None = None
    call_hours: CallHours | None = None
    callback_permission_status: Switch | None = None
    voicemail: dict[str, Any] | None = None
    audio: CallingAudio | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_sip(cls, data: Any) -> Any:
        if isinstance(data, dict) and "sip" in data:
            raise ValueError("remove sip: the API refuses it, and SIP would turn off calling here")
        return data

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.payload():
            raise ValueError("set at least one field to change")
        return self

    def check(self, today: date) -> None:
        """Refuse holidays in the past; ``today`` is the date in the schedule's zone.

        Raises:
            ConfigError: Meta would refuse the whole object over a past date.
        """
        holidays = self.call_hours.holiday_schedule if self.call_hours else ()
        past = sorted({holiday.date.isoformat() for holiday in holidays if holiday.date < today})
        if past:
            raise ConfigError(f"holiday_schedule: remove dates in the past: {', '.join(past)}")

    def payload(self) -> dict[str, Any]:
        """The JSON body: only what is set, under Meta's names."""
        return self.model_dump(mode="json", exclude_none=True)


class _Snake(Dto):
    """Meta writes snake_case on the wire."""

    model_config = ConfigDict(alias_generator=None)


class CallingRestriction(_Snake):
    """A sanction against calling; ``expires_at`` is None where it has no end date."""

    type: Text = None
    reason: Text = None
    remediation: Text = None
    expires_at: Instant = None

    @model_validator(mode="before")
    @classmethod
    def _either_spelling(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return {}
        names = {"restriction_type": "type", "expiration": "expires_at"}
        return {names.get(key, key): value for key, value in data.items()}


def _rows(value: object) -> list[Any]:
    rows = value if isinstance(value, (list, tuple)) else []
    return [row for row in rows if isinstance(row, (dict, BaseModel))]


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


class CallingSettings(_Snake):
    """A Meta number's calling settings as stored; ``raw`` is the whole object.

    ``call_hours`` stays a plain dict: holidays in the past are legal in what is stored.
    """

    status: Text = None
    call_icon_visibility: Text = None
    callback_permission_status: Text = None
    call_icons: Annotated[dict[str, Any], BeforeValidator(_object)] = Field(default_factory=dict)
    call_hours: Annotated[dict[str, Any], BeforeValidator(_object)] = Field(default_factory=dict)
    audio: Annotated[dict[str, Any], BeforeValidator(_object)] = Field(default_factory=dict)
    restrictions: tuple[CallingRestriction, ...] = ()
    raw: dict[str, Any] = Field(default_factory=dict, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _unwrap(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            raise ValueError("the settings must be an object")
        inner = data.get("calling", data)
        stored = {key: value for key, value in _object(inner).items() if key != "sip"}
        return {**stored, "raw": stored}

    @field_validator("restrictions", mode="before")
    @classmethod
    def _listed(cls, value: object) -> list[Any]:
        held = _object(value)
        # Meta's page spells the list both ways.
        return _rows(held.get("restrictions_list") or held.get("restriction_list") or value)

    @property
    def enabled(self) -> bool:
        return self.status is not None and self.status.upper() == "ENABLED"


class PermissionLimit(_Snake):
    """How often an action may be done in a period, e.g. ``PT24H``."""

    time_period: Text = None
    max_allowed: Count = None
    current_usage: Count = None
    limit_expiration_time: Instant = None


class PermissionAction(_Snake):
    """Whether ``start_call`` or ``send_call_permission_request`` may be done now."""

    action_name: str
    can_perform_action: bool = False
    limits: tuple[PermissionLimit, ...] = ()

    @field_validator("limits", mode="before")
    @classmethod
    def _readable(cls, value: object) -> list[Any]:
        return _rows(value)


def _permission_status(value: object) -> object:
    lowered = value.strip().lower() if isinstance(value, str) else None
    return lowered if lowered in ("no_permission", "temporary", "permanent") else None


class CallPermission(_Snake):
    """Whether the business may call a customer; ``status`` is None if it is unknown."""

    status: Annotated[PermissionStatus | None, BeforeValidator(_permission_status)] = None
    expiration_time: Instant = None
    actions: tuple[PermissionAction, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _flatten(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            raise ValueError("the permission must be an object")
        return {**data, **_object(data.get("permission"))}

    @field_validator("actions", mode="before")
    @classmethod
    def _named(cls, value: object) -> list[Any]:
        return [
            row
            for row in _rows(value)
            if isinstance(row, BaseModel) or isinstance(row.get("action_name"), str)
        ]

    def allows(self, action: str = "start_call") -> bool:
        """Whether ``action`` may be done now; False when the answer does not mention it."""
        return any(a.can_perform_action for a in self.actions if a.action_name == action)


class PermissionRequest(Dto):
    """A permission request that was sent."""

    message_id: str = Field(min_length=1)
