"""The house rules that a reader relies on, checked on the source itself."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "voicebridge"
SOURCES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "bots").rglob("*.py")])
CORE = sorted((PACKAGE / "core").glob("*.py"))

#: What may import what: each name may import only those to its left, and itself.
LAYERS = [
    {"errors", "clock"},
    {"core"},
    {"mailbox", "driver", "logs", "metrics", "pilotstatus"},
    {"soundfiles"},
    {"recording"},
    {"feed", "line", "listening", "call", "provider", "opening"},
    {"sampling", "services"},
    {"leg"},
    {"summary"},
    {"bridge", "botspec"},
    {"settings"},
    {"wiring"},
    {"server", "emulator", "dialling", "doctor", "remote"},
    {"lab", "testing"},
    {"cli"},
]
FORBIDDEN_IN_CORE = {
    "asyncio", "time", "socket", "threading", "logging", "os", "random", "pydantic", "httpx",
}  # fmt: skip
MAY_CREATE_TASKS = {"bridge.py", "leg.py"}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "manager", "base", "common", "misc"}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path, *, runtime_only: bool = True) -> Iterator[str]:
    """Modules that importing ``path`` imports; type-checking imports are not counted."""
    module = tree(path)
    skipped: set[ast.AST] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            skipped.update(ast.walk(node))
    for node in ast.walk(module):
        if runtime_only and node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module


def layer_of(module: str) -> int | None:
    name = module.split(".")[1] if module.startswith("voicebridge.") else ""
    return next((index for index, layer in enumerate(LAYERS) if name in layer), None)


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", CORE, ids=ids)
def test_the_core_has_no_io_and_no_clock(path: Path) -> None:
    for module in imports(path):
        assert module.split(".")[0] not in FORBIDDEN_IN_CORE, module
        if module.startswith("voicebridge"):
            assert module.startswith(("voicebridge.core", "voicebridge.errors")), module


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_dependencies_point_one_way(path: Path) -> None:
    if path.parent.name == "bots":
        for module in imports(path):
            assert not module.startswith("voicebridge."), f"bots use the public names, not {module}"
        return
    own = layer_of("voicebridge." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts))
    if own is None:  # __init__ and __main__
        return
    for module in imports(path):
        if (other := layer_of(module)) is not None:
            assert other <= own, f"{ids(path)} must not import {module}"


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_time_enters_through_one_door(path: Path) -> None:
    if path.name == "clock.py":
        return
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            place = f"{ids(path)}:{node.lineno}"
            assert (node.value.id, node.attr) not in {
                ("datetime", "now"), ("datetime", "utcnow"), ("date", "today"),
            }, place  # fmt: skip
            if node.value.id == "time" and node.attr != "thread_time":
                assert node.attr not in {"time", "monotonic", "perf_counter", "sleep"}, place


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_modules_are_named_by_what_they_hold(path: Path) -> None:
    assert path.stem not in FORBIDDEN_NAMES


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_the_tail_stays_short(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= 500, f"{ids(path)} has {lines} lines"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 70, f"{ids(path)}:{node.lineno} {node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_every_module_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if text.strip():
        assert ast.get_docstring(tree(path)), f"{ids(path)} has no docstring"


def test_public_names_are_pinned() -> None:
    import voicebridge

    assert voicebridge.__all__ == [
        "AudioError", "Bot", "Call", "CallEnded", "CallError", "ConfigError", "DtmfReceived",
        "Event", "Hangup", "MediaLost", "MediaRestored", "Playback", "PlaybackFinished",
        "ProviderError", "Speech", "VoicebridgeError",
    ]  # fmt: skip
    for name in voicebridge.__all__:
        assert getattr(voicebridge, name) is not None
