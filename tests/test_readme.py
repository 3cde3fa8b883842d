"""The documentation says what the program does: tables, commands, code and links."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import httpx
import pytest
import soundfile
import typer
from pydantic import BaseModel, SecretStr

from tests.server.stand_in import StandInBridge
from voicebridge.botspec import load_bot
from voicebridge.call import Call
from voicebridge.cli import app
from voicebridge.clock import LoopClock
from voicebridge.emulator.emulator import Emulator, EmulatorConfig
from voicebridge.emulator.script import CallerScript
from voicebridge.lab.measure import find
from voicebridge.metrics import Metrics
from voicebridge.pilotstatus.webhooks import CallEvent, parse_event
from voicebridge.server.app import ServerConfig, create_app
from voicebridge.settings import PREFIX, Settings, known_keys, load_settings
from voicebridge.testing import VirtualClock, run_virtual
from voicebridge.wiring import Running, open_bridge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voicebridge.lab.measure import Samples

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "docs/going-live.md", "docs/writing-bots.md", "CHANGELOG.md")
}
ENV_EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")

#: Shell commands that a reader is told to type, with what may stand before them.
_COMMAND = re.compile(r"(?<![\w/-])voicebridge((?: +[^\s`|&;#()]+)+)")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str, language: str) -> list[str]:
    return [code for kind, code in _FENCE.findall(text) if kind == language]


def rows(text: str, first_cell: str) -> Iterator[list[str]]:
    """Cells of the table rows whose first cell matches, without the backticks around it."""
    for line in text.splitlines():
        if line.startswith("| "):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            if re.fullmatch(first_cell, cells[0].strip("`| ")):
                yield [cells[0].strip("`| "), *cells[1:]]


# Settings.


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A directory and an environment without any settings."""
    for key in known_keys():
        monkeypatch.delenv(key, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def defaults(model: type[BaseModel] = Settings, prefix: str = PREFIX) -> Iterator[tuple[str, str]]:
    """Each variable with its default as the table writes it."""
    for name, field in model.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            yield from defaults(group, f"{prefix}{name}__".upper())
        elif name == "signature_mode":
            assert field.default is None
            yield f"{prefix}{name}".upper(), "`required` with a secret, else `off`"
        else:
            yield f"{prefix}{name}".upper(), _spelt(field.default)


def _spelt(default: object) -> str:
    match default:
        case SecretStr():
            assert not default.get_secret_value()
            return "empty"
        case "":
            return "empty"
        case bool():
            return f"`{str(default).lower()}`"
        case float():
            return f"`{default:g}`"
    return f"`{default}`"


def test_the_table_of_settings_is_complete_and_right() -> None:
    table = {row[0]: row[1] for row in rows(README, PREFIX + r"\w+")}
    assert table == dict(defaults())
    assert set(table) == set(known_keys())


@pytest.mark.usefixtures("bare")
def test_the_signature_mode_is_what_the_table_says() -> None:
    assert load_settings(webhook_secret=SecretStr("s")).effective_signature_mode == "required"
    assert load_settings().effective_signature_mode == "off"


@pytest.mark.parametrize("page", [*PAGES, ".env.example"])
def test_every_variable_that_is_named_exists(page: str) -> None:
    text = PAGES.get(page, ENV_EXAMPLE)
    named = set(re.findall(PREFIX + r"[A-Z_]*[A-Z]\b", text))
    assert named <= set(known_keys())


def test_the_example_environment_can_be_used_as_it_is(bare: Path) -> None:
    default = load_settings().model_dump()
    (bare / ".env").write_text(ENV_EXAMPLE, encoding="utf-8")
    assert load_settings().model_dump() == default | {"bot": "echo"}


# Commands.


def commands() -> dict[str, Any]:
    """Every command by its words, e.g. ``calls list``."""
    found = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        children = getattr(command, "commands", None)
        if children is None:
            found[name] = command
        else:
            found |= {f"{name} {child}": each for child, each in children.items()}
    return found


def told_commands() -> Iterator[tuple[str, str]]:
    """Page and arguments of every `voicebridge ...` in code."""
    for page, text in PAGES.items():
        shell = "\n".join([*blocks(text, "sh"), *blocks(text, "ini")])
        prose = _FENCE.sub("", text)
        spans = re.findall(r"`(voicebridge [^`]+)`", prose)
        for match in _COMMAND.finditer("\n".join([shell, *spans])):
            yield page, match.group(1).strip()


def test_every_command_that_is_told_exists() -> None:
    known = commands()
    told = list(told_commands())
    assert {arguments.split()[0] for _, arguments in told} == {name.split()[0] for name in known}
    for page, arguments in told:
        words = shlex.split(arguments)
        name = next((n for n in (" ".join(words[:2]), words[0]) if n in known), None)
        if name is None and words[1:] == ["list|show|hangup"]:
            continue
        assert name is not None, f"{page}: voicebridge {arguments}"
        options = {flag for each in known[name].params for flag in each.opts}
        for word in words:
            if word.startswith("--"):
                assert word in options, f"{page}: voicebridge {arguments}"


def test_the_table_of_commands_is_complete_and_its_options_exist() -> None:
    known = commands()
    listed = set()
    for cells in rows(README, r"voicebridge .*"):
        line = " | ".join(cells)
        names = [n for n in known if re.search(rf"voicebridge {n}\b", line)]
        assert names, line
        listed |= set(names)
        options = {flag for each in known[names[0]].params for flag in each.opts}
        assert set(re.findall(r"--[a-z-]+", line)) <= options, line
    assert listed == set(known)


def test_every_make_target_that_is_told_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for page, text in PAGES.items():
        code = "\n".join([*blocks(text, "sh"), *re.findall(r"`(make [^`]+)`", text)])
        assert set(re.findall(r"^make ([a-z-]+)", code, re.MULTILINE)) <= targets, page


# HTTP, metrics, reasons.


async def test_the_table_of_paths_is_complete() -> None:
    config = ServerConfig(signature_mode="off")
    server = create_app(StandInBridge(), config, Metrics(), clock=LoopClock())
    routed = {
        f"{method} {route.path}"  # type: ignore[attr-defined]
        for route in server.routes
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
    }
    assert {row[0] for row in rows(README, r"(GET|POST) /.*")} == routed


async def test_every_path_of_the_emulator_that_is_told_exists() -> None:
    emulator = Emulator(EmulatorConfig())
    routed = {
        f"{method} {route.path}"  # type: ignore[attr-defined]
        for route in emulator.app.routes
        for method in route.methods  # type: ignore[attr-defined]
    }
    for page, text in PAGES.items():
        assert set(re.findall(r"(?:GET|POST|PATCH) /emulator[\w/{}.]*", text)) <= routed, page


def test_the_variables_for_the_emulator_are_those_it_prints() -> None:
    defaults = {each.name: each.default for each in commands()["emulator"].params}
    exports = dict(re.findall(r"^export (\w+)=(\S+)$", README, re.MULTILINE))
    assert exports["VOICEBRIDGE_API_URL"] == f"http://127.0.0.1:{defaults['port']}"
    assert exports["VOICEBRIDGE_WEBHOOK_SECRET"] == defaults["webhook_secret"]
    assert exports["VOICEBRIDGE_API_KEY"] == EmulatorConfig().api_key.get_secret_value()
    shell = (ROOT / "voicebridge" / "emulator" / "shell.py").read_text("utf-8")
    assert list(exports) == re.findall(rf"\"({PREFIX}\w+)\"", shell)


def test_every_metric_that_is_named_exists() -> None:
    exposed = Metrics().render()[0].decode()
    families = set(re.findall(r"^# TYPE (\w+)", exposed, re.MULTILINE))
    for page, text in PAGES.items():
        named = set(re.findall(r"\bvoicebridge_(?!bot)[a-z_]+|voicebridge_bot_errors\w*", text))
        assert named <= families, page


def test_every_reason_is_explained() -> None:
    sources = "".join(each.read_text("utf-8") for each in (ROOT / "voicebridge").glob("*.py"))
    given = re.findall(r"(?:_GiveUp|\.over|hang_up)\(\"(\w+)\"", sources)
    for name in ("leg.py", "core/watchdog.py"):
        source = (ROOT / "voicebridge" / name).read_text("utf-8")
        given += re.findall(r"return \"(\w+)\"", source)
    assert {"bot", "deaf", "operator", "no_answer"} <= set(given)
    table = PAGES["docs/going-live.md"].partition("## Why a call ended")[2].partition("\n## ")[0]
    explained = {word for row in rows(table, r".*") for word in re.findall(r"\w+", row[0])}
    assert set(given) <= explained


# Code and links.


def python_blocks() -> list[Any]:
    return [
        pytest.param(code, id=f"{page}-{index}")
        for page, text in PAGES.items()
        for index, code in enumerate(blocks(text, "python"))
    ]


@pytest.mark.parametrize("code", python_blocks())
def test_python_code_can_be_pasted_into_a_file(code: str) -> None:
    names: dict[str, Any] = {"__name__": "pasted"}
    exec(compile(code, "<documentation>", "exec"), names)
    own = [each for each in names.values() if getattr(each, "__module__", "") == "pasted"]
    assert any(inspect.iscoroutinefunction(getattr(each, "run", each)) for each in own)


def test_the_bot_of_the_readme_is_the_bot_echo() -> None:
    echo = (ROOT / "bots" / "echo.py").read_text(encoding="utf-8")
    shown = blocks(README, "python")[0]
    assert shown.partition("class ")[2].strip() == echo.partition("class ")[2].strip()


HELLO = ROOT / "voicebridge/lab/speech/1_en_hello.flac"


def recorded(path: Path) -> Samples:
    samples: Samples = soundfile.read(path, dtype="int16")[0]
    return samples


@pytest.mark.usefixtures("bare")
def test_the_greeter_greets_and_then_echoes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GREETING", raising=False)
    speech = recorded(ROOT / "tests/speech/ru_conf-roll-callcomplete.flac")
    heard = run_virtual(_call_the_greeter(speech, hangup_after=1.5))
    greeting, echo = find(recorded(HELLO), heard), find(speech[-16_000:], heard)
    assert greeting is not None
    assert greeting.correlation > 0.99
    assert echo is not None
    assert echo.correlation > 0.99
    assert echo.offset > greeting.offset + recorded(HELLO).size


@pytest.mark.usefixtures("bare")
def test_hanging_up_on_the_greeter_is_no_error_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREETING", str(ROOT / "tests/speech/en_agent-user.flac"))
    heard = run_virtual(_call_the_greeter(recorded(HELLO), hangup_after=0.1))
    assert heard.size < recorded(ROOT / "tests/speech/en_agent-user.flac").size


async def _call_the_greeter(speech: Samples, *, hangup_after: float) -> Samples:
    """What the caller heard of ``examples/greeter.py``."""
    clock = VirtualClock()
    running: list[Running] = []

    async def take(request: httpx.Request) -> httpx.Response:
        event = parse_event(request.content, trusted=True)
        assert isinstance(event, CallEvent)
        assert running[0].bridge.submit(event)
        return httpx.Response(200)

    emulator = Emulator(
        EmulatorConfig(webhook_url="http://bridge/"),
        clock=clock,
        webhook_transport=httpx.MockTransport(take),
    )
    settings = load_settings(
        api_url="http://emulator", api_key=SecretStr("ps_emulator"), allow_insecure_media=True
    )
    async with open_bridge(
        settings,
        load_bot(f"{ROOT / 'examples' / 'greeter.py'}:Greeter"),
        clock=clock,
        transport=httpx.ASGITransport(emulator.app),
        connect=emulator.connect_media,
    ) as bridge:
        running.append(bridge)
        call = await emulator.ring(CallerScript(audio=speech, hangup_after=hangup_after))
        await call.ended()
        await bridge.bridge.idle()
        summary = bridge.bridge.summary(call.id)
    await emulator.stop()
    assert summary is not None
    assert summary.reason == "caller"
    assert not [each for each in bridge.metrics.bot_errors_total.collect() if each.samples]
    return call.far_end.heard


@pytest.mark.parametrize("page", PAGES)
def test_every_method_of_a_call_that_is_named_exists(page: str) -> None:
    for name in re.findall(r"\bcall\.(\w+)\(", PAGES[page]):
        assert hasattr(Call, name), name


def anchors(text: str) -> set[str]:
    """Heading anchors as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), target


def test_the_picture_is_well_formed_and_has_a_dark_variant() -> None:
    picture = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(picture)
    assert root.find("{http://www.w3.org/2000/svg}title") is not None
    assert "prefers-color-scheme: dark" in picture
    used = set(re.findall(r"class=\"([^\"]+)\"", picture))
    styled = set(re.findall(r"\.([\w-]+)(?=[ ,{])", picture.partition("<style>")[2]))
    assert {name for names in used for name in names.split()} <= styled
