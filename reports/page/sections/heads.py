"""The heads side by side: cost alone, and what the trainings reached."""

from __future__ import annotations

from typing import Any

from reports.findings import workloads
from reports.findings.findings import Findings
from reports.page.figures.drawing import Looks

NAME, TITLE = "heads", "Heads"


def context(findings: Findings, looks: Looks) -> dict[str, Any]:
    """A row per head."""
    return {"rows": findings.heads, "holds": workloads.holds(findings)}
