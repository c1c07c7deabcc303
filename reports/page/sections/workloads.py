"""Where the answer changes with labels, state, precision, optimizer or width."""

from __future__ import annotations

from typing import Any

from reports.findings import claims, optimizers, workloads
from reports.findings.findings import Findings
from reports.findings.joined import Setting
from reports.page.figures.drawing import Looks
from reports.page.sections import cost
from reports.stats.complexity import Verdict
from reports.units import Shown

NAME, TITLE = "workloads", "Workloads"

MOST_SHOWN = 24
"""Workloads that are shown in full: of a run with more, the data holds the others."""


def context(findings: Findings, looks: Looks) -> dict[str, Any]:
    """Changes of the answer, every workload in full, and a table of optimizers."""
    found = optimizers.rows(findings)
    settings = findings.settings if len(findings.settings) > 1 else ()
    return {
        "usual": workloads.holds(findings),
        "changes": workloads.changes(findings),
        "workloads": [_shown(findings, setting) for setting in settings[:MOST_SHOWN]],
        "left_out": len(settings[MOST_SHOWN:]),
        "optimizers": [(row, _verdict(row.step), _verdict(row.train)) for row in found],
        "optimizers_said": optimizers.sentences(found),
    }


def _shown(findings: Findings, setting: Setting) -> dict[str, Any]:
    """The fastest heads, the verdicts and the crossovers of one workload."""
    usual = findings.settings[0]
    view = findings if setting == usual else findings.under(setting)
    fastest = {
        phase: {one.classes: one for one in view.fastest(phase) if one.batch == view.batch}
        for phase in workloads.PHASES
    }
    verdicts: dict[str, dict[str, Shown]] = {}
    for growth in view.growths:
        if growth.phase in workloads.PHASES:
            verdicts.setdefault(growth.head, {})[growth.phase] = _verdict(growth.time)
    return {
        "name": workloads.differences(setting, usual) or "as usual",
        "holds": workloads.holds(view),
        "batch": view.batch,
        "classes": sorted({n for row in fastest.values() for n in row}),
        "fastest": fastest,
        "verdicts": verdicts,
        "crossovers": {
            (overtake.head, phase): cost.place(overtake)
            for phase in workloads.PHASES
            for overtake in view.overtakes(phase)
            if overtake.batch == view.batch
        },
        "incumbent": view.incumbent,
    }


def _verdict(time: Verdict | None) -> Shown:
    return Shown(time.said, claims.probability(time)) if time else Shown("—")
