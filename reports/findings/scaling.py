"""What it brings to share a head's classes among ranks: measured, and as it would go on.

Strong scaling shares the same classes among more ranks, weak scaling gives each rank as many.
Sharding pays from the class count on at which several ranks take less time than one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from reports import results
from reports.findings import workloads
from reports.findings.clocks import Clock
from reports.findings.findings import Findings, Overtake, find
from reports.findings.joined import Cell, Memory, Setting, by_cell
from reports.results import CELL, PHASES, WHOLE, Run
from reports.stats import estimates
from reports.stats import scaling as model
from reports.stats.crossover import crossover
from reports.stats.estimates import Interval, Scatter
from reports.stats.scaling import Link, Local

AHEAD = (4, 8, 64, 512)
"""Ranks that are predicted: a host with 4 or 8 GPUs, and clusters of such."""

NORMAL_97_5 = 1.96
LARGEST_ERROR = 0.5
"""Of the logarithm of a time that nothing bounds."""

GROWING = 0.5
"""Exponent of the work from which on it counts as linear in the classes, and else as a path's."""


@dataclass(frozen=True)
class Telling:
    """What ranks tell each other in a call.

    Attributes:
        share: of the call, between begin and end of its collectives.
        collectives, bytes: as seen.
        counted_collectives, counted_bytes: from the head's formulas.
        sent: bytes of each collective; None where only their sum is known.
    """

    share: Interval
    collectives: int
    bytes: int
    counted_collectives: int
    counted_bytes: int
    sent: Mapping[str, float] | None


@dataclass(frozen=True)
class Scaled:
    """One call on several ranks.

    Attributes:
        cell: with the head's options in its name.
        under: how its workload differs from the usual one; empty where it does not.
        seconds: that it takes.
        speedup: how many times as long one rank takes with the same classes; None if unknown.
        weak: the share that a rank with as many classes of its own takes, likewise.
        telling: None where it was not measured.
    """

    cell: Cell
    under: str
    seconds: Interval
    speedup: Interval | None
    weak: Interval | None
    telling: Telling | None

    @property
    def efficiency(self) -> Interval | None:
        """The speed-up as a share of the number of ranks."""
        return _times(self.speedup, 1 / self.cell.ranks)

    @property
    def memory(self) -> Memory | None:
        """Of the first rank."""
        return self.cell.memory


@dataclass(frozen=True)
class Pays:
    """From which class count on so many ranks take less time than one."""

    phase: str
    under: str
    ranks: int
    where: Overtake


@dataclass(frozen=True)
class Predicted:
    """One call on more ranks than the model was fitted to.

    Attributes:
        cell: of that call.
        under: as of `Scaled`.
        weak: whether each rank has as many classes as `base` has; else all together have.
        seconds: as predicted.
        base: seconds on one rank; None where that was not measured.
        measured: seconds; None where it was not.
    """

    cell: results.Cell
    under: str
    weak: bool
    seconds: Interval
    base: Interval | None
    measured: Interval | None

    @property
    def efficiency(self) -> Interval | None:
        """Of what one rank would need for its part, the share that is taken."""
        if self.base is None:
            return None
        part = self.base.estimate * (1 if self.weak else 1 / self.cell.ranks)
        taken = self.seconds
        return Interval(part / taken.high, part / taken.estimate, part / taken.low)

    @property
    def error(self) -> float | None:
        """Of the prediction, as a share of what was measured."""
        if self.measured is None:
            return None
        return self.seconds.estimate / self.measured.estimate - 1


@dataclass(frozen=True)
class Scaling:
    """All of it.

    Attributes:
        clock: that times were read from.
        fitted: numbers of ranks that the model was fitted to.
        links: device and threads -> what telling costs; of each that communicates.
    """

    clock: Clock
    rows: tuple[Scaled, ...]
    pays: tuple[Pays, ...]
    fitted: tuple[int, ...]
    links: Mapping[tuple[str, int], Link]
    predicted: tuple[Predicted, ...]


def scaling(findings: Findings) -> Scaling | None:
    """What a run says of heads on several ranks; None where it has none."""
    if not (findings.as_read.times["ranks"] > 1).any():
        return None
    if not any(cell.ranks > 1 and cell.samples for cell in findings.cells):
        findings = find(findings.as_read, "loop")  # the only clock that saw several ranks
    seen = _Seen(findings)
    return Scaling(
        clock=findings.clock,
        rows=tuple(seen.rows()),
        pays=tuple(seen.pays()),
        fitted=seen.fitted,
        links=seen.links,
        predicted=tuple(seen.predicted()),
    )


