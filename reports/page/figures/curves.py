"""Cost against the number of classes: a panel of its own, and all phases in one figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    NullFormatter,
    NullLocator,
)

from reports import units
from reports.page.figures import drawing
from reports.page.figures.drawing import SETTINGS, Looks, Style
from reports.stats.estimates import Interval

MOST_STEPS = 8
"""Between the ticks of an axis of bytes."""


@dataclass(frozen=True)
class Series:
    """One head's points against the number of classes.

    Attributes:
        curve: fitted y for an array of class counts; None where nothing fits.
        note: what follows the head's name beside its line.
    """

    head: str
    classes: Sequence[int]
    values: Sequence[Interval]
    curve: Callable[[np.ndarray], np.ndarray] | None = None
    note: str = ""


def against_classes(
    series: Sequence[Series],
    looks: Looks,
    y_label: str,
    unit: Callable[[float], str],
    limits: tuple[float, float] | None = None,
    marks: Mapping[str, Interval] | None = None,
) -> Figure:
    """Log-log: points with intervals, the fitted curve of each head, its name at the right end.

    Args:
        series: a line per head.
        looks: style of each head.
        y_label: what is drawn.
        unit: writes a value of it.
        limits: of the y axis, where panels share one.
        marks: class counts to mark on the axis with a head's marker and an interval.
    """
    notes = any(one.note for one in series)
    figure, axes = drawing.panel([one.head for one in series], 2 if notes else 1)
    with mpl.rc_context(SETTINGS):
        _draw(axes, series, looks, unit, limits)
        for head, at in (marks or {}).items():
            _mark_axis(axes, at, looks[head])
        axes.set_xlabel("classes")
        axes.set_ylabel(y_label)
        ends = [(one.values[-1].estimate, one.head, one.note, looks[one.head]) for one in series]
        drawing.name_lines(axes, ends)
    return figure


def overview(panels: Mapping[str, Sequence[Series]], looks: Looks, title: str) -> Figure:
    """Seconds against classes, a small panel per phase on one scale, one legend: for a README.

    Args:
        panels: title of the panel -> a line per head; at most five.
        looks: style of each head.
        title: of the whole.
    """
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(9.0, 5.6))
        figure.suptitle(title, x=0.07, ha="left", fontsize=11)
        room = {"left": 0.07, "right": 0.98, "top": 0.87, "hspace": 0.42, "wspace": 0.3}
        grid = list(figure.subplots(2, 3, gridspec_kw=room).flat)
        common = axis_limits(one for series in panels.values() for one in series)
        heads = dict.fromkeys(one.head for series in panels.values() for one in series)
        for axes, (name, series) in zip(grid, panels.items(), strict=False):
            _draw(axes, series, looks, units.seconds, common)
            axes.set_title(name, loc="left", fontsize=9)
            axes.set_xlabel("classes")
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        box = grid[-1].get_position()
        drawing.legend(figure, heads, looks, (box.x0, box.y1))
    return figure


def beside(panels: Mapping[str, Sequence[Series]], looks: Looks, title: str) -> Figure:
    """Seconds against classes, a panel per machine on one scale, one legend: for a README.

    Args:
        panels: title of the panel -> a line per head; at most three.
        looks: style of each head.
        title: of the whole.
    """
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(9.0, 3.6))
        figure.suptitle(title, x=0.07, ha="left", fontsize=11)
        room = {"left": 0.07, "right": 0.8, "top": 0.82, "bottom": 0.14, "wspace": 0.2}
        grid = list(figure.subplots(1, len(panels), gridspec_kw=room, squeeze=False).flat)
        common = axis_limits(one for series in panels.values() for one in series)
        heads = dict.fromkeys(one.head for series in panels.values() for one in series)
        for axes, (name, series) in zip(grid, panels.items(), strict=True):
            _draw(axes, series, looks, units.seconds, common)
            axes.set_title(name, loc="left", fontsize=9)
            axes.set_xlabel("classes")
        drawing.legend(figure, heads, looks, (0.81, 0.82))
    return figure


def _draw(
    axes: Axes,
    series: Sequence[Series],
    looks: Looks,
    unit: Callable[[float], str],
    limits: tuple[float, float] | None,
) -> None:
    """Points, intervals and curves on logarithmic axes."""
    for one in series:
        look = looks[one.head]
        n = np.array(one.classes, dtype=float)
        y = np.array([value.estimate for value in one.values])
        low = y - np.array([value.low for value in one.values])
        high = np.array([value.high for value in one.values]) - y
        axes.errorbar(
            n,
            y,
            yerr=np.maximum([low, high], 0),
            linestyle="none",
            elinewidth=1,
            capsize=2,
            **look.points,
        )
        if one.curve is not None and len(n) > 1:
            line = np.geomspace(n.min(), n.max(), 60)
            axes.plot(line, one.curve(line), color=look.colour, linestyle=look.dash)
        else:
            axes.plot(n, y, color=look.colour, linestyle=look.dash, linewidth=0.7)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _class_ticks(axes, sorted({n for one in series for n in one.classes}))
    axes.set_ylim(*(limits or axis_limits(series) or (None, None)))
    _log_ticks(axes, unit)


def _mark_axis(axes: Axes, at: Interval, look: Style) -> None:
    """The head's marker on the class axis, on a bar as long as the interval."""
    low, high = axes.get_xlim()
    ends = [max(at.low, low), min(at.high, high)]
    on_axis: Any = {"transform": axes.get_xaxis_transform(), "clip_on": False}
    bar: Any = {"color": look.colour, "linewidth": 3, "solid_capstyle": "butt"}
    axes.plot(ends, [0, 0], zorder=4, **bar, **on_axis)
    axes.plot([at.estimate], [0], zorder=5, **look.points, **on_axis)


def axis_limits(series: Iterable[Series]) -> tuple[float, float] | None:
    """Common y limits of panels that are to be compared; very long intervals are cut off."""
    values = [value for one in series for value in one.values]
    if not values:
        return None
    lowest = min(max(value.low, value.estimate / 3) for value in values)
    highest = max(min(value.high, value.estimate * 3) for value in values)
    return lowest / 1.5, highest * 1.5


def _class_ticks(axes: Axes, every: Sequence[int]) -> None:
    """At most five labelled ticks, at powers of four between the smallest and the largest."""
    low, high = math.log(every[0], 4), math.log(every[-1], 4)
    step = max(1, math.ceil((high - low) / 4))
    ticks = [4.0**k for k in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1, step)]
    axes.set_xlim(every[0] / 1.4, every[-1] * 1.4)
    axes.xaxis.set_major_locator(FixedLocator(ticks or [float(every[0])]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _log_ticks(axes: Axes, unit: Callable[[float], str]) -> None:
    """Ticks at powers of ten, or at powers of two where the unit is one of bytes."""
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: units.exact(unit(value))))
    if unit is units.num_bytes:
        axes.yaxis.set_major_locator(FixedLocator(byte_ticks(*axes.get_ylim())))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(LogLocator(base=10, numticks=8))


def byte_ticks(low: float, high: float) -> list[float]:
    """Powers of two from `low` to `high`: few, and in steps that meet 1 KiB, 1 MiB, 1 GiB ..."""
    first, last = math.ceil(math.log2(low)), math.floor(math.log2(high))
    step = next((step for step in (1, 2, 5) if last - first <= MOST_STEPS * step), 10)
    return [2.0**k for k in range(first, last + 1) if k % step == 0]
