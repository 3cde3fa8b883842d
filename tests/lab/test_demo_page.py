"""What the page and the terminal say of a call."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from rich.console import Console

from tests.lab.calls import echoed_call
from voicebridge.lab.demo_page import demo_page, demo_tiles
from voicebridge.lab.picture import render
from voicebridge.lab.progress import STEPS, Progress
from voicebridge.lab.report import examine
from voicebridge.lab.summary import summary

if TYPE_CHECKING:
    from pathlib import Path

    from voicebridge.lab.record import CallRecord


@pytest.fixture(scope="module")
def record() -> CallRecord:
    return echoed_call()


def console(**options: object) -> Console:
    return Console(file=io.StringIO(), width=100, **options)  # type: ignore[arg-type]


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_lane_tells_the_call_in_order(record: CallRecord) -> None:
    page = demo_page(record, examine(record))
    labels = [moment.label for moment in sorted(page.events, key=lambda moment: moment.at)]
    assert labels == [
        "webhook", "2xx", "accept", "realtime-session", "media open", "connected",
        "call.connected", "caller speaks", "first audio", "hang-up", "call.ended",
    ]  # fmt: skip
    assert all(moment.at >= 0 for moment in page.events)


def test_links_join_speech_and_its_echo(record: CallRecord) -> None:
    page = demo_page(record, examine(record))
    assert len(page.links) == len(examine(record).echo.pieces) > 5
    assert all(link.stop - link.start == pytest.approx(0.2) for link in page.links)
    assert "200 ms" in page.links[0].label


def test_the_attribution_stands_on_the_page(record: CallRecord) -> None:
    page = demo_page(record, examine(record), attribution="Voice: somebody, CC BY-SA 3.0")
    assert page.notes[-1] == "Voice: somebody, CC BY-SA 3.0"
    assert "CC BY-SA 3.0" in render(page)


def test_tiles_leave_out_what_was_not_measured(record: CallRecord) -> None:
    labels = [tile.label for tile in demo_tiles(record, examine(record))]
    assert labels[:4] == ["Answered in", "First word back", "Round trip", "Came back unchanged"]
    silent = replace(record, heard=np.zeros_like(record.heard))
    labels = [tile.label for tile in demo_tiles(silent, examine(silent))]
    assert "Round trip" not in labels
    assert "First word back" not in labels


def test_a_lost_sample_is_never_rounded_to_all(record: CallRecord) -> None:
    heard = record.heard.copy()
    heard[np.abs(heard).argmax()] -= 1
    changed = replace(record, heard=heard)
    tile = next(t for t in demo_tiles(changed, examine(changed)) if "unchanged" in t.label)
    assert tile.value != "100"


def test_the_summary_names_figures_problems_and_files(record: CallRecord, tmp_path: Path) -> None:
    out = console()
    out.print(summary(record, examine(record), tmp_path))
    text = text_of(out)
    assert "Every word came back" in text
    assert "Round trip" in text
    for name in ("report.html", "call.wav", "report.json"):
        assert name in text
    bad = replace(record, heard=np.zeros_like(record.heard))
    out = console()
    out.print(summary(bad, examine(bad), tmp_path))
    assert "the caller never heard the bot" in text_of(out)


def test_without_a_terminal_each_step_is_one_plain_line() -> None:
    out = console()
    with Progress(out, "A call") as progress:
        for number, step in enumerate(STEPS):
            progress.update(number, -20, -np.inf)
            progress.reach(step, number / 4)
            progress.reach(step, 99)
    lines = text_of(out).splitlines()
    assert lines == ["A call", *(f"  {n / 4:6.2f} s  {STEPS[s]}" for n, s in enumerate(STEPS))]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_in_a_terminal_steps_tick_and_meters_move(encoding: str) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    out = Console(file=file, width=80, force_terminal=True, color_system=None)
    progress = Progress(out, "A call")
    progress.reach("signalled", 0.0)
    progress.update(1.0, 0.0, -27.0)
    with out.capture() as shown:
        out.print(progress)
    tick, cell = ("✓", "━") if encoding == "utf-8" else ("*", "#")
    assert f"{tick} {STEPS['signalled']}" in shown.get()
    assert STEPS["ended"] in shown.get()
    assert cell * 32 in shown.get()
    progress.update(1.1, -np.inf, -np.inf)
    progress.__exit__(None, None, None)
    with out.capture() as shown:
        out.print(progress)
    assert cell * 32 not in shown.get()