@dataclass(frozen=True, eq=False)
class _Seen:
    """A run whose cells are looked up by what they are."""

    findings: Findings

    @cached_property
    def cells(self) -> dict[results.Cell, Cell]:
        """Timed calls of heads alone."""
        return {
            _place(cell): cell
            for cell in self.findings.cells
            if cell.scope == "isolated" and cell.phase in WHOLE and not cell.replica
            if cell.seconds
        }

    @cached_property
    def groups(self) -> dict[results.Cell, list[Cell]]:
        """What is alike but for classes and ranks, where there are several of these."""
        found: dict[results.Cell, list[Cell]] = defaultdict(list)
        for place, cell in self.cells.items():
            found[_group(place)].append(cell)
        heads = self.findings.run.heads
        several = [one for one, cells in found.items() if any(cell.ranks > 1 for cell in cells)]
        several.sort(key=lambda one: (PHASES.index(one.phase), one.batch, heads.index(one.head)))
        return {one: found[one] for one in several}

    @cached_property
    def fitted(self) -> tuple[int, ...]:
        """The whole heads, where there are any, and the fewest ranks."""
        ranks = sorted({cell.ranks for cells in self.groups.values() for cell in cells})
        return tuple(ranks[: 2 if ranks[0] == 1 else 1])

    @cached_property
    def told(self) -> dict[results.Cell, Telling]:
        """What ranks told each other."""
        return _told(self.findings.as_read, self.findings.scatter)

    def under(self, group: results.Cell) -> str:
        """How a workload differs from the usual one."""
        usual = self.findings.alone
        if usual is None:
            return ""
        setting = Setting(**{one.name: getattr(group, one.name) for one in fields(Setting)})
        return workloads.differences(replace(setting, state=usual.state), replace(usual, ranks=1))

    def rows(self) -> Iterator[Scaled]:
        """Every call on several ranks."""
        for group, cells in self.groups.items():
            for cell in sorted(cells, key=lambda one: (one.classes, one.ranks)):
                if cell.ranks > 1 and cell.seconds:
                    place = _place(cell)
                    part = replace(place, classes=max(2, cell.classes // cell.ranks), ranks=1)
                    alike = part.classes * cell.ranks == cell.classes
                    yield Scaled(
                        cell=cell,
                        under=self.under(group),
                        seconds=cell.seconds,
                        speedup=self.ratio(replace(place, ranks=1), cell),
                        weak=self.ratio(part, cell) if alike else None,
                        telling=self.told.get(place),
                    )

    def ratio(self, above: results.Cell, below: Cell) -> Interval | None:
        """How many times as long a cell takes, if there is one."""
        cell = self.cells.get(above)
        return None if cell is None else self.findings.ratio(cell, below)

    def pays(self) -> Iterator[Pays]:
        """Where several ranks overtake one."""
        for group, cells in self.groups.items():
            by_ranks: dict[int, dict[int, Cell]] = defaultdict(dict)
            for cell in cells:
                by_ranks[cell.ranks][cell.classes] = cell
            one = by_ranks.pop(1, {})
            for ranks, several in sorted(by_ranks.items()):
                if sizes := sorted(one.keys() & several.keys()):
                    where = crossover(
                        sizes,
                        [one[n].samples for n in sizes],
                        [several[n].samples for n in sizes],
                        changes=[self.findings.ratio(several[n], one[n]) for n in sizes],
                    )
                    overtake = Overtake(group.head, group.batch, where, (sizes[0], sizes[-1]))
                    yield Pays(group.phase, self.under(group), ranks, overtake)

    @cached_property
    def links(self) -> dict[tuple[str, int], Link]:
        """What telling costs, by device and threads."""
        calls: dict[tuple[str, int], list[model.Told]] = defaultdict(list)
        for cells in self.groups.values():
            for cell in cells:
                if cell.ranks == self.fitted[-1] and (told := self.told.get(_place(cell))):
                    calls[cell.device, cell.threads].append(_call(cell, told))
        found = {machine: model.link(of, self.fitted[-1]) for machine, of in calls.items()}
        return {machine: link for machine, link in found.items() if link}

    def predicted(self) -> Iterator[Predicted]:
        """The largest sizes on more ranks, and all that was measured there."""
        for group, cells in self.groups.items():
            link = self.links.get((group.device, group.threads))
            shares = [
                model.Share(_work(cell), *_parts(cell, told)[1], cell.ranks > 1)
                for cell in cells
                if cell.ranks in self.fitted
                if (told := self.told.get(_place(cell))) or cell.ranks == 1
            ]
            local = model.local(shares)
            if link and local:
                for place, weak in self._asked(cells):
                    seconds = self._seconds(place, cells, local, link)
                    if seconds is not None:
                        base = replace(
                            place,
                            ranks=1,
                            classes=place.classes // (place.ranks if weak else 1),
                        )
                        yield Predicted(
                            cell=place,
                            under=self.under(group),
                            weak=weak,
                            seconds=seconds,
                            base=_taken(self.cells.get(base)),
                            measured=_taken(self.cells.get(place)),
                        )

    def _asked(self, cells: Sequence[Cell]) -> list[tuple[results.Cell, bool]]:
        """What to predict of a group, and whether it is weak scaling."""
        last = self.fitted[-1]
        there = {(cell.classes, cell.ranks) for cell in cells}
        strong = {n for n, ranks in there if ranks == last}
        weak = {n for n in strong if (n // last, 1) in there and n % last == 0}
        asked = [(n, ranks, False) for n in sorted(strong)[-1:] for ranks in AHEAD if ranks > last]
        asked += [
            (n // last * ranks, ranks, True)
            for n in sorted(weak)[-1:]
            for ranks in AHEAD
            if ranks > last
        ]
        known = {(n, ranks) for n, ranks, _ in asked}
        asked += [
            (n, ranks, False) for n, ranks in sorted(there - known) if ranks > last and n in strong
        ]
        place = _place(cells[0])
        return [(replace(place, classes=n, ranks=ranks), weak) for n, ranks, weak in asked]

    def _seconds(
        self, place: results.Cell, cells: Sequence[Cell], local: Local, link: Link
    ) -> Interval | None:
        """Of one call; None where what it would send is not known."""
        last = self.fitted[-1]
        several = {cell.classes: cell for cell in cells if cell.ranks == last}
        near = min(several, key=lambda n: (abs(n - place.classes), n))
        told = self.told.get(_place(several[near]))
        if told is None or told.sent is None:
            return None
        # In a prediction, what is summed are scores of nodes beside the borders of ranks.
        size = model.sent(told.sent, last, place.ranks, borders=place.phase == "predict")
        work = last * _work_at(place.classes, several) / place.ranks
        return model.predicted(local, link, work, _call(several[near], told), size, place.ranks)


def _told(run: Run, scatter: Scatter) -> dict[results.Cell, Telling]:
    """Cell -> what its ranks told each other."""
    names = ("collectives", "bytes", "counted_collectives", "counted_bytes")
    found = {}
    for place, rows in by_cell(
        run.communication, "call_seconds", "told_seconds", *names, "sent"
    ).items():
        calls, told, *figures, sent = zip(*rows, strict=True)
        cell = results.Cell(**dict(zip(CELL, place, strict=True)))
        shares = [
            np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
            for part, whole in zip(told, calls, strict=True)
        ]
        found[replace(cell, head=cell.name, options="")] = Telling(
            _share(shares, scatter),
            **{name: int(max(values)) for name, values in zip(names, figures, strict=True)},
            sent=sent[-1] if isinstance(sent[-1], Mapping) else None,
        )
    return found


def _share(passes: Sequence[np.ndarray], scatter: Scatter) -> Interval:
    """At most 1, and of nothing 0."""
    if min(float(np.median(one)) for one in passes) <= 0:
        return Interval(0.0, 0.0, max(float(np.max(one)) for one in passes))
    found = estimates.median(passes, scatter)
    return Interval(found.low, min(1.0, found.estimate), min(1.0, found.high))


def _parts(cell: Cell, told: Telling | None) -> tuple[tuple[float, float], tuple[float, float]]:
    """Seconds that ranks tell, and compute, with the standard errors of their logarithms."""
    assert cell.seconds is not None, "cells without a time are not looked at"
    seconds, error = cell.seconds.estimate, _error(cell.seconds)
    if told is None:
        return (0.0, error), (seconds, error)
    share = told.share
    rest = Interval(1 - share.high, 1 - share.estimate, 1 - share.low)
    return tuple(  # type: ignore[return-value]
        (seconds * part.estimate, math.hypot(error, _error(part))) for part in (share, rest)
    )


def _call(cell: Cell, told: Telling) -> model.Told:
    """What the model is fitted to."""
    taken, local = _parts(cell, told)
    return model.Told(told.collectives, told.bytes, local[0], *taken)


def _error(value: Interval) -> float:
    """The standard error of its logarithm."""
    if value.low <= 0 or math.isinf(value.high):
        return LARGEST_ERROR
    return min(LARGEST_ERROR, math.log(value.high / value.low) / 2 / NORMAL_97_5)


def _work(cell: Cell) -> float:
    """Of one rank: multiply-adds as counted, or classes where they were not."""
    return cell.multiply_adds or cell.classes / cell.ranks


def _work_at(classes: int, cells: Mapping[int, Cell]) -> float:
    """Of one of the same ranks with so many classes: as counted, or as it grows."""
    if classes in cells:
        return _work(cells[classes])
    least, most = min(cells), max(cells)
    grown = _work(cells[most]) / _work(cells[least])
    if least < most and math.log(grown) < GROWING * math.log(most / least):
        return _work(cells[most]) * math.log(classes) / math.log(most)
    return _work(cells[most]) * classes / most


def _taken(cell: Cell | None) -> Interval | None:
    return cell.seconds if cell else None


def _times(value: Interval | None, by: float) -> Interval | None:
    return None if value is None else Interval(value.low * by, value.estimate * by, value.high * by)


def _place(cell: results.Cell) -> results.Cell:
    """What a cell is, without what was measured of it."""
    return results.Cell(**{name: getattr(cell, name) for name in CELL})


def _group(cell: results.Cell) -> results.Cell:
    return replace(cell, classes=2, ranks=1)
