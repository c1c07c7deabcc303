"""Accuracy against what it costs, all runs in one chart and one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports.findings.outcomes import COSTS, outcomes
from reports.findings.side_by_side import LetteredRun
from reports.page import charts
from reports.page.figures.drawing import Looks

NAME, TITLE = "accuracy", "Accuracy"


def context(runs: Sequence[LetteredRun], looks: Looks) -> dict[str, Any]:
    """The chart, and what the trainings of each run came to."""
    letters = [run.letter for run in runs]
    return {
        "accuracy_chart": charts.accuracy([run.findings for run in runs], letters),
        "outcomes": [(run, outcomes(run.findings)) for run in runs],
        "costs": COSTS,
    }
