"""Times calls: one after the other, warmed up, in slices that the clock can tell apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bench.machine.accounting import Account, account
from bench.machine.clock import Timer

Call = Callable[[], object]

WARM = 0.2
"""Warm-up ends when two successive calls differ by less than this share: caches, allocator and
frequency have settled, and what remains is noise for the rounds to average."""


class ClockError(Exception):
    """Durations that cannot be."""


class Timed(NamedTuple):
    """What can be called and timed again and again.

    Attributes:
        call: what the clock sees.
        before: what has to be done before each call, outside the clock; None if nothing has.
    """

    call: Call
    before: Call | None = None

    def once(self) -> None:
        """Make the call, and before it what it needs."""
        if self.before is not None:
            self.before()
        self.call()

    def after(self, first: Call) -> Timed:
        """The same with something else done just `before` the clock starts."""
        earlier = self.before
        if earlier is None:
            return self._replace(before=first)

        def both() -> None:
            earlier()
            first()

        return self._replace(before=both)


class Flush(NamedTuple):
    """Makes a call find an empty cache, where that matters.

    Attributes:
        call: empties the cache; runs before the clock does.
        below_seconds: it matters to calls shorter than this.
    """

    call: Call
    below_seconds: float


@dataclass(frozen=True)
class Timing:
    """Raw seconds of one visit.

    Attributes:
        seconds: one per round, each the mean of `iterations` calls.
        iterations: calls per round.
        warmup_seconds: one per call before the clock counted.
        turns: of each round, in which turn of its block it was; empty without a block.
        minor_faults: mean of the timed calls; None where it was not counted.
        system_seconds: likewise.
    """

    seconds: Sequence[float]
    iterations: int
    warmup_seconds: Sequence[float]
    turns: Sequence[int] = ()
    minor_faults: float | None = None
    system_seconds: float | None = None

    @property
    def inside_seconds(self) -> float:
        """Time spent inside the measured call, warm-up included."""
        return sum(self.warmup_seconds) + self.iterations * sum(self.seconds)


class Slice(NamedTuple):
    """Some calls, one after the other.

    Attributes:
        seconds: all of them together, without what was done before each.
        account: what the system did for them.
    """

    seconds: float
    account: Account


def play(timed: Timed, calls: int, timer: Timer) -> Slice:
    """Make `calls` calls; under one clock where nothing has to be done between them."""
    call, before = timed
    total = Account(0, 0.0)
    if before is None:
        opened = account()
        begin = timer()
        for _ in range(calls):
            call()
        seconds = timer() - begin
        return Slice(seconds, total.plus(opened, account()))
    stretches = []
    for _ in range(calls):
        before()
        opened = account()
        begin = timer()
        call()
        stretches.append((begin, timer()))
        total = total.plus(opened, account())
    # Of moments on a GPU, a difference has to be waited for: not between the calls.
    return Slice(sum(end - begin for begin, end in stretches), total)


def calibrate(timed: Timed, timer: Timer, least_seconds: float) -> int:
    """Calls that together take `least_seconds` or longer.

    As pytest-benchmark does it, tenfold until so many tell how many are needed; it wants half of
    such a round for that and may end up with five.
    """
    calls = 1
    while True:
        seconds = play(timed, calls, timer).seconds
        if seconds >= least_seconds:
            return calls
        telling = seconds >= least_seconds / 10
        calls = math.ceil(calls * least_seconds / seconds) if telling else 10 * calls


def warm_up(timed: Timed, timer: Timer, budget: float) -> list[float]:
    """Call until two successive durations agree or the budget is spent: seconds of each call."""
    durations: list[float] = []
    while True:
        durations.append(play(timed, 1, timer).seconds)
        settled = len(durations) > 1 and math.isclose(*durations[-2:], rel_tol=WARM)
        if settled or sum(durations) > budget:
            return durations
