"""How `voicebridge calls` talks to a running `serve`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from voicebridge.errors import ConfigError, VoicebridgeError

if TYPE_CHECKING:
    from voicebridge.settings import Settings

TIMEOUT = 5.0


class RemoteError(VoicebridgeError):
    """A running `serve` could not be asked, or said no."""


def path_of(call_id: str) -> str:
    """The path of one call; the id is data, never path syntax."""
    return "/calls/" + quote(call_id, safe="")


def ask(settings: Settings, url: str | None, method: str, path: str) -> Any:
    """One request; returns the decoded JSON answer.

    Raises:
        ConfigError: the address is none, or the token is missing or wrong.
        RemoteError: nobody answers, or the answer is an error.
    """
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    base = (url or f"http://{host}:{settings.port}").rstrip("/")
    token = settings.console_token.get_secret_value()
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.request(
            method, base + path, headers=headers, timeout=TIMEOUT, trust_env=False
        )
    except httpx.InvalidURL as error:
        raise ConfigError(f"--url: {error}") from None
    except httpx.HTTPError:
        raise RemoteError(
            f"no bridge answers at {base}; is `voicebridge serve` running there? (--url)"
        ) from None
    if answer.status_code in (401, 403):
        raise ConfigError(
            "the bridge refuses the token; set VOICEBRIDGE_CONSOLE_TOKEN to the one it was "
            "started with"
        )
    if answer.status_code == 404:
        raise RemoteError("there is no such call; `voicebridge calls list` shows them")
    if answer.is_error:
        raise RemoteError(f"the bridge answered {answer.status_code}")
    return answer.json() if answer.content else None
