"""Memory against the number of classes, all runs in one chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports.findings.side_by_side import LetteredRun
from reports.page import charts
from reports.page.figures.drawing import Looks

NAME, TITLE = "memory", "Memory"


def context(runs: Sequence[LetteredRun], looks: Looks) -> dict[str, Any]:
    """The chart."""
    letters = [run.letter for run in runs]
    return {"memory_chart": charts.memory([run.findings for run in runs], letters)}
