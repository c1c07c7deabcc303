"""How near each head comes to the floor that the machine sets: its roofline.

A call has counted arithmetic and compulsory traffic; the machine has a measured rate for each. The
longer of the two times is the call's floor, and which of them it is, is the roof that binds
(Williams, Waterman and Patterson, Communications of the ACM 52, 2009).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from reports import units
from reports.findings.findings import Findings
from reports.findings.joined import Cell
from reports.findings.roofs import Roofs, roofs
from reports.results import PHASES
from reports.stats.estimates import Interval

Roof = Literal["memory", "arithmetic"]


@dataclass(frozen=True)
class UnderRoofs:
    """One head and phase at one size under the roofs.

    Attributes:
        intensity: multiply-adds per byte.
        rate: multiply-adds per second.
        of_peak: share of the machine's multiply-adds per second.
        of_bandwidth: share of its bytes per second.
        binds: the roof that sets the floor.
        floor: seconds below which no call gets whose data come from memory.
        times_floor: how many times its floor the call takes.
        counted: the head whose counted work it is: a peer has none of its own.
    """

    head: str
    phase: str
    classes: int
    intensity: float
    rate: Interval
    of_peak: Interval
    of_bandwidth: Interval
    binds: Roof
    floor: float
    times_floor: Interval
    counted: str

    @property
    def share(self) -> Interval:
        """Of the roof that binds."""
        return self.of_peak if self.binds == "arithmetic" else self.of_bandwidth


def points(cells: Iterable[Cell], limits: Roofs) -> tuple[UnderRoofs, ...]:
    """Every cell that has been timed and whose work is counted.

    Nobody counts a peer's work. It has to do at least what the head counts whose function it
    computes, and that is held against the roofs.

    Args:
        cells: of one setting; a peer has a place if the head that it computes is among them.
        limits: the machine's.
    """
    cells = list(cells)
    counts = {(c.head, c.phase, c.classes, c.batch): (c.multiply_adds, c.bytes) for c in cells}
    found = []
    for cell in cells:
        counted = cell.computes or cell.head
        place = counted, cell.phase, cell.classes, cell.batch
        work, traffic = counts.get(place, (None, None))
        if cell.seconds and work is not None and traffic:
            found.append(_point(cell, cell.seconds, work, traffic, limits, counted))
    return tuple(found)


def _point(
    cell: Cell, seconds: Interval, work: int, traffic: int, limits: Roofs, counted: str
) -> UnderRoofs:
    arithmetic, memory = work / limits.peak.estimate, traffic / limits.bandwidth.estimate
    floor = max(arithmetic, memory)
    return UnderRoofs(
        head=cell.head,
        phase=cell.phase,
        classes=cell.classes,
        intensity=work / traffic,
        rate=_over(work, seconds),
        of_peak=_over(arithmetic, seconds),
        of_bandwidth=_over(memory, seconds),
        binds="arithmetic" if arithmetic >= memory else "memory",
        floor=floor,
        times_floor=Interval(seconds.low / floor, seconds.estimate / floor, seconds.high / floor),
        counted=counted,
    )


def _over(amount: float, seconds: Interval) -> Interval:
    """A rate: the longest time gives the lowest."""
    low, high = (amount / end if end else math.inf for end in (seconds.high, seconds.low))
    return Interval(low, amount / seconds.estimate, high)


@dataclass(frozen=True, eq=False)
class Roofline:
    """Every head and phase under the machine's roofs, at one class count and batch size.

    Attributes:
        roofs: the machine's limits.
        classes: the largest class count at which every head's training step was timed.
    """

    roofs: Roofs
    classes: int
    batch: int
    points: tuple[UnderRoofs, ...]

    @property
    def steps(self) -> tuple[UnderRoofs, ...]:
        """The training step of each head."""
        return tuple(point for point in self.points if point.phase == "train")

    @property
    def sentences(self) -> tuple[str, ...]:
        """How near each head's training step comes to its floor, the nearest first."""
        nearest = sorted(self.steps, key=lambda point: point.times_floor.estimate)
        return tuple(map(_sentence, nearest))

    @property
    def limits(self) -> str:
        """The roofs in words."""
        return (
            f"{_per_second(self.roofs.bandwidth, 'B')} copied (read and written) in arrays beyond "
            f"the caches, {_per_second(self.roofs.peak, ' multiply-adds')} in a square "
            f"{self.roofs.dtype} product: medians [slowest, fastest round]. From "
            f"{units.digits(self.roofs.ridge)} multiply-adds per byte on, arithmetic binds and no "
            "longer memory"
        )


def limits_of(findings: Findings) -> Roofs | None:
    """The machine's limits in the dtype of the heads alone; None where they are unknown."""
    machine = findings.run.facts.get("machine")
    if findings.alone is None or not isinstance(machine, dict):
        return None
    return roofs(machine, findings.alone.dtype)


def roofline(findings: Findings) -> Roofline | None:
    """None where the machine's limits or the counted work are unknown."""
    limits = limits_of(findings)
    classes = findings.reference
    if limits is None or classes is None:
        return None
    cells = [c for phase in PHASES for c in findings.alone_at(phase, findings.batch, classes)]
    found = Roofline(limits, classes, findings.batch, points(cells, limits))
    return found if found.steps else None


def _per_second(rate: Interval, unit: str) -> str:
    """7.46 G [4.99 G, 10.8 G] multiply-adds/s."""
    low, estimate, high = (
        units.scaled(end, units.COUNTS) for end in (rate.low, rate.estimate, rate.high)
    )
    return f"{estimate}{unit}/s [{low}, {high}]"


def _sentence(point: UnderRoofs) -> str:
    whose = "its floor" if point.counted == point.head else f"the floor of {point.counted}"
    floor = f"{whose} of {units.seconds(point.floor)}, which {point.binds} sets"
    if point.times_floor.high < 1:
        why = {
            "memory": "part of its data stays in a cache",
            "arithmetic": "its products are faster than the peak's, or the machine was slower then",
        }[point.binds]
        ratio = units.times_interval(point.times_floor)
        return f"{point.head} takes only {ratio} times {floor}: {why}."
    return f"{point.head} takes {units.times_interval(point.times_floor)} times {floor}."
