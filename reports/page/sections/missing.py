"""What is missing, and why: cells without figures, and damaged files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from reports.findings.findings import Findings
from reports.page.figures.drawing import Looks

NAME, TITLE = "missing", "What is missing"

ALIKE = [
    *("kind", "status", "reason", "scope", "head", "options", "pipeline", "classes", "batch"),
    *("dtype", "labels", "optimizer", "mode", "ranks"),
]
"""What the cells of one line share; phases and passes are joined."""


def context(findings: Findings, looks: Looks) -> dict[str, Any]:
    """One line per status, reason and what it befell."""
    groups: Iterable[tuple[Any, pd.DataFrame]] = findings.run.missing.groupby(ALIKE, sort=False)
    return {"rows": [_row(dict(zip(ALIKE, place, strict=True)), group) for place, group in groups]}


def _row(shared: dict[str, Any], cells: pd.DataFrame) -> dict[str, Any]:
    """What they share, what to call it, and the phases that it befell."""
    head = f"{shared['head']}({shared['options']})" if shared["options"] else shared["head"]
    phases = ", ".join(dict.fromkeys(cells["phase"]))
    return {**shared, "name": shared["pipeline"] or head, "phases": phases}
