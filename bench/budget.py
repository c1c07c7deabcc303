"""How the minutes of a run are shared out: who is measured how long, and what has to be left out.

What gives way first: rounds, then passes, then trainings, then cells.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple, TypeVar

import numpy as np
import psutil

from bench.cells import Block, contest
from bench.items import Task
from models.config import TrainingConfig
from reports.results import Cell

LEAST_DOSE = 0.25
"""Part of `--benchmark-max-time` that a cell keeps in every pass: with less, its share of the run
would be mostly building and warming up."""

BESIDE = {"device": 0.3, "search": 1.0, "pipeline": 2.5, "split": 0.5}
"""Seconds of a visit of this kind, whatever its cell."""

FEW_BLOCKS = 10
"""Before so many are measured it is not known how fast the machine is, and no cell is left out
that does not take a good part of the time."""

ONCE = 4.0
"""A block that took more than so many times as long as others did what is done once: it compiled
loops, it loaded a library."""

REPORT_SECONDS = 20.0
"""Kept for the report and for what a run does beside measuring."""

Name = TypeVar("Name")


class Need(NamedTuple):
    """What a block needs.

    Attributes:
        pass_index: of the block.
        fixed: seconds to build and to warm up.
        rounds: seconds of rounds, if nothing is to be saved.
    """

    pass_index: int
    fixed: float
    rounds: float


class Share(NamedTuple):
    """What there is time for.

    Attributes:
        passes: how many of the run's; blocks of later ones are left out.
        dose: part of its rounds that every other one gets.
    """

    passes: int
    dose: float


def share(needs: Sequence[Need], seconds: float) -> Share:
    """How blocks that need so much get along with `seconds`, all alike.

    Passes are left out, the last first and never the first of the run, where the least dose of
    rounds does not fit.
    """
    passes = 1 + max((need.pass_index for need in needs), default=0)
    while passes > 1 and _least(needs, passes) > seconds:
        passes -= 1
    kept = [need for need in needs if need.pass_index < passes]
    rounds = sum(need.rounds for need in kept)
    spare = seconds - sum(need.fixed for need in kept)
    return Share(passes, min(1.0, max(LEAST_DOSE, spare / rounds if rounds else 1.0)))


def _least(needs: Iterable[Need], passes: int) -> float:
    return sum(n.fixed + LEAST_DOSE * n.rounds for n in needs if n.pass_index < passes)


def left_out(needs: Mapping[Name, float], seconds: float) -> list[Name]:
    """What cannot be done in `seconds`: the dearest first, so that as much as can be is done."""
    kept, out = dict(needs), []
    for name in sorted(needs, key=lambda name: -needs[name]):
        # Added up anew: what is left of a sum by subtraction is rounded.
        if sum(kept.values()) <= seconds:
            break
        out.append(name)
        del kept[name]
    return out


def affordable(needs: Sequence[float], seconds: float) -> int:
    """How many of what is done in this order fit into `seconds`: at the end, some are missing."""
    total = 0.0
    for count, need in enumerate(needs):
        total += need
        if total > seconds:
            return count
    return len(needs)


class Pace:
    """How long things take here, compared with what was expected.

    One task that took an age, as it compiled what all others use, says little about them: of each
    no more counts than `ONCE` times the median.
    """

    def __init__(self) -> None:
        self._learned: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._known: dict[str, float] = {}

    def learn(self, kind: str, expected: float, seconds: float) -> None:
        """Something of this kind took `seconds`."""
        if expected > 0:
            self._learned[kind].append((seconds / expected, expected))
            self._known.clear()

    def of(self, kind: str) -> float:
        """Seconds per expected second, of this kind if any of it is known, else of all, else 1."""
        if kind not in self._known:
            learned = self._learned.get(kind) or [*chain.from_iterable(self._learned.values())]
            self._known[kind] = _usual(learned) if learned else 1.0
        return self._known[kind]


def _usual(learned: Sequence[tuple[float, float]]) -> float:
    """The mean of ratios by their weights, none counted as more than `ONCE` times their median."""
    ratios, weights = np.array(learned).T
    median = np.quantile(ratios, 0.5, weights=weights, method="inverted_cdf")
    return float(np.average(np.minimum(ratios, ONCE * median), weights=weights))


class _Known(NamedTuple):
    """What is expected of a block: seconds to build and to warm up, and of rounds."""

    contest: Cell
    pass_index: int
    fixed: float
    rounds: float


class Agenda:
    """What a session has to do still, and how much time there is for it.

    Args:
        tasks: kind and task, in their order.
        deadline: by when all has to be done.
        pace: what is known of how fast this machine is.
        rounds: seconds of rounds that each cell is to get.
        expected: rough seconds of a task, rounds apart.
    """

    def __init__(
        self,
        tasks: Iterable[tuple[str, Task]],
        deadline: Deadline,
        pace: Pace,
        rounds: float,
        expected: Callable[[Task], float],
    ) -> None:
        self._deadline, self._pace, self._rounds = deadline, pace, rounds
        self._expected = expected
        self._blocks: list[_Known] = []
        self._others: dict[str, float] = defaultdict(float)
        for kind, task in tasks:
            if isinstance(task, Block):
                self._blocks.append(self._known(task))
            else:
                self._others[kind] += self._wanted(kind, task)
        self._took: dict[Cell, list[float]] = defaultdict(list)
        self._forgone = False
        self.dose = 1.0

    @property
    def is_over(self) -> bool:
        """Whether there is no time for anything."""
        return self._deadline.left < 0

    def forgo(self) -> None:
        """What has begun is left out: nothing is to be learned from the time it takes."""
        self._forgone = True

    def done(self, kind: str, task: Task, seconds: float) -> None:
        """A task has taken so long."""
        if isinstance(task, Block):
            known = self._known(task)
            self._blocks.remove(known)
            wanted = known.fixed + self.dose * known.rounds
            if not self._forgone:
                self._took[known.contest].append(seconds / wanted)
        else:
            wanted = self._wanted(kind, task)
            self._others[kind] -= wanted
        if not self._forgone:
            self._pace.learn(kind, wanted, seconds)
        self._forgone = False

    def admits(self, block: Block) -> str:
        """Why there is no time for `block`, or nothing if there is; sets the `dose` of rounds."""
        self.dose = 1.0
        left = self._deadline.left
        if math.isinf(left):
            return ""
        reserved = {kind: self._pace.of(kind) * want for kind, want in self._others.items()}
        needs = [self._need(one) for one in self._blocks]
        passes, self.dose = share(needs, left - sum(reserved.values()))
        if block.pass_index >= passes:
            return "pass"
        if block.pass_index:
            return ""
        # Before a cell is left out, trainings are.
        first = {
            index: need.fixed + LEAST_DOSE * need.rounds
            for index, need in enumerate(needs)
            if not need.pass_index
        }
        out = left_out(first, left - sum(reserved.values()) + reserved.get("training", 0.0))
        index = self._blocks.index(self._known(block))
        unsure = len(self._took) < FEW_BLOCKS and first.get(index, 0.0) < left / FEW_BLOCKS
        return "cell" if index in out and not unsure else ""

    def need(self, block: Block) -> Need:
        """What `block` needs, by what it or others have taken before."""
        return self._need(self._known(block))

    def _need(self, known: _Known) -> Need:
        usual = self._pace.of("time")
        took = self._took.get(known.contest, [usual])
        # What a contest took twice, it will take again; the first time, it may have compiled.
        pace = min(took) if len(took) > 1 else min(took[0], ONCE * usual)
        return Need(known.pass_index, pace * known.fixed, pace * known.rounds)

    def _known(self, block: Block) -> _Known:
        rounds = self._rounds * len(block.cells)
        return _Known(contest(block.cells[0]), block.pass_index, self._expected(block), rounds)

    def _wanted(self, kind: str, task: Task) -> float:
        return self._expected(task) + BESIDE.get(kind, 0.0)

    def affordable(self, configs: Sequence[TrainingConfig]) -> int:
        """How many of these trainings there is time for, from the first on."""
        pace = self._pace.of("training")
        return affordable([pace * self._expected(c) for c in configs], self._deadline.left)

    def seconds_for(self, block: Block) -> float | None:
        """Of a pass over `block`; None if there is no time for it."""
        need = self.need(block)
        seconds = need.fixed + need.rounds
        return seconds if seconds <= self._deadline.left else None


class Deadline:
    """When a process has to be done, counted from its start.

    Args:
        minutes: that it has; None for as long as it takes.
        elapsed: seconds since the start; replaced in tests.
    """

    def __init__(self, minutes: float | None, elapsed: Callable[[], float] | None = None) -> None:
        self._seconds = math.inf if minutes is None else 60 * minutes
        self._elapsed = elapsed or since_start

    @property
    def left(self) -> float:
        """Seconds for what is measured; infinite without a limit, negative when it is over."""
        return self._seconds - REPORT_SECONDS - self._elapsed()


def since_start() -> float:
    """Seconds since this process started."""
    return time.time() - psutil.Process().create_time()
