"""The head inside the model: a training step of TinyVGG, and what of it the head takes alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reports import units
from reports.findings import claims
from reports.findings.findings import Findings
from reports.page.figures.drawing import INK, PANEL, SETTINGS, Looks, picture
from reports.stats.estimates import Interval

NAME, TITLE = "model", "In the model"


def context(findings: Findings, looks: Looks) -> dict[str, Any]:
    """A row and a bar per head; nothing where no head was timed inside TinyVGG."""
    batches = sorted({cell.batch for cell in findings.cells if cell.scope == "in-model"})
    batch = claims.PUBLISHED_BATCH if claims.PUBLISHED_BATCH in batches else min(batches, default=0)
    steps = findings.in_model_at(batch)
    if not steps or findings.in_model is None:
        return {}
    classes = steps[0].classes
    rows = [
        (step.head, step.seconds, _alone(findings, step.head, classes, batch))
        for step in steps
        if step.seconds
    ]
    caption = (
        f"Training step of TinyVGG with each head, {classes:,} classes, batch {batch}; hatched: "
        f"what the head takes alone."
    )
    return {
        "classes": classes,
        "batch": batch,
        "rows": [
            (head, whole, part, part.estimate / whole.estimate if part else None)
            for head, whole, part in rows
        ],
        "bars": picture(_bars(rows, looks), "in-model", caption),
        "features_alone": findings.alone.features if findings.alone else None,
        "features_inside": findings.in_model.features,
    }


def _alone(findings: Findings, head: str, classes: int, batch: int) -> Interval | None:
    """Seconds of the head's own training step, read between neighbours where not measured."""
    steps = [
        (cell.classes, cell.seconds)
        for cell in findings.alone_at("train", batch)
        if cell.head == head and cell.seconds
    ]
    if not steps or not steps[0][0] <= classes <= steps[-1][0]:
        return None
    n = np.log([size for size, _ in steps])

    def at(bounds: Sequence[float]) -> float:
        with np.errstate(divide="ignore"):  # a bound that is unknown is 0, or infinite
            return float(np.exp(np.interp(np.log(classes), n, np.log(bounds))))

    return Interval(
        at([seconds.low for _, seconds in steps]),
        at([seconds.estimate for _, seconds in steps]),
        at([seconds.high for _, seconds in steps]),
    )


def _bars(rows: Sequence[tuple[str, Interval, Interval | None]], looks: Looks) -> Figure:
    """A bar per head: the training step of the whole model, the head's own part hatched.

    Args:
        rows: head, seconds of the model's step, seconds of the head's step alone (None: unknown).
        looks: style of each head.
    """
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(PANEL[0], 0.7 + 0.36 * len(rows)))
        axes = figure.add_axes((0.30, 0.55 / (0.7 + 0.36 * len(rows)), 0.55, 0.0))
        bottom = 0.55 / figure.get_figheight()
        axes.set_position((0.30, bottom, 0.52, 0.97 - bottom))
        most = max(min(whole.high, 1.5 * whole.estimate) for _, whole, _ in rows)
        for place, (head, whole, part) in enumerate(rows):
            look = looks[head]
            axes.barh(place, whole.estimate, 0.62, facecolor="none", edgecolor=INK, linewidth=0.8)
            if part is not None:
                axes.barh(
                    place,
                    min(part.estimate, whole.estimate),
                    0.62,
                    facecolor="none",
                    edgecolor=look.colour,
                    hatch="////",
                    linewidth=0.8,
                )
            axes.errorbar(
                [whole.estimate],
                [place],
                xerr=[[whole.estimate - whole.low], [whole.high - whole.estimate]],
                color=INK,
                capsize=2,
                elinewidth=1,
            )
            axes.text(
                1.03,
                place,
                units.seconds(whole.estimate),
                transform=axes.get_yaxis_transform(),
                va="center",
                fontsize=8,
            )
        axes.set_yticks(range(len(rows)), [head for head, _, _ in rows])
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0, 1.05 * most)
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: units.exact(units.seconds(value)) if value else "0")
        )
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel("training step")
    return figure
