"""The figures of heads on several ranks: the speed-up, and the time as ranks become more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from reports import units
from reports.page.figures import curves, drawing
from reports.page.figures.curves import Series
from reports.page.figures.drawing import INK, SETTINGS, Looks
from reports.stats.estimates import Interval


@dataclass(frozen=True)
class Ahead:
    """A head's time against the number of ranks, seconds; each by its number of ranks."""

    head: str
    measured: Sequence[tuple[int, Interval]]
    predicted: Sequence[tuple[int, Interval]]


def speedups(series: Sequence[Series], looks: Looks, ranks: int) -> Figure:
    """How many times as fast so many ranks are as one, against the number of classes.

    Lines mark 1, from where on they are faster, and the number of ranks, which is all one can hope.
    """
    limits = curves.axis_limits(series)
    assert limits is not None, "there is a point to draw"
    limits = min(limits[0], 0.8), max(limits[1], 1.3 * ranks)
    label = f"times as fast on {ranks} ranks"
    figure = curves.against_classes(series, looks, label, units.digits, limits)
    with mpl.rc_context(SETTINGS):
        axes = figure.axes[0]
        for level, style in ((1, "-"), (ranks, ":")):
            axes.axhline(level, color=INK, linewidth=0.8, linestyle=style)
        _ticks_of_two(axes)
    return figure


def ahead(lines: Sequence[Ahead], looks: Looks) -> Figure:
    """Seconds against ranks: points as measured, dashed and shaded as predicted."""
    figure, axes = drawing.panel([one.head for one in lines])
    with mpl.rc_context(SETTINGS):
        axes.set_xscale("log")
        axes.set_yscale("log")
        ends = []
        for one in lines:
            look = looks[one.head]
            _points(axes, one, look.points)
            path = sorted({**dict(one.measured[:1]), **dict(one.predicted)}.items())
            x = [ranks for ranks, _ in path]
            band = np.array([(value.low, value.estimate, value.high) for _, value in path]).T
            axes.fill_between(x, band[0], band[2], color=look.colour, alpha=0.15, linewidth=0)
            axes.plot(x, band[1], color=look.colour, linestyle="--", linewidth=0.9)
            ends.append((float(band[1][-1]), one.head, "", look))
        most = max(ranks for one in lines for ranks, _ in (*one.measured, *one.predicted))
        ranks = [2**k for k in range(most.bit_length()) if most < 32 or k % 3 == 0]
        axes.set_xlim(0.85, most * 1.2)
        axes.xaxis.set_major_locator(FixedLocator(ranks))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(LogLocator(base=10, numticks=8))
        axes.yaxis.set_major_formatter(
            FuncFormatter(lambda value, _: units.exact(units.seconds(value)))
        )
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("ranks")
        axes.set_ylabel("seconds per batch")
        drawing.name_lines(axes, ends)
    return figure


def _points(axes: Axes, one: Ahead, looks: dict[str, object]) -> None:
    """What was measured, with its intervals; what is not bounded has no arm."""
    x = [ranks for ranks, _ in one.measured]
    y = np.array([value.estimate for _, value in one.measured])
    arms = np.array([(v.estimate - v.low, v.high - v.estimate) for _, v in one.measured]).T
    arms = np.where(np.isfinite(arms), np.maximum(arms, 0), 0)
    axes.errorbar(x, y, yerr=arms, linestyle="none", elinewidth=1, capsize=2, **looks)  # type: ignore[arg-type]


def _ticks_of_two(axes: Axes) -> None:
    """An axis of factors, labelled at powers of two."""
    axes.yaxis.set_major_locator(FixedLocator(curves.byte_ticks(*axes.get_ylim())))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}\u00d7"))
