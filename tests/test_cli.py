"""The command line: help with examples, refusals that help, JSON for machines, no secrets."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from tests.processes import DEADLINE, Command, Line, ended, environment
from voicebridge import __version__, cli
from voicebridge.errors import ConfigError, InvalidRequest
from voicebridge.logs import LogSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CANARY = "ps_canary_5f2d"
COMMANDS = [
    ["demo"], ["serve"], ["emulator"], ["dial"], ["doctor"],
    ["calls", "list"], ["calls", "show"], ["calls", "hangup"],
]  # fmt: skip


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No settings from outside, an empty folder, and logging as it was afterwards."""
    monkeypatch.chdir(tmp_path)
    for key in list(os.environ):
        if key.startswith(("VOICEBRIDGE_", "EMULATOR_")):
            monkeypatch.delenv(key)
    root = logging.getLogger()
    level = root.level
    yield
    for handler in root.handlers[:]:
        if isinstance(handler, LogSink):
            root.removeHandler(handler)
            handler.close()
    root.setLevel(level)


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the console script in this process: exit code, output, errors."""

    def run(*arguments: str, **variables: str) -> tuple[int, str, str]:
        for key, value in variables.items():
            monkeypatch.setenv(key, value)
        monkeypatch.setattr(sys, "argv", ["voicebridge", *arguments])
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(cli, "out", Console(file=out, width=80))
        monkeypatch.setattr(cli, "err", Console(file=err, width=80))
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        printed = capsys.readouterr()
        return code, out.getvalue() + printed.out, err.getvalue() + printed.err

    return run


# Help.


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example(command: list[str]) -> None:
    result = CliRunner().invoke(cli.app, [*command, "--help"], env={"COLUMNS": "80"})
    assert result.exit_code == 0
    text = " ".join(result.output.split())
    assert f"Example: voicebridge {' '.join(command)}" in text
    assert max(map(len, result.output.splitlines())) <= 80
    example = text.partition("Example: voicebridge ")[2].split()
    known = {name for each in _options(command) for name in (*each.opts, *each.secondary_opts)}
    assert {word for word in example if word.startswith("--")} <= known


def _options(command: list[str]) -> list[Any]:
    found: Any = typer.main.get_command(cli.app)
    for word in command:
        found = found.commands[word]
    return list(found.params)


def test_every_option_is_explained() -> None:
    for command in COMMANDS:
        for each in _options(command):
            if each.param_type_name == "option":
                assert each.help, f"{command} {each.opts}"


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_the_first_page_fits_a_terminal_and_names_all(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "80"})
    lines = result.output.splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 80
    for word in ("demo", "serve", "emulator", "dial", "doctor", "calls", "Start with"):
        assert word in result.output


def test_version(run: Callable[..., tuple[int, str, str]]) -> None:
    assert run("--version") == (0, f"voicebridge {__version__}\n", "")


# Refusals: exit code 2, what to do, and nothing secret.


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        (["srve"], {}, "Did you mean 'serve'"),
        (["serve", "--prot", "1"], {}, "--port"),
        (["serve", "--port", "99999"], {}, "--port"),
        (["serve", "--port", "x"], {}, "--port"),
        (["serve"], {}, "VOICEBRIDGE_API_KEY is not set"),
        (["serve"], {"API_KEY": CANARY}, "give --bot SPEC"),
        (["serve", "--bot", "ehco"], {"API_KEY": CANARY}, "did you mean 'echo'"),
        (
            ["serve", "--bot", "echo"],
            {"API_KEY": CANARY, "SIGNATURE_MODE": "required"},
            "VOICEBRIDGE_WEBHOOK_SECRET",
        ),
        (["serve", "--bot", "echo"], {"API_KEI": CANARY}, "did you mean VOICEBRIDGE_API_KEY"),
        (["serve", "--bot", "echo"], {"API_KEY": f"{CANARY} é"}, "VOICEBRIDGE_API_KEY"),
        (["serve"], {"PORT": CANARY}, "VOICEBRIDGE_PORT"),
        (["serve"], {"MEDIA": CANARY}, "VOICEBRIDGE_MEDIA is a group"),
        (["serve"], {"MEDIA": "3"}, "VOICEBRIDGE_MEDIA is a group"),
        (["serve"], {"CALL__RING": "3"}, "VOICEBRIDGE_CALL__RING_SECONDS"),
        (["serve"], {"MEDIA_HOSTS": "https://h/x"}, "must be host names"),
        (["serve"], {"MEDIA_HOSTS": "a.example,,b.example"}, "must be host names"),
        (["serve"], {"FALLBACK_PROMPT_URL": "sorry.mp3"}, "must be a public https://"),
        (["serve"], {"API_URL": f"ftp://{CANARY}"}, "VOICEBRIDGE_API_URL"),
        (["serve", "--config", "absent.toml"], {}, "absent.toml"),
        (["doctor"], {"API_KEY": CANARY, "API_URL": "https://u:pw-canary@h"}, "no user"),
        (["dial"], {}, "NUMBER"),
        (["dial", "123"], {"API_KEY": CANARY}, "NUMBER must be E.164"),
        (["dial", "+5511999990000"], {}, "VOICEBRIDGE_API_KEY is not set"),
        (["demo", "--caller", "absent.wav"], {}, "absent.wav"),
        (["emulator", "--port", "99999"], {}, "--port"),
        (["emulator", "--webhook-url", "nowhere"], {}, "--webhook-url must look like"),
        (["calls", "list", "--url", "nowhere"], {}, "--url must look like"),
        (["calls", "list", "--url", "http://[::1"], {}, "--url must look like"),
        (["calls", "list", "--url", "http://u:pw-canary@h"], {}, "--url must look like"),
        (["calls", "list"], {"PORT": "0"}, "give --url"),
        (["calls", "show"], {}, "ID"),
    ],
    ids=lambda value: " ".join(value) if value else "-",
)
def test_wrong_usage_is_refused(
    run: Callable[..., tuple[int, str, str]],
    arguments: list[str],
    variables: dict[str, str],
    says: str,
) -> None:
    named = {f"VOICEBRIDGE_{key}": value for key, value in variables.items()}
    code, out, err = run(*arguments, **named)
    assert code == 2
    assert out == ""
    assert says in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err
    assert CANARY not in err
    assert "pw-canary" not in err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'api_key = "ps_canary_5f2d\n', "mine.toml is not TOML"),
        (b'api_kei = "ps_canary_5f2d"\n', "did you mean VOICEBRIDGE_API_KEY"),
        (b'api_key = ["ps_canary_5f2d"]\n', "VOICEBRIDGE_API_KEY"),
        (b"media = 3\n", "VOICEBRIDGE_MEDIA is a group"),
        (b"\xff\xfe ps_canary_5f2d", "save it as UTF-8"),
    ],
)
def test_a_wrong_file_is_refused(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, content: bytes, says: str
) -> None:
    (tmp_path / "mine.toml").write_bytes(content)
    code, _, err = run("serve", "--config", "mine.toml")
    assert code == 2
    assert says in err
    assert CANARY not in err


# Errors of the work itself.


def raises(error: BaseException) -> Callable[..., Any]:
    def fail(*args: object, **kwargs: object) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (ConfigError("give [/this] and [hidden] [bold]"), 2, "give [/this] and [hidden] [bold]"),
        (
            InvalidRequest("initiate: no ([number])", operation="initiate", status=400),
            1,
            "voicebridge: initiate: no ([number])",
        ),
        (KeyboardInterrupt(), 130, ""),
        (RuntimeError(f"[/] of +5511999990000 with {CANARY}"), 1, "[/] of +[hidden] with ps_"),
    ],
)
def test_errors_become_one_line_and_a_code(
    run: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    says: str,
) -> None:
    """Brackets are text, not markup; an unexpected error shows its traceback, but no secret."""
    monkeypatch.setattr("voicebridge.dialling.dial_once", raises(error))
    found, _, err = run("dial", "+5511999990000", VOICEBRIDGE_API_KEY=CANARY)
    assert found == code
    assert says in err
    assert CANARY not in err
    assert "5511999990000" not in err


# `calls`, against a stand-in for a running serve.

CALL = {
    "id": "call_01KDVDNCTMCF5DBX5KPBJB0V76",
    "direction": "inbound",
    "state": "live",
    "bot": "bots.support:[/]Bot",
    "duration_seconds": 12.4,
    "reason": None,
    "frames": {"sent": 3, "received": 2},
}


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[httpx.Response | Exception]:
    """What `serve` answers, in order; requests are appended to the end as they come."""
    queue: list[httpx.Response | Exception] = []

    def request(method: str, url: str, **kwargs: Any) -> httpx.Response:
        answer = queue.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(httpx, "request", request)
    return queue


def test_calls_are_listed_whole(
    run: Callable[..., tuple[int, str, str]], answers: list[httpx.Response]
) -> None:
    answers += [httpx.Response(200, json={"calls": [CALL, {"id": "call_odd"}]})] * 2
    code, out, _ = run("calls", "list")
    assert code == 0
    assert f"{CALL['id']} " in out, "an id that is cut is of no use"
    assert "bots.support:[/]Bot" in out
    assert "call_odd" in out
    code, out, _ = run("calls", "list", "--json")
    assert json.loads(out)[0] == CALL


def test_one_call_is_shown(
    run: Callable[..., tuple[int, str, str]], answers: list[httpx.Response]
) -> None:
    answers += [httpx.Response(200, json=CALL)] * 2
    code, out, _ = run("calls", "show", "call_1")
    assert code == 0
    assert "sent 3, received 2" in out
    assert "None" not in out
    code, out, _ = run("calls", "show", "call_1", "--json")
    assert json.loads(out) == CALL


def test_no_calls_yet(
    run: Callable[..., tuple[int, str, str]], answers: list[httpx.Response]
) -> None:
    answers.append(httpx.Response(200, json={"calls": []}))
    assert run("calls", "list") == (0, "no calls yet\n", "")


# `doctor`, as it is printed.


def test_doctor_prints_what_to_mend(run: Callable[..., tuple[int, str, str]]) -> None:
    local = {"VOICEBRIDGE_API_URL": "http://127.0.0.1:9", "VOICEBRIDGE_ALLOW_INSECURE_MEDIA": "1"}
    code, out, _ = run("doctor", "--bot", "ehco", **local)
    assert code == 1
    assert "-> create a number-scoped key" in out
    assert "2 to mend, 1 to look at" in out
    code, out, err = run("doctor", "--bot", "echo", "--json", **local)
    assert code == 1
    told = json.loads(out)
    assert [each["verdict"] for each in told] == ["bad", "warn", "ok", "ok", "ok"]
    assert err == ""


# Real processes.


@pytest.mark.real
def test_importing_and_helping_stay_cheap(tmp_path: Path) -> None:
    """Counted in modules: seconds would depend on the machine.

    What only a server needs is not imported for ``--help``, and what only the command line
    needs is not imported by a bot's module.
    """
    heavy = ("uvicorn", "starlette", "httpx", "soundfile", "prometheus_client", "pydantic_settings")
    for code, unwanted in (
        ("import voicebridge", (*heavy, "rich", "typer", "voicebridge.emulator")),
        ("import voicebridge.cli", (*heavy, "voicebridge.emulator", "voicebridge.lab")),
    ):
        script = f"{code}; import sys, json; print(json.dumps(sorted(sys.modules)))"
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
            timeout=DEADLINE,
        )
        loaded = set(json.loads(done.stdout))
        assert not loaded & set(unwanted), code


@pytest.mark.real
def test_the_emulator_rings_a_bridge_by_itself_and_shows_the_call(tmp_path: Path) -> None:
    """With ``--ring`` it waits for a bridge on the address of its webhooks."""
    line = Line(tmp_path)
    with ended(line.command):
        bridge, address = line.serve("--bot", "echo")
        ringing = Command(
            "emulator", "--port", "0", "--webhook-url", f"{address}/webhooks/pilotstatus", "--ring",
            cwd=tmp_path,
        )  # fmt: skip
        with ended(bridge, ringing):
            ringing.wait_for("waiting for a bridge")
            # It is another provider than the bridge's own: the event comes, the call does not.
            ringing.wait_for(r"webhook_answered call\.ringing 200")
            ringing.signal(signal.SIGINT)
            assert ringing.exit_code() == 0
            bridge.signal(signal.SIGTERM)
            assert bridge.exit_code() == 0
        line.close()


@pytest.mark.real
def test_an_emulators_port_in_use_is_told(tmp_path: Path) -> None:
    line = Line(tmp_path)
    with ended(line.command):
        port = line.url.rpartition(":")[2]
        second = Command("emulator", "--port", port, cwd=tmp_path)
        with ended(second):
            assert second.exit_code() == 2
            assert port in second.output
            assert "Traceback" not in second.output
        line.close()
