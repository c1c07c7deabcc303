"""Time against the number of classes, all runs in one chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports.findings.side_by_side import LetteredRun
from reports.page import charts
from reports.page.figures.drawing import Looks

NAME, TITLE = "curves", "Cost"


def context(runs: Sequence[LetteredRun], looks: Looks) -> dict[str, Any]:
    """The chart alone: its still counterpart are the ratios."""
    letters = [run.letter for run in runs]
    return {"time_chart": charts.time([run.findings for run in runs], letters)}
