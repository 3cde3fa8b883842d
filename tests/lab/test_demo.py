"""`voicebridge demo`, from its recordings to its files."""

from __future__ import annotations

import io
import itertools
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from rich.console import Console

from tests.lab.calls import RATE, SPEECH
from voicebridge.errors import AudioError, BotLoadError, ConfigError
from voicebridge.lab.demo import bundled_speech, demo_call
from voicebridge.lab.measure import find, speech_segments

if TYPE_CHECKING:
    from pathlib import Path


def silent_console() -> Console:
    return Console(file=io.StringIO(), width=100)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_caller_speaks_about_a_quarter_of_a_minute() -> None:
    speech = bundled_speech()
    assert speech.dtype == np.int16
    assert 12 * RATE < speech.size < 20 * RATE
    segments = speech_segments(speech)
    assert sum(segment.length for segment in segments) > 10 * RATE
    gaps = [b.start - a.stop for a, b in itertools.pairwise(segments)]
    assert sum(gap > 0.6 * RATE for gap in gaps) >= 4


async def test_a_caller_without_a_voice_is_refused(tmp_path: Path) -> None:
    for name, samples in (("empty", np.zeros(0, np.int16)), ("still", np.zeros(RATE, np.int16))):
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, samples, RATE)
        with pytest.raises(AudioError, match="empty or silent"):
            await demo_call("echo", path, tmp_path, console=silent_console())
    with pytest.raises(AudioError):
        await demo_call("echo", tmp_path / "none.wav", tmp_path, console=silent_console())


async def test_a_place_that_takes_no_files_is_named(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    with pytest.raises(ConfigError, match="--out"):
        await demo_call("echo", None, taken / "out", console=silent_console())


@pytest.mark.real
async def test_a_bot_that_cannot_be_loaded_ends_the_demo_before_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BotLoadError):
        await demo_call("no_such_module:Bot", None, tmp_path / "out", console=silent_console())
    assert not (tmp_path / "out" / "report.json").exists()


@pytest.mark.real
async def test_one_call_through_the_real_bridge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # no settings of whoever runs the tests
    console, out = silent_console(), tmp_path / "out"
    report = await demo_call("echo", SPEECH / "en_hello.flac", out, console=console)
    text = written(console)
    for words in ("the bridge answers", "the media socket opens", "the call ends"):
        assert words in text
    values = json.loads((out / "report.json").read_text("utf-8"))
    assert values == json.loads(report.to_json())
    assert values["frames"]["sent"] > 20
    assert values["frames"]["received"] > 20
    assert values["frames"]["lost"] == 0
    assert values["answer_ms"] > 0
    assert values["first_audio_ms"] > values["answer_ms"]
    assert values["round_trip_ms"]["p50"] > 0
    assert values["lead_ms"]["max"] > 0

    sides, rate = soundfile.read(out / "call.wav", dtype="int16")
    assert soundfile.info(out / "call.wav").subtype == "PCM_16"
    assert rate == RATE
    assert sides.shape[1] == 2
    hello, _ = soundfile.read(SPEECH / "en_hello.flac", dtype="int16")
    caller = find(hello, np.ascontiguousarray(sides[:, 0]))
    bot = find(hello, np.ascontiguousarray(sides[:, 1]))
    assert caller is not None
    assert bot is not None
    assert caller.correlation > 0.999
    assert bot.correlation > 0.9
    assert bot.offset > caller.offset

    page = (out / "report.html").read_text("utf-8")
    assert '"label":"media open"' in page
    assert "Allison Smith" not in page  # whose voice it is, only the package's own tell
    assert "+5511" not in page
