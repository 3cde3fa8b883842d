"""A SPEC finds its bot, or says what is wrong with it."""

from __future__ import annotations

import asyncio
import importlib.metadata
import sys
from importlib.metadata import EntryPoint, EntryPoints
from typing import TYPE_CHECKING, Any, cast

import pytest

from voicebridge.botspec import GROUP, load_bot
from voicebridge.call import Bot, Call
from voicebridge.errors import BotLoadError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOOD = """
from dataclasses import dataclass
from voicebridge.call import Bot

class Greeter(Bot):
    async def run(self, call):
        call.append("greeter")

class Nested:
    class Inner(Bot):
        async def run(self, call):
            call.append("inner")

@dataclass
class Duck:
    log: object = None
    async def run(self, call):
        call.append("duck")
    async def start(self):
        self.started = True

made = Greeter()
duck = Duck()

async def function(call):
    call.append("function")
"""

BAD = """
from voicebridge.call import Bot

class Arguments(Bot):
    def __init__(self, key):
        self.key = key
    async def run(self, call): ...

class Raises(Bot):
    def __init__(self):
        raise ValueError("in the making")
    async def run(self, call): ...

class Plain(Bot):
    def run(self, call): ...

class Generator(Bot):
    async def run(self, call):
        yield b""

class TooMany(Bot):
    async def run(self, call, other): ...

class TooFew(Bot):
    async def run(self): ...

class NoRun:
    pass

number = 5
def plain_function(call): ...
async def no_parameter(): ...
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with some bots in it; imports are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    before = set(sys.modules)
    (tmp_path / "goodbots.py").write_text(GOOD)
    (tmp_path / "badbots.py").write_text(BAD)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("voicebridge_bot_") or name in {"goodbots", "badbots", "neighbour"}:
            del sys.modules[name]


def said(bot: Bot) -> list[str]:
    """What the bot puts into a call that is a list."""
    call: list[str] = []

    async def life() -> None:
        await bot.start()
        await bot.run(cast("Call", call))
        await bot.close()

    asyncio.run(life())
    return call


def failure(spec: str) -> BotLoadError:
    with pytest.raises(BotLoadError) as caught:
        load_bot(spec)
    return caught.value


@pytest.mark.parametrize("prefix", ["goodbots", "goodbots.py", "./goodbots.py"])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Greeter", "greeter"),
        ("Nested.Inner", "inner"),
        ("Duck", "duck"),
        ("duck", "duck"),
        ("made", "greeter"),
        ("function", "function"),
    ],
)
def test_what_a_spec_may_name(prefix: str, name: str, expected: str) -> None:
    bot = load_bot(f"{prefix}:{name}")
    assert isinstance(bot, Bot)
    assert said(bot) == [expected]


def test_absolute_path_and_neighbours(folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "neighbour.py").write_text("WORD = 'hello'")
    (elsewhere / "mine.py").write_text(
        "from neighbour import WORD\nasync def run(call): call.append(WORD)"
    )
    assert said(load_bot(f"{elsewhere / 'mine.py'}:run")) == ["hello"]


def test_an_instance_is_taken_as_it_is() -> None:
    assert load_bot("goodbots:made") is load_bot(" goodbots:made ")


def test_a_file_is_executed_once(folder: Path) -> None:
    (folder / "counted.py").write_text(
        "import sys\nsys.counted = getattr(sys, 'counted', 0) + 1\n"
        "from voicebridge.call import Bot\nclass B(Bot):\n    async def run(self, call): ...\n"
    )
    load_bot("counted.py:B")
    load_bot("counted.py:B")
    assert cast("Any", sys).counted == 1
    del cast("Any", sys).counted


def announce(monkeypatch: pytest.MonkeyPatch, **names: str) -> None:
    found = EntryPoints(EntryPoint(name, value, GROUP) for name, value in names.items())
    monkeypatch.setattr("voicebridge.botspec.entry_points", lambda *, group: found)


def test_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch, greeter="goodbots:Greeter", nested="goodbots:Nested.Inner")
    assert said(load_bot("greeter")) == ["greeter"]
    assert said(load_bot("nested")) == ["inner"]


def test_echo_is_announced_by_this_package() -> None:
    (echo,) = importlib.metadata.entry_points(group=GROUP, name="echo")
    assert echo.value == "bots.echo:EchoBot"
    assert type(load_bot("echo")).__name__ == "EchoBot"


def test_unknown_name_lists_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch, greeter="goodbots:Greeter", echo="bots.echo:EchoBot")
    text = str(failure("greter"))
    assert "no bot is named 'greter' (did you mean 'greeter'?)" in text
    assert "installed are 'echo', 'greeter'" in text
    assert "path/to/file.py:Class" in text


def test_no_bots_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch)
    assert "installed are none" in str(failure("echo"))


def test_entry_point_of_a_broken_package(monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch, ghost="no_such_module_x:Bot")
    error = failure("ghost")
    assert "'no_such_module_x'" in str(error)
    assert isinstance(error.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize("spec", ["", ":", "goodbots:", ":Greeter", "  "])
def test_what_is_no_spec(spec: str) -> None:
    assert "'echo', 'module:Class' or 'path/to/file.py:Class'" in str(failure(spec))


@pytest.mark.parametrize("spec", ["good bots:X", "-m:X", "goodbots..x:X"])
def test_what_is_no_module_name(spec: str) -> None:
    assert "no module name" in str(failure(spec))


def test_missing_module() -> None:
    error = failure("no_such_module_x.y:Bot")
    assert "there is no module 'no_such_module_x'" in str(error)
    assert isinstance(error.__cause__, ModuleNotFoundError)


def test_missing_dependency(folder: Path) -> None:
    (folder / "needy.py").write_text("import no_such_dependency_x")
    for spec in ("needy:Bot", "needy.py:Bot"):
        error = failure(spec)
        assert "needs the module 'no_such_dependency_x', which is not installed" in str(error)
        assert isinstance(error.__cause__, ModuleNotFoundError)


def test_missing_file() -> None:
    text = str(failure("goodbot.py:Greeter"))
    assert "names the file goodbot.py, which is not there (did you mean 'goodbots.py'" in text


def test_file_without_a_name() -> None:
    text = str(failure("goodbots.py"))
    assert "it has 'goodbots.py:Duck', 'goodbots.py:Greeter'" in text


def test_missing_name() -> None:
    text = str(failure("goodbots:Greter"))
    assert "there is no 'Greter' (did you mean 'Greeter'?)" in text
    assert "the bots in it are 'Duck', 'Greeter'" in text


@pytest.mark.parametrize(
    ("code", "cause", "hint"),
    [
        (
            "1 / 0",
            ZeroDivisionError,
            "failed with ZeroDivisionError: division by zero (broken.py:1)",
        ),
        ("def", SyntaxError, "failed with SyntaxError"),
        ("raise SystemExit(3)", SystemExit, "__main__"),
        (
            "from voicebridge import nothing_of_this_name",
            ImportError,
            "failed with ImportError: cannot import name",
        ),
    ],
)
def test_import_that_fails(folder: Path, code: str, cause: type[BaseException], hint: str) -> None:
    (folder / "broken.py").write_text(code)
    for spec in ("broken:Bot", "broken.py:Bot", "broken.py:Bot"):
        error = failure(spec)
        assert hint in str(error)
        assert isinstance(error.__cause__, cause)
    assert "voicebridge_bot_broken" not in sys.modules


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Arguments", "takes arguments; put a finished one"),
        ("Raises", "failed with ValueError: in the making (badbots.py:11)"),
        ("Plain", "not `async def`"),
        ("Generator", "async generator"),
        ("TooMany", "nothing more"),
        ("TooFew", "nothing more"),
        ("NoRun", "no method `async def run(self, call)`"),
        ("number", "names a int"),
        ("plain_function", "not `async def`"),
        ("no_parameter", "nothing more"),
    ],
)
def test_what_is_no_bot(name: str, hint: str) -> None:
    error = failure(f"badbots:{name}")
    assert hint in str(error)
    assert f"badbots:{name}" in str(error)
    assert isinstance(error, ConfigError)


def test_failure_of_the_constructor_is_chained() -> None:
    assert isinstance(failure("badbots:Raises").__cause__, ValueError)


def test_a_module_is_no_bot(monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch, whole="goodbots")
    assert "names a module" in str(failure("whole"))
