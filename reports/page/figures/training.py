"""The figures of the trainings: curves over epochs, accuracy against time, confusion."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from reports.findings.confusion import row_shares
from reports.findings.trained import Trained
from reports.page.figures import drawing
from reports.page.figures.drawing import SETTINGS, Looks
from reports.results import Training


def _mean_curves(
    curves: Iterable[tuple[str, np.ndarray, np.ndarray]],
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Variant -> x and the mean y over the seeds that came as far as the one that came farthest."""
    groups: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for variant, x, y in curves:
        if len(x):
            groups.setdefault(variant, []).append((x, y))
    found = {}
    for variant, seeds in groups.items():
        longest = max((x for x, _ in seeds), key=len)
        found[variant] = longest, np.mean([y for x, y in seeds if len(x) == len(longest)], axis=0)
    return found


def loss_curves(trainings: Sequence[Training], looks: Looks) -> Figure:
    """Training loss against epochs, mean over seeds; a point is that since the one before it."""
    curves = _mean_curves((one.variant, *_loss_points(one)) for one in trainings)
    figure, axes = drawing.panel(curves)
    with mpl.rc_context(SETTINGS):
        ends = []
        for variant, (x, y) in curves.items():
            look = looks[variant]
            axes.plot(x, y, linestyle=look.dash, markevery=max(1, len(x) // 8), **look.points)
            finite = y[np.isfinite(y)]
            if len(finite):
                ends.append((float(finite[-1]), variant, "", look))
        axes.set_xlabel("epoch")
        axes.set_ylabel("training loss")
        axes.set_xlim(left=0)
        drawing.name_lines(axes, ends)
    return figure


def _loss_points(training: Training) -> tuple[np.ndarray, np.ndarray]:
    images, batch = training.dataset.get("train_images"), training.config.get("batch_size")
    if isinstance(images, int) and isinstance(batch, int) and images > 0 and batch > 0:
        per_epoch = math.ceil(images / batch)
    else:
        per_epoch = max([1, *(one.batch for one in training.losses)])
    done = [one.epoch - 1 + one.batch / per_epoch for one in training.losses]
    return np.array(done), np.array([one.loss for one in training.losses])


def accuracy_per_epoch(trainings: Sequence[Training], looks: Looks) -> Figure:
    """Accuracy on the test images after every epoch, mean over seeds."""
    curves = _mean_curves(
        (
            one.variant,
            np.array([epoch.epoch for epoch in one.epochs]),
            100 * np.array([epoch.accuracy for epoch in one.epochs]),
        )
        for one in trainings
    )
    figure, axes = drawing.panel(curves, 2)
    with mpl.rc_context(SETTINGS):
        ends = []
        for variant, (x, y) in curves.items():
            look = looks[variant]
            axes.plot(x, y, linestyle=look.dash, **look.points)
            ends.append((float(y[-1]), variant, f"{y[-1]:.1f} %", look))
        axes.set_xlabel("epoch")
        axes.set_ylabel("test accuracy in %")
        axes.set_ylim(bottom=0)
        last = max([1, *(len(one.epochs) for one in trainings)])
        axes.set_xlim(0.5, last + 0.5)
        axes.xaxis.set_major_locator(FixedLocator(range(1, last + 1, math.ceil(last / 10))))
        drawing.name_lines(axes, ends)
    return figure


def accuracy_against_time(trained: Sequence[Trained], looks: Looks) -> Figure | None:
    """Final accuracy over the seconds it took: up and left is better; None if none are known."""
    rows = [(row, row.total_seconds) for row in trained if row.total_seconds is not None]
    if not rows:
        return None
    figure, axes = drawing.panel([row.variant for row, _ in rows])
    with mpl.rc_context(SETTINGS):
        ends = []
        for row, seconds in rows:
            look, share = looks[row.variant], row.accuracy
            axes.errorbar(
                [seconds],
                [100 * share.estimate],
                yerr=[
                    [100 * (share.estimate - share.low)],
                    [100 * (share.high - share.estimate)],
                ],
                linestyle="none",
                markersize=7,
                elinewidth=1,
                capsize=2,
                **look.points,
            )
            ends.append((100 * share.estimate, row.variant, "", look))
        axes.set_xlim(0, 1.15 * max(seconds for _, seconds in rows) or 1)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("training time in s, test passes left out")
        axes.set_ylabel("test accuracy in %")
        drawing.name_lines(axes, ends)
    return figure


def confusion(table: np.ndarray, most: float, bounds: Sequence[int] = ()) -> Figure:
    """Share of each true class (row) predicted as each class (column), up to `most`.

    Lines are drawn before the classes in `bounds`.
    """
    with mpl.rc_context(SETTINGS | {"axes.grid": False}):
        figure = Figure(figsize=(3.6, 3.2))
        axes = figure.add_axes((0.13, 0.14, 0.70, 0.80))
        image = axes.imshow(
            row_shares(table),
            cmap="cividis",
            norm=PowerNorm(0.5, 0, most),
            interpolation="none",
            aspect="auto",
        )
        for bound in bounds:
            axes.axhline(bound - 0.5, color="white", linewidth=0.4)
            axes.axvline(bound - 0.5, color="white", linewidth=0.4)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        bar = figure.add_axes((0.86, 0.14, 0.03, 0.80))
        scale = figure.colorbar(image, cax=bar)
        scale.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    return figure
