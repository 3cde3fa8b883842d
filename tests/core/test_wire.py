"""Text on the media socket: understood where possible, harmless always."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicebridge.core.wire import WireText, read_text


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            {"type": "call_started", "sample_rate": 16000, "frame_samples": 960},
            WireText("call_started", sample_rate=16_000),
        ),
        ({"event": "start", "sampleRate": 24000}, WireText("start", sample_rate=24_000)),
        ({"type": "ready", "media": {"sampleRate": 8000}}, WireText("ready", sample_rate=8_000)),
        ({"type": "start", "sampleRate": 11_025}, WireText("start")),
        (
            {"event": "media", "payload": base64.b64encode(b"\1\0").decode()},
            WireText("media", audio=b"\1\0"),
        ),
        (
            {"event": "media", "media": {"payload": base64.b64encode(b"\2\0").decode()}},
            WireText("media", audio=b"\2\0"),
        ),
        ({"event": "media", "payload": "not base64!"}, WireText("media")),
        ({"type": "dtmf", "digit": "5"}, WireText("dtmf", digit="5")),
        ({"type": "dtmf", "digit": "55"}, WireText("dtmf")),
        ({"type": "<b>+5511999990000</b>"}, WireText("unknown")),
        ([], WireText("unknown")),
        ("hello", WireText("unknown")),
    ],
)
def test_known_messages(message: object, expected: WireText) -> None:
    assert read_text(json.dumps(message)) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.text() | JSON.map(json.dumps))
def test_any_text_is_read(text: str) -> None:
    read_text(text)


def test_nesting_without_end_is_read() -> None:
    assert read_text("[" * 100_000).kind == "unknown"
