"""Times calls: one after the other, warmed up, in slices that the clock can tell apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bench.machine.accounting import NOTHING, UNKNOWN, Account, account, sum_of
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
        laps: what `call` does, in parts that get a time of their own; empty if it has none.
        company: is told how many calls come, before the first of them: of a head that is spread
            over processes, the others have to make them, too.
    """

    call: Call
    before: Call | None = None
    laps: tuple[Call, ...] = ()
    company: Callable[[int], None] | None = None

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
        minor_faults: mean of the timed calls; None where it was not counted, as in laps of which a
            round has several.
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
        laps: the same of each lap by itself.
    """

    seconds: float
    account: Account
    laps: tuple[Slice, ...] = ()


def play(timed: Timed, calls: int, timer: Timer) -> Slice:
    """Make `calls` calls; under one clock where nothing has to be done between them."""
    if timed.company is not None:
        timed.company(calls)
    if timed.before is not None or timed.laps:
        return _play_apart(timed, calls, timer)
    opened = account()
    begin = timer()
    for _ in range(calls):
        timed.call()
    seconds = timer() - begin
    return Slice(seconds, NOTHING.plus(opened, account()))


def _play_apart(timed: Timed, calls: int, timer: Timer) -> Slice:
    """The same where each call, or each of its laps, is under a clock of its own."""
    parts = timed.laps or (timed.call,)
    stretches: list[list[tuple[Any, Any]]] = [[] for _ in parts]
    # Asking takes as long as a short lap: not between those of a round that has many.
    each = timed.before is not None or calls == 1
    accounts = [NOTHING] * len(parts)
    opened = account()
    for _ in range(calls):
        if timed.before is not None:
            timed.before()
        for index, part in enumerate(parts):
            if each:
                opened = account()
            begin = timer()
            part()
            stretches[index].append((begin, timer()))
            if each:
                accounts[index] = accounts[index].plus(opened, account())
    whole = sum_of(accounts) if each else NOTHING.plus(opened, account())
    # Of moments on a GPU, a difference has to be waited for: not between the calls.
    seconds = [sum(end - begin for begin, end in one) for one in stretches]
    if not timed.laps:
        return Slice(seconds[0], whole)
    known = accounts if each else [UNKNOWN] * len(parts)
    return Slice(sum(seconds), whole, tuple(map(Slice, seconds, known)))


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


def warm_up(timed: Timed, timer: Timer, budget: float) -> list[Slice]:
    """Call until two successive durations agree or the budget is spent: every call."""
    calls: list[Slice] = []
    while True:
        calls.append(play(timed, 1, timer))
        durations = [one.seconds for one in calls]
        settled = len(durations) > 1 and math.isclose(*durations[-2:], rel_tol=WARM)
        if settled or sum(durations) > budget:
            return calls
