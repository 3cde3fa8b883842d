"""How `voicebridge calls` talks to a running `serve`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from voicebridge.errors import ConfigError, VoicebridgeError

if TYPE_CHECKING:
    from voicebridge.settings import Settings

__all__ = ["RemoteError", "hang_up", "list_calls", "show_call"]

TIMEOUT = 5.0
#: What `serve` listens on to be reached at every address, and the one to reach it at.
_REACHED_AT = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class RemoteError(VoicebridgeError):
    """A running `serve` could not be asked, or said no."""


def list_calls(settings: Settings, url: str | None) -> list[dict[str, Any]]:
    """Live calls, then recent ones. Raises as the other two: ConfigError, RemoteError."""
    calls = _ask(settings, url, "GET", "/calls").get("calls")
    if not isinstance(calls, list) or not all(isinstance(each, dict) for each in calls):
        raise _no_bridge()
    return calls


def show_call(settings: Settings, url: str | None, call_id: str) -> dict[str, Any]:
    """One call.

    Raises:
        ConfigError: the address is none, or the token is missing or wrong.
        RemoteError: nobody answers, there is no such call, or the answer is an error.
    """
    return _ask(settings, url, "GET", _path(call_id))


def hang_up(settings: Settings, url: str | None, call_id: str) -> None:
    """Ends a live call; RemoteError also where it has ended already."""
    _ask(settings, url, "POST", _path(call_id) + "/hangup")


def _path(call_id: str) -> str:
    """The path of one call; the id is data, never path syntax."""
    return "/calls/" + quote(call_id, safe="")


def _ask(settings: Settings, url: str | None, method: str, path: str) -> dict[str, Any]:
    base = _base(settings, url)
    token = settings.console_token.get_secret_value()
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.request(
            method, base + path, headers=headers, timeout=TIMEOUT, trust_env=False
        )
    except (httpx.HTTPError, UnicodeError):
        raise RemoteError(
            f"no bridge answers at {base}; is `voicebridge serve` running there? "
            "--url names another address"
        ) from None
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise _no_bridge()
    if answer.is_success:
        return body
    code = body.get("code")
    if answer.status_code in (401, 403):
        raise ConfigError(
            "the bridge does not let you in; set VOICEBRIDGE_CONSOLE_TOKEN to the one it was "
            "started with (without one it answers on its own machine only)"
        )
    if code == "CALL_NOT_FOUND":
        raise RemoteError("there is no such call; `voicebridge calls list` shows them")
    if code == "CALL_OVER":
        raise RemoteError("the call has ended already")
    raise RemoteError(f"the bridge answered {answer.status_code} {code or ''}".rstrip())


def _base(settings: Settings, url: str | None) -> str:
    if url is None:
        if not settings.port:
            raise ConfigError("VOICEBRIDGE_PORT is 0: give --url, as `serve` told it at its start")
        host = _REACHED_AT.get(settings.host, settings.host)
        url = (
            f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
        )
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo:
        # Not shown: it may hold a password.
        raise ConfigError("--url must look like http://127.0.0.1:8080")
    return url.rstrip("/")


def _no_bridge() -> RemoteError:
    return RemoteError("what answers there is no voicebridge; check --url")
