"""How near each head comes to the floor that the machine sets: its roofline.

A call has counted arithmetic and compulsory traffic; the machine has a measured rate for each. The
longer of the two times is the call's floor, and which of them it is, is the roof that binds
(Williams, Waterman and Patterson, Communications of the ACM 52, 2009).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from reports import units
from reports.findings.findings import Findings
from reports.findings.joined import Cell
from reports.page import drawing
from reports.page.drawing import INK, Style
from reports.results import PHASES
from reports.stats.estimates import Interval

Roof = Literal["memory", "arithmetic"]


@dataclass(frozen=True)
class Roofs:
    """What the machine can do at most; each interval spans the slowest and the fastest round.

    Attributes:
        bandwidth: bytes read and written per second.
        peak: multiply-adds per second.
    """

    bandwidth: Interval
    peak: Interval

    @property
    def ridge(self) -> float:
        """Multiply-adds per byte from which on arithmetic binds and no longer memory."""
        return self.peak.estimate / self.bandwidth.estimate


@dataclass(frozen=True)
class Point:
    """One head and phase under the roofs.

    Attributes:
        intensity: multiply-adds per byte.
        rate: multiply-adds per second.
        of_peak: share of the machine's multiply-adds per second.
        of_bandwidth: share of its bytes per second.
        binds: the roof that sets the floor.
        floor: seconds below which no call gets whose data come from memory.
        times_floor: how many times its floor the call takes.
    """

    head: str
    phase: str
    intensity: float
    rate: Interval
    of_peak: Interval
    of_bandwidth: Interval
    binds: Roof
    floor: float
    times_floor: Interval


def roofs(machine: Mapping[str, Any]) -> Roofs | None:
    """The limits among a run's machine facts; None in runs that have not measured them."""
    bandwidth = _limit(machine, "copy_bytes_per_second")
    peak = _limit(machine, "peak_multiply_adds_per_second")
    return Roofs(bandwidth, peak) if bandwidth and peak else None


def _limit(machine: Mapping[str, Any], name: str) -> Interval | None:
    low, estimate, high = (_rate(machine.get(name + end)) for end in ("_low", "", "_high"))
    return Interval(low or estimate, estimate, high or estimate) if estimate else None


def _rate(value: object) -> float | None:
    """A positive number, or None for whatever else a file may hold."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        return None
    return float(value)


def points(cells: Iterable[Cell], under: Roofs) -> tuple[Point, ...]:
    """Every cell that has been timed and whose work is counted."""
    return tuple(
        _point(cell, cell.seconds, cell.multiply_adds, cell.bytes, under)
        for cell in cells
        if cell.seconds and cell.multiply_adds is not None and cell.bytes
    )


def _point(cell: Cell, seconds: Interval, work: int, traffic: int, under: Roofs) -> Point:
    arithmetic, memory = work / under.peak.estimate, traffic / under.bandwidth.estimate
    floor = max(arithmetic, memory)
    return Point(
        head=cell.head,
        phase=cell.phase,
        intensity=work / traffic,
        rate=_over(work, seconds),
        of_peak=_over(arithmetic, seconds),
        of_bandwidth=_over(memory, seconds),
        binds="arithmetic" if arithmetic >= memory else "memory",
        floor=floor,
        times_floor=Interval(seconds.low / floor, seconds.estimate / floor, seconds.high / floor),
    )


def _over(amount: float, seconds: Interval) -> Interval:
    """A rate: the longest time gives the lowest."""
    low, high = (amount / end if end else math.inf for end in (seconds.high, seconds.low))
    return Interval(low, amount / seconds.estimate, high)


@dataclass(frozen=True, eq=False)
class Roofline:
    """What a report shows of it: every head and phase at one class count and batch size.

    Attributes:
        limits: the roofs in words.
        classes: the largest class count at which every head's training step was timed.
        sentences: how near each head's training step comes to its floor.
        svg: the training step of each head under the roofs.
        caption: what stands under that figure.
    """

    limits: str
    classes: int
    batch: int
    points: tuple[Point, ...]
    sentences: tuple[str, ...]
    svg: str
    caption: str


def roofline(findings: Findings, looks: Mapping[str, Style]) -> Roofline | None:
    """None where the machine's limits or the counted work are unknown."""
    machine = findings.run.facts.get("machine")
    under = roofs(machine) if isinstance(machine, dict) else None
    classes = findings.reference
    if under is None or classes is None:
        return None
    cells = [c for phase in PHASES for c in findings.alone_at(phase, findings.batch, classes)]
    found = points(cells, under)
    steps = [point for point in found if point.phase == "train"]
    if not steps:
        return None
    caption = (
        f"Training step of each head under the machine's roofs, {classes:,} classes, batch "
        f"{findings.batch}: nearer to the line is nearer to what the machine can do."
    )
    return Roofline(
        limits=_in_words(under),
        classes=classes,
        batch=findings.batch,
        points=found,
        sentences=sentences(steps),
        svg=drawing.svg(figure(steps, under, looks), "roofline", caption),
        caption=caption,
    )


