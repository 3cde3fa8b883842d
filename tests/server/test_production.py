"""`voicebridge serve` as operators meet it: real processes, signals, a call, a drain."""

from __future__ import annotations

import json
import signal
import socket
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.processes import DEADLINE, Line, ended, until
from voicebridge.errors import ConfigError
from voicebridge.server.production import check_production
from voicebridge.settings import only

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = "ps_canary_5f2d"
SECRET = "canary-secret"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"api_key": ""}, "VOICEBRIDGE_API_KEY is not set"),
        ({"bot": ""}, "give --bot SPEC or VOICEBRIDGE_BOT"),
        ({"signature_mode": "required"}, "needs VOICEBRIDGE_WEBHOOK_SECRET"),
        ({"signature_mode": "required", "webhook_secret": " , "}, "WEBHOOK_SECRET"),
        ({"redis_url": f"redis://:{SECRET}@h"}, "VOICEBRIDGE_REDIS_URL.*unset it"),
        ({"capsule_dir": "/tmp/c"}, "VOICEBRIDGE_CAPSULE_DIR.*unset it"),
    ],
)
def test_what_cannot_work_is_refused(settings: dict[str, Any], says: str) -> None:
    values = {"api_key": KEY, "bot": "echo"} | settings
    with pytest.raises(ConfigError, match=says) as caught:
        check_production(only(**values))
    assert KEY not in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("mode", [None, "if-present", "off"])
def test_without_a_secret_it_starts_unless_told_otherwise(mode: str | None) -> None:
    check_production(only(api_key=KEY, bot="echo", signature_mode=mode))


# Real processes.


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    line = Line(tmp_path_factory.mktemp("line"))
    yield line
    line.command.signal(signal.SIGTERM)
    assert line.command.exit_code() == 0
    line.close()


def calls(line: Line, address: str, *arguments: str) -> tuple[int, str]:
    """Exit code and output of ``voicebridge calls``."""
    command = line.voicebridge("calls", *arguments, "--url", address)
    with ended(command):
        return command.exit_code(), command.output


def state_of(address: str, call_id: str) -> str | None:
    answer = httpx.get(f"{address}/calls/{call_id}", trust_env=False, timeout=DEADLINE)
    return answer.json()["state"] if answer.is_success else None


def wait_until_live(address: str, call_id: str) -> None:
    until(lambda: state_of(address, call_id) == "live" or None, "the call to be live")


@pytest.mark.real
def test_calls_are_served_shown_hung_up_and_drained(line: Line) -> None:
    bridge, address = line.serve("--bot", "echo", VOICEBRIDGE_LOG_LEVEL="debug")
    with ended(bridge):
        assert httpx.get(f"{address}/readyz", trust_env=False).status_code == 200
        first, second = line.ring(), line.ring()
        for each in (first, second):
            wait_until_live(address, each)

        code, shown = calls(line, address, "list")
        assert code == 0
        assert first in shown
        assert second in shown
        code, shown = calls(line, address, "hangup", second)
        assert (code, shown) == (0, f"{second}: hanging up\n")
        line.wait_for_call(second, "COMPLETED")
        code, shown = calls(line, address, "show", second, "--json")
        assert code == 0
        assert json.loads(shown)["reason"] == "operator"
        code, shown = calls(line, address, "hangup", second)
        assert (code, shown) == (1, "voicebridge: the call has ended already\n")

        bridge.signal(signal.SIGTERM)
        bridge.wait_for("draining calls=1")
        assert httpx.get(f"{address}/readyz", trust_env=False).status_code == 503
        late = line.ring()
        line.wait_for_call(late, "REJECTED")
        assert bridge.running
        assert line.call(first)["status"] == "ACCEPTED"
        line.ask("POST", f"/emulator/calls/{first}/hangup", {})
        assert bridge.exit_code() == 0
        assert line.call(first)["measurement"]["text_frames"] == 0
        for secret in ("ps_emulator", "emulator-secret", "5511999990000", "token="):
            assert secret not in bridge.output


@pytest.mark.real
def test_a_second_signal_ends_at_once_and_hangs_up(line: Line) -> None:
    bridge, address = line.serve("--bot", "echo")
    with ended(bridge):
        call = line.ring()
        wait_until_live(address, call)
        bridge.signal(signal.SIGINT)
        bridge.wait_for("draining calls=1")
        bridge.signal(signal.SIGTERM)
        assert bridge.exit_code() == 0
        assert "second signal: ending now" in bridge.output
        assert line.call(call)["status"] == "COMPLETED"


@pytest.mark.real
def test_a_drain_has_an_end(line: Line) -> None:
    bridge, address = line.serve("--bot", "echo", VOICEBRIDGE_DRAIN_SECONDS="0.2")
    with ended(bridge):
        call = line.ring()
        wait_until_live(address, call)
        bridge.signal(signal.SIGTERM)
        assert bridge.exit_code() == 0
        assert "hanging up what is left" in bridge.output
        assert line.call(call)["status"] == "COMPLETED"


@pytest.mark.real
def test_a_port_in_use_and_a_wrong_key_are_told(line: Line, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = line.voicebridge(
            "serve", "--bot", "echo", "--port", str(port), VOICEBRIDGE_API_KEY=KEY
        )
        with ended(command):
            assert command.exit_code() == 2
            assert f"{port}" in command.output
            assert "in use" in command.output
    bridge, address = line.serve("--bot", "echo", VOICEBRIDGE_API_KEY=KEY)
    with ended(bridge):
        bridge.wait_for("check VOICEBRIDGE_API_KEY")
        assert httpx.get(f"{address}/readyz", trust_env=False).status_code == 503
        bridge.signal(signal.SIGTERM)
        assert bridge.exit_code() == 0, "idle: the first signal is enough"
        assert KEY not in bridge.output
