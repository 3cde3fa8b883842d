"""Finds what keeps a line from working, and says how to mend it.

Each check is one function from settings (and the API) to a finding; none changes
anything, and no finding shows a secret.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
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
    if findings[0].verdict == "ok":
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
        return Finding(name, "bad", "the API refuses the key", "create a new key")
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
    return Finding(name, "ok", "the key is taken and calls can be listed")


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
        return [Finding(name, "warn", f"cannot be listed: {error}", "look in the dashboard")]
    ours = [each for each in hooks if (each.url or "").rstrip("/").endswith(WEBHOOK_PATH)]
    if not ours:
        return [
            Finding(
                name,
                "bad",
                f"none ends in {WEBHOOK_PATH}",
                f"create one: POST /v1/webhooks with url https://YOUR-HOST{WEBHOOK_PATH} and "
                f"events {', '.join(CALL_EVENTS)}",
            )
        ]
    findings = [_subscription(name, ours[0])]
    try:
        log = await api.webhook_logs(ours[0].id, limit=20)
    except ProviderError:
        return findings
    failed = [each for each in log if each.status == "FAILED"]
    if failed:
        findings.append(
            Finding(
                "webhook deliveries",
                "warn",
                f"{len(failed)} of the last {len(log)} failed",
                "is this bridge reachable from the internet under the webhook's url?",
            )
        )
    return findings


def _subscription(name: str, hook: Webhook) -> Finding:
    events: Sequence[str] = hook.events or ()
    if not hook.active:
        return Finding(name, "bad", "it is not active", "activate it: PATCH active=true")
    if not events:
        return Finding(
            name,
            "bad",
            "it subscribes to no event, and so nothing is delivered",
            'PATCH it with events ["*"] or the four call events',
        )
    missing = [] if "*" in events else [each for each in CALL_EVENTS if each not in events]
    if "call.ringing" in missing:
        return Finding(
            name,
            "bad",
            "call.ringing is not among its events",
            'PATCH it with events ["*"]: the API drops names that it thinks do not apply',
        )
    if missing:
        return Finding(
            name, "warn", f"without {', '.join(missing)}", "calls end a little later without them"
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
    patterns = settings.media_host_patterns
    hosts = [each for each in patterns if "*" not in each] or [MEDIA_HOST]
    if not any(MEDIA_HOST.endswith(each.removeprefix("*")) for each in patterns):
        hosts = [each for each in patterns if "*" not in each]
        if not hosts:
            return Finding(name, "warn", "the allow-list is a pattern of another domain")
    if settings.allow_insecure_media:
        return Finding(
            name,
            "warn",
            "VOICEBRIDGE_ALLOW_INSECURE_MEDIA is on: right for the emulator",
            "unset it in production",
        )
    try:
        async with asyncio.timeout(TIMEOUT):
            _, writer = await asyncio.open_connection(
                hosts[0], 443, ssl=ssl.create_default_context()
            )
    except (OSError, TimeoutError, ssl.SSLError) as error:
        return Finding(
            name,
            "bad",
            f"{hosts[0]} cannot be reached: {type(error).__name__}",
            "allow outgoing TCP 443 to it; if it has another name, set VOICEBRIDGE_MEDIA_HOSTS",
        )
    writer.close()
    return Finding(name, "ok", f"{hosts[0]} answers with a valid certificate")


async def _clock(settings: Settings, transport: httpx.AsyncBaseTransport | None) -> Finding:
    name = "clock"
    try:
        async with httpx.AsyncClient(
            timeout=TIMEOUT, trust_env=False, transport=transport
        ) as client:
            answer = await client.get(settings.api_url)
        told = parsedate_to_datetime(answer.headers["date"])
    except (httpx.HTTPError, KeyError, ValueError):
        host = urlsplit(settings.api_url).hostname
        return Finding(name, "warn", f"{host} does not tell the time", "")
    skew = abs((LoopClock().utc() - told).total_seconds())
    if skew > CLOCK_LIMIT:
        return Finding(
            name,
            "bad",
            f"{skew:.0f} s away from the API's",
            "synchronise it (timedatectl set-ntp true): fresh calls would look stale",
        )
    return Finding(name, "ok", "agrees with the API's")


def _bot(settings: Settings) -> Finding:
    if not settings.bot:
        return Finding("bot", "warn", "none named", "give --bot SPEC or VOICEBRIDGE_BOT")
    try:
        load_bot(settings.bot)
    except BotLoadError as error:
        return Finding("bot", "bad", str(error), "")
    return Finding("bot", "ok", f"{settings.bot} can be loaded")
