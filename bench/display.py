"""What the terminal shows while a run goes on: a live bar, or plain lines on a pipe."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

QUIET_SECONDS = 15.0
"""A pipe gets a line at most this often: a log should be readable afterwards."""


def real_console() -> Console:
    """A console on what standard output is now, whatever redirects it later."""
    return Console(file=os.fdopen(os.dup(1), "w", encoding="utf-8"), highlight=False)


class Display:
    """Progress over items of known relative weight; time left follows from the weight done.

    Args:
        console: where to show it.
        clock: seconds, monotonic.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._items = self._items_done = 0
        self._weight = self._weight_done = self._weight_begun = 0.0
        self._begin = self._spoke = 0.0

    def start(self, items: int, weight: float) -> None:
        """Announce how much there is to do."""
        self._items, self._weight = items, weight
        self._begin = self._clock()
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", table_column=None),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[left]}"),
                console=self._console,
                redirect_stdout=False,
                redirect_stderr=False,
                expand=True,
            )
            self._task = self._bar.add_task("", total=items, left="")
            self._bar.start()

    def running(self, what: str, weight: float = 0.0) -> None:
        """Say what runs now, and what weight of items that are not done yet is."""
        self._weight_begun = weight
        left = self.time_left()
        if self._bar is not None:
            self._bar.update(self._task, description=what, left=left)
        elif self._clock() - self._spoke >= QUIET_SECONDS or self._items_done == 0:
            self._spoke = self._clock()
            self._console.print(f"[{self._items_done}/{self._items}] {what}  {left}", markup=False)

    def done(self, weight: float) -> None:
        """Count one item as done."""
        self._items_done += 1
        self._weight_done += weight
        self._weight_begun = max(0.0, self._weight_begun - weight)
        if self._bar is not None:
            self._bar.update(self._task, completed=self._items_done, left=self.time_left())

    def say(self, line: str, style: str = "") -> None:
        """Print a line that stays."""
        (self._bar.console if self._bar is not None else self._console).print(
            Text(line, style=style)
        )

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
