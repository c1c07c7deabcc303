"""Progress on a pipe: what runs, how much is done, and an estimate of what is left."""

import io
import re

import pytest
from rich.console import Console

from bench.display import Display


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def started(weight):
    clock = Clock()
    display = Display(Console(file=io.StringIO(), width=200), clock)
    display.start(items=4, weight=weight)
    return display, clock


def test_time_left_follows_from_the_weight_that_is_done():
    display, clock = started(weight=100.0)
    assert display.time_left() == ""
    clock.now = 30.0
    display.done(10.0)
    assert display.time_left() == "0:04:30 left"


def test_what_has_begun_counts_for_its_share():
    display, clock = started(weight=100.0)
    clock.now = 30.0
    display.running("training", weight=10.0)
    assert display.time_left() == "0:04:30 left"


def test_an_item_that_ends_is_not_counted_twice():
    display, clock = started(weight=100.0)
    clock.now = 30.0
    display.running("two trainings", weight=10.0)
    display.done(10.0)
    assert display.time_left() == "0:04:30 left"


@pytest.mark.parametrize("width", [10, 20, 30, 40, 60, 80, 200])
def test_a_terminal_of_any_width_shows_all_of_what_runs(width):
    what = "time in-model hierarchical train classes=16384 batch=128"
    console = Console(file=io.StringIO(), width=width, record=True)
    display = Display(console, Clock())
    display.running(what)
    console.export_text()  # what a pipe would get
    console.print(display._now())
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    shown = re.sub(r"[\s━╺╸]|\[0/0\]", "", "".join(lines))
    assert shown == re.sub(r"\s", "", what)


def test_what_runs_may_be_called_anything():
    display, _ = started(weight=1.0)
    display.running("a\x1b[2J\udcff", weight=1.0)
    display.say("b\x1b[2J\ud800")
    assert "\x1b" not in display._console.file.getvalue()
    assert r"[0/4] a\x1b[2J\udcff" in display._console.file.getvalue()
