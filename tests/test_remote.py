"""How `voicebridge calls` asks a running `serve`, and what it makes of the answers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from voicebridge.errors import ConfigError
from voicebridge.remote import RemoteError, hang_up, list_calls, show_call
from voicebridge.settings import only

CANARY = "ps_canary_5f2d"


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (httpx.ConnectError("x"), RemoteError, "no bridge answers at http://127.0.0.1:8080"),
        (httpx.Response(200, text="<html>"), RemoteError, "no voicebridge"),
        (httpx.Response(200, json=[1]), RemoteError, "no voicebridge"),
        (httpx.Response(200, json={"calls": 3}), RemoteError, "no voicebridge"),
        (httpx.Response(302, headers={"location": "/x"}), RemoteError, "no voicebridge"),
        (httpx.Response(404, text="no"), RemoteError, "no voicebridge"),
        (httpx.Response(401, json={"code": "TOKEN"}), ConfigError, "VOICEBRIDGE_CONSOLE_TOKEN"),
        (httpx.Response(403, json={"code": "LOCAL"}), ConfigError, "VOICEBRIDGE_CONSOLE_TOKEN"),
        (httpx.Response(404, json={"code": "CALL_NOT_FOUND"}), RemoteError, "no such call"),
        (httpx.Response(409, json={"code": "CALL_OVER"}), RemoteError, "ended already"),
        (httpx.Response(500, json={"code": "INTERNAL"}), RemoteError, "500 INTERNAL"),
    ],
)
def test_what_a_running_serve_may_say(
    monkeypatch: pytest.MonkeyPatch,
    answer: httpx.Response | Exception,
    error: type[Exception],
    says: str,
) -> None:
    settings = only(console_token=CANARY)

    def request(*args: Any, **kwargs: Any) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(httpx, "request", request)
    with pytest.raises(error, match=says) as caught:
        list_calls(settings, None)
    assert CANARY not in str(caught.value)


def test_an_id_is_data(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, dict[str, str]]] = []

    def request(method: str, url: str, *, headers: dict[str, str], **_: Any) -> httpx.Response:
        asked.append((method, url, headers))
        return httpx.Response(200, json={})

    monkeypatch.setattr(httpx, "request", request)
    show_call(only(host="::", port=1), None, "../drain?x")
    hang_up(only(host="0.0.0.0", port=1, console_token="t"), None, "wacid.A==")
    assert asked == [
        ("GET", "http://[::1]:1/calls/..%2Fdrain%3Fx", {}),
        ("POST", "http://127.0.0.1:1/calls/wacid.A%3D%3D/hangup", {"authorization": "Bearer t"}),
    ]
