"""The end of a demo in the terminal: verdict, figures in plain words, and the files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from voicebridge.lab.demo_page import demo_tiles

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from voicebridge.lab.picture import Tone
    from voicebridge.lab.record import CallRecord
    from voicebridge.lab.report import Examination

__all__ = ["summary"]

_STYLES: dict[Tone, str] = {"plain": "bold", "good": "bold green", "warn": "bold yellow",
                            "bad": "bold red"}  # fmt: skip
_FILES = {
    "report.html": "the call to look at and listen to, in a browser",
    "call.wav": "both sides: left the caller, right the bot",
    "report.json": "the figures, for programs",
}


def summary(record: CallRecord, examination: Examination, out: Path) -> RenderableType:
    """What a person reads when the call is over."""
    table = Table(box=box.ROUNDED, show_header=False, border_style="dim", padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", overflow="fold")
    for tile in demo_tiles(record, examination):
        table.add_row(tile.label, Text(f"{tile.value} {tile.unit}", _STYLES[tile.tone]),
                      tile.caption)  # fmt: skip
    files = Table.grid(padding=(0, 2))
    for name, purpose in _FILES.items():
        path = out / name
        link = Text(str(path), style=f"cyan link {path.absolute().as_uri()}", overflow="fold")
        files.add_row(link, Text(purpose, style="dim"))
    return Group(Text(), _verdict(record, examination), table, Padding(files, (1, 1)))


def _verdict(record: CallRecord, examination: Examination) -> RenderableType:
    report = examination.report
    length = f"{record.seconds:.1f} s of conversation, {report.frames.sent} messages sent"
    if report.ok:
        good = "Every word came back." if record.expects_echo else "The call went well."
        return Text.assemble((f" ok  {good} ", "bold green"), (length, "dim"))
    lines = [Text.assemble((" failed  Something went wrong. ", "bold red"), (length, "dim"))]
    lines += [Text(f"  - {problem}", style="red") for problem in report.problems]
    return Group(*lines)
