"""Times rivals in turns: what disturbs a machine for a tenth of a second disturbs them alike.

Noise of a shared machine is common to what is measured within a fraction of a second, and cancels
in the ratio of two calls that are made so close together; it does not where one is measured after
the other. Sources: duet benchmarking (Bulej et al., ICPE 2020); randomized multiple interleaved
trials (Abedi and Brecht, ICPE 2017).
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from typing import Generic, NamedTuple, TypeVar

from bench.machine.accounting import sum_of
from bench.machine.clock import Timer
from bench.measure.stopping import enough
from bench.measure.stopwatch import Bounds
from bench.measure.timing import (
    ClockError,
    Flush,
    Slice,
    Timed,
    Timing,
    calibrate,
    play,
    warm_up,
)

LONG = 0.25
"""Seconds from which on a call known from an earlier pass is not warmed up again.

Warming up settles caches, allocator and frequency within milliseconds, which a call of this length
does not show; the first pass still records a warm-up of every cell, so that this can be checked.
"""

PATIENCE = 4
"""Times its budget that a block may take when the machine slows down."""

LONGEST_SLICE = 4e-3
"""Seconds, unless one call takes longer: noise of a shared machine lasts tens of milliseconds."""

UNEVEN = 4
"""Times the fastest rival's share of the time that another may have: ratios need both."""

ANCHORED = 8
"""Turns of a block that the anchor takes part in, about: few, as it is the same in all blocks."""

Name = TypeVar("Name")
Clock = Callable[[], float]


class Rival(NamedTuple):
    """What competes.

    Attributes:
        timed: its call.
        flush: how to empty a cache, and before which calls.
        known_seconds: what a call took in an earlier pass, 0 if there was none.
    """

    timed: Timed
    flush: Flush | None = None
    known_seconds: float = 0.0


@dataclass(frozen=True)
class Played(Generic[Name]):
    """What came of a block.

    Attributes:
        timings: of each rival that could be timed.
        laps: of each of these, of the laps of its call, if it has any.
        errors: why others could not.
        anchor_seconds: of the anchor, one per turn that it took part in.
    """

    timings: Mapping[Name, Timing]
    laps: Mapping[Name, Sequence[Timing]]
    errors: Mapping[Name, Exception]
    anchor_seconds: Sequence[float]


class Schedule(NamedTuple):
    """Who takes part in which turn.

    Attributes:
        turns: how many there are.
        gaps: each rival takes part in every so manieth, beginning with the first.
    """

    turns: int
    gaps: list[int]


def schedule(slice_seconds: Sequence[float], budget: float) -> Schedule:
    """Turns for rivals whose slices take so long, all turns together within `budget` seconds.

    All are in the first turn. In later ones, a rival that is much slower than the fastest is there
    so seldom that it takes `UNEVEN` times as long as that one, or less. Gaps are powers of two,
    so that of any two rivals the slower always finds the faster one there.
    """
    least = UNEVEN * min(slice_seconds)
    gaps = [power_of_two(seconds / least) for seconds in slice_seconds]
    per_turn = sum(seconds / gap for seconds, gap in zip(slice_seconds, gaps, strict=True))
    return Schedule(max(1, math.floor(budget / per_turn)), gaps)


def power_of_two(least: float) -> int:
    """The smallest power of two, from 1 on, that is not below `least`."""
    return 1 << max(0, math.ceil(math.log2(least)))


@dataclass
class _Player:
    """A rival in play: its slices so far.

    Attributes:
        timed: its call.
        calls: of a slice.
        warmup: single calls.
        slice_seconds: that a slice takes, with what has to be done before its calls.
        slices: turn -> what was seen in it.
        samples: turn -> seconds of a call.
    """

    timed: Timed
    calls: int
    warmup: Sequence[Slice]
    slice_seconds: float
    slices: dict[int, Slice] = field(default_factory=dict)
    samples: dict[int, float] = field(default_factory=dict)

    def take(self, turn: int, timer: Timer) -> None:
        """Take part in `turn`."""
        seen = play(self.timed, self.calls, timer)
        if seen.seconds <= 0 or any(lap.seconds < 0 for lap in seen.laps):
            raise ClockError(f"the clock went backwards: a round took {seen.seconds:.3g} s")
        self.slices[turn] = seen
        self.samples[turn] = seen.seconds / self.calls

    @property
    def timing(self) -> Timing:
        """All that was seen of it."""
        return self._timing(list(self.slices.values()), self.warmup)

    @property
    def laps(self) -> list[Timing]:
        """All that was seen of each of its laps."""
        slices = zip(*(one.laps for one in self.slices.values()), strict=True)
        warmups = zip(*(one.laps for one in self.warmup), strict=True)
        return list(map(self._timing, slices, warmups if self.warmup else repeat(())))

    def _timing(self, slices: Sequence[Slice], warmup: Sequence[Slice]) -> Timing:
        account = sum_of(one.account for one in slices)
        calls = self.calls * len(slices)
        means = [None if math.isnan(total) else total / calls for total in account]
        seconds = [one.seconds / self.calls for one in slices]
        warmup_seconds = [one.seconds for one in warmup]
        return Timing(seconds, self.calls, warmup_seconds, list(self.slices), *means)


