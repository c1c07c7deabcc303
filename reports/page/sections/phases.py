"""What a training step is made of: its phases, and what of it is the operating system's."""

from __future__ import annotations

from typing import Any

from reports.findings import faults, phases
from reports.findings.findings import Findings
from reports.page.figures.drawing import Looks

NAME, TITLE = "phases", "Phases"


def context(findings: Findings, looks: Looks) -> dict[str, Any]:
    """Sums of phases at the usual batch size, heads by sizes; page faults at the reference size."""
    found = phases.sums(findings)
    usual = {(one.head, one.classes): one for one in found if one.batch == findings.batch}
    return {
        "summary": phases.summary(found),
        "margin": phases.MARGIN,
        "sums": usual,
        "heads": list(dict.fromkeys(head for head, _ in usual)),
        "sizes": sorted({classes for _, classes in usual}),
        "faults": faults.shares(findings),
        "telling": faults.TELLING,
        "heap": _heap(findings.run.facts.get("options")),
    }


def _heap(options: object) -> str:
    """What the run asked for; a run from before there was a choice had malloc's own."""
    return str(options.get("heap", "default")) if isinstance(options, dict) else "default"
