"""Log lines carry the call, keep secrets, and never hold up what logs them."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import string
import sys
import threading
from typing import TYPE_CHECKING, Any, TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicebridge import logs
from voicebridge.logs import LogSink, call_id, configure, redact

if TYPE_CHECKING:
    from collections.abc import Iterator

LOG = logging.getLogger("tests.logs")


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """The process's logging as it was."""
    root = logging.getLogger()
    level = root.level
    quiet = {name: logging.getLogger(name).level for name in ("httpx", "httpcore", "websockets")}
    yield
    for handler in root.handlers[:]:
        if isinstance(handler, LogSink):
            root.removeHandler(handler)
            handler.close()
    root.setLevel(level)
    for name, was in quiet.items():
        logging.getLogger(name).setLevel(was)


def lines_of(stream: io.StringIO, sink: LogSink) -> list[str]:
    sink.flush()
    return stream.getvalue().splitlines()


def test_console_line() -> None:
    stream = io.StringIO()
    sink = configure("info", stream=stream)
    token = call_id.set("call_01HZX")
    LOG.info("call %s", "answered", extra={"frames": 12, "why": "a b", "late_ms": 0.5})
    call_id.reset(token)
    (line,) = lines_of(stream, sink)
    stamp, rest = line.split(" ", 1)
    assert stamp.endswith("Z")
    assert rest == ("INFO    tests.logs [call_01HZX] call answered frames=12 why='a b' late_ms=0.5")


def test_json_line() -> None:
    stream = io.StringIO()
    sink = configure("info", json=True, stream=stream)
    call_id.set("call_01HZX")
    extra = {
        "frames": 12,
        "ok": True,
        "none": None,
        "odd": float("nan"),
        "level": "x",
        "at": {1: 2},
    }
    try:
        LOG.warning("strange\nthing", extra=extra)
    finally:
        call_id.set(None)
    (line,) = lines_of(stream, sink)
    fields = json.loads(line)
    assert fields.pop("ts").endswith("Z")
    assert fields == {
        "level": "warning",
        "logger": "tests.logs",
        "call_id": "call_01HZX",
        "message": "strange\nthing",
        "frames": 12,
        "ok": True,
        "none": None,
        "odd": "nan",
        "extra_level": "x",
        "at": "{1: 2}",
    }


@pytest.mark.parametrize("as_json", [False, True])
def test_traceback_is_rendered_and_redacted(as_json: bool) -> None:
    stream = io.StringIO()
    sink = configure(json=as_json, stream=stream)
    try:
        raise ValueError("no answer from +55 11 99999-0000 with ps_live_0123456789")
    except ValueError:
        LOG.exception("bot failed", stack_info=True)
    text = "\n".join(lines_of(stream, sink))
    assert "ValueError: no answer from +[hidden] with ps_[hidden]" in text
    assert "Traceback (most recent call last)" in text
    assert "Stack (most recent call last)" in text


def test_attackers_cannot_forge_lines_or_drive_the_terminal() -> None:
    stream = io.StringIO()
    sink = configure(stream=stream)
    LOG.info("name %s", "x\n2026 INFO forged\x1b[2J", extra={"who": "y\r\nz\u2028\x9b"})
    try:
        raise ValueError("\x1b[31m")
    except ValueError:
        LOG.exception("oops")
    text = "\n".join(lines_of(stream, sink))
    assert "forged" in text
    assert text.count(" INFO ") == 2, "one of them inside the first line"
    assert len([line for line in text.splitlines() if line.startswith("2026 INFO forged")]) == 0
    assert not {"\x1b", "\r", "\u2028", "\x9b"} & set(text)


def test_third_parties_are_quiet_and_tagged() -> None:
    stream = io.StringIO()
    sink = configure("debug", stream=stream)
    token = call_id.set("call_x")
    for name in ("httpx", "httpcore.connection", "websockets.client"):
        logging.getLogger(name).info("GET https://host/?token=abc")
    logging.getLogger("uvicorn.error").error("theirs", extra={"color_message": "\x1b[1mtheirs"})
    call_id.reset(token)
    (line,) = lines_of(stream, sink)
    assert line.endswith("uvicorn.error [call_x] theirs")


def test_configure_replaces_its_own_sink_only() -> None:
    other = logging.NullHandler()
    logging.getLogger().addHandler(other)
    first, second = io.StringIO(), io.StringIO()
    try:
        configure(stream=first)
        sink = configure("warning", stream=second)
        LOG.warning("once")
        LOG.info("below")
        assert len(lines_of(second, sink)) == 1
        assert first.getvalue() == ""
        assert other in logging.getLogger().handlers
    finally:
        logging.getLogger().removeHandler(other)


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


