"""META numbers only: the ``calling`` settings and the permission to call a user.

Rules of Meta's Cloud API pages (Calling settings; User call permissions): a posted
``call_hours`` replaces the stored one whole, ``sip`` is refused, permission may be asked
for once a day and twice a week, and calling needs a messaging limit of 2,000 a day.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import zoneinfo
from collections import defaultdict, deque
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from voicebridge.emulator.answers import Refusal, validation_error
from voicebridge.emulator.numbers import phone_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.routing import Route

    from voicebridge.clock import Clock
    from voicebridge.emulator.api import Answer, Api, Inquiry
    from voicebridge.emulator.exchange import Exchange
    from voicebridge.emulator.ids import Ids

__all__ = ["CallingDesk", "check_call_hours"]

_DAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")
_CHOICES = {
    "status": ("ENABLED", "DISABLED"),
    "call_icon_visibility": ("DEFAULT", "DISABLE_ALL"),
    "callback_permission_status": ("ENABLED", "DISABLED"),
}
_TEMPORARY_S = 7 * 86_400
_DAY_S, _WEEK_S = 86_400.0, 7 * 86_400.0
_CALLS_PER_DAY = 100


@dataclass(slots=True)
class _Consent:
    """One user's: ``asked`` and ``called`` are monotonic instants."""

    status: str = "no_permission"
    until: float | None = None
    until_unix: int | None = None
    asked: list[float] = field(default_factory=list)
    called: list[float] = field(default_factory=list)


class CallingDesk:
    """Settings and permissions of one number."""

    def __init__(
        self,
        exchange: Exchange,
        *,
        ids: Ids,
        clock: Callable[[], Clock],
        announce: Callable[[str, str], None],
    ) -> None:
        self.settings: dict[str, Any] = {
            "status": "ENABLED",
            "call_icon_visibility": "DEFAULT",
            "callback_permission_status": "ENABLED",
        }
        self._exchange = exchange
        self._ids = ids
        self._clock = clock
        self._announce = announce
        self._consents: defaultdict[str, _Consent] = defaultdict(_Consent)
        self._timers: deque[asyncio.TimerHandle] = deque(maxlen=1_000)

    def routes(self, api: Api) -> list[Route]:
        permissions = "/v1/calls/permissions"
        return [
            api.route("GET", "/v1/calls/settings", "get_settings", self._get, only="META"),
            api.route("PUT", "/v1/calls/settings", "update_settings", self._put, only="META"),
            api.route("GET", permissions, "get_permissions", self._probe, only="META"),
            api.route(
                "POST", f"{permissions}/request", "request_permission", self._request, only="META"
            ),
        ]

    def close(self) -> None:
        """No user answers any more."""
        for timer in self._timers:
            timer.cancel()

    def check_may_call(self, to: str) -> None:
        """Raises ``Refusal`` as Meta would: 138000, 138006 or 138012."""
        if self.settings["status"] != "ENABLED":
            raise Refusal(400, "(#138000) Calling is not enabled", "META_CALLING_NOT_ENABLED")
        consent, now = self._consent(to), self._clock().now()
        if consent.status == "no_permission":
            raise Refusal(
                400, "(#138006) No call permission from the user", "META_CALL_PERMISSION_REQUIRED"
            )
        if _recent(consent.called, now, _DAY_S) >= _CALLS_PER_DAY:
            raise Refusal(400, "(#138012) Daily limit of calls reached", "META_CALL_LIMIT")
        consent.called.append(now)

    async def _get(self, inquiry: Inquiry) -> Answer:
        return 200, {"calling": self.settings}

    async def _put(self, inquiry: Inquiry) -> Answer:
        update = inquiry.body
        _check_settings(update, self._clock().utc().date())
        limit = self._exchange.behaviour.rest.daily_limit
        if update.get("status") == "ENABLED" and limit < 2_000:
            raise Refusal(
                400, "(#138015) Messaging limit below 2,000 a day", "META_CALLING_TIER_TOO_LOW"
            )
        if "call_hours" in update:
            update = update | {"call_hours": {"holiday_schedule": []} | update["call_hours"]}
        self.settings |= update
        return 200, {"success": True}

    async def _probe(self, inquiry: Inquiry) -> Answer:
        consent, now = self._consent(phone_number(inquiry.query("to"))), self._clock().now()
        permission: dict[str, Any] = {"status": consent.status}
        if consent.until_unix is not None:
            permission["expiration_time"] = consent.until_unix
        asked, called = (_recent(log, now, _DAY_S) for log in (consent.asked, consent.called))
        return 200, {
            "permission": permission,
            "actions": [
                _action("send_call_permission_request", self._may_ask(consent, now), 1, asked),
                _action("start_call", consent.status != "no_permission", _CALLS_PER_DAY, called),
            ],
        }

    async def _request(self, inquiry: Inquiry) -> Answer:
        to = phone_number(inquiry.body.get("to"))
        text = inquiry.body.get("text")
        if text is not None and (not isinstance(text, str) or len(text) > 1_024):
            raise validation_error("text")
        consent, now = self._consent(to), self._clock().now()
        if not self._may_ask(consent, now):
            raise Refusal(
                400,
                "(#138009) Limit of permission requests reached",
                "META_CALL_PERMISSION_REQUEST_LIMIT",
            )
        consent.asked.append(now)
        how = self._exchange.behaviour.caller
        if how.permission != "ignore":
            loop = asyncio.get_running_loop()
            at = now + how.permission_after_s
            self._timers.append(loop.call_at(at, self._user_answers, to, how.permission))
        return 201, {"messageId": self._ids.meta("wamid")}

    def _user_answers(self, to: str, answer: str) -> None:
        consent, clock = self._consents[to], self._clock()
        consent.until = consent.until_unix = None
        match answer:
            case "grant_temporary":
                consent.status = "temporary"
                consent.until = clock.now() + _TEMPORARY_S
                consent.until_unix = int(clock.utc().timestamp()) + _TEMPORARY_S
            case "grant_permanent":
                consent.status = "permanent"
            case _:
                consent.status = "no_permission"
        self._announce(to, consent.status.upper())

    def _consent(self, to: str) -> _Consent:
        consent = self._consents[to]
        if consent.until is not None and self._clock().now() >= consent.until:
            consent.status, consent.until, consent.until_unix = "no_permission", None, None
        return consent

    def _may_ask(self, consent: _Consent, now: float) -> bool:
        return _recent(consent.asked, now, _DAY_S) < 1 and _recent(consent.asked, now, _WEEK_S) < 2


