"""The trainings as the page shows them: curves, confusion matrices, metrics of every class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reports.findings.findings import Findings
from reports.findings.superclasses import grouping
from reports.page import layout, training_figures
from reports.page.drawing import Style
from reports.results import Training

MOST_CONFUSED = 5


def context(findings: Findings, looks: Mapping[str, Style]) -> dict[str, Any]:
    """What `training.html.j2` prints.

    Args:
        findings: a run.
        looks: style of each of `Run.names`.
    """
    trainings = findings.run.trainings
    finished = [t for t in trainings if t.final is not None]
    pictures = []
    if any(len(t.losses) for t in trainings):
        drawn = training_figures.loss_curves(trainings, looks)
        caption = "Training loss, mean over seeds and over the batches since the point before."
        pictures.append(layout.picture(drawn, "loss", caption))
    if any(len(t.epochs) for t in trainings):
        drawn = training_figures.accuracy_per_epoch(trainings, looks)
        caption = "Accuracy on the test images after every epoch, mean over seeds."
        pictures.append(layout.picture(drawn, "epochs", caption))
    return {
        "pictures": pictures,
        "confusions": _confusions(finished),
        "per_class": _per_class(finished),
        "failed": [t for t in trainings if t.status != "measured"],
        "records": trainings,
    }


def accuracy_against_time(findings: Findings, looks: Mapping[str, Style]) -> layout.Picture | None:
    """Every variant's accuracy over its training time; None where nothing was trained."""
    if not findings.trained:
        return None
    return layout.picture(
        training_figures.accuracy_against_time(findings.trained, looks),
        "pareto",
        "Accuracy against the time it took: up and to the left is better.",
    )


def _confusions(finished: Sequence[Training]) -> list[dict[str, Any]]:
    """One matrix per variant, of its first seed, all on one scale."""
    first = {t.variant: t for t in reversed(finished)}
    shown = [t for t in finished if first[t.variant] is t and t.final is not None]
    most = max(
        (float(training_figures.row_shares(t.final.confusion).max()) for t in shown if t.final),
        default=0,
    )
    return [
        {
            "variant": t.variant,
            "seed": t.seed,
            "picture": _confusion(t, t.final.confusion, most or 1, f"confusion-{index}"),
            "pairs": _most_confused(t),
        }
        for index, t in enumerate(shown)
        if t.final is not None
    ]


def _confusion(training: Training, table: np.ndarray, most: float, name: str) -> layout.Picture:
    """The matrix, superclass by superclass where the data set has them."""
    caption = f"Confusion matrix of {training.variant}: share of each true class predicted as each"
    bounds: tuple[int, ...] = ()
    if groups := training.superclass_of:
        order, bounds = grouping(groups)
        table = table[np.ix_(order, order)]
        caption += "; lines part the superclasses"
    return layout.picture(training_figures.confusion(table, most, bounds), name, f"{caption}.")


def _most_confused(training: Training) -> list[tuple[str, str, float]]:
    """The pairs (true class, predicted class) that took most of the true class's images."""
    if training.final is None:
        return []
    shares = training_figures.row_shares(training.final.confusion)
    np.fill_diagonal(shares, 0)
    names = training.class_names
    top = np.argsort(-shares, axis=None, kind="stable")[:MOST_CONFUSED]
    pairs = [divmod(int(index), len(names)) for index in top]
    return [(names[i], names[j], float(shares[i, j])) for i, j in pairs if shares[i, j] > 0]


def _per_class(finished: Sequence[Training]) -> dict[str, Any]:
    """F1, precision and recall of every class, three columns per variant (first seed)."""
    first = {t.variant: t for t in reversed(finished)}
    shown = [first[variant] for variant in dict.fromkeys(t.variant for t in finished)]
    names = shown[0].class_names if shown else ()
    same = [t for t in shown if t.class_names == names]
    columns = [
        t.final.per_class[share] for t in same if t.final for share in ("f1", "precision", "recall")
    ]
    return {
        "variants": [t.variant for t in same],
        "rows": list(zip(names, zip(*columns, strict=True), strict=True)),
    }