@pytest.mark.parametrize("as_json", [False, True])
def test_records_that_cannot_be_rendered_are_survived(as_json: bool) -> None:
    stream = io.StringIO()
    sink = configure(json=as_json, stream=stream)

    def log(message: Any, *args: object, **extra: object) -> None:
        # Straight to the sink: pytest's own handlers do not survive such records.
        sink.handle(LOG.makeRecord("tests.logs", 20, "", 0, message, args, None, extra=extra))

    log("%d of %d", 1)
    log("%s", Unprintable())
    log("extra", thing=Unprintable(), surrogate="\udc80")
    log(Unprintable())
    lines = lines_of(stream, sink)
    assert "%d of %d (its arguments do not fit)" in lines[0]
    assert "%s (its arguments do not fit)" in lines[1]
    assert "(unprintable)" in lines[2]
    assert lines[3] == "unprintable log record of tests.logs"


# a sink that is stuck, or gone


def stuck_pipe() -> tuple[int, TextIO]:
    """A pipe that is full to the brim: its reading end, and a blocking stream to write to."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, b"x" * 65_536):
            pass
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, b"x"):
            pass
    os.set_blocking(writer, True)
    return reader, os.fdopen(writer, "w")


def test_a_full_pipe_costs_lines_but_no_time() -> None:
    reader, stream = stuck_pipe()
    sink = LogSink(stream, logs._render_console, queue_lines=50)
    received: list[bytes] = []
    drain = threading.Thread(
        target=lambda: received.extend(iter(lambda: os.read(reader, 65_536), b""))
    )
    try:
        for n in range(500):  # would stand still here, were it to wait for the pipe
            sink.handle(logging.LogRecord("x", logging.INFO, "", 0, "line %d", (n,), None))
        assert 449 <= sink.dropped <= 450
        drain.start()
        sink.flush(30)
        sink.close()
    finally:
        stream.close()
        drain.join()
        os.close(reader)
    text = b"".join(received).decode()
    assert "line 0\n" in text
    assert "log lines were dropped lines=4" in text
    assert "line 499" not in text


def test_a_pipe_that_does_not_block_is_waited_for_on_the_writers_thread() -> None:
    reader, stream = stuck_pipe()
    os.set_blocking(stream.fileno(), False)
    sink = LogSink(stream, logs._render_console)
    received: list[bytes] = []
    drain = threading.Thread(
        target=lambda: received.extend(iter(lambda: os.read(reader, 65_536), b""))
    )
    try:
        sink.handle(logging.LogRecord("x", logging.INFO, "", 0, "said", None, None))
        drain.start()
        sink.flush(30)
        sink.close()
    finally:
        stream.close()
        drain.join()
        os.close(reader)
    assert b"".join(received).endswith(b"said\n")
    assert sink.dropped == 0


def test_closing_a_stuck_sink_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "CLOSE_SECONDS", 0.01)
    reader, stream = stuck_pipe()
    sink = LogSink(stream, logs._render_console, queue_lines=1)
    for _ in range(5):
        sink.handle(logging.LogRecord("x", logging.INFO, "", 0, "line", None, None))
    sink.flush(0.01)
    sink.close()
    os.close(reader)  # the writer's thread now fails with EPIPE
    stream.close()


@pytest.mark.parametrize("gone", ["closed stream", "broken pipe"])
def test_a_stream_that_is_gone_is_counted(gone: str) -> None:
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w")
    sink = LogSink(stream, logs._render_console)
    os.close(reader)
    if gone == "closed stream":
        stream.close()
    sink.handle(logging.LogRecord("x", logging.INFO, "", 0, "line", None, None))
    sink.flush(30)
    assert sink.dropped == 1
    sink.close()
    sink.close()
    stream.close()


def test_writes_to_a_file_descriptor_directly(tmp_path: Any) -> None:
    with (tmp_path / "log").open("w", encoding="ascii") as stream:
        sink = configure(stream=stream)
        LOG.info("olá")
        sink.flush()
        assert (tmp_path / "log").read_text(encoding="utf-8").endswith("tests.logs olá\n")


def test_default_stream_is_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    sink = configure()
    LOG.info("there")
    assert lines_of(stream, sink)[0].endswith("tests.logs there")


# redaction


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("key ps_live_AbC-123", "key ps_[hidden]"),
        ("https_proxy=x caps_on", "https_proxy=x caps_on"),
        ("GET /m?token=abc%2F&mode=talk", "GET /m?token=[hidden]&mode=talk"),
        ("u=wss%3A%2F%2Fh%2F%3Ftoken%3Dabc", "u=wss%3A%2F%2Fh%2F%3Ftoken%3D[hidden]"),
        ("to wss://h.example.net/a?t=b#c now", "to wss://h.example.net/[hidden] now"),
        ("to WS://user:pw@h/a", "to WS://h/[hidden]"),
        ("{'token': 'a b', 'n': 1}", "{'token': [hidden], 'n': 1}"),
        ('{"wsUrl":"wss://h/x","n":1}', '{"wsUrl":[hidden],"n":1}'),
        ('"{\\"token\\":\\"abc\\"}"', '"{\\"token\\":[hidden]}"'),
        ("(b'x-api-key', b'abc')", "(b'x-api-key', [hidden])"),
        ("x-api-key: abc", "x-api-key: [hidden]"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer [hidden]"),
        ("sha256=" + "0a" * 32, "sha256=[hidden]"),
        ("+5511999990000 called", "+[hidden] called"),
        ("call +55 (11) 99999-0000.", "call +[hidden]."),
        ("5511999990000@s.whatsapp.net", "[hidden]@s.whatsapp.net"),
        ("peer_5511999990000", "peer_[hidden]"),
        (repr("a\n5511999990000"), "'a\\n[hidden]'"),
        ("call_123456789012 in 0.123456789 s", "call_123456789012 in 0.123456789 s"),
        ("3EB0C767D097B7C7C8B1 after 1234567 bytes", "3EB0C767D097B7C7C8B1 after 1234567 bytes"),
        ("the token, once used, is gone", "the token, once used, is gone"),
        ("tokens: 5", "tokens: 5"),
    ],
)
def test_redact(text: str, expected: str) -> None:
    assert redact(text) == expected
    assert redact(expected) == expected


CORE = st.text(string.ascii_letters + string.digits, min_size=12, max_size=40).map(
    lambda text: "Zq" + text
)
DIGITS = st.text(string.digits, min_size=8, max_size=15)
HEX = st.text(string.hexdigits, min_size=64, max_size=64)
# Each is what must not be seen, and how it may be written.
SECRETS = st.one_of(
    CORE.map(lambda core: (core, f"ps_{core}")),
    CORE.map(lambda core: (core, f"token={core}")),
    CORE.map(lambda core: (core, f"wss://evo.pilotstatus.com.br/realtime?x=1&ticket={core}")),
    CORE.map(lambda core: (core, f"wss://evo.pilotstatus.com.br/realtime/{core}")),
    CORE.map(lambda core: (core, f"x-api-key: {core}")),
    CORE.map(lambda core: (core, repr({"Authorization": f"Bearer {core}"}))),
    CORE.map(lambda core: (core, json.dumps({"wsUrl": f"wss://h/{core}", "token": core}))),
    CORE.map(lambda core: (core, repr([(b"x-api-key", core.encode())]))),
    HEX.map(lambda digest: (digest, digest)),
    HEX.map(lambda digest: (digest, f"sha256={digest}")),
    DIGITS.map(lambda digits: (digits, f"+{digits}")),
    DIGITS.map(lambda digits: (digits, f"{digits}@s.whatsapp.net")),
)
# Text around it; spaces keep it from growing into the secret.
AROUND = st.text(max_size=20).map(lambda text: f"{text} ")


@given(secret=SECRETS, before=AROUND, after=AROUND, as_json=st.booleans())
def test_secrets_never_survive(
    secret: tuple[str, str], before: str, after: str, as_json: bool
) -> None:
    hidden, written = secret
    text = f"{before}{written} {after}"
    try:
        raise RuntimeError(text) from ValueError([text])
    except RuntimeError:
        exc_info = sys.exc_info()
    record = logging.LogRecord("x", logging.ERROR, "", 0, f"{text} %s %r", (text, [text]), exc_info)
    record.text = text
    record.nested = {"list": [text, {"deep": text}], text: 1}
    record.raw = text.encode("utf-8", "surrogatepass")
    record.number = int(hidden) if hidden.isdecimal() and len(hidden.lstrip("0")) > 9 else 0
    record.token = hidden
    record.stack_info = text
    render = logs._render_json if as_json else logs._render_console
    call = call_id.set(text)
    try:
        line = render(record)
    finally:
        call_id.reset(call)
    assert hidden not in line
    if as_json:
        assert hidden not in repr(json.loads(line))
    else:
        assert line.endswith("\n")


@given(st.text())
def test_redaction_is_total_and_settles(text: str) -> None:
    once = redact(text)
    assert redact(once) == once
