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
        _lines(axes, curves, looks)
        ends = [(curve.perplexity[-1], name, "", looks[name]) for name, curve in curves.items()]
        drawing.name_lines(axes, ends)
    return figure


def beside(panels: Mapping[str, Mapping[str, Curve]], looks: Looks, title: str) -> Figure:
    """The same of several runs, a panel for each, one legend: for a README.

    Args:
        panels: title of the panel -> variant -> its curve.
        looks: style of each variant.
        title: of the whole.
    """
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(2.55 + 3.4 * len(panels), 4.0))
        width = figure.get_figwidth()
        left, right = 0.75 / width, 1 - 2.0 / width
        figure.suptitle(title, x=left, ha="left", fontsize=11)
        room = {"left": left, "right": right, "top": 0.84, "bottom": 0.12, "wspace": 0.2}
        grid = list(figure.subplots(1, len(panels), gridspec_kw=room, squeeze=False).flat)
        for axes, (name, curves) in zip(grid, panels.items(), strict=True):
            _lines(axes, curves, looks)
            axes.set_title(name, loc="left", fontsize=9)
        for axes in grid[1:]:
            axes.set_ylabel("")
        variants = dict.fromkeys(variant for curves in panels.values() for variant in curves)
        drawing.legend(figure, variants, looks, (right + 0.01, 0.84))
    return figure


def _lines(axes: Axes, curves: Mapping[str, Curve], looks: Looks) -> None:
    """A line for each variant, and where softmax ends."""
    for variant, curve in curves.items():
        look = looks[variant]
        axes.plot(
            curve.seconds,
            curve.perplexity,
            linestyle=look.dash,
            markevery=max(1, len(curve.seconds) // 4),
            **look.points,
        )
    _in_logarithms(axes)
    if YARDSTICK in curves:
        axes.axhline(curves[YARDSTICK].perplexity[-1], color=INK, linewidth=0.8, linestyle=":")
    axes.set_ylabel("validation perplexity")
    axes.set_xlabel("seconds of training")


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
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axis.set_minor_locator(NullLocator())