def _in_words(under: Roofs) -> str:
    return (
        f"{_per_second(under.bandwidth, 'B')} copied (read and written) in arrays beyond the "
        f"caches, {_per_second(under.peak, ' multiply-adds')} in a square float32 product: medians "
        f"[slowest, fastest round]. From {units.digits(under.ridge)} multiply-adds per byte on, "
        "arithmetic binds and no longer memory"
    )


def _per_second(rate: Interval, unit: str) -> str:
    """7.46 G [4.99 G, 10.8 G] multiply-adds/s."""
    low, estimate, high = (
        units.scaled(end, units.COUNTS) for end in (rate.low, rate.estimate, rate.high)
    )
    return f"{estimate}{unit}/s [{low}, {high}]"


def sentences(found: Sequence[Point]) -> tuple[str, ...]:
    """How near each head comes to its floor, the nearest first.

    Args:
        found: of one phase.
    """
    return tuple(map(_sentence, sorted(found, key=lambda point: point.times_floor.estimate)))


def _sentence(point: Point) -> str:
    floor = f"its floor of {units.seconds(point.floor)}, which {point.binds} sets"
    if point.times_floor.high < 1:
        why = {
            "memory": "part of its data stays in a cache",
            "arithmetic": "the machine was slower while its peak was measured",
        }[point.binds]
        ratio = units.times_interval(point.times_floor)
        return f"{point.head} takes only {ratio} times {floor}: {why}."
    return f"{point.head} takes {units.times_interval(point.times_floor)} times {floor}."


def figure(found: Sequence[Point], under: Roofs, looks: Mapping[str, Style]) -> Figure:
    """Log-log: multiply-adds per second against multiply-adds per byte, under the two roofs.

    Args:
        found: of one phase; what does no arithmetic has no place here and is left out.
        under: the machine's limits.
        looks: style of each head.
    """
    drawn = [point for point in found if point.intensity > 0]
    with mpl.rc_context(drawing.SETTINGS):
        whole = Figure(figsize=(6.0, 3.4))
        axes = whole.add_axes((0.14, 0.15, 0.52, 0.80))
        reach = [under.ridge, *(point.intensity for point in drawn)]
        x = np.geomspace(min(reach) / 3, max(reach) * 3, 200)
        roof = np.minimum(under.bandwidth.estimate * x, under.peak.estimate)
        axes.plot(x, roof, color=INK, linewidth=1.8, label="roofs of the machine")
        for point in drawn:
            look, rate = looks[point.head], point.rate
            # An open interval ends at the frame.
            high = min(rate.high, 1e3 * rate.estimate)
            axes.errorbar(
                [point.intensity],
                [rate.estimate],
                yerr=[[rate.estimate - rate.low], [high - rate.estimate]],
                linestyle="none",
                elinewidth=1,
                capsize=2,
                label=point.head,
                **look.points,
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(base=10, numticks=7))
            axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
            axis.set_minor_locator(NullLocator())
        axes.set_xlabel("multiply-adds per byte")
        axes.set_ylabel("multiply-adds per second")
        whole.legend(loc="upper left", bbox_to_anchor=(0.67, 0.97), frameon=False)
    return whole


def _tick(value: float) -> str:
    """A power of ten: 0.01, 10, 1 G."""
    return f"{value:g}" if value < 1e3 else re.sub(r"\.0+", "", units.scaled(value, units.COUNTS))
