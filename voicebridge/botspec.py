"""From a SPEC on a command line to a bot.

A SPEC is the name of an entry point (``echo``), ``module:Name``, or
``path/to/file.py:Name``; ``Name`` may be dotted. What it names may be a bot class, which
is made without arguments, a bot, or an ``async def run(call)``. The one rule: whatever
is wrong, the error says what was tried, what is there instead, and what to do.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
import traceback
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voicebridge.call import Bot
from voicebridge.errors import BotLoadError
from voicebridge.logs import redact

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from types import ModuleType

    from voicebridge.call import Call

__all__ = ["GROUP", "load_bot"]

GROUP = "voicebridge.bots"
"""The entry-point group in which packages announce their bots."""

_FORMS = "a name such as 'echo', 'module:Class' or 'path/to/file.py:Class'"


def load_bot(spec: str) -> Bot:
    """The bot that ``spec`` names, ready to ``start``.

    Imports whatever module holds it; the working directory is importable, as for
    ``python -m``. Raises ``BotLoadError``, with the bot's own failure as its cause.
    """
    spec = spec.strip()
    location, colon, name = spec.rpartition(":")
    if not colon:
        return _make(_named_entry_point(spec), spec)
    if not location or not name:
        raise BotLoadError(f"{spec!r} is not a bot SPEC: give {_FORMS}")
    if location.endswith(".py") or "/" in location or "\\" in location:
        module = _import_file(Path(location), spec)
    else:
        module = _import_module(location, spec)
    return _make(_attribute(module, name, spec), spec)


# finding


def _named_entry_point(spec: str) -> Any:
    found = entry_points(group=GROUP)
    names = sorted(found.names)
    if spec not in names:
        if spec.endswith(".py") and Path(spec).is_file():
            bots = _bots_of(_import_file(Path(spec), spec))
            raise BotLoadError(
                f"{spec!r} does not say which bot of the file; "
                f"it has {_listed(f'{spec}:{bot}' for bot in bots)}"
            )
        raise BotLoadError(
            f"no bot is named {spec!r}{_near(spec, names)}; installed are {_listed(names)}. "
            f"A SPEC is {_FORMS}"
        )
    # Several packages may use one name; the first on the path wins, as for scripts.
    entry = next(iter(found.select(name=spec)))
    module = _import_module(entry.module, spec)
    return _attribute(module, entry.attr, spec) if entry.attr else module


def _import_module(name: str, spec: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise BotLoadError(f"{name!r} in bot SPEC {spec!r} is no module name: give {_FORMS}")
    _make_importable(Path.cwd())
    return _guarded(lambda: importlib.import_module(name), name, spec)


def _import_file(path: Path, spec: str) -> ModuleType:
    if not path.is_file():
        others = sorted(str(path.parent / other.name) for other in path.parent.glob("*.py"))
        raise BotLoadError(
            f"bot SPEC {spec!r} names the file {path}, which is not there{_near(str(path), others)}"
        )
    path = path.resolve()
    name = f"voicebridge_bot_{path.stem}"
    loaded = sys.modules.get(name)
    if loaded is not None and loaded.__file__ == str(path):
        return loaded
    _make_importable(path.parent)  # its neighbours, as when it is run as a script
    return _guarded(lambda: _execute(path, name), path.name, spec)


def _execute(path: Path, name: str) -> ModuleType:
    module_spec = importlib.util.spec_from_file_location(name, path)
    if module_spec is None or module_spec.loader is None:
        raise ImportError(f"{path.name} does not end in .py")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up
    try:
        module_spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _make_importable(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _guarded(load: Callable[[], ModuleType], name: str, spec: str) -> ModuleType:
    try:
        return load()
    except ModuleNotFoundError as error:
        raise BotLoadError(_missing(error.name, name, spec)) from error
    except SystemExit as error:
        raise BotLoadError(
            f"importing {name!r} for bot SPEC {spec!r} ended the program; put what it runs "
            'under `if __name__ == "__main__":`'
        ) from error
    except Exception as error:
        raise BotLoadError(
            f"importing {name!r} for bot SPEC {spec!r} failed with {_told(error)}"
        ) from error


def _missing(module: str | None, name: str, spec: str) -> str:
    if module is not None and (name == module or name.startswith(f"{module}.")):
        return (
            f"there is no module {module!r}, which bot SPEC {spec!r} names: install the package "
            "that has it, or run from the directory that holds it"
        )
    return (
        f"importing {name!r} for bot SPEC {spec!r} needs the module {module!r}, which is not "
        "installed"
    )


def _attribute(module: ModuleType, dotted: str, spec: str) -> Any:
    found: Any = module
    for name in dotted.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            names = [known for known in dir(found) if not known.startswith("_")]
            bots = _bots_of(module)
            raise BotLoadError(
                f"bot SPEC {spec!r}: there is no {name!r}{_near(name, names)}; "
                f"the bots in it are {_listed(bots)}"
            ) from None
    return found


# making


def _make(found: Any, spec: str) -> Bot:
    if inspect.isclass(found):
        _check_run(getattr(found, "run", None), spec, bound=False)
        found = _instantiate(found, spec)
    if isinstance(found, Bot):
        _check_run(found.run, spec)
        return found
    if hasattr(found, "run") and not inspect.isroutine(found):
        _check_run(found.run, spec)
        return _Adapted(found.run, getattr(found, "start", None), getattr(found, "close", None))
    if inspect.ismodule(found) or not callable(found):
        raise BotLoadError(
            f"bot SPEC {spec!r} names a {type(found).__name__}, which is neither a bot class, "
            "a bot nor an `async def run(call)`"
        )
    _check_run(found, spec)
    return _Adapted(found)


def _instantiate(kind: type[Any], spec: str) -> Any:
    try:
        inspect.signature(kind).bind()
    except TypeError:
        raise BotLoadError(
            f"bot SPEC {spec!r}: {kind.__name__} takes arguments; put a finished one into the "
            f"module, `bot = {kind.__name__}(...)`, and name that"
        ) from None
    except ValueError:  # no signature to be had: trying tells
        pass
    try:
        return kind()
    except Exception as error:
        raise BotLoadError(
            f"bot SPEC {spec!r}: making a {kind.__name__} failed with {_told(error)}"
        ) from error


def _check_run(run: Any, spec: str, *, bound: bool = True) -> None:
    if run is None:
        raise BotLoadError(f"bot SPEC {spec!r}: it has no method `async def run(self, call)`")
    if not inspect.iscoroutinefunction(run):
        kind = "an async generator" if inspect.isasyncgenfunction(run) else "not `async def`"
        raise BotLoadError(f"bot SPEC {spec!r}: its `run` is {kind}; write `async def run(call)`")
    try:
        inspect.signature(run).bind(*([None] if bound else [None, None]))
    except TypeError:
        raise BotLoadError(
            f"bot SPEC {spec!r}: its `run` has to take the call and nothing more"
        ) from None


class _Adapted(Bot):
    """A function, or an object that has what a bot needs without being a ``Bot``."""

    def __init__(
        self,
        run: Callable[[Call], Awaitable[None]],
        start: Callable[[], Awaitable[None]] | None = None,
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._run, self._start, self._close = run, start, close

    async def run(self, call: Call) -> None:
        await self._run(call)

    async def start(self) -> None:
        if self._start is not None:
            await self._start()

    async def close(self) -> None:
        if self._close is not None:
            await self._close()


# telling


def _bots_of(module: ModuleType) -> list[str]:
    """Names in ``module`` that a SPEC could mean, imported ones aside."""
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", module.__name__) == module.__name__
        and inspect.iscoroutinefunction(getattr(value, "run", None))
    )


def _near(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(repr(match) for match in near)}?)" if near else ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"


def _told(error: Exception) -> str:
    """Kind, message and innermost place of a bot's own error."""
    message = redact(str(error))
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {message}{place}" if message else type(error).__name__ + place
