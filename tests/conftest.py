"""Rules for every test: nothing secret is logged, and in CI nothing is skipped.

All log records of all loggers pass `LeakWatch`, whatever level a test sets. What
voicebridge logs must be clean as it stands; what libraries and bots log (their own
tracebacks included) must be clean once it is rendered for the operator.
"""

from __future__ import annotations

import logging
import os
import re
from typing import TYPE_CHECKING, TypeVar

import pytest

from voicebridge.logs import _render_console, _render_json
from voicebridge.testing.world import KEY, SECRET

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

#: What the worlds of the tests are opened with, and what no line may hold.
KNOWN_SECRETS = (
    KEY,
    SECRET,
    "ps_emulator",
    "emulator-secret",
    "demo-secret",
    "whsec-test",
)
KNOWN_NUMBERS = ("5511999990000", "5511888880000", "11999990000")
_LEAK = re.compile(
    "|".join(map(re.escape, (*KNOWN_SECRETS, *KNOWN_NUMBERS)))
    # A token in any spelling, unless it was made unreadable.
    + r"|token(?:=|%3D|[\"']\s*:\s*)(?!\[hidden)[\"']?\w[^\s\"']{3,}"
    # Any number that a person could be called by: a plus and its digits.
    + r"|\+\d{8,15}",
    re.IGNORECASE,
)


def leaks(text: str) -> list[str]:
    """Every secret or number found in ``text``."""
    return [found[0] for found in _LEAK.finditer(text)]


class LeakWatch(logging.Handler):
    """Looks at every record; ``found`` tells where a secret was, never the secret."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        texts = [_render_console(record), _render_json(record)]
        if record.name.startswith("voicebridge"):
            texts += [_raw(record)]
        if any(map(leaks, texts)):
            self.found.append(f"{record.name} {record.levelname}: {record.msg!r}")

    def take(self) -> list[str]:
        found, self.found = self.found, []
        return found


def _raw(record: logging.LogRecord) -> str:
    """Message and extras before anything is taken out; not the traceback, which is the bot's."""
    standard = vars(logging.makeLogRecord({}))
    extras = [str(value) for key, value in vars(record).items() if key not in standard]
    try:
        return "\n".join([record.getMessage(), *extras])
    except Exception:  # a test of records that cannot be rendered
        return ""


WATCH = LeakWatch()


def pytest_configure(config: pytest.Config) -> None:
    logging.getLogger().addHandler(WATCH)
    # Debug lines leak as well as others, and somebody will want them some day.
    logging.getLogger("voicebridge").setLevel(logging.DEBUG)


def pytest_unconfigure(config: pytest.Config) -> None:
    logging.getLogger().removeHandler(WATCH)


@pytest.fixture
def leak_watch() -> Iterator[LeakWatch]:
    """For tests of the watch itself: what they leave in it counts for nothing."""
    yield WATCH
    WATCH.take()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    yield
    # A uvicorn configuration sets the level of uvicorn's loggers for the whole process.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    if found := WATCH.take():
        pytest.fail("secrets or numbers were logged:\n  " + "\n  ".join(found), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _unskipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _unskipped((yield))


def _unskipped(report: Report) -> Report:
    """With ``CI_NO_SKIP``, a skip is a failure: a test that never runs guards nothing."""
    if os.environ.get("CI_NO_SKIP") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
        report.outcome = "failed"
        report.longrepr = f"CI_NO_SKIP is set, and this was not run: {reason}"
    return report
