"""How the run was measured, on what, and with what settings it trained."""

from __future__ import annotations

from typing import Any

from reports.findings import run_facts
from reports.findings.findings import Findings
from reports.page.figures.drawing import Looks

NAME, TITLE = "method", "Method and machine"


def context(findings: Findings, looks: Looks) -> dict[str, Any]:
    """What the run's `run.json` and its training records say of themselves."""
    facts = findings.run.facts
    return {
        "facts": facts,
        "inside": run_facts.inside(facts),
        "machine": run_facts.mapping(facts.get("machine")),
        "options": run_facts.options(facts),
        "dataset": run_facts.mapping(facts.get("dataset")),
    }
