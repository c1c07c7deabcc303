"""The figures of next-word prediction: perplexity against time, and the front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from reports.findings.words import YARDSTICK, Curve, WordRow
from reports.page.figures import drawing
from reports.page.figures.drawing import INK, SETTINGS, Looks


def perplexity_against_time(curves: Mapping[str, Curve], looks: Looks) -> Figure:
    """Validation perplexity against seconds of training, both on logarithmic axes."""
    figure, axes = drawing.panel(curves)
    with mpl.rc_context(SETTINGS):
        ends = []
        for variant, curve in curves.items():
            look = looks[variant]
            axes.plot(
                curve.seconds,
                curve.perplexity,
                linestyle=look.dash,
                markevery=max(1, len(curve.seconds) // 4),
                **look.points,
            )
            ends.append((curve.perplexity[-1], variant, "", look))
        _in_logarithms(axes)
        if YARDSTICK in curves:
            axes.axhline(curves[YARDSTICK].perplexity[-1], color=INK, linewidth=0.8, linestyle=":")
        axes.set_ylabel("validation perplexity")
        axes.set_xlabel("seconds of training")
        drawing.name_lines(axes, ends)
    return figure


def front(rows: Sequence[WordRow], looks: Looks) -> Figure:
    """Test perplexity against seconds of training in all, every seed beside the mean."""
    figure, axes = drawing.panel([row.variant for row in rows])
    with mpl.rc_context(SETTINGS):
        ends = []
        ahead = sorted((r.seconds.estimate, r.perplexity.estimate) for r in rows if r.ahead)
        axes.step(*zip(*ahead, strict=True), where="post", color=INK, linewidth=0.8, zorder=1)
        for row in rows:
            look = looks[row.variant]
            seconds, found = zip(*row.each, strict=True)
            axes.plot(
                seconds, found, linestyle="none", marker=look.marker, color=look.colour,
                markersize=2.5, alpha=0.6,
            )  # fmt: skip
            axes.plot(
                [row.seconds.estimate], [row.perplexity.estimate], linestyle="none",
                marker=look.marker, color=look.colour, markersize=7,
                markerfacecolor=look.colour if row.ahead else "none",
            )  # fmt: skip
            ends.append((row.perplexity.estimate, row.variant, "", look))
        _in_logarithms(axes)
        axes.set_ylabel("test perplexity")
        axes.set_xlabel("seconds of training in all")
        drawing.name_lines(axes, ends)
    return figure


def _in_logarithms(axes: Axes) -> None:
    """Logarithmic axes with plain numbers at a few places."""
    for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
        scale("log")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.3g}"))
        axis.set_minor_locator(NullLocator())
