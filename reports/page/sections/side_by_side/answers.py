"""Which head is fastest in each run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports.findings import answer
from reports.findings.side_by_side import LetteredRun
from reports.page.figures.drawing import Looks

NAME, TITLE = "answers", "Answers"


def context(runs: Sequence[LetteredRun], looks: Looks) -> dict[str, Any]:
    """The sentences of each run."""
    return {"answers": [(run, answer.sentences(run.findings)) for run in runs]}
