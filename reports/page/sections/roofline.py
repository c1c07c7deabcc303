"""How near each head comes to what the machine can do, in sentences, a figure and a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from reports import units
from reports.findings.findings import Findings
from reports.findings.roofline import UnderRoofs, roofline
from reports.findings.roofs import Roofs
from reports.page.figures.drawing import INK, SETTINGS, Looks, picture

NAME, TITLE = "roofline", "Roofline"


def context(findings: Findings, looks: Looks) -> dict[str, Any]:
    """Nothing where the machine's limits or the counted work are unknown."""
    under = roofline(findings)
    if under is None:
        return {}
    caption = (
        f"Training step of each head under the machine's roofs, {under.classes:,} classes, batch "
        f"{under.batch}: nearer to the line is nearer to what the machine can do."
    )
    drawn = _figure(under.steps, under.roofs, looks)
    return {"roofline": under, "still": picture(drawn, "roofline", caption)}


def _figure(points: Iterable[UnderRoofs], roofs: Roofs, looks: Looks) -> Figure:
    """Log-log: multiply-adds per second against multiply-adds per byte, under the two roofs.

    Args:
        points: of one phase; what does no arithmetic has no place here and is left out.
        roofs: the machine's limits.
        looks: style of each head.
    """
    drawn = [point for point in points if point.intensity > 0]
    with mpl.rc_context(SETTINGS):
        whole = Figure(figsize=(6.0, 3.4))
        axes = whole.add_axes((0.14, 0.15, 0.52, 0.80))
        reach = [roofs.ridge, *(point.intensity for point in drawn)]
        x = np.geomspace(min(reach) / 3, max(reach) * 3, 200)
        roof = np.minimum(roofs.bandwidth.estimate * x, roofs.peak.estimate)
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
    return f"{value:g}" if value < 1e3 else units.exact(units.scaled(value, units.COUNTS))
