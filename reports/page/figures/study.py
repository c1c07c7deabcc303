"""The figures of the study: the ladder of defects, the frontier, and the parts of a step."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from reports import units
from reports.findings.step_time import Growing, StepTime
from reports.findings.study import Difference, FrontierPoint, Rung
from reports.page.figures.drawing import COLOURS, INK, PANEL, SETTINGS, Looks
from reports.results import PARTS
from reports.stats.estimates import Interval
from reports.units import Shown

WIDTH, ROW = 4.5, 0.36
LEGEND_WIDTH, LEGEND_ROW = 1.6, 0.19
"""Inches of a legend beside a panel, and of each name in it."""

LABEL = 22
"""Characters of a bar's label in a line."""

PART_LOOKS = {
    "data": (COLOURS[4], "...."),
    "forward": (COLOURS[0], "////"),
    "head": (COLOURS[1], ""),
    "backward": (COLOURS[0], "\\\\\\\\"),
    "optimizer": (COLOURS[6], "xxxx"),
}
"""A part's colour and hatch: neither alone has to tell it apart."""


def ladder(rungs: Sequence[Rung]) -> Figure:
    """A waterfall: each step from one mean accuracy to the next, with its paired difference.

    The bar at a step's end is the interval of the difference, set on the accuracy before it.
    """
    with mpl.rc_context(SETTINGS):
        figure, axes = _rows(len(rungs), left=0.30, right=0.74)
        for place, rung in enumerate(rungs):
            value = rung.difference.value
            start, end = 100 * rung.before, 100 * (rung.before + value.estimate)
            gain = value.estimate >= 0
            axes.barh(
                place,
                end - start,
                0.5,
                left=start,
                facecolor=COLOURS[2] if gain else "none",
                edgecolor=COLOURS[2] if gain else COLOURS[1],
                hatch="" if gain else "////",
            )
            axes.plot([start, start], [place - 0.36, place + 0.36], color=INK, linewidth=1.4)
            if math.isfinite(value.low):
                axes.errorbar(
                    [end], [place], xerr=_arms(value, 100), color=INK, capsize=3, elinewidth=1
                )
            axes.text(
                1.03,
                place,
                str(points(rung.difference)),
                transform=axes.get_yaxis_transform(),
                va="center",
                fontsize=8,
            )
        labels = [textwrap.fill(rung.step.change, LABEL) for rung in rungs]
        axes.set_yticks(range(len(rungs)), labels, fontsize=8, linespacing=1.05)
        axes.set_xlim(left=0)
        axes.set_xlabel("test accuracy in %")
    return figure


def points(difference: Difference) -> Shown:
    """+12.3 [+11.9, +12.7] points, or without brackets where one seed bounds nothing."""
    low, estimate, high = (
        f"{100 * end:+.1f}"
        for end in (difference.value.low, difference.value.estimate, difference.value.high)
    )
    bounded = math.isfinite(difference.value.low)
    return Shown(estimate, f"[{low}, {high}]" if bounded else "")


def frontier(points: Sequence[FrontierPoint], looks: Looks) -> Figure | None:
    """Accuracy against the counted work of the head; those ahead of all cheaper ones are joined.

    None where no point's work was counted.
    """
    counted = [(point.multiply_adds, point) for point in points if point.multiply_adds]
    if not counted:
        return None
    with mpl.rc_context(SETTINGS):
        figure, axes = _with_names(len(counted))
        ahead = [(work, 100 * point.accuracy.estimate) for work, point in counted if point.ahead]
        axes.step(*zip(*ahead, strict=True), where="post", color=INK, linewidth=0.8, zorder=1)
        for work, point in counted:
            look, share = looks[point.variant], point.accuracy
            axes.errorbar(
                [work],
                [100 * share.estimate],
                yerr=_arms(share, 100),
                fmt=look.marker,
                color=look.colour,
                markerfacecolor=look.colour if point.ahead else "none",
                markersize=7,
                elinewidth=1,
                capsize=2,
                label=point.variant,
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("multiply-adds of the head per image, along the path")
        axes.set_ylabel("test accuracy in %")
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.02), frameon=False, fontsize=8)
    return figure


