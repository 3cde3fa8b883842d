"""A demo call as it happens, in a terminal: steps that tick off, and two level meters.

One rule: without a terminal every step is one plain line, and nothing moves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from rich.console import Console, RenderableType

__all__ = ["STEPS", "Progress", "Step"]

Step = Literal["signalled", "answered", "media", "caller", "heard", "ended"]

STEPS: dict[Step, str] = {
    "signalled": "webhook sent: the phone rings",
    "answered": "the bridge answers",
    "media": "the media socket opens",
    "caller": "the caller speaks",
    "heard": "the caller hears the bot",
    "ended": "the call ends",
}

_METER_CELLS = 32
_METER_FLOOR_DB = -54.0
_FALL_DB = 6.0  # per update: a meter that drops at once is hard to read


class Progress:
    """``with Progress(console, title) as progress: progress.reach("answered", 0.02)``."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._reached: dict[Step, float] = {}
        self._levels = {"caller": -np.inf, "bot": -np.inf}
        self._seconds = 0.0
        self._over = False
        self._spinner = Spinner("dots", style="cyan")
        plain = (console.encoding or "").lower().replace("-", "") != "utf8"
        self._tick, self._dot, self._cell = ("*", ".", "#") if plain else ("✓", "·", "━")
        # Few refreshes: drawing takes time from the very call that is measured.
        self._live = Live(self, console=console, refresh_per_second=8, transient=False)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        else:
            self._console.print(self._title)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over = True
        if self._console.is_terminal:
            self._live.stop()

    def reach(self, step: Step, seconds: float) -> None:
        """``step`` was reached ``seconds`` after the webhook; the first time counts."""
        if step in self._reached:
            return
        self._reached[step] = seconds
        if not self._console.is_terminal:
            self._console.print(f"  {seconds:6.2f} s  {STEPS[step]}", highlight=False)

    def update(self, seconds: float, caller_dbfs: float, bot_dbfs: float) -> None:
        """Call time and both sides' levels, for the meters."""
        self._seconds = seconds
        for side, level in (("caller", caller_dbfs), ("bot", bot_dbfs)):
            self._levels[side] = max(level, self._levels[side] - _FALL_DB)

    def __rich__(self) -> RenderableType:
        grid = Table.grid(padding=(0, 1))
        grid.add_row("", Text(self._title, style="bold"))
        current = next((step for step in STEPS if step not in self._reached), None)
        for step, words in STEPS.items():
            if step in self._reached:
                done = Text(f"{words}  ").append(f"{self._reached[step]:.2f} s", style="dim")
                grid.add_row(Text(self._tick, style="green"), done)
            elif step == current and not self._over:
                grid.add_row(self._spinner, Text(words))
            else:
                grid.add_row(Text(self._dot, style="dim"), Text(words, style="dim"))
        if not self._over:
            grid.add_row("", self._meters())
        return grid

    def _meters(self) -> RenderableType:
        meters = Table.grid(padding=(0, 1))
        meters.add_row()
        meters.add_row("caller", self._meter("caller", "cyan"), Text(f"{self._seconds:5.1f} s"))
        meters.add_row("bot", self._meter("bot", "magenta"))
        return meters

    def _meter(self, side: str, style: str) -> Text:
        level = self._levels[side]
        share = (max(level, _METER_FLOOR_DB) - _METER_FLOOR_DB) / -_METER_FLOOR_DB
        cells = min(_METER_CELLS, round(share * _METER_CELLS))
        text = Text(self._cell * cells, style=style)
        return text.append(self._cell * (_METER_CELLS - cells), style="bright_black")
