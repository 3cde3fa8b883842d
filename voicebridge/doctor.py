"""Finds what keeps a line from working, and says how to mend it.

Each check is one function from settings (and the API) to a finding; none changes
anything, and no finding shows a secret.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import httpx

from voicebridge.botspec import load_bot
from voicebridge.clock import LoopClock
from voicebridge.errors import (
    BotLoadError,
    FeatureNotSupported,
    InstanceNotConnected,
    ProviderError,
    ProviderUnreachable,
    TenantScopeNotAllowed,
    Unauthorized,
)
from voicebridge.pilotstatus.api import PilotStatusApi

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voicebridge.pilotstatus.models import Webhook
    from voicebridge.settings import Settings

WEBHOOK_PATH = "/webhooks/pilotstatus"
#: The provider's public media host, asked where the allow-list is a pattern.
MEDIA_HOST = "evolution-go.pilotstatus.com.br"
CALL_EVENTS = ("call.ringing", "call.connected", "call.ended", "call.missed")
CLOCK_LIMIT = 30.0
TIMEOUT = 5.0

Verdict = Literal["ok", "warn", "bad"]
_VERDICTS = ("ok", "warn", "bad")


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's outcome; ``mend`` says what to do where it is not ok."""

    name: str
    verdict: Verdict
    detail: str
    mend: str = ""

    def as_dict(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in ("name", "verdict", "detail", "mend")}


async def examine(
    settings: Settings, *, transport: httpx.AsyncBaseTransport | None = None
) -> list[Finding]:
    """Runs every check; findings in the order in which one would mend them."""
    findings = [_key(settings)]
    if findings[0].verdict != "bad":
        async with PilotStatusApi(settings.api_url, settings.api_key, transport=transport) as api:
            access = await _access(api)
            findings.append(access)
            if access.verdict == "ok":
                findings.append(await _kind(api))
                findings += await _webhook(api)
    findings.append(_secret(settings))
    findings += await asyncio.gather(_media(settings), _clock(settings, transport))
    findings.append(_bot(settings))
    return findings


def _key(settings: Settings) -> Finding:
    key = settings.api_key.get_secret_value()
    if not key:
        return Finding(
            "API key",
            "bad",
            "VOICEBRIDGE_API_KEY is not set",
            "create a number-scoped key in the Pilot Status dashboard and put it into .env",
        )
    if not key.startswith("ps_"):
        return Finding(
            "API key",
            "warn",
            "it does not look like a key (ps_...)",
            "copy it again from the dashboard, without quotes or spaces",
        )
    return Finding("API key", "ok", "is set")


async def _access(api: PilotStatusApi) -> Finding:
    name = "API access"
    try:
        await api.list_calls(limit=1)
    except Unauthorized:
        return Finding(
            name,
            "bad",
            "the API refuses the key",
            "copy it from the dashboard again, or create a new one, for VOICEBRIDGE_API_KEY",
        )
    except TenantScopeNotAllowed:
        return Finding(
            name, "bad", "the key is account-wide", "create a key for this one number instead"
        )
    except FeatureNotSupported:
        return Finding(
            name,
            "bad",
            "this number's provider kind cannot make calls",
            "use a key of an EVO_GO (Pilot Status web) number",
        )
    except InstanceNotConnected:
        return Finding(
            name,
            "bad",
            "the WhatsApp number is not connected",
            "scan the QR code of the number in the dashboard again",
        )
    except ProviderUnreachable as error:
        return Finding(name, "bad", str(error), "check VOICEBRIDGE_API_URL and the network")
    except ProviderError as error:
        return Finding(name, "bad", str(error), "see the message; try again in a minute")
    return Finding(name, "ok", "the key is accepted")


async def _kind(api: PilotStatusApi) -> Finding:
    name = "provider kind"
    try:
        await api.get_settings()
    except FeatureNotSupported:
        return Finding(name, "ok", "EVO_GO: realtime audio and /play are there")
    except ProviderError as error:
        return Finding(name, "warn", f"unclear: {error}", "try again in a minute")
    return Finding(
        name,
        "bad",
        "META: media of these numbers is WebRTC, which this bridge does not speak",
        "use the key of an EVO_GO (Pilot Status web) number",
    )


async def _webhook(api: PilotStatusApi) -> list[Finding]:
    name = "webhook"
    try:
        hooks = await api.list_webhooks()
    except ProviderError as error:
        return [Finding(name, "warn", f"unclear: {error}", "look in the dashboard")]
    ours = [each for each in hooks if urlsplit(each.url or "").path.rstrip("/") == WEBHOOK_PATH]
    if not ours:
        return [
            Finding(
                name,
                "bad",
                f"none of {len(hooks)} leads to {WEBHOOK_PATH}",
                f"create one: POST /v1/webhooks with url https://YOUR-HOST{WEBHOOK_PATH}, a name, "
                f"and events {', '.join(CALL_EVENTS)}",
            )
        ]
    # One that works is enough: old ones are often left behind.
    best = min(ours, key=lambda hook: _VERDICTS.index(_subscription(name, hook).verdict))
    return [_subscription(name, best), *await _deliveries(api, best)]


async def _deliveries(api: PilotStatusApi, hook: Webhook) -> list[Finding]:
    """What became of the last events; nothing where all went well, or none is known."""
    try:
        log = await api.webhook_logs(hook.id, limit=20)
    except ProviderError:
        return []
    failed = sum(each.status == "FAILED" for each in log)
    if not failed:
        return []
    return [
        Finding(
            "webhook deliveries",
            "warn",
            f"{failed} of the last {len(log)} failed",
            "serve must run, and be reachable from the internet under the webhook's url; "
            "401 in the dashboard's log means another secret",
        )
    ]