def parts(steps: Sequence[StepTime]) -> Figure:
    """A bar per head: the training step, part by part; a mark where the arithmetic alone ends."""
    with mpl.rc_context(SETTINGS):
        figure, axes = _rows(len(steps), left=0.24, right=0.85, top=0.4)
        for place, step in enumerate(steps):
            start = 0.0
            for part in PARTS:
                colour, hatch = PART_LOOKS[part]
                seconds = step.parts[part].estimate
                axes.barh(
                    place,
                    seconds,
                    0.6,
                    left=start,
                    facecolor="none" if hatch else colour,
                    edgecolor=colour,
                    hatch=hatch,
                    linewidth=0.8,
                    label=part if place == 0 else None,
                )
                start += seconds
            if step.limit is not None:
                axes.plot([step.limit] * 2, [place - 0.4, place + 0.4], color=INK, linewidth=2)
            axes.text(
                1.02,
                place,
                units.seconds(step.step.estimate),
                transform=axes.get_yaxis_transform(),
                va="center",
                fontsize=8,
            )
        several = len({step.batch for step in steps}) > 1
        axes.set_yticks(
            range(len(steps)),
            [f"{s.head}, batch {s.batch}" if several else s.head for s in steps],
        )
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: units.seconds(value) if value else "0")
        )
        axes.set_xlabel("seconds of a training step")
        axes.legend(
            loc="lower center",
            bbox_to_anchor=(0.45, 1),
            ncols=len(PARTS),
            columnspacing=1,
            handlelength=1.4,
            frameon=False,
            fontsize=8,
        )
    return figure


def share_against_classes(growing: Sequence[Growing], looks: Looks) -> Figure:
    """The head's share of the training step against the class count; half of it is marked."""
    with mpl.rc_context(SETTINGS):
        figure, axes = _with_names(len(growing))
        for one in growing:
            look = looks[one.head]
            axes.errorbar(
                [step.classes for step in one.steps],
                [100 * step.head_share.estimate for step in one.steps],
                yerr=np.hstack([_arms(step.head_share, 100) for step in one.steps]),
                linestyle=look.dash,
                elinewidth=1,
                capsize=2,
                label=one.head,
                **look.points,
            )
        axes.axhline(50, color=INK, linewidth=0.8, linestyle=":")
        axes.set_xscale("log")
        sizes = sorted({step.classes for one in growing for step in one.steps})
        axes.xaxis.set_major_locator(FixedLocator(sizes[:: math.ceil(len(sizes) / 5)]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(0, 100)
        axes.set_xlabel("classes")
        axes.set_ylabel("head's share of the step in %")
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.02), frameon=False, fontsize=8)
    return figure


def _with_names(count: int) -> tuple[Figure, Axes]:
    """A panel with room for a legend of so many names at its right."""
    width, height = WIDTH + LEGEND_WIDTH, max(PANEL[1], LEGEND_ROW * count + 0.3)
    figure = Figure(figsize=(width, height))
    sizes = 0.62 / width, 0.52 / height, (WIDTH - 0.8) / width, 1 - 0.62 / height
    return figure, figure.add_axes(sizes)


def _rows(count: int, left: float, right: float, top: float = 0.1) -> tuple[Figure, Axes]:
    """A figure with a horizontal bar per row, first row on top, and room beside them."""
    height = 0.55 + top + ROW * count
    figure = Figure(figsize=(WIDTH, height))
    bottom = 0.55 / height
    axes = figure.add_axes((left, bottom, right - left, 1 - top / height - bottom))
    axes.set_ylim(count - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    return figure, axes


def _arms(value: Interval, scale: float) -> np.ndarray:
    """Lengths of the error bar below and above, (2, 1)."""
    below, above = value.estimate - value.low, value.high - value.estimate
    return scale * np.maximum([[below], [above]], 0)
