"""Log lines: one sink, with the call's id on each line and no secrets in any.

Libraries and bots log through the standard library, so this does too: a constant
message, and the facts in ``extra``. The one rule: logging may lose lines, never time
and never secrets. Lines are rendered and redacted where they are logged, queued, and
written by a thread of their own; when the pipe behind is full, lines are dropped and
counted while the calls go on.
"""

from __future__ import annotations

import contextlib
import json as jsons
import logging
import math
import os
import queue
import re
import select
import sys
import threading
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["LogSink", "call_id", "configure", "redact"]

call_id: ContextVar[str | None] = ContextVar("call_id", default=None)
"""Id of the call that the running task serves; put on every line, third parties' included."""

QUEUE_LINES: Final = 2_000
CLOSE_SECONDS: Final = 1.0

_HIDDEN = "[hidden]"
# Each of these tells at info level, or in full detail below it, what must not be told.
_QUIET_LOGGERS = ("httpx", "httpcore", "websockets")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# uvicorn's own duplicate of the message, with escape codes.
_UNWANTED = _STANDARD | {"color_message"}
_FIELDS = ("ts", "level", "logger", "call_id", "message", "exception")
# Line ends forge lines and escape sequences drive the terminal of who reads the log.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_CONTROLS |= {0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t", 0x2028: "\\u2028", 0x2029: "\\u2029"}
_TRACEBACK_CONTROLS = {code: text for code, text in _CONTROLS.items() if code not in (0x09, 0x0A)}

_SECRET_WORDS = r"token|secret|signature|api[-_]?key|password|authorization|cookie|ws_?url"
_SECRET_KEY = re.compile(_SECRET_WORDS, re.IGNORECASE)
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    # A media URL: the token is in its query, and may be in its path.
    (re.compile(r"(?i)(wss?://)(?:[^\s/?#@]*@)?([a-z0-9.:\[\]-]*)[^\s\"<>]*"), rf"\1\2/{_HIDDEN}"),
    (re.compile(r"(?i)\b(bearer|basic)(\s+)[^\s\"',]+"), rf"\1\2{_HIDDEN}"),
    # name=value, name: value, 'name': 'value', ('name', b'value'), \"name\":\"value\"
    (
        re.compile(
            rf"(?i)((?:{_SECRET_WORDS})(?:[\\\"']*\s*(?:[=:]|%3d)|[\\\"']+\s*,)\s*)(?:b(?=\\*[\"']))?"
            r"(?:\\*\"[^\"]*\"?|\\*'[^']*'?"
            r"|(?!\[hidden|bearer|basic|wss?://)[^\s&\"'<>,;)\]}]+)"
        ),
        rf"\1{_HIDDEN}",
    ),
    (re.compile(r"(?<![A-Za-z0-9])ps_[\w-]+|ps_[\w-]{8,}"), f"ps_{_HIDDEN}"),
    (re.compile(r"[0-9A-Fa-f]{64,}"), _HIDDEN),
    # +55 11 99999-0000, and bare runs as the provider and WhatsApp write numbers. Runs
    # inside ids, and fractions of a second, are left alone.
    (re.compile(r"\+\d(?:[ ().-]{0,2}\d){7,}"), f"+{_HIDDEN}"),
    (
        re.compile(
            r"(?:(?<![0-9A-Za-z])|(?<=\\[nrt]))(?<!call_)(?<!\d\.)\d{8,15}(?![0-9A-Za-z])",
        ),
        _HIDDEN,
    ),
)


def redact(text: str) -> str:
    """``text`` without keys, tokens, signatures, media URLs and phone numbers.

    It hides too much rather than too little: any run of 8 to 15 digits counts as a number.
    """
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def configure(
    level: str | int = "INFO", json: bool = False, stream: TextIO | None = None
) -> LogSink:
    """Send all logging to ``stream`` (standard error by default), in place of an earlier sink.

    Returns the sink: ``dropped`` counts lines lost, ``close()`` writes what is queued.
    """
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, LogSink):
            root.removeHandler(handler)
            handler.close()
    sink = LogSink(stream or sys.stderr, _render_json if json else _render_console)
    root.addHandler(sink)
    root.setLevel(level.upper() if isinstance(level, str) else level)
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    return sink


