"""Which head to take for the reader's own size: a form, and the prediction before anybody asks."""

from __future__ import annotations

from typing import Any

from reports.findings import workloads
from reports.findings.adviser import Question, advise, adviser, recommend
from reports.findings.findings import Findings
from reports.page.figures.drawing import Looks

NAME, TITLE = "adviser", "Your size"


def context(findings: Findings, looks: Looks) -> dict[str, Any]:
    """The laws of every head, and what they say at a size in the middle of those measured."""
    laws = adviser(findings)
    if not laws.phases:
        return {}
    phase = next(iter(laws.phases))
    law = next(iter(laws.phases[phase].values())).time
    width = findings.alone.features if findings.alone else law.features
    asked = Question(law.classes[1], findings.batch, width, phase)
    rows = advise(laws, asked)
    return {
        "laws": laws,
        "widths": [f"{width:,}" for width in law.widths],
        "holds": workloads.holds(findings),
        "asked": asked,
        "rows": rows,
        "sentences": recommend(laws, asked, rows),
    }