def _subscription(name: str, hook: Webhook) -> Finding:
    events: Sequence[str] = hook.events or ()
    patch = f"PATCH /v1/webhooks/{hook.id} with"
    if not hook.active:
        return Finding(name, "bad", "it is not active", f'{patch} {{"active": true}}')
    if not events:
        return Finding(
            name,
            "bad",
            "it subscribes to no event, and so nothing is delivered",
            f'{patch} {{"events": ["*"]}}',
        )
    missing = [] if "*" in events else [each for each in CALL_EVENTS if each not in events]
    if "call.ringing" in missing:
        return Finding(
            name,
            "bad",
            "call.ringing is not among its events",
            f'{patch} {{"events": ["*"]}}; names that the API thinks do not apply are dropped',
        )
    if missing:
        return Finding(
            name,
            "warn",
            f"without {', '.join(missing)}: calls start and end a little later",
            f'{patch} {{"events": ["*"]}}',
        )
    return Finding(name, "ok", "active and subscribed to call events")


def _secret(settings: Settings) -> Finding:
    name = "webhook secret"
    mode = settings.effective_signature_mode
    if settings.secrets:
        count = len(settings.secrets)
        return Finding(name, "ok", f"{count} set, signatures {mode}")
    if mode == "required":
        return Finding(
            name,
            "bad",
            "signatures are required but no secret is set",
            "set VOICEBRIDGE_WEBHOOK_SECRET; it stands in the dashboard, no API returns it",
        )
    return Finding(
        name,
        "warn",
        "none: each event is confirmed with the API before it is acted upon",
        "set VOICEBRIDGE_WEBHOOK_SECRET if the dashboard shows one",
    )


async def _media(settings: Settings) -> Finding:
    name = "media host"
    if settings.allow_insecure_media:
        if _is_local(settings.api_url):
            return Finding(name, "ok", "insecure media is allowed: right for the emulator")
        return Finding(
            name,
            "warn",
            "VOICEBRIDGE_ALLOW_INSECURE_MEDIA is on, and the API is no emulator on this machine",
            "unset it: callers' voices could travel unencrypted",
        )
    host = _media_host(settings.media_host_patterns)
    if host is None:
        return Finding(
            name,
            "warn",
            f"not tried: VOICEBRIDGE_MEDIA_HOSTS has only patterns, and none covers {MEDIA_HOST}",
            "name the host itself, or unset it",
        )
    try:
        async with asyncio.timeout(TIMEOUT):
            _, writer = await asyncio.open_connection(host, 443, ssl=ssl.create_default_context())
    except (OSError, TimeoutError) as error:
        return Finding(
            name,
            "bad",
            f"{host} cannot be reached: {_why(error)}",
            "allow outgoing TCP 443 to it; if it has another name, set VOICEBRIDGE_MEDIA_HOSTS",
        )
    writer.close()
    return Finding(name, "ok", f"{host} answers with a valid certificate")


def _media_host(patterns: Sequence[str]) -> str | None:
    """The host to try: one that is spelt out, else the public one where a pattern covers it."""
    exact = next((each for each in patterns if "*" not in each), None)
    if exact is not None:
        return exact
    return MEDIA_HOST if any(MEDIA_HOST.endswith(each[1:]) for each in patterns) else None


def _is_local(url: str) -> bool:
    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")


def _why(error: OSError | TimeoutError) -> str:
    match error:
        case socket.gaierror():
            return "its name is unknown here (DNS)"
        case ssl.SSLError():
            return "its certificate is not valid"
        case ConnectionRefusedError():
            return "connection refused"
        case TimeoutError():
            return f"no answer within {TIMEOUT:.0f} s"
    return type(error).__name__


async def _clock(settings: Settings, transport: httpx.AsyncBaseTransport | None) -> Finding:
    name = "clock"
    if _is_local(settings.api_url):
        return Finding(name, "ok", "the API is on this machine")
    try:
        async with httpx.AsyncClient(
            timeout=TIMEOUT, trust_env=False, transport=transport
        ) as client:
            answer = await client.get(settings.api_url)
        skew = abs((LoopClock().utc() - _moment(answer.headers["date"])).total_seconds())
    except (httpx.HTTPError, httpx.InvalidURL, KeyError, ValueError):
        return Finding(
            name,
            "warn",
            "cannot be compared: the API does not tell the time",
            "see that it is synchronised: timedatectl",
        )
    if skew > CLOCK_LIMIT:
        return Finding(
            name,
            "bad",
            f"{skew:.0f} s away from the API's",
            "synchronise it (timedatectl set-ntp true): fresh calls would look stale",
        )
    return Finding(name, "ok", "agrees with the API's")


def _moment(date: str) -> datetime:
    """An HTTP date, aware; "-0000" parses as naive UTC. Raises ValueError."""
    told = parsedate_to_datetime(date)
    return told if told.tzinfo else told.replace(tzinfo=UTC)


def _bot(settings: Settings) -> Finding:
    if not settings.bot:
        return Finding("bot", "warn", "none named", "give --bot SPEC or set VOICEBRIDGE_BOT")
    try:
        load_bot(settings.bot)
    except BotLoadError as error:
        return Finding("bot", "bad", str(error), "mend it, or give another --bot SPEC")
    return Finding("bot", "ok", f"{settings.bot} can be loaded")
