"""Whether the published claims hold, each with its verdict and evidence."""

from __future__ import annotations

from typing import Any

from reports.findings import claims, workloads
from reports.findings.findings import Findings
from reports.page.figures.drawing import Looks

NAME, TITLE = "claims", "Claims"


def context(findings: Findings, looks: Looks) -> dict[str, Any]:
    """Claims with their verdicts."""
    return {"claims": claims.check(findings), "holds": workloads.holds(findings)}