def _ready(rival: Rival, bounds: Bounds, timer: Timer, now: Clock) -> _Player:
    """Warm `rival` up, unless it is long and known, and see how many of its calls make a slice."""
    timed, least, known = rival.timed, bounds.least_seconds(timer), rival.known_seconds
    if known > LONG:
        return _Player(timed, 1, [], known if timed.before is None else 2 * known)
    begin = now()
    warmup = warm_up(timed, timer, bounds.max_time)
    spent = (now() - begin) / len(warmup)
    one_call = min(one.seconds for one in warmup[-2:])
    if rival.flush is not None and one_call < rival.flush.below_seconds:
        timed = timed.after(rival.flush.call)
    elif one_call > least:
        return _Player(timed, 1, warmup, max(one_call, spent))
    calls = calibrate(timed, timer, least)
    begin = now()
    inside = play(timed, calls, timer).seconds
    spent = max(inside, now() - begin)
    fitting = max(1, math.floor(calls * max(LONGEST_SLICE, least) / spent))
    if fitting < calls:  # most of the slice is what is done before the calls
        return _Player(timed, fitting, warmup, spent * fitting / calls)
    return _Player(timed, calls, warmup, spent)


def measure(
    rivals: Mapping[Name, Rival],
    bounds: Bounds,
    timer: Timer,
    seed: object,
    anchor: Rival | None = None,
    now: Clock = time.perf_counter,
) -> Played[Name]:
    """Time `rivals` within pytest-benchmark's own bounds (`--benchmark-max-time`, `-precision`...).

    A short call is repeated within a slice, a long one is a slice of its own. In each turn those
    that take part in it have one slice each, in random order, until all ratios are known well or
    the time is up. One that raises is out; the others go on.

    Args:
        rivals: what competes.
        bounds: how long to measure each.
        timer: the clock to time them with.
        seed: of the order within turns; anything with a text of its own.
        anchor: what all blocks have in common.
        now: the host's clock, which ends what takes much longer than planned.
    """
    players: dict[Name, _Player] = {}
    errors: dict[Name, Exception] = {}
    with _no_collection():
        for name, rival in rivals.items():
            try:
                players[name] = _ready(rival, bounds, timer, now)
            except Exception as error:
                errors[name] = error
        ready = [] if anchor is None or not players else [_ready(anchor, bounds, timer, now)]
        errors |= _take_turns(players, ready, bounds, timer, random.Random(str(seed)), now)
    done = {name: player for name, player in players.items() if name not in errors}
    return Played(
        timings={name: player.timing for name, player in done.items()},
        laps={name: player.laps for name, player in done.items()},
        errors=errors,
        anchor_seconds=[second for one in ready for second in one.samples.values()],
    )


def _take_turns(
    players: Mapping[Name, _Player],
    anchors: Sequence[_Player],
    bounds: Bounds,
    timer: Timer,
    chance: random.Random,
    now: Clock,
) -> dict[Name, Exception]:
    """Have `players` and, now and then, `anchors` take their turns; why some had to leave."""
    errors: dict[Name, Exception] = {}
    if not players:
        return errors
    budget, deadline = bounds.max_time * len(players), math.inf
    turns, gaps = schedule([one.slice_seconds for one in players.values()], budget)
    competing = dict(zip(players, gaps, strict=True))
    seldom = power_of_two(turns / ANCHORED)
    for turn in range(turns):
        there: list[tuple[Name | None, _Player]]
        there = [(name, players[name]) for name, gap in competing.items() if turn % gap == 0]
        there += [(None, one) for one in anchors if turn % seldom == 0]
        chance.shuffle(there)
        for name, player in there:
            if now() > deadline:
                return errors
            try:
                player.take(turn, timer)
            except Exception as error:
                if name is None:
                    raise
                errors[name] = error
                del competing[name]
        if turn == 0:  # which takes as long as it takes
            deadline = now() + PATIENCE * budget
        # Looking takes as long as a slice.
        if (turn + 1) % bounds.min_rounds == 0 and enough(
            [players[name].samples for name in competing],
            *(bounds.precision, bounds.confidence, bounds.min_rounds),
        ):
            break
    return errors


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without garbage collection, which would hit whichever is called just then."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