def check_call_hours(hours: object, today: date) -> None:
    """Raises ``Refusal`` for hours that Meta would not take."""
    if not isinstance(hours, dict) or hours.get("status") not in ("ENABLED", "DISABLED"):
        raise validation_error("call_hours.status")
    known = {"status", "timezone_id", "weekly_operating_hours", "holiday_schedule"}
    if hours.keys() - known:
        raise validation_error("call_hours has unknown fields")
    if not _is_zone(hours.get("timezone_id")):
        raise validation_error("call_hours.timezone_id")
    week = hours.get("weekly_operating_hours")
    if not isinstance(week, list) or not week:
        raise validation_error("weekly_operating_hours cannot be empty")
    by_day: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for entry in week:
        if not isinstance(entry, dict) or entry.get("day_of_week") not in _DAYS:
            raise validation_error("weekly_operating_hours.day_of_week")
        by_day[entry["day_of_week"]].append(_span(entry, "open_time", "close_time"))
    for spans in by_day.values():
        spans.sort()
        if len(spans) > 2:
            raise validation_error("more than two entries for one day")
        if any(later[0] < earlier[1] for earlier, later in itertools.pairwise(spans)):
            raise validation_error("overlapping weekly_operating_hours")
    _check_holidays(hours.get("holiday_schedule", []), today)


def _check_holidays(holidays: object, today: date) -> None:
    if not isinstance(holidays, list) or len(holidays) > 20:
        raise validation_error("holiday_schedule holds at most 20 entries")
    for entry in holidays:
        if not isinstance(entry, dict):
            raise validation_error("holiday_schedule")
        try:
            day = date.fromisoformat(entry.get("date", ""))
        except (TypeError, ValueError):
            raise validation_error("holiday_schedule.date") from None
        if day < today:
            raise validation_error("holiday_schedule.date is a past date")
        _span(entry, "start_time", "end_time")


def _check_settings(update: dict[str, Any], today: date) -> None:
    if "sip" in update:
        raise validation_error("sip cannot be set")
    if update.keys() - _CHOICES.keys() - {"call_hours", "voicemail", "call_icons", "audio"}:
        raise validation_error("unknown setting")
    for name, choices in _CHOICES.items():
        if name in update and update[name] not in choices:
            raise validation_error(name)
    for name in ("voicemail", "call_icons", "audio"):
        if name in update and not isinstance(update[name], dict):
            raise validation_error(name)
    if "call_hours" in update:
        check_call_hours(update["call_hours"], today)


def _span(entry: dict[str, Any], first: str, last: str) -> tuple[str, str]:
    opens, closes = (str(entry.get(name)) for name in (first, last))
    for time in (opens, closes):
        if not re.fullmatch(r"([01]\d|2[0-3])[0-5]\d", time):
            raise validation_error(f"{first} and {last} are HHMM")
    if opens >= closes:
        raise validation_error(f"{first} must come before {last}")
    return opens, closes


def _is_zone(name: object) -> bool:
    zones = zoneinfo.available_timezones()
    # Without a time zone database on this machine only the shape can be checked.
    return isinstance(name, str) and (
        name in zones if zones else re.fullmatch(r"[A-Za-z_]+(/[A-Za-z0-9_+-]+)*", name) is not None
    )


def _recent(instants: list[float], now: float, within: float) -> int:
    return sum(1 for at in instants if now - at < within)


def _action(name: str, can: bool, most: int, used: int) -> dict[str, Any]:
    return {
        "action_name": name,
        "can_perform_action": can,
        "limits": [{"time_period": "PT24H", "max_allowed": most, "current_usage": used}],
    }
