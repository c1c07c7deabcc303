"""Training with each head: the study, curves, confusions, metrics of every class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from reports import units
from reports.findings.confusion import first_seeds, most_confused, per_class, row_shares
from reports.findings.findings import Findings
from reports.findings.step_time import Growing
from reports.findings.study import Study
from reports.findings.superclasses import grouping
from reports.page.figures import study as study_figures
from reports.page.figures import training as training_figures
from reports.page.figures.drawing import Looks, Picture, picture
from reports.results import Training
from reports.units import Shown

NAME, TITLE = "training", "Training"


def context(findings: Findings, looks: Looks) -> dict[str, Any]:
    """Tables ready to print, and the figures; `study` is None where the run holds nothing of it."""
    trainings = findings.run.trainings
    finished = [t for t in trainings if t.final is not None]
    study = Study(findings)
    return {
        "study": None if study.empty else _study(study, looks),
        "pictures": _curves([t for t in trainings if not t.of_words], looks),
        "confusions": _confusions(finished),
        "per_class": per_class(finished),
        "failed": [t for t in trainings if t.status != "measured"],
    }


# --- the study --------------------------------------------------------------------------------


def _study(study: Study, looks: Looks) -> dict[str, Any]:
    return {
        "rows": study.rows,
        "compared": any(row.against for row in study.rows),
        "points": study_figures.points,
        "at_once": _at_once(study.findings),
        "ladders": {
            name: {
                "rungs": rungs,
                "picture": picture(
                    study_figures.ladder(rungs),
                    f"ladder-{index}",
                    f"{name}: what each step changes in test accuracy. Gains are filled, losses "
                    "hatched; the whisker is the interval of the paired difference.",
                ),
            }
            for index, (name, rungs) in enumerate(study.ladders.items())
        },
        "frontier": _frontier(study, looks),
        "within": study.within,
        "parts": _parts(study),
        "growing": [(one, _half(one)) for one in study.growing],
        "share": _share(study, looks),
        "pipelines": [
            (one, units.times_interval(one.speedup) if one.speedup else "—")
            for one in study.pipelines
        ],
    }


def _at_once(findings: Findings) -> int:
    """How many trainings ran at once, which their seconds depend on."""
    options = findings.run.facts.get("options")
    jobs = options.get("jobs") if isinstance(options, dict) else None
    return jobs if isinstance(jobs, int) else 1


def _frontier(study: Study, looks: Looks) -> dict[str, Any] | None:
    points = study.frontier
    if not points:
        return None
    drawn = study_figures.frontier(points, looks)
    caption = (
        "Test accuracy against what the head computes. Filled: no head at its left reaches as "
        "much; the line joins these."
    )
    return {
        "points": points,
        "picture": picture(drawn, "frontier", caption) if drawn else None,
    }


def _parts(study: Study) -> dict[str, Any] | None:
    """The steps at the smallest class count as a figure; in tables all of them."""
    if not study.step_times:
        return None
    least = min(step.classes for step in study.step_times)
    shown = [step for step in study.step_times if step.classes == least]
    caption = f"Where a training step of TinyVGG goes with each head, {least:,} classes."
    if any(step.limit is not None for step in shown):
        caption += " The mark is where it would end if only the arithmetic took time, at the peak."
    return {
        "picture": picture(study_figures.parts(shown), "parts", caption),
        "shown": shown,
        "others": [step for step in study.step_times if step.classes > least],
    }


def _share(study: Study, looks: Looks) -> Picture | None:
    if not study.growing:
        return None
    return picture(
        study_figures.share_against_classes(study.growing, looks),
        "head-share",
        "Share of TinyVGG's training step that the head takes, against the number of classes; "
        "dotted: half.",
    )


def _half(growing: Growing) -> Shown:
    """From which class count on the head takes half of the step, and the interval in brackets."""
    at, sizes = growing.half.at, [step.classes for step in growing.steps]
    if at is None:
        always = growing.steps[-1].head_share.estimate >= 0.5
        return Shown(f"at {sizes[0]:,} already" if always else f"not up to {sizes[-1]:,}")
    bracket = units.count_interval(at, sizes[0], sizes[-1])
    return Shown(f"about {units.digits(at.estimate, 2)}", bracket)


# --- curves, confusions, classes --------------------------------------------------------------


def _curves(trainings: Sequence[Training], looks: Looks) -> list[Picture]:
    pictures = []
    if any(len(t.losses) for t in trainings):
        drawn = training_figures.loss_curves(trainings, looks)
        caption = "Training loss, mean over seeds and over the batches since the point before."
        pictures.append(picture(drawn, "loss", caption))
    if any(len(t.epochs) for t in trainings):
        drawn = training_figures.accuracy_per_epoch(trainings, looks)
        caption = "Accuracy on the test images after every epoch, mean over seeds."
        pictures.append(picture(drawn, "epochs", caption))
    return pictures


def _confusions(finished: Sequence[Training]) -> list[dict[str, Any]]:
    """One matrix per variant, of its first seed, all on one scale."""
    tables = [
        (t, t.final.confusion)
        for t in first_seeds(finished)
        if t.final is not None and t.final.confusion is not None
    ]
    most = max((float(row_shares(table).max()) for _, table in tables), default=0)
    return [
        {
            "picture": _confusion(training, table, most or 1, f"confusion-{index}"),
            "pairs": most_confused(training),
        }
        for index, (training, table) in enumerate(tables)
    ]


def _confusion(training: Training, table: np.ndarray, most: float, name: str) -> Picture:
    """The matrix, superclass by superclass where the data set has them."""
    caption = f"Confusion matrix of {training.variant}: share of each true class predicted as each"
    bounds: tuple[int, ...] = ()
    if groups := training.superclass_of:
        order, bounds = grouping(groups)
        table = table[np.ix_(order, order)]
        caption += "; lines part the superclasses"
    return picture(training_figures.confusion(table, most, bounds), name, f"{caption}.")
