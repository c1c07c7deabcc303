"""What tells the runs apart: their machines, and what was asked of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports.findings import run_facts, side_by_side
from reports.findings.side_by_side import LetteredRun
from reports.page.figures.drawing import Looks

NAME, TITLE = "machines", "Machines"


def context(runs: Sequence[LetteredRun], looks: Looks) -> dict[str, Any]:
    """Every fact with its value in each run."""
    facts = [run.findings.run.facts for run in runs]
    return {
        "facts": {
            "machine": side_by_side.facts([run_facts.machine(one) for one in facts]),
            "what was asked": side_by_side.facts([run_facts.options(one) for one in facts]),
            "how it is read": side_by_side.facts(
                [{"clock": f"{run.findings.clock} time"} for run in runs]
            ),
        }
    }
