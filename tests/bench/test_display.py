"""Progress on a pipe: what runs, how much is done, and an estimate of what is left."""

import io

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
