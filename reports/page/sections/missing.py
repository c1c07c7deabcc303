"""What is missing, and why: cells without figures, and damaged files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from reports.findings.findings import Findings
from reports.page.figures.drawing import Looks

NAME, TITLE = "missing", "What is missing"

ALIKE = ["kind", "status", "reason", "scope", "head", "pipeline", "classes", "batch"]
"""What the cells of one line share; phases and passes are joined."""


def context(findings: Findings, looks: Looks) -> dict[str, Any]:
    """One line per status, reason and what it befell."""
    groups: Iterable[tuple[Any, pd.DataFrame]] = findings.run.missing.groupby(ALIKE, sort=False)
    return {
        "rows": [
            {
                **dict(zip(ALIKE, place, strict=True)),
                "phases": ", ".join(dict.fromkeys(group["phase"])),
            }
            for place, group in groups
        ]
    }