class LogSink(logging.Handler):
    """Renders where it is called, writes on its own thread; never blocks, never raises."""

    def __init__(
        self,
        stream: TextIO,
        render: Callable[[logging.LogRecord], str],
        *,
        queue_lines: int = QUEUE_LINES,
    ) -> None:
        super().__init__()
        self._stream = stream
        self._render = render
        self._queue: queue.Queue[str | threading.Event | None] = queue.Queue(queue_lines)
        self._refused = 0  # under the handler's lock
        self._failed = 0  # by the writer only
        self._reported = 0
        self._has_descriptor = _has_descriptor(stream)
        self._writer = threading.Thread(target=self._write_lines, name="log-writer", daemon=True)
        self._writer.start()

    @property
    def dropped(self) -> int:
        """Lines that were lost because the stream was stuck or gone."""
        return self._refused + self._failed

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self._render(record)
        except Exception:  # whatever a library put into its record is no reason to fail here
            line = f"unprintable log record of {record.name}\n"
        try:
            self._queue.put_nowait(line)
        except queue.Full:
            self._refused += 1

    def flush(self, timeout: float = CLOSE_SECONDS) -> None:
        """Wait until what was logged so far is written, ``timeout`` seconds at most."""
        written = threading.Event()
        with contextlib.suppress(queue.Full):
            self._queue.put(written, timeout=timeout)
            written.wait(timeout)

    def close(self) -> None:
        """Write what is queued, within ``CLOSE_SECONDS``, and stop."""
        if self._writer.is_alive():
            with contextlib.suppress(queue.Full):
                self._queue.put(None, timeout=CLOSE_SECONDS)
                self._writer.join(CLOSE_SECONDS)
        super().close()

    def _write_lines(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
                continue
            try:
                self._write(item)
                self._report_drops()
            except (OSError, ValueError):  # ValueError: the stream is closed
                self._failed += 1

    def _report_drops(self) -> None:
        if (dropped := self.dropped) > self._reported:
            lost = dropped - self._reported
            self._reported = dropped
            record = logging.LogRecord(
                __name__, logging.WARNING, __file__, 0, "log lines were dropped", None, None
            )
            record.lines = lost
            self._write(self._render(record))

    def _write(self, line: str) -> None:
        if not self._has_descriptor:
            self._stream.write(line)
            self._stream.flush()
            return
        # Past the stream's buffer and its lock: a writer stuck in there would keep the
        # interpreter from exiting. The descriptor is asked for anew, since a number that
        # was closed may belong to somebody else's socket by now.
        data = line.encode("utf-8", "backslashreplace")
        while data:
            descriptor = self._stream.fileno()
            try:
                data = data[os.write(descriptor, data) :]
            except BlockingIOError:
                select.select([], [descriptor], [], CLOSE_SECONDS)


def _has_descriptor(stream: TextIO) -> bool:
    try:
        return stream.fileno() >= 0
    except (OSError, ValueError, AttributeError):
        return False


def _render_console(record: logging.LogRecord) -> str:
    call = call_id.get()
    fields = [
        _time_of(record),
        record.levelname.ljust(7),
        record.name,
        *([f"[{redact(call)}]"] if call else []),
        redact(_message_of(record)),
        *(f"{key}={_quoted(value)}" for key, value in _extras_of(record).items()),
    ]
    line = " ".join(fields).translate(_CONTROLS)
    trace = _traceback_of(record)
    return f"{line}\n{trace.translate(_TRACEBACK_CONTROLS)}\n" if trace else f"{line}\n"


def _render_json(record: logging.LogRecord) -> str:
    fields: dict[str, object] = {
        "ts": _time_of(record),
        "level": record.levelname.lower(),
        "logger": record.name,
    }
    if call := call_id.get():
        fields["call_id"] = redact(call)
    fields["message"] = redact(_message_of(record))
    for key, value in _extras_of(record).items():
        fields[f"extra_{key}" if key in _FIELDS else key] = value
    if trace := _traceback_of(record):
        fields["exception"] = trace
    return jsons.dumps(fields, ensure_ascii=False) + "\n"


def _time_of(record: logging.LogRecord) -> str:
    stamp = datetime.fromtimestamp(record.created, UTC)
    return stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # arguments that do not fit, or whose repr fails
        return f"{record.msg} (its arguments do not fit)"


def _extras_of(record: logging.LogRecord) -> Mapping[str, str | int | float | bool | None]:
    return {
        redact(key): _HIDDEN if _SECRET_KEY.search(key) else _plain(value)
        for key, value in vars(record).items()
        if key not in _UNWANTED
    }


def _plain(value: Any) -> str | int | float | bool | None:
    """A value as JSON has it; what JSON has not, and what may hide a secret, as redacted text."""
    match value:
        case None | bool():
            return value
        case int() if abs(value) < 10**9:  # a count; numbers with their country code are longer
            return int(value)
        case float() if math.isfinite(value):
            return float(value)
        case _:
            try:
                return redact(str(value))
            except Exception:  # a repr of somebody else's
                return "(unprintable)"


def _quoted(value: str | float | None) -> str:
    text = str(value)
    return repr(text) if not text or " " in text or "=" in text else text


def _traceback_of(record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(logging.Formatter().formatException(record.exc_info))
    elif record.exc_text:
        parts.append(record.exc_text)
    if record.stack_info:
        parts.append(record.stack_info)
    return redact("\n".join(parts))
