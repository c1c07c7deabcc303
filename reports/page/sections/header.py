"""What stands above the contents: which run this is, and what limits it."""

from __future__ import annotations

from typing import Any

from reports.findings import run_facts
from reports.findings.findings import Findings
from reports.findings.notices import notices
from reports.page.figures.drawing import Looks

NAME = "header"


def context(findings: Findings, looks: Looks) -> dict[str, Any]:
    """Facts of the run, and its notices."""
    facts = findings.run.facts
    return {
        "facts": facts,
        "machine": run_facts.mapping(facts.get("machine")),
        "dataset": run_facts.mapping(facts.get("dataset")),
        "notices": notices(findings),
    }
