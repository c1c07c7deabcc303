"""Greedy descent against exact search in the tree heads: what exactness costs, and what greed."""

from __future__ import annotations

from typing import Any

from reports.findings import races
from reports.findings.findings import Findings
from reports.page.figures.drawing import Looks

NAME, TITLE = "races", "Search"


def context(findings: Findings, looks: Looks) -> dict[str, Any]:
    """The races, and how often greedy descent was wrong after a training."""
    rows = races.raced(findings.run)
    return {
        "rows": rows,
        "sentences": list(races.sentences(rows)),
        "trained": races.missed(findings.run),
    }
