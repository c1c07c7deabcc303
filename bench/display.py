"""What the terminal shows while a run goes on: a live bar, or plain lines on a pipe."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reports import terminal

QUIET_SECONDS = 15.0
"""A pipe gets a line at most this often: a log should be readable afterwards."""

ROOMS = {"bar": 60, "left": 40, "count": 24}
"""Columns that a terminal needs for each part beside what runs now, which is never given up."""


def real_console() -> Console:
    """A console on what standard output is now, whatever redirects it later."""
    encoding = getattr(sys.__stdout__, "encoding", None) or "utf-8"
    real = os.fdopen(os.dup(1), "w", encoding=encoding, errors="lookalike")
    return terminal.console(real)


class Display:
    """Progress over items of known relative weight; time left follows from the weight done.

    Args:
        console: where to show it.
        clock: seconds, monotonic.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._bar: Live | None = None
        self._what = ""
        self._items = self._items_done = 0
        self._weight = self._weight_done = self._weight_begun = 0.0
        self._begin = self._spoke = 0.0

    def start(self, items: int, weight: float) -> None:
        """Announce how much there is to do."""
        self._items, self._weight = items, weight
        self._begin = self._clock()
        if self._console.is_terminal:
            self._bar = Live(
                get_renderable=self._now,
                console=self._console,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._bar.start()

    def running(self, what: str, weight: float = 0.0) -> None:
        """Say what runs now, and what weight of items that are not done yet is."""
        self._weight_begun = weight
        self._what = terminal.printable(what, self._console.encoding)
        if self._bar is None and (
            self._clock() - self._spoke >= QUIET_SECONDS or self._items_done == 0
        ):
            self._spoke = self._clock()
            self.say(f"{self._count()} {what}  {self.time_left()}")

    def done(self, weight: float) -> None:
        """Count one item as done."""
        self._items_done += 1
        self._weight_done += weight
        self._weight_begun = max(0.0, self._weight_begun - weight)

    def say(self, line: str, style: str = "") -> None:
        """Print a line that stays."""
        text = Text(terminal.printable(line, self._console.encoding), style=style)
        self._console.print(text)

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def time_left(self) -> str:
        """Estimate in words, from the share of weight done so far."""
        done = self._weight_done + self._weight_begun
        if not done:
            return ""
        elapsed = self._clock() - self._begin
        left = elapsed * (self._weight - done) / done
        return f"{timedelta(seconds=round(max(left, 0.0)))} left"

    def _count(self) -> str:
        return f"[{self._items_done}/{self._items}]"

    def _now(self) -> Table:
        """What runs, and beside it what the terminal has room for."""
        width = self._console.width
        line = Table.grid(padding=(0, 1), expand=True)
        line.add_column(overflow="fold", ratio=1)
        parts: list[Text | ProgressBar] = [Text(self._what)]
        if width >= ROOMS["bar"]:
            line.add_column(width=width // 4)
            parts.append(ProgressBar(max(1, self._items), self._items_done))
        if width >= ROOMS["count"]:
            line.add_column(no_wrap=True)
            parts.append(Text(self._count()))
        if width >= ROOMS["left"]:
            line.add_column(no_wrap=True)
            parts.append(Text(self.time_left()))
        line.add_row(*parts)
        return line
