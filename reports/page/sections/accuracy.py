"""Accuracy against what it costs: a chart, a still figure, and who is on the front."""

from __future__ import annotations

from typing import Any

from reports.findings.findings import Findings
from reports.findings.outcomes import COSTS, outcomes
from reports.page import charts
from reports.page.figures.drawing import Looks, picture
from reports.page.figures.training import accuracy_against_time

NAME, TITLE = "accuracy", "Accuracy against cost"


def context(findings: Findings, looks: Looks) -> dict[str, Any]:
    """What every variant's training came to; nothing where none finished."""
    if not findings.trained:
        return {}
    return {
        "accuracy_chart": charts.accuracy([findings], [findings.run.name]),
        "still": picture(
            drawn,
            "pareto",
            "Accuracy against the time it took: up and to the left is better.",
        )
        if (drawn := accuracy_against_time(findings.trained, looks))
        else None,
        "outcomes": outcomes(findings),
        "costs": COSTS,
    }
