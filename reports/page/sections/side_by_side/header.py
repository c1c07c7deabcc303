"""What stands above the contents: which runs these are, and what limits each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports.findings import run_facts
from reports.findings.notices import notices
from reports.findings.side_by_side import LetteredRun
from reports.page.figures.drawing import Looks

NAME = "header"


def context(runs: Sequence[LetteredRun], looks: Looks) -> dict[str, Any]:
    """Each run with where it ran, and its notices."""
    return {
        "places": [(run, run_facts.where(run.findings.run.facts)) for run in runs],
        "notices": [(run, notice) for run in runs for notice in notices(run.findings)],
    }
